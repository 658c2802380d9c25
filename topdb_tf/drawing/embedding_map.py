"""Images as points of a plane: whom they show, and by which camera."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from topdb_tf.drawing.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    MARKERS,
    ORANGE,
    PAGE_WIDTH,
    PURPLE,
    SKY_BLUE,
    VERMILION,
    YELLOW,
    new_figure,
    styled,
)

_COLORS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY_BLUE, YELLOW, BLACK)
_MARKERS = (*MARKERS, "H", "d")  # 13, so that 8 colours meet each of them
_LIGHT = (ORANGE, SKY_BLUE, YELLOW, PURPLE)


def embedding_map_figure(
    points: np.ndarray,
    pids: np.ndarray,
    camids: np.ndarray | None = None,
    *,
    names: Mapping[int, str] | None = None,
    title: str = "",
    width: float = PAGE_WIDTH,
) -> Figure:
    """Returns a map of images: colour and mark tell the person, digits the camera.

    Images of one person are joined to their middle by thin lines. Two of 104 persons
    differ in the colour or in the mark.

    Args:
        points: Places of the images, shape `(num_images, 2)`.
        pids: Shape `(num_images,)`.
        camids: Shape `(num_images,)`; without, no digits are drawn.
        names: Names of the persons by pid; without, their pids are shown.
        title: Above the map, such as the method.
        width: In inches.

    Raises:
        ValueError: If the arrays do not fit together, or there are more persons than
            can be told apart.
    """
    points, pids, names = np.asarray(points), np.asarray(pids), names or {}
    digits = [""] * len(pids) if camids is None else [f"{camid}" for camid in camids]
    persons = np.unique(pids)
    most = len(_COLORS) * len(_MARKERS)
    if points.shape != (len(pids), 2) or len(digits) != len(pids):
        raise ValueError(
            "There must be a point, a pid and a camid for each image. Received: points "
            f"of shape {points.shape}, {len(pids)} pids, {len(digits)} camids"
        )
    if not 0 < len(persons) <= most:
        raise ValueError(
            f"Between 1 and {most} persons can be told apart. "
            f"Received: {len(persons)} persons"
        )
    wide = width >= 5
    with styled():
        figure = new_figure(width, 0.68 * width if wide else 1.15 * width)
        axes = figure.subplots()
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color("#CCCCCC")
        axes.set_title(title, loc="left", fontsize=9 if wide else 7.5)
        axes.set_aspect("equal", adjustable="datalim")
        for place, pid in enumerate(persons):
            shown = pids == pid
            name = names.get(int(pid), f"{pid}")
            _draw_person(axes, points[shown], name, place, wide)
            _write_digits(axes, points[shown], np.array(digits)[shown], place, wide)
        figure.legend(
            loc="outside right upper" if wide else "outside lower center",
            ncols=-(-len(persons) // 24) if wide else 5,
            frameon=False,
            title="person",
            title_fontsize=9 if wide else 8,
            fontsize=8 if wide else 7,
            handletextpad=0.2,
        )
    return figure


def _draw_person(axes, points, name, place, wide):
    color = _COLORS[place % len(_COLORS)]
    middle = points.mean(axis=0)
    for point in points:
        axes.plot(
            *zip(middle, point, strict=True), color=color, lw=0.6, alpha=0.45, zorder=1
        )
    axes.scatter(
        *points.T,
        s=70 if wide else 44,
        color=color,
        marker=_MARKERS[place % len(_MARKERS)],
        edgecolors=GREY if color == BLACK else BLACK,
        linewidths=0.4,
        label=name,
        zorder=2,
    )


def _write_digits(axes, points, digits, place, wide):
    color = _COLORS[place % len(_COLORS)]
    for point, digit in zip(points, digits, strict=True):
        axes.annotate(
            digit,
            point,
            color=BLACK if color in _LIGHT else "white",
            fontsize=5.5 if wide else 4.5,
            ha="center",
            va="center_baseline",
            zorder=3,
        )
