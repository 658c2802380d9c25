"""Scores by the cameras of the query and of the gallery."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from topdb_tf.drawing.curves import PERCENT
from topdb_tf.drawing.style import GREY, PAGE_WIDTH, new_figure, styled

_SMALLEST_LETTERS = 4.5  # points


def camera_pair_figure(
    scores: np.ndarray,
    num_valid_queries: np.ndarray,
    cameras: Sequence[str],
    *,
    title: str = "rank-1, %",
    width: float = PAGE_WIDTH,
) -> Figure:
    """Returns a matrix: the camera of the query down, that of the gallery across.

    Each cell has its score and the number of queries that it is the mean of; where
    cells are small the score alone, in whole percent where they are very small. Cells
    without a query are hatched.

    Args:
        scores: Shares in [0, 1], shape `(num_cameras, num_cameras)`, NaN where there
            is no valid query.
        num_valid_queries: Queries of each cell, the same shape.
        cameras: Their names, shape `(num_cameras,)`.
        title: What the scores are.
        width: In inches, at most; a matrix of few cameras is narrower.
    """
    scores = np.asarray(scores, float)
    with styled():
        width = min(width, 1.9 + 0.75 * len(scores))
        figure = new_figure(width, 0.84 * width + 0.1)
        axes = figure.subplots()
        axes.grid(False)
        axes.spines[:].set_visible(False)
        low, high = _color_limits(scores)
        image = axes.imshow(scores, vmin=low, vmax=high)
        is_long = max(map(len, cameras)) > 4
        axes.set_xticks(range(len(cameras)), cameras, rotation=30 if is_long else 0)
        axes.set_yticks(range(len(cameras)), cameras)
        axes.tick_params(length=0)
        axes.set_xlabel("camera of the gallery")
        axes.set_ylabel("camera of the query")
        bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
        bar.ax.yaxis.set_major_formatter(PERCENT)
        bar.set_label(title)
        bar.outline.set_visible(False)
        _fill(axes, image, scores, np.asarray(num_valid_queries))
        if not np.isfinite(scores).all():
            empty = _empty_cell((0, 0), label="no query has a match here")
            figure.legend(
                handles=[empty], loc="outside lower right", frameon=False, fontsize=7.5
            )
    return figure


def _color_limits(scores):
    """Returns tenths between which all scores lie."""
    valid = scores[np.isfinite(scores)]
    if not len(valid):
        return 0.0, 1.0
    low = min(np.floor(10 * valid.min()), 9.0)
    return low / 10, max(np.ceil(10 * valid.max()), low + 1) / 10


def _empty_cell(corner, **options):
    return Rectangle(
        corner, 1, 1, fill=False, hatch="////", edgecolor=GREY, lw=0, **options
    )


def _fill(axes, image, scores, counts):
    axes.figure.draw_without_rendering()  # only now the size of a cell is known
    cell = axes.get_window_extent().width / len(scores) / axes.figure.dpi * 72
    size = min(10.0, 0.3 * cell)
    small = 0.72 * size
    has_counts = small >= _SMALLEST_LETTERS
    digits = 1 if size >= _SMALLEST_LETTERS else 0
    axes.tick_params(labelsize=min(9.0, max(0.4 * cell, _SMALLEST_LETTERS)))
    for (row, column), score in np.ndenumerate(scores):
        if not np.isfinite(score):
            axes.add_patch(_empty_cell((column - 0.5, row - 0.5)))
            continue
        look = {
            "color": _readable_on(image.cmap(image.norm(score))),
            "ha": "center",
            "va": "center",
        }
        above = 0.12 if has_counts else 0
        text = f"{100 * score:.{digits}f}"
        axes.text(
            column, row - above, text, fontsize=size if digits else 0.45 * cell, **look
        )
        if has_counts:
            count = f"n = {counts[row, column]:,}"
            axes.text(column, row + 0.24, count, fontsize=small, **look)


def _readable_on(color):
    red, green, blue = color[:3]
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
