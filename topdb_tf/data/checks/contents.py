"""What the contents of images tell of a data set."""

import numpy as np

from topdb_tf.data.checks.copies import Images
from topdb_tf.data.checks.image_facts import ImageFacts
from topdb_tf.data.checks.split import Finding
from topdb_tf.texts import counted, listed

SMALLEST = (32, 16)  # height and width in pixels
MOST_SLENDER = 6  # height by width
_SUFFIXES = {"JPEG": (".jpg", ".jpeg"), "MPO": (".jpg", ".jpeg"), "PNG": (".png",)}


def check_images(images: Images, facts: ImageFacts) -> list[Finding]:
    """Finds files that are damaged, of another format or odd in size.

    Args:
        images: The images.
        facts: Of each of them, in the same order.
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
        told = [f"{images.records[i].path.name} ({facts.errors[i]})" for i in bad]
        yield Finding(
            "error",
            f"{counted(len(bad), 'image')} cannot be read: {listed(told, 3)}.",
            "Extract or copy these files again.",
            "unreadable",
            tuple(images.group([index]) for index in bad),
        )


def _misnamed(images, facts):
    other, unread = [], []
    for index, kind in enumerate(facts.formats):
        suffix = images.records[index].path.suffix.lower()
        if facts.errors[index] is None and suffix not in _SUFFIXES.get(kind, ()):
            (other if kind in _SUFFIXES else unread).append(index)
    for indices, severity, what, fix in (
        (
            unread,
            "error",
            "Neither JPEG nor PNG, whatever the names say",
            "Save them as JPEG or PNG.",
        ),
        (
            other,
            "note",
            "With the suffix of another format",
            "They are read by their content; other programs may go by the name.",
        ),
    ):
        if indices:
            told = [
                f"{images.records[i].path.name} ({facts.formats[i]})" for i in indices
            ]
            yield Finding(
                severity,
                f"{what}, {counted(len(indices), 'file')}: {listed(told, 3)}.",
                fix,
                "suffix",
                tuple(images.group([index]) for index in indices),
            )


def _odd_sizes(images, facts):
    height, width = facts.sizes.T
    known = np.array([error is None for error in facts.errors], dtype=bool)
    tiny = known & ((height < SMALLEST[0]) | (width < SMALLEST[1]))
    whole = known & ~tiny
    for flags, what, fix, kind in (
        (
            tiny,
            f"Smaller than {SMALLEST[0]} x {SMALLEST[1]} pixels",
            "Leave out boxes of so few pixels, or film closer: little is to be seen.",
            "tiny",
        ),
        (
            whole & (width >= height),
            "Not taller than wide",
            "A box of a standing person is tall: check the cropping, or whether whole "
            "frames lie among the boxes. They are squeezed to the input's shape.",
            "landscape",
        ),
        (
            whole & (height > MOST_SLENDER * width),
            f"More than {MOST_SLENDER} times as tall as wide",
            "Check the cropping: they are stretched to the input's shape.",
            "slender",
        ),
    ):
        indices = np.flatnonzero(flags)
        if len(indices):
            told = [
                f"{images.records[i].path.name} ({height[i]} x {width[i]})"
                for i in indices[:3]
            ]
            more = f" and {len(indices) - 3:,} more" if len(indices) > 3 else ""
            yield Finding(
                "warning",
                f"{what}, {counted(len(indices), 'image')}: {', '.join(told)}{more}.",
                fix,
                kind,
                tuple(images.group([index]) for index in indices),
            )


def _blank(images, facts):
    levels = facts.thumbnails.reshape(len(facts.errors), -1, 3)
    readable = np.array([error is None for error in facts.errors], dtype=bool)
    spread = levels.max(axis=1).astype(int) - levels.min(axis=1)
    blank = np.flatnonzero(readable & (spread.max(axis=1) <= 2)) if len(levels) else []
    if len(blank):
        names = [images.records[index].path.name for index in blank]
        yield Finding(
            "warning",
            f"Of one colour, {counted(len(blank), 'image')}: {listed(names, 3)}.",
            "Take them out.",
            "blank",
            tuple(images.group([index]) for index in blank),
        )
