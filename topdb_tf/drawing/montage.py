"""A sheet of a data set: identities by camera, and images that want a look."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from topdb_tf.drawing.panels import LINE, SMALL_LETTERS, Canvas, check_images
from topdb_tf.drawing.style import GREY, PAGE_WIDTH, styled

_MARGIN, _GAP, _LABEL = 0.12, 0.05, 0.62  # inches
_COLUMNS = 10
_LETTER = 0.058  # inches, the mean width of a small letter
_LEAST = 1.45  # inches that the heading of a section has
_TITLE_SIZE = 9  # points


class Row(NamedTuple):
    """RGB images of one identity, with a label before them and a caption below each."""

    label: str
    images: Sequence[np.ndarray]
    captions: Sequence[str]


class Group(NamedTuple):
    """RGB images that are shown side by side, such as two that are nearly the same."""

    images: Sequence[np.ndarray]
    captions: Sequence[str]


class Section(NamedTuple):
    """Groups under one heading, and lines of text below them."""

    title: str
    groups: Sequence[Group]
    lines: Sequence[str] = ()


def montage_figure(
    title: str, rows: Sequence[Row], sections: Sequence[Section]
) -> Figure:
    """Draws identities as rows, at most 10 images each, and sections below them.

    All images are of one height, with their own ratio up to twice that of a standing
    person; wider ones are squeezed.
    """
    groups = [group for section in sections for group in section.groups]
    pictures = [image for row in [*rows, *groups] for image in row.images]
    if pictures or not any(section.lines for section in sections):
        check_images(pictures)
    with styled():
        width = (PAGE_WIDTH - 2 * _MARGIN - _LABEL) / _COLUMNS - _GAP
        sheet = _Sheet(width)
        sheet.draw(None, title, rows, sections)
        sheet.draw(Canvas(PAGE_WIDTH, sheet.top + _MARGIN), title, rows, sections)
        return sheet.canvas.figure


class _Sheet:
    """Places things from the top; once without a canvas, to measure the height."""

    def __init__(self, width):
        self.width, self.height = width, 2 * width
        self.canvas, self.top = None, 0.0

    def draw(self, canvas, title, rows, sections):
        self.canvas, self.top = canvas, _MARGIN
        self._heading(title)
        self.top += 2 * LINE
        for row in rows:
            self._text(_MARGIN, self.top + self.height / 2, row.label, _LABEL - _GAP)
            self._line([row], _MARGIN + _LABEL, self.top)
            self.top += self._row
        self.top += 2 * _GAP
        self._sections(sections)

    def _heading(self, text, left=_MARGIN, size=_TITLE_SIZE, room=None):
        if self.canvas is not None:
            room = (room or PAGE_WIDTH - 2 * _MARGIN) * SMALL_LETTERS / size
            text = _cut(text, room)
            self.canvas.text(left, self.top, text, fontsize=size, weight="bold")

    def _sections(self, sections):
        """Places sections beside each other while there is room, then those of text."""
        left = _MARGIN
        for section in sections:
            if not section.groups:
                continue
            lines = self._broken(section.groups)
            width = max(_LEAST, *(self._span(line) for line in lines))
            if left > _MARGIN and left + width > PAGE_WIDTH - _MARGIN:
                left, self.top = _MARGIN, self.top + self._block
            start = self.top
            self._heading(section.title, left, SMALL_LETTERS + 1, width)
            for line in lines:
                self._line(line, left, start + 1.5 * LINE)
                start += self._row
            left += width + 4 * _GAP
            if len(lines) > 1:
                left, self.top = _MARGIN, start + self._block - self._row
        if left > _MARGIN:
            self.top += self._block
        for section in sections:
            if section.lines:
                self._heading(section.title, _MARGIN, SMALL_LETTERS + 1)
                self.top += 1.5 * LINE
                for line in section.lines:
                    self._text(_MARGIN, self.top, line, PAGE_WIDTH - 2 * _MARGIN)
                    self.top += LINE
                self.top += LINE

    @property
    def _row(self):
        return self.height + LINE + 2 * _GAP

    @property
    def _block(self):
        return self._row + 2.5 * LINE

    def _span(self, groups):
        num_images = sum(len(group.images) for group in groups)
        return num_images * (self.width + _GAP) + (len(groups) - 1) * 3 * _GAP

    def _broken(self, groups):
        """Returns the groups in lines that fit the page."""
        lines = [[]]
        for group in groups:
            if lines[-1] and self._span([*lines[-1], group]) > PAGE_WIDTH - 2 * _MARGIN:
                lines.append([])
            lines[-1].append(group)
        return lines

    def _line(self, groups, left, top):
        for group in groups:
            for image, caption in zip(group.images, group.captions, strict=True):
                self._panel(left, top, image, caption)
                left += self.width + _GAP
            left += 3 * _GAP

    def _panel(self, left, top, image, caption):
        if self.canvas is None:
            return
        ratio = image.shape[1] / image.shape[0]
        width = min(self.width, self.height * ratio)
        height = min(self.height, max(width / ratio, self.height / 8))
        inset = (self.width - width) / 2
        self.canvas.image(
            left + inset, top + (self.height - height) / 2, width, height, image
        )
        self._text(left, top + self.height + 0.02, caption, self.width, GREY)

    def _text(self, left, top, text, room, color=None):
        if self.canvas is not None:
            options = {"color": color} if color else {}
            self.canvas.text(left, top, _cut(text, room), **options)


def _cut(text, room):
    """Returns a line without its middle where it is too long; letters are small.

    Hundreds of lines are not measured one by one, which would take minutes.
    """
    most = max(int(room / _LETTER), 3)
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"
