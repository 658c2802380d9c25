"""The public benchmarks: where their images lie, read and counted."""

import difflib
import functools
import os
import re
from collections.abc import Callable
from pathlib import Path

from topdb_tf.data import cuhk03
from topdb_tf.data.records import (
    DatasetCard,
    ImageRecord,
    PartCounts,
    Split,
    load_card,
)
from topdb_tf.data.synthetic import write_synthetic

PARTS = {
    "train": "bounding_box_train",
    "query": "query",
    "gallery": "bounding_box_test",
}
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
JUNK_PID = -1  # detections of too low quality

_NAME_PATTERN = re.compile(r"(-1|\d+)_c(\d+)(?!\d)")

Progress = Callable[[int, int], None]


def data_root(option: Path | None = None) -> Path:
    """Returns the folder of all data sets.

    Args:
        option: The user's choice. Where there is none, it is the environment
            variable `TOPDB_DATA`, and without that `datasets` in the current folder.
    """
    return Path(option or os.environ.get("TOPDB_DATA") or "datasets").expanduser()


def read_split(
    name: str,
    data_root: Path,
    *,
    check_counts: bool = True,
    progress: Progress | None = None,
) -> Split:
    """Reads the records of one benchmark and checks that nothing is missing.

    Args:
        name: A name in `SPLITS`.
        data_root: Folder of all data sets.
        check_counts: Whether the parts must hold as many images and identities as
            the card of the data set says. `False` accepts a subset.
        progress: Called with the numbers of images done and to do while images are
            extracted (CUHK03) or drawn (synthetic), which is done only once.

    Raises:
        ValueError: If the name is unknown, a file name does not parse, or a part is
            incomplete.
        FileNotFoundError: If the data set is not below `data_root`.
    """
    if name not in SPLITS:
        nearest = difflib.get_close_matches(name, SPLITS, n=1)
        hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
        raise ValueError(
            f"The data set must be one of {', '.join(SPLITS)}. {hint}"
            f"Received: name={name!r}"
        )
    card = load_card(name)
    split = SPLITS[name](Path(data_root), card, progress=progress)
    if check_counts:
        _check_counts(split, card, data_root)
    return split


def read_market_layout(folder: Path, *, name: str) -> Split:
    """Reads a folder in the layout of Market-1501.

    The folder holds `bounding_box_train`, `query` and `bounding_box_test`; a part
    that is missing is read as empty. The file name alone tells the person and the
    camera: `0002_c1s1_000451_03.jpg` is person 2 seen by camera 1. Images of pid -1,
    detections of too low quality, are left out; pid 0, distractors, is kept. Hidden
    files and files that are not images (`Thumbs.db`) are skipped. Records are sorted
    by file name.

    Args:
        folder: The folder that holds the three parts.
        name: Name of the split.

    Raises:
        ValueError: If the name of an image does not tell its person and camera.
        FileNotFoundError: If the folder holds none of the parts.
    """
    folder = Path(folder)
    if not _holds_part(folder):
        raise FileNotFoundError(
            f"The folder of {name} must hold {', '.join(PARTS.values())}. "
            f"datasets/README.md shows the expected folders. Received: folder={folder}"
        )
    parts = {part: _read_folder(folder / PARTS[part]) for part in PARTS}
    return Split(name, **parts)


def read_benchmark(
    data_root: Path, card: DatasetCard, *, progress: Progress | None = None
) -> Split:
    """Reads a data set in the Market-1501 layout from the first of its folders.

    Args:
        data_root: Folder of all data sets.
        card: Card of the data set.
        progress: Not called: there is nothing to extract.

    Raises:
        ValueError: If the name of an image does not tell its person and camera.
        FileNotFoundError: If none of the card's folders holds a part.
    """
    del progress
    folder = _first_folder(data_root, card)
    if folder is None:
        raise FileNotFoundError(_missing_message(data_root, card))
    return read_market_layout(folder, name=card.name)


def read_cuhk03(
    kind: str, data_root: Path, card: DatasetCard, *, progress: Progress | None = None
) -> Split:
    """Reads CUHK03 under the new protocol: ready-made folders, else `cuhk-03.mat`.

    Where both are there, the ready-made CUHK03-NP folders are read: they hold the
    same images and nothing has to be extracted.

    Args:
        kind: "labeled" or "detected".
        data_root: Folder of all data sets.
        card: Card of the data set.
        progress: Called with the numbers of images done and to do.

    Raises:
        ValueError: If a file is not what it should be.
        FileNotFoundError: If there are neither folders nor `cuhk-03.mat`.
    """
    folder = _first_folder(data_root, card)
    if folder is not None:
        return read_market_layout(folder, name=card.name)
    original = data_root / "cuhk03"
    if not original.is_dir():
        raise FileNotFoundError(_missing_message(data_root, card, original))
    return cuhk03.read_original(original, kind, card, progress=progress)


