"""How far apart images of one person and of two are, and what a threshold decides."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from topdb_tf.drawing.curves import PERCENT
from topdb_tf.drawing.labels import spread_apart
from topdb_tf.drawing.style import (
    BLACK,
    BLUE,
    PAGE_WIDTH,
    VERMILION,
    new_figure,
    styled,
)

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LETTER_SIZE = 8  # points
_SAME, _DIFFERENT = "same person", "different persons"
METRIC_NAMES = {
    "sqeuclidean": "squared Euclidean distance",
    "euclidean": "Euclidean distance",
    "cosine": "cosine distance",
}


class Threshold(NamedTuple):
    """A distance up to which two images are taken for one person, with its legend."""

    distance: float
    text: str


def distance_figure(
    edges: np.ndarray,
    counts: Mapping[str, np.ndarray],
    roc,
    *,
    thresholds: Sequence[Threshold] = (),
    thresholds_title: str | None = None,
    metric: str = "sqeuclidean",
    width: float = PAGE_WIDTH,
) -> Figure:
    """Returns the histograms of the distances, above the rates of errors.

    Every histogram is divided by its own number of pairs and by the width of its bins:
    the areas are equal, though there are far more pairs of two persons than of one.

    Args:
        edges: Edges of the bins, ascending, shape `(num_bins + 1,)`.
        counts: Pairs in each bin, shape `(num_bins,)`: `same_person` and
            `different_persons` that count, and, where there are any, those by one
            camera: `same_person_same_camera`, `different_persons_same_camera`.
        roc: At ascending `distances`, the `false_match_rates` and `true_match_rates`
            of the pairs that count, as shares.
        thresholds: Lines across both parts.
        thresholds_title: What is said of all of them.
        metric: Name of the distance, for the axis.
        width: In inches.
    """
    wide = width >= 5
    thresholds = sorted(thresholds, key=lambda threshold: threshold.distance)
    with styled():
        figure = new_figure(width, 4.4 if wide else 4.6)
        upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 2))
        _draw_histograms(upper, np.asarray(edges, float), counts)
        _draw_rates(lower, roc)
        _draw_thresholds(upper, lower, thresholds)
        upper.set_yticks([])
        upper.set_ylabel("share of pairs")
        upper.set_ylim(0)
        _show_most(upper, np.asarray(edges, float), counts, thresholds)
        lower.set_ylabel("pairs, %")
        lower.set_xlabel(METRIC_NAMES.get(metric, metric))
        look = {"frameon": False, "fontsize": 8 if wide else 7, "handlelength": 2.5}
        lower.legend(loc="lower right", **look)
        handles, texts = upper.get_legend_handles_labels()
        num_kinds = len(handles) - len(thresholds)
        figure.legend(
            handles[:num_kinds],
            texts[:num_kinds],
            loc="outside upper center",
            ncols=2 if wide else 1,
            **look,
        )
        if thresholds:
            figure.legend(
                handles[num_kinds:],
                texts[num_kinds:],
                loc="outside lower center",
                title=thresholds_title,
                title_fontsize=look["fontsize"],
                alignment="left",
                **look | {"handlelength": 0, "handletextpad": 0},
            )
        _name_thresholds(upper, thresholds)
    return figure


def densities(edges: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns a histogram of area 1, or zeros if it is empty.

    Args:
        edges: Edges of the bins, shape `(num_bins + 1,)`.
        counts: Shape `(num_bins,)`.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.drawing.distances import densities
        >>> densities(np.array([0.0, 1.0, 3.0]), np.array([1, 3]))
        array([0.25 , 0.375])
    """
    return counts / max(counts.sum(), 1) / np.diff(edges)


def _draw_histograms(axes, edges, counts):
    kinds = (
        ("same_person", _SAME, BLUE, "-", 0.25),
        ("different_persons", _DIFFERENT, VERMILION, "--", 0.15),
        ("same_person_same_camera", f"{_SAME}, one camera", BLUE, ":", None),
        (
            "different_persons_same_camera",
            f"{_DIFFERENT}, one camera",
            VERMILION,
            "-.",
            None,
        ),
    )
    for name, text, color, style, alpha in kinds:
        pairs = np.asarray(counts.get(name, [0]))
        if not pairs.any():
            continue
        heights = densities(edges, pairs)
        label = f"{text} ({pairs.sum():,} pairs)"
        axes.stairs(
            heights,
            edges,
            color=color,
            linestyle=style,
            linewidth=1.4 if alpha else 1,
            label=label,
        )
        if alpha:
            axes.stairs(heights, edges, color=color, alpha=alpha, fill=True)


def _show_most(axes, edges, counts, thresholds):
    """Ends the axis before a last bin of a few pairs that are far beyond all others."""
    last, widths = edges[-1], np.diff(edges)
    if len(widths) > 1 and widths[-1] > 3 * widths[:-1].max():
        last = max(edges[-2], *(1.05 * one.distance for one in thresholds), 0)
        num_far = sum(int(numbers[-1]) for numbers in counts.values())
        most = f"{edges[-1]:,.0f}" if edges[-1] >= 100 else f"{edges[-1]:.3g}"
        text = f"{num_far:,} pairs farther apart, up to {most}"
        place = {"xycoords": "axes fraction", "ha": "right", "va": "top"}
        axes.annotate(text, (0.99, 0.97), fontsize=_LETTER_SIZE - 1, **place)
    axes.set_xlim(edges[0], min(last, edges[-1]))


def _draw_rates(axes, roc):
    false = np.asarray(roc.false_match_rates)
    missed = 1 - np.asarray(roc.true_match_rates)
    shown = np.where(missed > 0, missed, np.nan)
    axes.plot(roc.distances, shown, color=BLUE, label=f"{_SAME}, missed")
    look = {"color": VERMILION, "linestyle": "--"}
    axes.plot(roc.distances, false, label=f"{_DIFFERENT}, accepted", **look)
    axes.set_yscale("log")
    lowest = min(false[false > 0].min(), missed[missed > 0].min(initial=1.0))
    axes.set_ylim(max(lowest, 1e-7), 1.2)
    axes.yaxis.set_major_formatter(PERCENT)


def _draw_thresholds(upper, lower, thresholds):
    """Draws lines, called a, b, c from the left, with what a legend says of them."""
    for letter, threshold in zip(_LETTERS, thresholds, strict=False):
        for axes in (upper, lower):
            axes.axvline(threshold.distance, color=BLACK, linewidth=0.9, zorder=3)
        upper.plot([], [], linestyle="none", label=f"{letter}: {threshold.text}")


def _name_thresholds(axes, thresholds):
    """Writes the letters above the axes, moved apart where thresholds are close."""
    if not thresholds:
        return
    axes.figure.draw_without_rendering()  # only now the width of the axes is known
    box = axes.get_window_extent()
    lines = axes.transData.transform([(one.distance, 0) for one in thresholds])
    gap = 0.7 * _LETTER_SIZE * axes.figure.dpi / 72
    places = spread_apart(lines[:, 0], gap=gap, low=box.x0, high=box.x1)
    for letter, place in zip(_LETTERS, places, strict=False):
        axes.annotate(
            letter,
            ((place - box.x0) / box.width, 1),
            xycoords="axes fraction",
            xytext=(0, 1),
            textcoords="offset points",
            fontsize=_LETTER_SIZE,
            ha="center",
            va="bottom",
        )
