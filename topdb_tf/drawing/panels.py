"""Images in panels that are placed by inches, so that none is stretched or cut."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath

from topdb_tf.drawing.style import BLACK, GREY, new_figure

SMALL_LETTERS = 7  # points
LINE = 0.135  # inches that a line of small letters takes
PAGE_HEIGHT = 9.0  # inches
MARGIN, _GAP, _GROUP_GAP = 0.07, 0.05, 0.23  # inches around panels and groups of them
_LEAST_SIDE, _MOST_SIDE = 0.5, 0.92  # inches of the width of a panel


class Canvas:
    """A figure on which things are placed in inches from its upper left corner.

    To be used inside `topdb_tf.drawing.style.styled()`.
    """

    def __init__(self, width: float, height: float):
        self.width, self.height = width, height
        self.figure: Figure = new_figure(width, height)
        self.figure.set_layout_engine("none")

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Returns new axes without ticks and frame."""
        bottom = 1 - (top + height) / self.height
        box = (left / self.width, bottom, width / self.width, height / self.height)
        axes = self.figure.add_axes(box)
        axes.set_axis_off()
        axes.grid(False)
        return axes

    def image(self, left, top, width, height, pixels: np.ndarray) -> Axes:
        """Draws an image, filling the panel, within a hairline; returns its axes.

        The unit of the axes is the panel's side, from its upper left corner.
        """
        axes = self.axes(left, top, width, height)
        axes.imshow(
            pixels, extent=(0, 1, 1, 0), aspect="auto", interpolation="bilinear"
        )
        hairline = Rectangle((0, 0), 1, 1, fill=False, color=BLACK, linewidth=0.4)
        hairline.set_clip_on(False)
        axes.add_patch(hairline)
        return axes

    def line(self, left: float, top: float, right: float, bottom: float) -> None:
        """Draws a thin line between two places."""
        across = [left / self.width, right / self.width]
        down = [1 - top / self.height, 1 - bottom / self.height]
        line = Line2D(across, down, color=GREY, linewidth=0.8)
        line.set_transform(self.figure.transFigure)
        self.figure.add_artist(line)

    def text(self, left, top, text: str, *, room: float | None = None, **options):
        """Writes text with its upper left corner, or as `options` say, at a place.

        Its middle is left out where it needs more than `room`, a width in inches.
        """
        options = {"fontsize": SMALL_LETTERS, "va": "top", "ha": "left", **options}
        if room is not None:
            text = shortened(text, room, options["fontsize"])
        self.figure.text(left / self.width, 1 - top / self.height, text, **options)


class Box(NamedTuple):
    """The place of a panel, in inches from the upper left corner of the figure."""

    left: float
    top: float
    width: float
    height: float


def grouped_panels(
    num_groups: int,
    shares: Sequence[float],
    *,
    title_lines: int,
    legend: tuple[float, float],
    aspect: float,
    width: float,
) -> tuple[Canvas, list[list[Box]]]:
    """Returns a canvas, and the places of the panels of each group.

    Groups stand beside each other, then in further lines, with room for a label below
    each. Panels are as wide as they can be, all on one page if they fit. To be used
    inside `topdb_tf.drawing.style.styled()`.

    Args:
        num_groups: Number of groups.
        shares: Width of each panel of a group, as a share of a whole panel's.
        title_lines: Lines of text above the first line of groups.
        legend: Width and height of what stands at the bottom, in inches.
        aspect: Height over width of a whole panel.
        width: The most that the figure takes, in inches.
    """
    above, below = MARGIN + title_lines * LINE + 0.02, LINE + 0.09

    def width_of(num_beside, side):
        group = sum(shares) * side + (len(shares) - 1) * _GAP
        return 2 * MARGIN + num_beside * group + (num_beside - 1) * _GROUP_GAP

    def side_of(num_beside):
        return (width - width_of(num_beside, 0)) / (num_beside * sum(shares))

    def height_of(side, num_lines):
        return above + num_lines * (aspect * side + below) + legend[1]

    fitting = [n for n in range(1, num_groups + 1) if side_of(n) >= _LEAST_SIDE]
    num_lines = -(-num_groups // max(fitting, default=1))
    num_beside = -(-num_groups // num_lines)  # lines of almost equal length
    side = min(side_of(num_beside), _MOST_SIDE)
    too_high = height_of(side, num_lines) - PAGE_HEIGHT
    if too_high > 0:
        side = max(side - too_high / (num_lines * aspect), min(_LEAST_SIDE, side))
    taken = width_of(num_beside, side)
    canvas = Canvas(max(taken, legend[0]), height_of(side, num_lines))
    groups = []
    for index in range(num_groups):
        line, place = divmod(index, num_beside)
        left = (canvas.width - taken) / 2 + MARGIN
        left += place * (width_of(1, side) - 2 * MARGIN + _GROUP_GAP)
        top = above + line * (aspect * side + below)
        boxes = []
        for share in shares:
            boxes.append(Box(left, top, share * side, aspect * side))
            left += share * side + _GAP
        groups.append(boxes)
    return canvas, groups


def shortened(text: str, room: float, size: float = SMALL_LETTERS) -> str:
    """Returns a line, without its middle if it is wider than `room`, in inches."""
    if len(text) < 2 or text_width(text, size) <= room:
        return text

    def without_middle(num_letters):
        head, tail = (num_letters + 1) // 2, num_letters // 2
        return f"{text[:head]}…{text[len(text) - tail :]}"

    def width_of(num_letters):
        return text_width(without_middle(num_letters), size)

    return without_middle(max(1, bisect_right(range(1, len(text)), room, key=width_of)))


def text_width(text: str, size: float = SMALL_LETTERS) -> float:
    """Returns the width of a line of letters of `size` points, in inches."""
    properties = FontProperties(size=size)
    return TextPath((0, 0), text, prop=properties).get_extents().width / 72


def check_images(images: Sequence[np.ndarray]) -> None:
    """Raises `ValueError` unless there are RGB images, uint8 `(height, width, 3)`."""
    bad = [
        image
        for image in images
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8
    ]
    if bad:
        raise ValueError(
            "Images must be RGB, uint8 of shape (height, width, 3). "
            f"Received: {bad[0].dtype} of shape {bad[0].shape}"
        )
    if not len(images):
        raise ValueError("There must be at least one image. Received: 0 images")
