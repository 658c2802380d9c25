"""Images as their owner describes them, and the numbers of persons and cameras."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from topdb_tf.data.market import DISTRACTOR_PID, JUNK_PID
from topdb_tf.texts import listed, natural_order

TRAIN, VALIDATION, TEST, QUERY, GALLERY = "train", "val", "test", "query", "gallery"


class Sighting(NamedTuple):
    """One image of one person, in the words of its owner.

    Args:
        path: The image file, absolute.
        person: Name or number of the person.
        camera: Name or number of the camera, or `None` where it is not told.
        part: "train", "val", "test", "query" or "gallery", or `None`.
        place: Where that is said, such as "line 7"; for errors.
    """

    path: Path
    person: str
    camera: str | None
    part: str | None
    place: str


def without_junk(sightings: list[Sighting], notes: list[str]) -> list[Sighting]:
    """Leaves out pid -1 where persons are numbers, and spells each number one way.

    `notes` gets a line if any are left out.
    """
    if not all(re.fullmatch(r"-?\d+", one.person) for one in sightings):
        return sightings
    kept = [one for one in sightings if int(one.person) != JUNK_PID]
    if len(kept) < len(sightings):
        count = len(sightings) - len(kept)
        notes.append(
            f"{count:,} images of pid {JUNK_PID}, which shows nobody, are left out."
        )
    spellings = {}  # 7 and 007 are the same person; the first spelling stays
    for one in kept:
        spellings.setdefault(int(one.person), one.person)
    return [one._replace(person=spellings[int(one.person)]) for one in kept]


def check_contradictions(sightings: list[Sighting], source: Path) -> None:
    """Raises `ValueError` if an image is told twice, or to be two things.

    An image can be both a query and in the gallery.
    """
    first, seen = {}, {}
    for one in sightings:
        other = first.setdefault(one.path, one)
        for word, mine, theirs in (
            ("pids", one.person, other.person),
            ("camids", one.camera, other.camera),
        ):
            if mine != theirs:
                raise ValueError(
                    f"{source}: an image must have one pid and one camid. {one.path} "
                    f"has two {word}: {theirs!r} ({other.place}) and {mine!r} "
                    f"({one.place})."
                )
        twin = seen.setdefault((one.path, one.part), one)
        if twin is not one:
            raise ValueError(
                f"{source}: an image must be listed once. {one.path} is listed twice: "
                f"{twin.place} and {one.place}. Remove one of them."
            )


def person_numbers(sightings: list[Sighting]) -> dict[str, int]:
    """Returns the pid of each person's name.

    Whole numbers stay as they are, unless one is 0 and not in the gallery alone, where
    0 is nobody known. Other names are numbered from 1 in their natural order.
    """
    names = sorted({one.person for one in sightings}, key=natural_order)
    if all(re.fullmatch(r"\d+", name) for name in names):
        pids = {name: int(name) for name in names}
        parts = {one.part for one in sightings if pids[one.person] == DISTRACTOR_PID}
        if parts <= {GALLERY}:
            return pids
    return {name: pid for pid, name in enumerate(names, 1)}


def camera_numbers(sightings: list[Sighting], source: Path) -> dict[str, int]:
    """Returns the camid of each camera's name; nothing where all are the same.

    `cam2` is camera 2; names that do not end in different numbers are numbered from 1
    in their natural order.

    Raises:
        ValueError: If cameras are told for some images only.
    """
    missing = [one for one in sightings if not one.camera]
    if missing and len(missing) < len(sightings):
        raise ValueError(
            f"{source}: cameras must be told for all images, or for none. "
            f"{len(missing):,} of {len(sightings):,} have no camid: "
            f"{listed([one.place for one in missing])}."
        )
    names = sorted({one.camera for one in sightings} - {None, ""}, key=natural_order)
    if len(names) < 2:
        return {}
    ends = [re.fullmatch(r"\D*(\d+)", name) for name in names]
    numbers = [int(end[1]) for end in ends if end]
    if len(set(numbers)) < len(names):
        numbers = range(1, len(names) + 1)
    return dict(zip(names, numbers, strict=True))


def absolute(path: str | Path) -> Path:
    """Returns a path that starts at the root, links as they are, without `..`."""
    return Path(os.path.normpath(Path(path).expanduser().absolute()))