def read_synthetic(
    data_root: Path, card: DatasetCard, *, progress: Progress | None = None
) -> Split:
    """Reads the embedded data set of drawn people; draws it first if it is missing.

    Args:
        data_root: Folder of all data sets.
        card: Card of the data set.
        progress: Called with the numbers of images drawn and to draw.

    Raises:
        ValueError: If the folder holds something else.
    """
    folder = data_root / card.folders[0]
    if not _holds_part(folder):
        write_synthetic(folder, progress=progress)
    return read_market_layout(folder, name=card.name)


def is_image(path: Path) -> bool:
    """Returns whether a file is an image by its name, and not a hidden one."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def record_of(path: Path) -> ImageRecord:
    """Returns the person and the camera that the name of an image tells.

    Raises:
        ValueError: If it does not tell them.
    """
    match = _NAME_PATTERN.match(path.name)
    if match is None:
        raise ValueError(
            "The name of an image must start with <pid>_c<camid>, as in "
            "0002_c1s1_000451_03.jpg. Rename or remove it; datasets/README.md shows "
            f"the expected folders. Received: path={path}"
        )
    return ImageRecord(path, pid=int(match[1]), camid=int(match[2]))


SPLITS = {
    "market1501": read_benchmark,
    "dukemtmc-reid": read_benchmark,
    "cuhk03-labeled": functools.partial(read_cuhk03, "labeled"),
    "cuhk03-detected": functools.partial(read_cuhk03, "detected"),
    "synthetic": read_synthetic,
}


def _holds_part(folder: Path) -> bool:
    return any((folder / part).is_dir() for part in PARTS.values())


def _read_folder(folder: Path) -> tuple[ImageRecord, ...]:
    if not folder.is_dir():
        return ()
    paths = sorted(path for path in folder.iterdir() if is_image(path))
    records = (record_of(path) for path in paths)
    return tuple(record for record in records if record.pid != JUNK_PID)


def _first_folder(data_root: Path, card: DatasetCard) -> Path | None:
    folders = (data_root / folder for folder in card.folders)
    return next((folder for folder in folders if _holds_part(folder)), None)


def _missing_message(data_root: Path, card: DatasetCard, *more: Path) -> str:
    paths = [data_root / folder for folder in card.folders] + list(more)
    return (
        f"The images of {card.title} must lie in {_listed(paths)}. {card.source} "
        "datasets/README.md shows the expected folders; --data-root or $TOPDB_DATA "
        f"names another root. Received: data_root={data_root}"
    )


def _listed(paths: list[Path]) -> str:
    return " or ".join(str(path) for path in paths)


def _check_counts(split: Split, card: DatasetCard, data_root: Path) -> None:
    found = {part: _counts_of(getattr(split, part)) for part in PARTS}
    if all(
        found[part].images > 0 and found[part] == card.parts.get(part, found[part])
        for part in PARTS
    ):
        return
    states = [_state_of(part, found[part], card.parts.get(part)) for part in PARTS]
    raise ValueError(
        f"{card.title} must be complete: {'; '.join(states)}. Extract it again: "
        f"{card.source} datasets/README.md shows the expected folders. To use a subset "
        "on purpose, pass check_counts=False (--set data.check_counts=false). "
        f"Received: name={split.name!r}, data_root={data_root}"
    )


def _counts_of(records: tuple[ImageRecord, ...]) -> PartCounts:
    return PartCounts(len(records), len({record.pid for record in records}))


def _state_of(part: str, found: PartCounts, expected: PartCounts | None) -> str:
    state = f"{part} ({PARTS[part]}) holds {found.images:,} images of {found.pids:,} "
    if expected is None:
        return f"{state}identities"
    differences = [
        f"{abs(difference):,} {noun} {'missing' if difference < 0 else 'too many'}"
        for noun, difference in (
            ("images", found.images - expected.images),
            ("identities", found.pids - expected.pids),
        )
        if difference
    ]
    return (
        f"{state}identities, expected {expected.images:,} of {expected.pids:,} "
        f"({', '.join(differences) or 'complete'})"
    )
