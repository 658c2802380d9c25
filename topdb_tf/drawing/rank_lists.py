"""Ranked lists: a query and what was found for it, right and wrong."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from topdb_tf.drawing.panels import LINE, Canvas, check_images, text_width
from topdb_tf.drawing.style import (
    BLACK,
    COLUMN_WIDTH,
    JUNK,
    PAGE_WIDTH,
    RIGHT,
    WRONG,
    styled,
)


class Mark(NamedTuple):
    """How a kind of image is marked, told apart without its colour too."""

    color: str
    line: str | tuple
    letter: str
    meaning: str


MARKS = {
    "right": Mark(RIGHT, "-", "✓", "the query's person"),
    "wrong": Mark(WRONG, (0, (2.5, 1)), "✗", "another person"),
    "junk": Mark(JUNK, (0, (1, 1)), "=", "not ranked: by the query's own camera"),
    "unknown": Mark(BLACK, (0, (4, 1, 1, 1)), "?", "person not known"),
}


class Listed(NamedTuple):
    """An RGB image of a ranked list, of a kind in `MARKS`, with its distance.

    The label tells in one or two lines whom it shows, such as "pid 12" and "cam 3".
    """

    image: np.ndarray
    kind: str
    distance: float
    label: str


class RankList(NamedTuple):
    """An RGB query and the first images of its ranking, nearest first.

    The label tells whom it shows; the title stands above the list.
    """

    query: np.ndarray
    label: str
    title: str
    listed: Sequence[Listed]


_GAP, _QUERY_GAP, _MARGIN = 0.06, 0.2, 0.07  # inches
_WIDEST = 0.8
_LINE_BELOW = 0.118
_BELOW = 3 * _LINE_BELOW + 0.06
_LETTERS = 6.5  # points, below the images
_LEGEND_LINE, _SWATCH = 0.2, 0.31


def rank_list_figure(
    lists: Sequence[RankList], *, aspect: float = 3.0, width: float = PAGE_WIDTH
) -> Figure:
    """Returns ranked lists, a row each: the query and, behind a line, what was found.

    Right images have a solid border and a tick, wrong ones a dashed border and a
    cross, junk a dotted border and an equals sign. Above each image stands its rank,
    below it its distance and whom it shows.

    Args:
        lists: The lists, which may be of different lengths.
        aspect: Height over width of the panels.
        width: The most it takes, in inches.

    Raises:
        ValueError: If there is no list, an image is not RGB, or a kind is unknown.
    """
    _check(lists)
    length = max(len(rank_list.listed) for rank_list in lists)
    side = (width - 2 * _MARGIN - _QUERY_GAP - max(length - 1, 0) * _GAP) / (length + 1)
    side = min(side, _WIDEST)
    above = 2 * LINE + 0.06
    step = above + aspect * side + _BELOW + 0.06
    total = 2 * _MARGIN + _QUERY_GAP + length * (side + _GAP) - _GAP + side
    kinds = {listed.kind for rank_list in lists for listed in rank_list.listed}
    with styled():
        total = max(total, min(width, COLUMN_WIDTH))
        legend = _legend_lines([kind for kind in MARKS if kind in kinds], total)
        canvas = Canvas(total, len(lists) * step + 0.08 + _LEGEND_LINE * len(legend))
        for place, rank_list in enumerate(lists):
            _draw_list(canvas, rank_list, place * step + above, side, aspect * side)
        for place, entries in enumerate(legend):
            _draw_legend(canvas, entries, len(lists) * step + place * _LEGEND_LINE)
    return canvas.figure


def _check(lists):
    if not lists:
        raise ValueError("There must be at least one ranked list. Received: 0 lists")
    for rank_list in lists:
        check_images([rank_list.query, *(listed.image for listed in rank_list.listed)])
        unknown = [item.kind for item in rank_list.listed if item.kind not in MARKS]
        if unknown:
            raise ValueError(
                f"`kind` must be one of {', '.join(MARKS)}. "
                f"Received: kind={unknown[0]!r}"
            )


def _draw_list(canvas, rank_list, top, side, height):
    above = top - 0.06  # the baseline of the ranks
    room = canvas.width - 2 * _MARGIN
    canvas.text(_MARGIN, above - LINE, rank_list.title, room=room, va="baseline")
    canvas.text(_MARGIN + side / 2, above, "query", ha="center", va="baseline")
    canvas.image(_MARGIN, top, side, height, rank_list.query)
    _write_below(canvas, _MARGIN, top + height, side, rank_list.label.splitlines())
    left = _MARGIN + side + _QUERY_GAP
    canvas.line(left - _QUERY_GAP / 2, top, left - _QUERY_GAP / 2, top + height)
    rank = 0
    for place, item in enumerate(rank_list.listed):
        rank += item.kind != "junk"
        at = left + place * (side + _GAP)
        text = "–" if item.kind == "junk" else str(rank)
        canvas.text(at + side / 2, above, text, ha="center", va="baseline")
        axes = canvas.image(at, top, side, height, item.image)
        draw_mark(axes, MARKS[item.kind])
        texts = [distance_text(item.distance), *item.label.splitlines()]
        _write_below(canvas, at, top + height, side, texts)


def draw_mark(axes: Axes, mark: Mark) -> None:
    """Draws the border and the letter of a mark on a panel of the unit square."""
    axes.add_patch(_border(mark, linewidth=2.2))
    axes.annotate(
        mark.letter,
        (0, 0),
        xytext=(4.2, -4.6),
        textcoords="offset points",
        fontsize=_LETTERS,
        fontweight="bold",
        color="white",
        ha="center",
        va="center",
        bbox={"boxstyle": "square,pad=0.18", "color": mark.color, "linewidth": 0},
        zorder=4,
    )


def distance_text(distance: float) -> str:
    """Returns a distance in four digits, or in all before the point.

    Example:
        >>> from topdb_tf.drawing.rank_lists import distance_text
        >>> distance_text(0.123456), distance_text(191), distance_text(12345.678)
        ('0.1235', '191.0', '12346')
    """
    return f"{distance:.0f}" if 1e3 <= abs(distance) < 1e7 else f"{distance:#.4g}"


def _write_below(canvas, left, top, side, texts):
    for place, text in enumerate(texts):
        down = top + 0.04 + place * _LINE_BELOW
        options = {"fontsize": _LETTERS, "ha": "center", "room": side + _GAP}
        canvas.text(left + side / 2, down, text, **options)


def _legend_lines(kinds, width):
    """Returns lines of (left, mark) that have room beside each other."""
    lines, left = [[]], _MARGIN
    for mark in (MARKS[kind] for kind in kinds):
        length = _SWATCH + text_width(mark.meaning)
        if left + length > width - _MARGIN and lines[-1]:
            lines, left = [*lines, []], _MARGIN
        lines[-1].append((left, mark))
        left += length + 0.25
    return lines


def _draw_legend(canvas, entries, top):
    for left, mark in entries:
        axes = canvas.axes(left, top, _SWATCH - 0.07, 0.14)
        axes.add_patch(_border(mark, linewidth=1.4))
        middle = left + (_SWATCH - 0.07) / 2
        options = {"color": mark.color, "fontweight": "bold", "ha": "center"}
        canvas.text(middle, top + 0.07, mark.letter, va="center", **options)
        canvas.text(left + _SWATCH, top + 0.07, mark.meaning, va="center_baseline")


def _border(mark, linewidth):
    options = {"edgecolor": mark.color, "linestyle": mark.line, "zorder": 3}
    options |= {"linewidth": linewidth, "fill": False, "clip_on": False}
    return Rectangle((0, 0), 1, 1, **options)
