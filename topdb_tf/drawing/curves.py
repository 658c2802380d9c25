"""The CMC of one or several runs."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from topdb_tf.drawing.labels import EndLabel, add_end_labels
from topdb_tf.drawing.style import (
    BLACK,
    COLORS,
    LINE_STYLES,
    MARKERS,
    PAGE_WIDTH,
    new_figure,
    styled,
)

_LABELLED_WIDTH = 5  # inches, from which there is room for names beside the lines
_MOST_LABELS = 7
_LEAST_BOTTOM = 0.2  # of the axis, as a share: what begins lower begins at zero
PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.6g}")
"""Writes the shares of an axis as percent."""


class CmcCurve(NamedTuple):
    """The CMC of one run, or mean and sample standard deviation of several.

    That is the share of the queries with a match among the first 1, 2, … images, in
    [0, 1]; both arrays are of shape `(num_ranks,)`.
    """

    label: str
    cmc: np.ndarray
    deviation: np.ndarray | None = None


def cmc_figure(
    curves: Sequence[CmcCurve],
    *,
    max_rank: int = 20,
    references: Mapping[str, float] | None = None,
    width: float = PAGE_WIDTH,
) -> Figure:
    """Returns the share of queries with a match up to each rank, by run.

    Names stand beside the lines where there is room, else in a legend. The axis
    begins below the smallest share, or at zero where that is near.

    Args:
        curves: One a run; at least one.
        max_rank: The last rank shown; a shorter curve ends where it ends.
        references: Published rank-1 by name, shares in [0, 1], each a hollow mark.
        width: In inches.

    Raises:
        ValueError: If there is no curve, or `max_rank` is below 2.
    """
    if not curves or max_rank < 2:
        raise ValueError(
            "There must be at least one curve and two ranks. "
            f"Received: {len(curves)} curves, {max_rank=}"
        )
    references = references or {}
    with styled():
        figure = new_figure(width, 0.72 * width if width < _LABELLED_WIDTH else 3.2)
        axes = figure.subplots()
        for place, curve in enumerate(curves):
            _draw_curve(axes, curve, place, max_rank)
        for place, (name, share) in enumerate(references.items()):
            _draw_reference(axes, name, share, place)
        firsts = [curve.cmc[0] for curve in curves] + list(references.values())
        bottom = np.floor(20 * min(firsts) - 0.4) / 20
        axes.set_ylim(bottom if bottom >= _LEAST_BOTTOM else 0.0, 1.005)
        axes.set_xlim(0.5, max_rank + 0.01 * max_rank)
        step = 5 if max_rank <= 25 else 10
        axes.set_xticks([1, *range(step, max_rank + 1, step)])
        axes.yaxis.set_major_formatter(PERCENT)
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.set_xlabel("rank")
        wide = width >= _LABELLED_WIDTH
        axes.set_ylabel(
            "queries with a match up to this rank, %" if wide else "queries matched, %"
        )
        _name(axes, curves, max_rank, width)
    return figure


def _draw_curve(axes, curve, place, max_rank):
    cmc = np.asarray(curve.cmc, float)[:max_rank]
    ranks = np.arange(1, len(cmc) + 1)
    color = COLORS[place % len(COLORS)]
    axes.plot(
        ranks,
        cmc,
        color=color,
        linestyle=LINE_STYLES[place % len(LINE_STYLES)],
        marker=MARKERS[place % len(MARKERS)],
        markersize=4,
        markevery=1 if max_rank <= 25 else [0, *range(4, len(cmc), 5)],
        linewidth=1.4,
        label=_curve_text(curve),
    )
    if curve.deviation is not None:
        deviation = np.asarray(curve.deviation, float)[:max_rank]
        axes.fill_between(
            ranks,
            np.maximum(cmc - deviation, 0),
            np.minimum(cmc + deviation, 1),
            color=color,
            alpha=0.18,
            lw=0,
        )


def _curve_text(curve):
    rank_1 = f"{100 * curve.cmc[0]:.1f}"
    if curve.deviation is not None:
        rank_1 += f" ± {100 * curve.deviation[0]:.1f}"
    return f"{curve.label}, rank-1 {rank_1} %"


def _draw_reference(axes, name, share, place):
    axes.plot(
        [1],
        [share],
        linestyle="none",
        marker=("D", "s", "^", "o")[place % 4],
        markersize=7,
        markerfacecolor="none",
        markeredgecolor=BLACK,
        clip_on=False,
        zorder=4,
        label=f"{name}, rank-1 {100 * share:.1f} %",
    )


def _name(axes, curves, max_rank, width):
    handles, texts = axes.get_legend_handles_labels()
    beside = width >= _LABELLED_WIDTH and len(curves) <= _MOST_LABELS
    if beside:
        ends = []
        for line, curve in zip(axes.get_lines(), curves, strict=False):
            x, y = line.get_xydata()[-1]
            text = _curve_text(curve).replace(", rank-1", "\nrank-1")
            look = {
                "color": line.get_color(),
                "linestyle": line.get_linestyle(),
                "marker": line.get_marker(),
            }
            ends.append(EndLabel(x, y, text, look))
        add_end_labels(axes, ends)
        handles, texts = handles[len(curves) :], texts[len(curves) :]
    if handles:
        axes.legend(
            handles,
            texts,
            loc="lower right",
            frameon=False,
            fontsize=8 if beside else 7,
        )
