"""What an index knows of its images: one row each, beside the features."""

import io
import itertools
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from topdb_tf.data.records import NO_NAMES, UNKNOWN, IdNames
from topdb_tf.data.sightings import folded
from topdb_tf.embed.places import ids_of_images, times_of_images
from topdb_tf.json_files import json_value, record_of
from topdb_tf.retrieval.postprocessing import CameraStatistics

_STATISTICS = "statistics_"
_COLUMNS = {"ids": "i8", "pids": "i8", "camids": "i8", "is_live": "?", "squares": "f4"}
_COLUMNS |= {"times": "f8"}


class Entries(NamedTuple):
    """The rows of an index, in the order of their ids.

    Args:
        ids: int64 `(num_rows,)`, ascending; an id is never given twice.
        paths: Names of the images.
        pids: int64 `(num_rows,)`, `UNKNOWN` where nobody has told it.
        camids: The same, of cameras.
        is_live: Whether a row is found by a search; a removed one is not.
        squares: float32 `(num_rows,)`, the squared norms of the features.
        times: float64 `(num_rows,)`, seconds since 1970, NaN where nobody has told it.
        names: What persons and cameras are called.
        statistics: By which features are normalised by camera, if they are.
    """

    ids: np.ndarray
    paths: Sequence[str]
    pids: np.ndarray
    camids: np.ndarray
    is_live: np.ndarray
    squares: np.ndarray
    times: np.ndarray
    names: IdNames = NO_NAMES
    statistics: CameraStatistics | None = None

    def live_rows(self) -> np.ndarray:
        """Returns the numbers of the rows that were not removed."""
        return np.flatnonzero(self.is_live)

    def live_paths(self) -> list[str]:
        """Returns the names of the images that were not removed."""
        return [self.paths[row] for row in self.live_rows()]

    def take(self, rows: np.ndarray) -> "Entries":
        """Returns some of the rows, and no name of others."""
        paths = [self.paths[row] for row in rows]
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        left = {*columns["pids"].tolist()}, {*columns["camids"].tolist()}
        names = (
            {number: text for number, text in called.items() if number in numbers}
            for called, numbers in zip(self.names, left, strict=True)
        )
        statistics = self.statistics and self.statistics.of_cameras(columns["camids"])
        names = IdNames(*names)
        return Entries(paths=paths, names=names, statistics=statistics, **columns)

    def in_own_numbers(self, images):
        """Returns images with the numbers by which the index knows who is on them.

        One of the index's persons is who is called so, but for case, spaces and zeros;
        others get a number that is free. The names are then those of both.
        """
        names, known = images.names, self.names
        pids, persons = _renumbered(
            "pid", images.pids, self.pids, names.persons, known.persons
        )
        camids, cameras = _renumbered(
            "camid", images.camids, self.camids, names.cameras, known.cameras
        )
        names = IdNames(persons, cameras)
        return images._replace(pids=pids, camids=camids, names=names)

    def numbers_of(self, word: str, ids: Sequence) -> list[int | None]:
        """Returns the numbers of persons ("pid") or cameras by names or numbers."""
        is_pid = word == "pid"
        numbers = self.pids if is_pid else self.camids
        names = self.names.persons if is_pid else self.names.cameras
        live = np.unique(numbers[self.is_live]).tolist()
        number_of = {str(n): n for n in live if n != UNKNOWN}
        number_of |= {folded(names[n], word): n for n in live if n in names}
        return [number_of.get(folded(str(one), word)) for one in ids]

    def cameras(self) -> list[str]:
        """Returns what the cameras of the images that were not removed are called."""
        numbers = np.unique(self.camids[self.is_live]).tolist()
        names = self.names.cameras
        return [names.get(number, str(number)) for number in numbers if number >= 0]

    def joined(self, other: "Entries") -> "Entries":
        """Returns these rows with those of another, in their numbers, after them."""
        other = self.in_own_numbers(other)
        columns = {
            name: np.concatenate([getattr(self, name), getattr(other, name)])
            for name in _COLUMNS
        }
        paths = [*self.paths, *other.paths]
        return self._replace(paths=paths, names=other.names, **columns)

    def without(self, rows: np.ndarray) -> "Entries":
        """Returns the same rows with some of them marked as removed."""
        is_live = self.is_live.copy()
        is_live[rows] = False
        return self._replace(is_live=is_live)


