"""What an index knows of its images: one row each, beside the features."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from topdb_tf.embed.embed import UNKNOWN
from topdb_tf.retrieval.identities import whole_numbers

_COLUMNS = {"ids": "i8", "pids": "i8", "camids": "i8", "is_live": "?", "squares": "f4"}


class Entries(NamedTuple):
    """The rows of an index, in the order of their ids.

    Args:
        ids: int64 `(num_rows,)`, ascending; an id is never given twice.
        paths: Names of the images.
        pids: int64 `(num_rows,)`, `UNKNOWN` where nobody has told it.
        camids: The same, of cameras.
        is_live: Whether a row is found by a search; a removed one is not.
        squares: float32 `(num_rows,)`, the squared norms of the features.
    """

    ids: np.ndarray
    paths: Sequence[str]
    pids: np.ndarray
    camids: np.ndarray
    is_live: np.ndarray
    squares: np.ndarray

    def live_rows(self) -> np.ndarray:
        """Returns the numbers of the rows that were not removed."""
        return np.flatnonzero(self.is_live)

    def live_paths(self) -> list[str]:
        """Returns the names of the images that were not removed."""
        return [self.paths[row] for row in self.live_rows()]

    def take(self, rows: np.ndarray) -> "Entries":
        """Returns some of the rows."""
        paths = [self.paths[row] for row in rows]
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return Entries(paths=paths, **columns)

    def joined(self, other: "Entries") -> "Entries":
        """Returns these rows with those of another after them."""
        columns = {
            name: np.concatenate([getattr(self, name), getattr(other, name)])
            for name in _COLUMNS
        }
        return Entries(paths=[*self.paths, *other.paths], **columns)

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
        squares=np.einsum("ij,ij->i", features, features),
    )


def ids_of_images(name: str, ids: Sequence | None, count: int) -> np.ndarray:
    """Returns pids or camids as int64, `UNKNOWN` where nobody has told them.

    Raises:
        ValueError: If they are no whole numbers, or not as many as there are images.
    """
    if ids is None:
        return np.full(count, UNKNOWN)
    numbers = whole_numbers(name, ids, unknown=UNKNOWN)
    if len(numbers) != count:
        raise ValueError(
            f"`{name}` must have one entry an image. "
            f"Received: {count} images and {len(numbers)} {name}"
        )
    return numbers


def entries_bytes(entries: Entries) -> bytes:
    """Returns the contents of the file that `entries_of` reads."""
    text = "\0".join(entries.paths).encode("utf-8", "surrogateescape")
    columns = {name: getattr(entries, name) for name in _COLUMNS}
    file = io.BytesIO()
    np.savez(file, paths=np.frombuffer(text, np.uint8), **columns)
    return file.getvalue()


def entries_of(contents: bytes) -> Entries:
    """Returns the entries in the contents of a file.

    Raises:
        ValueError, KeyError, OSError: If the contents are damaged.
    """
    with np.load(io.BytesIO(contents), allow_pickle=False) as arrays:
        columns = {name: arrays[name] for name in _COLUMNS}
        text = arrays["paths"].tobytes().decode("utf-8", "surrogateescape")
    count = len(columns["ids"])
    paths = text.split("\0") if count else []
    for name, column in columns.items():
        if column.dtype != np.dtype(_COLUMNS[name]) or column.shape != (count,):
            raise ValueError(f"column {name}: {column.dtype} {column.shape}")
    if len(paths) != count or (np.diff(columns["ids"]) <= 0).any():
        raise ValueError(f"{len(paths)} paths of {count} rows, or ids not ascending")
    return Entries(paths=paths, **columns)
