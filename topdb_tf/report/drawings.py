"""Drawn figures as a part of a page: in its letters and colours, light or dark."""

import re
from collections.abc import Callable
from typing import NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure

from topdb_tf.drawing.style import svg_of
from topdb_tf.texts import Table

WIDE, NARROW = 9.6, 4.6  # inches: of the whole page, and of a column or a telephone

# Okabe and Ito's colours by their names in the style of a page, which lights up the
# darker ones where the page is dark.
_COLORS = {
    "#000000": "currentColor",
    "#0072b2": "var(--blue)",
    "#d55e00": "var(--vermilion)",
    "#009e73": "var(--green)",
}
# What matplotlib writes about itself, its fonts and its white paper.
_LEFT_OUT = (
    re.compile(r"<metadata>.*?</metadata>\s*", re.DOTALL),
    re.compile(r'<style type="text/css">.*?</style>\s*', re.DOTALL),
    re.compile(r"font-family: [^;\"]*;? ?"),
    re.compile(r'<path d="[^"]*" style="fill: #ffffff"/>\s*'),
)


class Drawing(NamedTuple):
    """A drawn figure as a page shows it, by a name that is unique there.

    `narrow` is for a telephone, where the figure is as wide as a page, and the table
    has its numbers where they are few.
    """

    name: str
    title: str
    caption: str
    alt: str
    svg: Markup
    narrow: Markup | None = None
    table: Table | None = None


def wide_drawing(name: str, picture: Callable[[float], Figure], **words) -> Drawing:
    """Returns a figure that takes the whole width of a page.

    The picture is drawn from a width in inches; the words are those of a `Drawing`.
    """
    svg = inline_svg(picture(WIDE), name)
    narrow = inline_svg(picture(NARROW), f"{name}-narrow")
    return Drawing(name=name, svg=svg, narrow=narrow, **words)


def inline_svg(figure: Figure, name: str) -> Markup:
    """Returns a figure as an `<svg>` element that belongs to its page.

    It has no background, black is the colour of the page's text, and its letters are
    the page's. Names inside it begin with `name`, so that several figures of a page
    do not take each other's parts.
    """
    svg = svg_of(figure)
    for pattern in _LEFT_OUT:
        svg = pattern.sub("", svg)
    for color, name_in_style in _COLORS.items():
        svg = svg.replace(color, name_in_style)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'xlink:href="#', f'href="#{name}-', svg)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', _opening, svg, count=1)
    return Markup(svg)


def _opening(match):
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{match[1]}">'
