"""What the contents of images tell of a data set."""

from collections.abc import Iterator

import numpy as np

from topdb_tf.data.checks.findings import Finding, finding_of_files
from topdb_tf.data.checks.image_facts import ImageFacts
from topdb_tf.data.checks.image_index import ImageIndex
from topdb_tf.texts import counted

SMALLEST = (32, 16)  # height and width in pixels
MOST_SLENDER = 6  # height by width

_SUFFIXES = {"JPEG": (".jpg", ".jpeg"), "MPO": (".jpg", ".jpeg"), "PNG": (".png",)}


def check_images(images: ImageIndex, facts: ImageFacts) -> list[Finding]:
    """Finds files that are damaged, of another format or odd in size.

    Args:
        images: The images.
        facts: What the file of each image is, in the same order.
    """
    return [
        *_unreadable(images, facts),
        *_misnamed(images, facts),
        *_odd_sizes(images, facts),
        *_blank(images, facts),
    ]


def _unreadable(images, facts):
    bad = [index for index, error in enumerate(facts.errors) if error is not None]
    if bad:
        yield finding_of_files(
            "error",
            "unreadable",
            f"{counted(len(bad), 'image')} cannot be read",
            "Extract or copy these files again.",
            images.group(bad),
            [facts.errors[index] for index in bad],
        )


def _misnamed(images, facts):
    other, unread = [], []
    for index in np.flatnonzero(facts.is_readable):
        kind, suffix = facts.formats[index], images.paths[index].suffix.lower()
        if suffix not in _SUFFIXES.get(kind, ()):
            (other if kind in _SUFFIXES else unread).append(index)
    if unread:
        yield finding_of_files(
            "error",
            "suffix",
            "Neither JPEG nor PNG, whatever the names say, "
            f"{counted(len(unread), 'file')}",
            "Save them as JPEG or PNG.",
            images.group(unread),
            [facts.formats[index] for index in unread],
        )
    if other:
        yield finding_of_files(
            "note",
            "suffix",
            f"With the suffix of another format, {counted(len(other), 'file')}",
            "They are read by their content; other programs may go by the name.",
            images.group(other),
            [facts.formats[index] for index in other],
        )


def _odd_sizes(images, facts) -> Iterator[Finding]:
    height, width = facts.sizes.T
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
        indices = np.flatnonzero(flags & facts.is_readable)
        if len(indices):
            yield finding_of_files(
                "warning",
                kind,
                f"{what}, {counted(len(indices), 'image')}",
                fix,
                images.group(indices),
                [f"{height[index]} x {width[index]}" for index in indices],
            )


def _blank(images, facts):
    levels = facts.thumbnails.reshape(len(facts.errors), -1, 3)
    if not len(levels):
        return
    spread = levels.max(axis=1).astype(int) - levels.min(axis=1)
    blank = np.flatnonzero(facts.is_readable & (spread.max(axis=1) <= 2))
    if len(blank):
        yield finding_of_files(
            "warning",
            "blank",
            f"Of one colour, {counted(len(blank), 'image')}",
            "Take them out.",
            images.group(blank),
        )
