"""A sheet of a data set: identities by camera, and images that want a look."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from topdb_tf.figures.panels import LINE, Canvas, check_images
from topdb_tf.figures.style import GREY, PAGE_WIDTH, styled

_MARGIN, _GAP, _LABEL = 0.12, 0.05, 0.62  # inches
_COLUMNS = 10
_TITLE_SIZE = 9  # points


class Row(NamedTuple):
    """Images of one identity.

    Args:
        label: What is written before them, such as "pid 7".
        images: RGB, uint8 of shape `(height, width, 3)` each.
        captions: A short line below each, such as "camera 3".
    """

    label: str
    images: Sequence[np.ndarray]
    captions: Sequence[str]


class Group(NamedTuple):
    """Images that are shown side by side, such as two that are nearly the same.

    Args:
        images: RGB, uint8 of shape `(height, width, 3)` each.
        captions: A short line below each.
    """

    images: Sequence[np.ndarray]
    captions: Sequence[str]


class Section(NamedTuple):
    """Groups under one heading.

    Args:
        title: The heading.
        groups: What is shown.
        lines: What is written below, a line each.
    """

    title: str
    groups: Sequence[Group]
    lines: Sequence[str] = ()


def montage_figure(
    title: str, rows: Sequence[Row], sections: Sequence[Section]
) -> Figure:
    """Draws identities as rows, at most 10 images each, and sections below them.

    All images are of one height, with their own ratio up to twice that of a standing
    person; wider ones are squeezed.

    Args:
        title: Heading of the sheet.
        rows: Identities.
        sections: What wants a look.

    Raises:
        ValueError: If an image is not RGB, or there is nothing to draw.
    """
    groups = [group for section in sections for group in section.groups]
    pictures = [image for row in [*rows, *groups] for image in row.images]
    if pictures or not any(section.lines for section in sections):
        check_images(pictures)
    with styled():
        width = (PAGE_WIDTH - 2 * _MARGIN - _LABEL) / _COLUMNS - _GAP
        sheet = _Sheet(width)
        height = sheet.measure(rows, sections)
        sheet.draw(Canvas(PAGE_WIDTH, height), title, rows, sections)
        return sheet.canvas.figure


class _Sheet:
    """Places things from the top; once without a canvas, to measure the height."""

    def __init__(self, width):
        self.width, self.height = width, 2 * width
        self.canvas, self.top = None, 0.0

    def measure(self, rows, sections):
        self.draw(None, "", rows, sections)
        return self.top + _MARGIN

    def draw(self, canvas, title, rows, sections):
        self.canvas, self.top = canvas, _MARGIN
        self._heading(title)
        for row in rows:
            self._text(_MARGIN, self.top + self.height / 2, row.label, _LABEL - _GAP)
            left = _MARGIN + _LABEL
            for image, caption in zip(row.images, row.captions, strict=True):
                self._panel(left, image, caption)
                left += self.width + _GAP
            self.top += self.height + LINE + 2 * _GAP
        for section in sections:
            self.top += 2 * _GAP
            self._heading(section.title)
            self._groups(section.groups)
            for line in section.lines:
                self._text(_MARGIN, self.top, line, PAGE_WIDTH - 2 * _MARGIN)
                self.top += LINE

    def _heading(self, text):
        if self.canvas is not None:
            room = PAGE_WIDTH - 2 * _MARGIN
            self.canvas.text(
                _MARGIN, self.top, text, room=room, fontsize=_TITLE_SIZE, weight="bold"
            )
        self.top += 2 * LINE

    def _groups(self, groups):
        left = _MARGIN
        for group in groups:
            whole = len(group.images) * (self.width + _GAP)
            if left > _MARGIN and left + whole > PAGE_WIDTH - _MARGIN + _GAP:
                left, self.top = _MARGIN, self.top + self.height + LINE + 2 * _GAP
            for image, caption in zip(group.images, group.captions, strict=True):
                self._panel(left, image, caption)
                left += self.width + _GAP
            left += 3 * _GAP
        if groups:
            self.top += self.height + LINE + 2 * _GAP

    def _panel(self, left, image, caption):
        if self.canvas is None:
            return
        ratio = image.shape[1] / image.shape[0]
        width = min(self.width, self.height * ratio)
        height = min(self.height, max(width / ratio, self.height / 8))
        inset = (self.width - width) / 2
        self.canvas.image(
            left + inset, self.top + self.height - height, width, height, image
        )
        self._text(left, self.top + self.height + 0.02, caption, self.width, GREY)

    def _text(self, left, top, text, room, color=None):
        if self.canvas is not None:
            options = {"color": color} if color else {}
            self.canvas.text(left, top, text, room=room, **options)
