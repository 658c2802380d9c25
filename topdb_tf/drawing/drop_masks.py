"""What the drop blocks take away from images while training."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from topdb_tf.drawing.panels import LINE, Canvas, check_images, layout_of, text_width
from topdb_tf.drawing.style import BLUE, GREY, PAGE_WIDTH, VERMILION, styled

_GAP, _GROUP_GAP, _MARGIN = 0.06, 0.24, 0.07  # inches
_SIDES = 0.52, 0.9
_TOP, _BELOW = _MARGIN + 2 * LINE + 0.02, LINE + 0.1
_TITLES = ("image", "row\nactivity", "Top\nDropBlock", "random\nblock")
_SHARES = (1, 0.6, 1, 1)  # of the width of a panel
_LEGEND, _LEGEND_WIDTH = 0.28, 3.2
_HATCH = {"hatch": "/////", "linewidth": 0}


def drop_mask_figure(
    images: Sequence[np.ndarray],
    row_activity: np.ndarray,
    *,
    top_dropped: np.ndarray,
    block_dropped: np.ndarray,
    labels: Sequence[str] = (),
    aspect: float = 3.0,
    width: float = PAGE_WIDTH,
) -> Figure:
    """Returns what Top DropBlock takes from each image, beside a random block.

    Each image stands beside the activity of its rows, with what Top DropBlock drops
    for it and with the block that BatchDropBlock drops for all images of a batch.
    What is dropped is grey and hatched. Bars go up to the most in the image.

    Source: Quispe and Pedrini, Top-DB-Net, ICPR 2020
    (https://arxiv.org/abs/2010.05435).

    Args:
        images: RGB, uint8, each of shape `(height, width, 3)`.
        row_activity: What the rows are ranked by, `(num_images, rows)`, not negative.
        top_dropped: Which rows Top DropBlock drops, bool of the same shape.
        block_dropped: Which cells BatchDropBlock drops, bool `(rows, columns)`.
        labels: What stands below each image.
        aspect: Height over width of the panels.
        width: The most it takes, in inches.

    Raises:
        ValueError: If there is no image, or shapes do not fit.
    """
    _check(images, row_activity, top_dropped, block_dropped)

    def side_of(num_beside):
        gaps = num_beside * 3 * _GAP + (num_beside - 1) * _GROUP_GAP
        return (width - 2 * _MARGIN - gaps) / (num_beside * sum(_SHARES))

    def height_of(side, num_lines):
        return _TOP + num_lines * (aspect * side + _BELOW) + _LEGEND

    side, num_beside, num_lines = layout_of(
        len(images), side_of=side_of, height_of=height_of, sides=_SIDES
    )
    pitch = sum(_SHARES) * side + 3 * _GAP + _GROUP_GAP  # of the groups
    with styled():
        total = 2 * _MARGIN + num_beside * pitch - _GROUP_GAP
        canvas = Canvas(max(total, _LEGEND_WIDTH), height_of(side, num_lines))
        margin = _MARGIN + (canvas.width - total) / 2
        for index, image in enumerate(images):
            left = margin + index % num_beside * pitch
            down = _TOP + index // num_beside * (aspect * side + _BELOW)
            boxes = _boxes(left, down, side, aspect * side)
            if index < num_beside:
                _write_titles(canvas, boxes)
            canvas.image(*boxes[0], image)
            _draw_bars(canvas.axes(*boxes[1]), row_activity[index], top_dropped[index])
            _hatch(canvas.image(*boxes[2], image), top_dropped[index][:, None])
            _hatch(canvas.image(*boxes[3], image), block_dropped)
            if labels:
                text = labels[index]
                canvas.text(left, down + aspect * side + 0.03, text, room=2 * side)
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
    fits = row_activity.shape == top_dropped.shape == (len(images), rows)
    if not fits or block_dropped.ndim != 2 or len(block_dropped) != rows:
        raise ValueError(
            "`row_activity` and `top_dropped` must be of shape (num_images, rows), "
            f"`block_dropped` (rows, columns). Received: {len(images)} images, "
            f"{row_activity.shape}, {top_dropped.shape}, {block_dropped.shape}"
        )


def _boxes(left, top, side, height):
    """Returns (left, top, width, height) of the panels of an image."""
    boxes = []
    for share in _SHARES:
        boxes.append((left, top, share * side, height))
        left += share * side + _GAP
    return boxes


def _write_titles(canvas, boxes):
    for (left, top, width, _), title in zip(boxes, _TITLES, strict=True):
        for place, line in enumerate(reversed(title.splitlines())):
            bottom = top - 0.05 - place * LINE
            canvas.text(left + width / 2, bottom, line, ha="center", va="baseline")


def _draw_bars(axes: Axes, activity, is_dropped):
    places = np.arange(len(activity)) + 0.5
    for chosen, color, options in (
        (~is_dropped, BLUE, {}),
        (is_dropped, VERMILION, {"hatch": "/////", "edgecolor": "white"}),
    ):
        axes.barh(
            places[chosen],
            activity[chosen],
            height=0.8,
            color=color,
            linewidth=0,
            **options,
        )
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
    top, left = canvas.height - 0.21, _MARGIN
    for color, options, meaning in (
        (GREY, {"edgecolor": "white", **_HATCH}, "dropped"),
        (VERMILION, {"edgecolor": "white", **_HATCH}, "most active rows"),
        (BLUE, {}, "other rows"),
    ):
        axes = canvas.axes(left, top, 0.24, 0.12)
        axes.add_patch(Rectangle((0, 0), 1, 1, facecolor=color, **options))
        canvas.text(left + 0.3, top + 0.06, meaning, va="center_baseline")
        left += 0.3 + text_width(meaning) + 0.2