def new_entries(
    first_id: int,
    paths: Sequence[str],
    features: np.ndarray,
    pids: np.ndarray | None,
    camids: np.ndarray | None,
    names: IdNames = NO_NAMES,
    times: np.ndarray | None = None,
) -> Entries:
    """Returns the rows of images that come into an index; the first has `first_id`.

    Raises:
        ValueError: If the lengths differ, or a name occurs twice or holds a NUL.
    """
    count = len(features)
    if len(paths) != count:
        raise ValueError(
            "Each image must have a feature vector and a path. "
            f"Received: {count} features, {len(paths)} paths"
        )
    if any("\0" in path or not path for path in paths):
        raise ValueError("The name of an image must not be empty nor hold a NUL.")
    if len(set(paths)) < count:
        seen = set()
        twice = next(path for path in paths if path in seen or seen.add(path))
        raise ValueError(f"Each image must be there once. Received twice: {twice}")
    return Entries(
        ids=np.arange(first_id, first_id + count, dtype=np.int64),
        paths=list(paths),
        pids=ids_of_images("pids", pids, count),
        camids=ids_of_images("camids", camids, count),
        is_live=np.ones(count, bool),
        squares=squared_lengths(features),
        times=times_of_images(times, count, "images"),
        names=names,
    )


def squared_lengths(features: np.ndarray) -> np.ndarray:
    """Returns the squared norms of features."""
    return np.einsum("ij,ij->i", features, features)


def entries_bytes(entries: Entries) -> bytes:
    """Returns the contents of the file that `entries_of` reads."""
    text = "\0".join(entries.paths).encode("utf-8", "surrogateescape")
    columns = {name: getattr(entries, name) for name in _COLUMNS}
    columns["paths"] = np.frombuffer(text, np.uint8)
    if any(entries.names):
        names = {name: dict(part) for name, part in entries.names._asdict().items()}
        columns["names"] = np.frombuffer(json.dumps(names).encode(), np.uint8)
    if entries.statistics is not None:
        for name, column in entries.statistics._asdict().items():
            columns[_STATISTICS + name] = column
    file = io.BytesIO()
    np.savez(file, **columns)
    return file.getvalue()


def entries_of(contents: bytes) -> Entries:
    """Returns the entries in the contents of a file.

    Raises:
        ValueError, KeyError, OSError: If the contents are damaged.
    """
    with np.load(io.BytesIO(contents), allow_pickle=False) as arrays:
        columns = {name: arrays[name] for name in _COLUMNS if name in arrays}
        if "times" not in arrays:  # of an index from before times
            columns["times"] = np.full(len(columns["ids"]), np.nan)
        text = arrays["paths"].tobytes().decode("utf-8", "surrogateescape")
        names = b'{"persons": {}, "cameras": {}}'  # of an index from before names
        if "names" in arrays:
            names = arrays["names"].tobytes()
        statistics = None
        if f"{_STATISTICS}camids" in arrays:
            fields = CameraStatistics._fields
            statistics = CameraStatistics(*(arrays[_STATISTICS + n] for n in fields))
    count = len(columns["ids"])
    columns = {name: columns[name] for name in _COLUMNS}
    paths = text.split("\0") if count else []
    for name, column in columns.items():
        if column.dtype != np.dtype(_COLUMNS[name]) or column.shape != (count,):
            raise ValueError(f"column {name}: {column.dtype} {column.shape}")
    if len(paths) != count or (np.diff(columns["ids"]) <= 0).any():
        raise ValueError(f"{len(paths)} paths of {count} rows, or ids not ascending")
    names = record_of(dict[str, dict[str, str]], json_value(names.decode()))
    persons, cameras = (
        {int(number): text for number, text in names[part].items()}
        for part in IdNames._fields
    )
    names = IdNames(persons, cameras)
    return Entries(paths=paths, names=names, statistics=statistics, **columns)


def _renumbered(word, numbers, known, names, known_names):
    """Returns ids in the known numbers of an index, and what all are called."""
    if not names and not known_names:
        return numbers, known_names
    used = {*known[known >= 0].tolist(), *known_names}
    number_of = {folded(known_names.get(n, str(n)), word): n for n in sorted(used)}
    called, free, own = dict(known_names), itertools.count(1), {}
    for number in np.unique(numbers[numbers >= 0]).tolist():
        name = names.get(number, str(number))
        key = folded(name, word)
        if key not in number_of:
            new = number if number not in used else next(free)
            while new in used:
                new = next(free)
            number_of[key] = new
            used.add(new)
            if name != str(new):
                called[new] = name
        own[number] = number_of[key]
    return np.array([own.get(n, n) for n in numbers.tolist()], np.int64), called
