"""What the drop blocks take away from images while training."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from topdb_tf.drawing.panels import (
    LINE,
    MARGIN,
    check_images,
    grouped_panels,
    text_width,
)
from topdb_tf.drawing.style import BLUE, GREY, PAGE_WIDTH, VERMILION, styled

_LEGEND_SIZE = 3.2, 0.28  # inches
_BAR_SHARE = 0.6  # of the width of a panel
_HATCH = {"hatch": "/////", "linewidth": 0}


def drop_mask_figure(
    images: Sequence[np.ndarray],
    row_activity: np.ndarray,
    *,
    top_dropped: Sequence[np.ndarray],
    block_dropped: np.ndarray,
    labels: Sequence[str] = (),
    aspect: float = 3.0,
    width: float = PAGE_WIDTH,
) -> Figure:
    """Returns what Top DropBlock takes from each image, beside a random block.

    Each image stands beside the activity of its rows, with what each Top DropBlock
    drops for it and with the block that BatchDropBlock drops for all images of a batch.
    What is dropped is grey and hatched. Bars go up to the most in the image.

    Source: Quispe and Pedrini, Top-DB-Net, ICPR 2020
    (https://arxiv.org/abs/2010.05435).

    Args:
        images: RGB, uint8, each of shape `(height, width, 3)`.
        row_activity: What the rows are ranked by, `(num_images, rows)`, not negative.
        top_dropped: What each Top DropBlock drops, bool `(num_images, rows, columns)`,
            or of one column where whole rows go.
        block_dropped: Which cells BatchDropBlock drops, bool `(rows, columns)`.
        labels: What stands below each image.
        aspect: Height over width of the panels.
        width: The most it takes, in inches.

    Raises:
        ValueError: If there is no image, or shapes do not fit.
    """
    _check(images, row_activity, top_dropped, block_dropped)
    numbers = range(1, len(top_dropped) + 1) if len(top_dropped) > 1 else [""]
    tops = [f"Top {number}".rstrip() + "\nDropBlock" for number in numbers]
    titles = ["image", "row\nactivity", *tops, "random\nblock"]
    any_dropped = np.any([one.any(axis=2) for one in top_dropped], axis=0)
    with styled():
        canvas, groups = grouped_panels(
            len(images),
            [1, _BAR_SHARE] + [1] * len(titles[2:]),
            title_lines=2,
            legend=_LEGEND_SIZE,
            aspect=aspect,
            width=width,
        )
        for index, boxes in enumerate(groups):
            first, bars, *tops, block = boxes
            if first.top == groups[0][0].top:  # in the first line
                _write_titles(canvas, boxes, titles)
            canvas.image(*first, images[index])
            _draw_bars(canvas.axes(*bars), row_activity[index], any_dropped[index])
            for top, is_dropped in zip(tops, top_dropped, strict=True):
                _hatch(canvas.image(*top, images[index]), is_dropped[index])
            _hatch(canvas.image(*block, images[index]), block_dropped)
            if labels:
                below, room = first.top + first.height + 0.03, 2 * first.width
                canvas.text(first.left, below, labels[index], room=room)
        _draw_legend(canvas)
    return canvas.figure


def rectangles(mask: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """Yields rectangles `(top, left, bottom, right)` of cells that cover a mask.

    Args:
        mask: bool of shape `(rows, columns)`.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.drawing.drop_masks import rectangles
        >>> list(rectangles(np.array([[0, 1, 1], [0, 1, 1], [1, 0, 0]], bool)))
        [(0, 1, 2, 3), (2, 0, 3, 1)]
    """
    top = 0
    for _, rows in itertools.groupby(mask.tolist()):
        bottom = top + len(list(rows))
        left = 0
        for is_dropped, cells in itertools.groupby(mask[top].tolist()):
            right = left + len(list(cells))
            if is_dropped:
                yield top, left, bottom, right
            left = right
        top = bottom


def _check(images, row_activity, top_dropped, block_dropped):
    check_images(images)
    rows = row_activity.shape[-1]
    shapes = {row_activity.shape, *(one.shape[:2] for one in top_dropped)}
    fits = shapes == {(len(images), rows)} and top_dropped[0].ndim == 3
    if not fits or block_dropped.ndim != 2 or len(block_dropped) != rows:
        raise ValueError(
            "`row_activity` must be of shape (num_images, rows), each of `top_dropped` "
            "(num_images, rows, columns), `block_dropped` (rows, columns). Received: "
            f"{len(images)} images, {row_activity.shape}, "
            f"{[one.shape for one in top_dropped]}, {block_dropped.shape}"
        )


def _write_titles(canvas, boxes, titles):
    for box, title in zip(boxes, titles, strict=True):
        middle = box.left + box.width / 2
        for place, line in enumerate(reversed(title.splitlines())):
            bottom = box.top - 0.05 - place * LINE
            canvas.text(middle, bottom, line, ha="center", va="baseline")


def _draw_bars(axes: Axes, activity, is_dropped):
    places = np.arange(len(activity)) + 0.5
    for rows, color, options in (
        (~is_dropped, BLUE, {}),
        (is_dropped, VERMILION, {"hatch": "/////", "edgecolor": "white"}),
    ):
        options |= {"height": 0.8, "color": color, "linewidth": 0}
        axes.barh(places[rows], activity[rows], **options)
    axes.set_xlim(0, max(activity.max(), np.finfo(np.float32).tiny))
    axes.set_ylim(len(activity), 0)
    axes.axvline(0, color=GREY, linewidth=0.8, clip_on=False)


def _hatch(axes: Axes, mask):
    rows, columns = mask.shape
    for top, left, bottom, right in rectangles(mask):
        place, size = (left / columns, top / rows), (right - left, bottom - top)
        sides = size[0] / columns, size[1] / rows
        axes.add_patch(
            Rectangle(place, *sides, facecolor=GREY, edgecolor="white", **_HATCH)
        )


def _draw_legend(canvas):
    top, left = canvas.height - 0.21, MARGIN
    for color, options, meaning in (
        (GREY, {"edgecolor": "white", **_HATCH}, "dropped"),
        (VERMILION, {"edgecolor": "white", **_HATCH}, "most active rows"),
        (BLUE, {}, "other rows"),
    ):
        axes = canvas.axes(left, top, 0.24, 0.12)
        axes.add_patch(Rectangle((0, 0), 1, 1, facecolor=color, **options))
        canvas.text(left + 0.3, top + 0.06, meaning, va="center_baseline")
        left += 0.3 + text_width(meaning) + 0.2
