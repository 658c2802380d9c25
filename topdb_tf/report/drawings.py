"""Drawn figures as a part of a page: in its letters and colours, light or dark."""

import re

from markupsafe import Markup

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


def inline_drawing(svg: str, name: str) -> Markup:
    """Returns a figure as an `<svg>` element that belongs to its page.

    It has no background, black is the colour of the page's text, and its letters are
    the page's. Names inside it begin with `name`, so that several figures of a page
    do not take each other's parts.

    Args:
        svg: An `<svg>` element as matplotlib writes it, its letters as text.
        name: Name of the figure, unique in the page.
    """
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
