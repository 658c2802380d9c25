"""What the contents of images tell of a data set."""

from collections.abc import Iterator

import numpy as np

from topdb_tf.data.checks.findings import Finding, findings_of_files
from topdb_tf.data.checks.image_contents import ImageContents
from topdb_tf.data.checks.image_index import ImageIndex
from topdb_tf.texts import counted

SMALLEST = (32, 16)  # height and width in pixels
MOST_SLENDER = 6  # height by width

_SUFFIXES = {"JPEG": (".jpg", ".jpeg"), "MPO": (".jpg", ".jpeg"), "PNG": (".png",)}


def check_images(images: ImageIndex, contents: ImageContents) -> list[Finding]:
    """Finds files that are damaged, of another format or odd in size."""
    return [
        *_unreadable(images, contents),
        *_misnamed(images, contents),
        *_odd_sizes(images, contents),
        *_turned(images, contents),
        *_blank(images, contents),
    ]


def _unreadable(images, contents):
    bad = [
        index
        for index, error in enumerate(contents.errors)
        if error is not None and contents.formats[index] in ("", *_SUFFIXES)
    ]
    yield from findings_of_files(
        "error",
        "unreadable",
        f"{counted(len(bad), 'image')} cannot be read",
        "Extract, copy or save these files again: a training refuses them.",
        images.group(bad),
        [contents.errors[index] for index in bad],
    )


def _misnamed(images, contents):
    other, unread = [], []
    for index, kind in enumerate(contents.formats):
        if kind and kind not in _SUFFIXES:
            unread.append(index)
        elif contents.is_readable[index]:
            if images.paths[index].suffix.lower() not in _SUFFIXES[kind]:
                other.append(index)
    yield from findings_of_files(
        "error",
        "suffix",
        f"Neither JPEG nor PNG, whatever the names say, {counted(len(unread), 'file')}",
        "Save them as JPEG or PNG.",
        images.group(unread),
        [contents.formats[index] for index in unread],
    )
    yield from findings_of_files(
        "note",
        "suffix",
        f"With the suffix of another format, {counted(len(other), 'file')}",
        "They are read by their content; other programs may go by the name.",
        images.group(other),
        [contents.formats[index] for index in other],
    )


def _odd_sizes(images, contents) -> Iterator[Finding]:
    height, width = contents.sizes.T
    is_tiny = (height < SMALLEST[0]) | (width < SMALLEST[1])
    for flags, kind, what, fix in (
        (
            is_tiny,
            "tiny",
            f"Smaller than {SMALLEST[0]} x {SMALLEST[1]} pixels",
            "Leave out boxes of so few pixels, or film closer: little is to be seen.",
        ),
        (
            ~is_tiny & (width >= height),
            "landscape",
            "Not taller than wide",
            "A box of a standing person is tall: check the cropping, or whether whole "
            "frames lie among the boxes. They are squeezed to the input's shape.",
        ),
        (
            ~is_tiny & (height > MOST_SLENDER * width),
            "slender",
            f"More than {MOST_SLENDER} times as tall as wide",
            "Check the cropping: they are stretched to the input's shape.",
        ),
    ):
        indices = np.flatnonzero(flags & contents.is_readable)
        yield from findings_of_files(
            "warning",
            kind,
            f"{what}, {counted(len(indices), 'image')}",
            fix,
            images.group(indices),
            [f"{height[index]} x {width[index]}" for index in indices],
        )


def _turned(images, contents):
    turned = np.flatnonzero(contents.is_readable & (contents.orientations != 1))
    yield from findings_of_files(
        "warning",
        "turned",
        f"To be turned, by a camera's note (EXIF), {counted(len(turned), 'image')}",
        "The note is not followed, in training as in serving: people may lie or stand "
        "on their heads. Turn the pixels, as `mogrify -auto-orient` of ImageMagick.",
        images.group(turned),
        [f"orientation {note}" for note in contents.orientations[turned]],
    )


def _blank(images, contents):
    levels = contents.thumbnails.reshape(len(contents.errors), -1, 3)
    if not len(levels):
        return
    spread = levels.max(axis=1).astype(int) - levels.min(axis=1)
    blank = np.flatnonzero(contents.is_readable & (spread.max(axis=1) <= 2))
    yield from findings_of_files(
        "warning",
        "blank",
        f"Of one colour, {counted(len(blank), 'image')}",
        "Take them out.",
        images.group(blank),
    )
