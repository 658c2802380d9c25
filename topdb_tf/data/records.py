"""Records of images, of the parts of a data set, and of what its card says."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

import topdb_tf
from topdb_tf.json_files import record_of
from topdb_tf.texts import counted
from topdb_tf.yaml_files import read_yaml

UNKNOWN = int(np.iinfo(np.int64).min)
"""The pid or camid of an image that does not tell it; -1 is a pid of its own."""
_MARKS = {"bounding_box_train", "list_train.txt"}  # in the folder of a data set


class ImageRecord(NamedTuple):
    """One image of one person seen by one camera.

    Args:
        path: The image file.
        pid: Person identity, the number in the file name; 0 is a distractor, seen
            only in a gallery.
        camid: Camera, the number in the file name.
        time: When it was taken, in seconds since 1970, where that is told.
        tracklet: Name of the track that it is of, of one person before one camera.
    """

    path: Path
    pid: int
    camid: int
    time: float | None = None
    tracklet: str | None = None


class IdNames(NamedTuple):
    """What persons and cameras are called, by pid and camid, where not their number."""

    persons: Mapping[int, str] = MappingProxyType({})
    cameras: Mapping[int, str] = MappingProxyType({})


NO_NAMES = IdNames()


@dataclass(frozen=True)
class Split:
    """The training images, queries and gallery of one data set.

    Args:
        name: Name of the split, as in `topdb_tf.data.benchmarks.DATASETS`, or that of
            the file or folder that was read.
        train: Training images; their pids never occur in `query`.
        query: Images whose persons are to be found.
        gallery: Images that are ranked for each query.
        has_cameras: Whether the cameras of the test images are known and differ.
            Without, matches by the same camera count.
        pid_names: The owner's name of each pid, where that is another.
        camera_names: The owner's name of each camid, where that is another.
        notes: What the user should be told of how the images were read.
        parts: The data sets that this one joins, with its pids and camids
            (`topdb_tf.data.joint.joined`); none where it is one data set.

    Raises:
        ValueError: If the path of an image is not text, and could not be written down.
    """

    name: str
    train: tuple[ImageRecord, ...]
    query: tuple[ImageRecord, ...]
    gallery: tuple[ImageRecord, ...]
    has_cameras: bool = True
    pid_names: dict[int, str] = field(default_factory=dict, hash=False)
    camera_names: dict[int, str] = field(default_factory=dict, hash=False)
    notes: tuple[str, ...] = ()
    parts: tuple["Split", ...] = ()

    def __post_init__(self):
        paths = "\0".join(str(record.path) for record in self.records)
        if match := re.search("[\r\n\ud800-\udfff]", paths):
            end = match.end()
            path = paths[:end].rpartition("\0")[2] + paths[end:].partition("\0")[0]
            shown = os.fsencode(path).decode(errors="backslashreplace")
            shown = shown.replace("\r", r"\r").replace("\n", r"\n")
            raise ValueError(
                "Names of folders and images must be of one line in UTF-8, as lists of "
                "them are text. Rename what an old archive named otherwise; convmv "
                f"does it for all. Received: {shown}"
            )

    @property
    def num_pids(self) -> int:
        """Number of training identities, the size of a classifier."""
        return len({record.pid for record in self.train})

    @property
    def records(self) -> tuple[ImageRecord, ...]:
        """All images: training, queries, gallery."""
        return self.train + self.query + self.gallery

    def part(self, name: str) -> tuple[ImageRecord, ...]:
        """Returns the images of "train", "query" or "gallery"."""
        return getattr(self, name)

    def pid_name(self, pid: int) -> str:
        """Returns what a person is called."""
        return self.pid_names.get(pid, str(pid))

    def camera_name(self, camid: int) -> str:
        """Returns what a camera is called."""
        return self.camera_names.get(camid, str(camid))

    @property
    def data_sets(self) -> tuple["Split", ...]:
        """The data sets that it joins, or itself."""
        return self.parts or (self,)

    def counts(self, name: str) -> "PartCounts":
        """Returns how many images and identities a part holds."""
        records = self.part(name)
        return PartCounts(len(records), len({record.pid for record in records}))


@dataclass(frozen=True)
class PartCounts:
    """What one part of a data set holds when it is complete.

    Args:
        images: Number of images, without those of pid -1.
        pids: Number of identities, pid 0 counted as one.
    """

    images: int
    pids: int

    def __str__(self):
        return f"{self.images:,} images of {self.pids:,} identities"

    def differences(self, expected: "PartCounts") -> list[str]:
        """Returns in words what is missing or too many of what is expected.

        Example:
            >>> from topdb_tf.data.records import PartCounts
            >>> PartCounts(images=8, pids=2).differences(PartCounts(images=9, pids=2))
            ['1 images missing']
        """
        surplus = (
            ("images", self.images - expected.images),
            ("identities", self.pids - expected.pids),
        )
        return [
            f"{abs(number):,} {noun} {'missing' if number < 0 else 'too many'}"
            for noun, number in surplus
            if number
        ]


@dataclass(frozen=True)
class DataCounts:
    """How many images, identities and cameras of a data set a run works with."""

    name: str
    train_images: int
    train_pids: int
    train_cameras: int
    query_images: int
    gallery_images: int

    @classmethod
    def of(cls, split: Split) -> "DataCounts":
        """Returns the counts of a data set."""
        train = split.counts("train")
        cameras = len({record.camid for record in split.train})
        tests = len(split.query), len(split.gallery)
        return cls(split.name, train.images, train.pids, cameras, *tests)

    def __str__(self):
        return (
            f"{self.name}: {self.train_images:,} training images of "
            f"{self.train_pids:,} identities by {counted(self.train_cameras, 'camera')}"
            f", {self.query_images:,} queries, {self.gallery_images:,} in the gallery"
        )


@dataclass(frozen=True)
class ArchiveCard:
    """How an archive of a data set is recognised, and where it belongs.

    Args:
        name: What `data prepare --dataset` calls it.
        folder: The folder below the data root that it becomes.
        holds: What lies in one folder of the archive: files, and folders with images,
            which end in `/`. Empty for the three folders of Market-1501.
        images: Regular expression that most names of images match; empty if `holds`
            tells enough.
        needs: Files that the data set needs besides, in `folder` or beside it.
        max_files: More files than it has by far.
        max_gib: More GiB than it takes by far.
    """

    name: str
    folder: str
    holds: tuple[str, ...] = ()
    images: str = ""
    needs: tuple[str, ...] = ()
    max_files: int = 250_000
    max_gib: int = 16


@dataclass(frozen=True)
class DatasetCard:
    """What is known of one data set, as in `datasets/<name>.yaml`.

    Args:
        name: Name of the data set, the stem of the card's file name.
        title: The name that its authors gave it.
        source: Where it comes from, in a sentence or two.
        terms: What it may be used for.
        citation: The papers to cite.
        folders: Folders below the data root that can hold it in the Market-1501
            layout; the first that exists is read.
        parts: What "train", "query" and "gallery" hold when complete. A part that
            is not listed must hold an image, and is not counted otherwise.
        archives: What `data prepare` unpacks; a card may leave it out. Where an entry
            tells no name or folder, they are the card's name and first folder.
    """

    name: str
    title: str
    source: str
    terms: str
    citation: str
    folders: tuple[str, ...]
    parts: dict[str, PartCounts]
    archives: tuple[ArchiveCard, ...] = ()

    def places(self, data_root: Path) -> list[Path]:
        """Returns the folders that can hold the data set, in their order."""
        return [data_root / folder for folder in self.folders]

    def missing_message(
        self, data_root: Path, places: Sequence[Path], hint: str = ""
    ) -> str:
        """Returns what to tell the user if the images are in none of some places."""
        if any((data_root / mark).exists() for mark in _MARKS):
            hint += f"Is it {data_root} itself? The root is the folder above. "
        names = {part for folder in self.folders for part in Path(folder).parts}
        marks = [*data_root.glob("*/*/*"), *data_root.glob("*/*/*/*")]
        for path in sorted(path for path in marks if path.name in _MARKS):
            if names.issuperset(path.relative_to(data_root).parts[:-1]):
                hint += f"Is it {path.parent}? That is too deep: move it up. "
                break
        return (
            f"The images of {self.title} must lie in {' or '.join(map(str, places))}. "
            f"{hint}{self.source} datasets/README.md shows the expected folders; "
            "--data-root or $TOPDB_DATA names another root. "
            f"Received: data_root={data_root}"
        )


def pids_of(records: Sequence[ImageRecord]) -> np.ndarray:
    """Returns the person identities of the records, int64 of shape `(num_images,)`."""
    return _column(records, "pid")


def camids_of(records: Sequence[ImageRecord]) -> np.ndarray:
    """Returns the cameras of the records, int64 of shape `(num_images,)`."""
    return _column(records, "camid")


def times_of(records: Sequence[ImageRecord]) -> np.ndarray:
    """Returns when the images were taken, in seconds, NaN where nobody has told it."""
    return np.array([np.nan if r.time is None else r.time for r in records], float)


def tracklets_of(records: Sequence[ImageRecord]) -> np.ndarray:
    """Returns the tracks of the images, texts, empty where an image is of none."""
    return np.array([record.tracklet or "" for record in records], str)


def _column(records, name):
    numbers = [getattr(record, name) for record in records]
    try:
        return np.array(numbers, np.int64)
    except OverflowError:
        place = max(range(len(numbers)), key=lambda place: abs(numbers[place]))
        raise ValueError(
            f"A {name} must be a number of at most 18 digits. "
            f"Received: {name} {numbers[place]} of {records[place].path}"
        ) from None


def labels_of(records: tuple[ImageRecord, ...]) -> np.ndarray:
    """Returns the training label of each record: the rank of its pid among all.

    Labels are 0 … num_pids - 1 in the order of the sorted pids, so they are the same
    on every machine.

    Returns:
        int32 array of shape `(num_images,)`.

    Example:
        >>> from topdb_tf.data.records import ImageRecord, labels_of
        >>> labels_of([ImageRecord("a", 7, 1), ImageRecord("b", 2, 1)])
        array([1, 0], dtype=int32)
    """
    _, labels = np.unique(pids_of(records), return_inverse=True)
    return labels.astype(np.int32)


CARDS: dict[str, DatasetCard] = {}
"""Cards of data sets that `topdb_tf.register_dataset` added."""


def load_card(name: str) -> DatasetCard:
    """Loads the card of a data set, from the installed package or the source tree.

    Args:
        name: Name of the data set, the stem of the card's file name.

    Raises:
        FileNotFoundError: If there is no such card.
        ValueError: If the card lacks a key, has one that is not known or a wrong value.
    """
    if name in CARDS:
        return CARDS[name]
    package = Path(topdb_tf.__file__).parent
    paths = [root / "datasets" / f"{name}.yaml" for root in (package, package.parent)]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"The card of {name} must be at {paths[0]} or {paths[1]}. Write one beside "
            f"the others; datasets/README.md tells how. Received: name={name!r}"
        )
    expected = [field.name for field in fields(DatasetCard)][1:-1]
    known = [field.name for field in fields(ArchiveCard)]
    try:
        entries = record_of(dict[str, Any], read_yaml(path))
        archives = record_of(list[dict[str, Any]], entries.pop("archives", []))
        _check_keys(entries, expected, "A card must hold exactly the keys", expected)
        for archive in archives:
            _check_keys(archive, known, "An archive of a card must hold no keys but")
        folders = record_of(tuple[str, ...], entries["folders"], "folders")
        defaults = {"name": name, "folder": next(iter(folders), "")}
        entries["archives"] = [defaults | archive for archive in archives]
        return record_of(DatasetCard, {"name": name, **entries})
    except ValueError as error:
        raise ValueError(f"The card {path} cannot be used: {error}") from error


def _check_keys(entries, known, rule, needed=()):
    keys = set(entries)
    if not set(needed) <= keys <= set(known):
        raise ValueError(f"{rule} {', '.join(known)}. Received: keys={sorted(keys)}")
