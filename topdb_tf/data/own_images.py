"""Anybody's own images: a CSV file, folders of persons, or the Market-1501 layout."""

from pathlib import Path

from topdb_tf.data.folders import read_folders
from topdb_tf.data.market import DISTRACTOR_PID, PARTS, list_part, read_market_layout
from topdb_tf.data.partition import split_of
from topdb_tf.data.records import Split
from topdb_tf.data.sightings import Sighting, absolute
from topdb_tf.data.table import TABLE_SUFFIXES, read_table
from topdb_tf.data.trees.levels import AUTO


def read_own_images(
    path: Path,
    *,
    name: str,
    layout: str = AUTO,
    pattern: str | None = None,
    missing: list[Sighting] | None = None,
    **division,
) -> Split:
    """Reads a CSV file, a folder of persons or one in the layout of Market-1501.

    Args:
        path: The file (`topdb_tf.data.table.read_table`), or a folder that holds
            `bounding_box_train` and so on, else one folder for each person
            (`topdb_tf.data.folders.read_folders`).
        name: Name of the split.
        layout: What each level of a folder is, such as `camera/person`; `auto` judges.
        pattern: What the names of the images in a folder tell, such as
            `{camid}-{pid}-{n}` (`topdb_tf.data.trees.name_pattern.parse_pattern`).
        missing: Takes up the images of a CSV file that do not exist, instead of an
            error.
        **division: `test_share`, `division_seed` and `ignore_cameras` of
            `topdb_tf.data.partition.split_of`, which makes the parts that are missing.

    Raises:
        ValueError: If the images are not told as they must be.
        FileNotFoundError: If there is no such file or folder, or images are missing.
    """
    path = existing(path)
    sightings, notes = read_sightings(
        path, layout=layout, pattern=pattern, missing=missing
    )
    return split_of(sightings, name=name, source=path, notes=notes, **division)


def existing(path: str | Path) -> Path:
    """Returns the absolute path of somebody's own images.

    Raises:
        FileNotFoundError: If there is no such file or folder.
    """
    path = absolute(path)
    if not path.exists():
        raise FileNotFoundError(
            f"There is no file or folder {path}. Name a CSV file, a folder, or a "
            "benchmark; datasets/README.md shows them all."
        )
    return path


def is_named_as_market(folder: Path) -> bool:
    """Returns whether a folder is in the layout of Market-1501.

    A folder named `query` alone can be one beside `train` and `gallery`. Where its
    parts hold no images but folders of images, these are persons.
    """
    if not any((folder / PARTS[part]).is_dir() for part in ("train", "gallery")):
        return False
    parts = [list_part(folder, part) for part in PARTS]
    has_images = any(one.records or one.unnamed for one in parts)
    return has_images or not any(one.nested for one in parts)


def sightings_of(split: Split, folder: Path) -> list[Sighting]:
    """Returns the images of a folder in the layout of Market-1501, divided by it."""
    return [
        Sighting(
            path=one.path,
            person=str(one.pid),
            camera=str(one.camid),
            part=part,
            place=str(one.path.relative_to(folder)),
        )
        for part in PARTS
        for one in split.part(part)
    ]


def read_sightings(
    path: Path,
    *,
    layout: str = AUTO,
    pattern: str | None = None,
    missing: list[Sighting] | None = None,
) -> tuple[list[Sighting], list[str]]:
    """Reads the images that `read_own_images` divides, with notes for the user."""
    if path.is_dir():
        if layout != AUTO or pattern is not None or not is_named_as_market(path):
            return read_folders(path, layout=layout, pattern=pattern)
        split = read_market_layout(path, name=path.name)
        notes = list(split.notes)
        if any(one.pid == DISTRACTOR_PID for one in split.train + split.query):
            notes.append(
                "Pid 0 is taken for one person, as it is not in the gallery alone; "
                "there it marks distractors."
            )
        return sightings_of(split, path), notes
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise ValueError(
            f"A file with images must be one of {', '.join(TABLE_SUFFIXES)}. "
            f"Received: {path}"
        )
    check_no_layout(path, layout, pattern)
    return read_table(path, missing=missing)


def check_no_layout(name: str | Path, layout: str, pattern: str | None) -> None:
    """Raises `ValueError` if a layout or pattern is told of what is no own folder."""
    if pattern is not None:
        raise ValueError(
            "--pattern (setting data.pattern) says what the names of one's own images "
            f"in a folder tell. Leave it out for {name}. Received: pattern={pattern!r}"
        )
    if layout != AUTO:
        raise ValueError(
            "--layout (setting data.layout) says what the folders of one's own images "
            f"are. Leave it out for {name}. Received: layout={layout!r}"
        )
