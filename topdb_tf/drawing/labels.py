"""Names at the ends of lines, which need no legend."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from topdb_tf.drawing.style import GREY

_LETTER_SIZE = 8  # points


class EndLabel(NamedTuple):
    """The name of a line, to stand right of its end, a place in units of the data.

    The look is colour, dashes and mark of the line, as `Axes.plot` takes them.
    """

    x: float
    y: float
    text: str
    look: dict


def add_end_labels(axes: Axes, labels: Sequence[EndLabel]) -> None:
    """Writes names right of the axes, moved apart, each joined to its line's end.

    The joining lines are thin and grey, so that nobody takes them for data; before a
    name stands a piece of its line, as in a legend. The names are black, for colours
    that are told apart are not all easily read.
    To be called when the lines are drawn and the limits of the axes are set.
    """
    axes.figure.draw_without_rendering()  # only now the height of the axes is known
    box = axes.get_window_extent()
    ends = axes.transData.transform([(label.x, label.y) for label in labels])
    gap = 1.35 * _LETTER_SIZE * axes.figure.dpi / 72
    gap *= max(label.text.count("\n") + 1 for label in labels)
    places = spread_apart(ends[:, 1], gap=gap, low=box.y0, high=box.y1)
    starts = axes.transAxes.inverted().transform(ends)
    for label, start, place in zip(labels, starts, places, strict=True):
        height = (place - box.y0) / box.height
        free = {"transform": axes.transAxes, "clip_on": False}
        joined = [start[0], 1.03], [start[1], height]
        axes.plot(*joined, color=GREY, linewidth=0.5, **free)
        key = {"linewidth": 1.4, "markersize": 4, "markevery": [1], **label.look}
        axes.plot([1.04, 1.06, 1.08], [height] * 3, **key, **free)
        axes.annotate(
            label.text,
            (1.09, height),
            xycoords="axes fraction",
            fontsize=_LETTER_SIZE,
            verticalalignment="center",
            annotation_clip=False,
        )


def spread_apart(
    places: Sequence[float], *, gap: float, low: float, high: float
) -> np.ndarray:
    """Returns the places moved as little as needed to be `gap` apart.

    They keep their order, equal ones that of the list, and are between `low` and
    `high` as far as there is room.

    Example:
        >>> from topdb_tf.drawing.labels import spread_apart
        >>> spread_apart([5.0, 5.0, 0.0], gap=2, low=0, high=10).tolist()
        [4.0, 6.0, 0.0]
        >>> spread_apart([10.0, 9.0], gap=2, low=0, high=10).tolist()
        [10.0, 8.0]
    """
    places = np.asarray(places, float)
    order = np.argsort(places, kind="stable")
    # Groups of touching places stay together, around the mean of what they want.
    groups = []
    for place in places[order]:
        groups.append([[place], 0.0])
        groups[-1][1] = _start(groups[-1][0], gap, low, high)
        while len(groups) > 1 and _overlap(groups[-2], groups[-1], gap):
            wanted = groups[-2][0] + groups.pop()[0]
            groups[-1] = [wanted, _start(wanted, gap, low, high)]
    moved = np.empty_like(places)
    moved[order] = np.concatenate(
        [start + gap * np.arange(len(wanted)) for wanted, start in groups]
    )
    return moved


def _start(wanted, gap, low, high):
    start = np.mean(wanted) - gap * (len(wanted) - 1) / 2
    return max(low, min(start, high - gap * (len(wanted) - 1)))


def _overlap(lower, upper, gap):
    return lower[1] + gap * len(lower[0]) > upper[1] + 1e-9
