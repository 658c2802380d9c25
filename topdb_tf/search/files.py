"""The large files of an index, and its folder."""

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from topdb_tf.files import contents_of, named_errors
from topdb_tf.search.manifest import PATTERNS, WrittenFile, damaged

_PIECE = 16 << 20


def read_file(folder: Path, file: WrittenFile) -> bytes:
    """Returns the contents of a file of an index, checked.

    Raises:
        FileNotFoundError: If it is gone.
        ValueError: If its contents are not what was written.
    """
    path = folder / file.name
    contents = path.read_bytes()
    if len(contents) != file.size or zlib.crc32(contents) != file.crc32:
        raise damaged(path, "its contents are not what was written")
    return contents


def check_file(folder: Path, file: WrittenFile) -> None:
    """Raises an error unless a file is as it was written, a piece at a time.

    Raises:
        FileNotFoundError: If it is gone.
        ValueError: If its contents are not what was written.
    """
    path, crc32, left = folder / file.name, 0, file.size
    with path.open("rb") as stream:
        while left and (piece := stream.read(min(_PIECE, left))):
            crc32, left = zlib.crc32(piece, crc32), left - len(piece)
    if left or crc32 != file.crc32:
        raise damaged(path, "its contents are not what was written")


def map_features(folder: Path, file: WrittenFile, dim: int) -> np.ndarray:
    """Returns the features of an index, mapped from their file: float32, read-only.

    Raises:
        FileNotFoundError: If the file is gone.
        ValueError: If it is too short.
    """
    path = folder / file.name
    if path.stat().st_size < file.size or file.size % (4 * dim):
        raise damaged(path, f"it must hold {file.size} bytes")
    if not file.size:
        return np.empty((0, dim), np.float32)
    shape = (file.size // (4 * dim), dim)
    return np.memmap(path, np.dtype("<f4"), "r", shape=shape)


def append_features(
    folder: Path, file: WrittenFile | None, features: np.ndarray, change: int
) -> WrittenFile:
    """Writes features behind those of a file, or into a new one of this change."""
    if file is None:
        file = WrittenFile(f"features-{change:06d}.f32", 0, 0)
        (folder / file.name).write_bytes(b"")
    crc32, path = file.crc32, folder / file.name
    with named_errors(path), path.open("r+b") as stream:
        stream.truncate(file.size)  # what a change left that was cut short
        stream.seek(file.size)
        rows_a_piece = max(1, _PIECE // (4 * features.shape[1]))
        for start in range(0, len(features), rows_a_piece):
            rows = features[start : start + rows_a_piece]
            piece = np.ascontiguousarray(rows, "<f4").tobytes()
            crc32 = zlib.crc32(piece, crc32)
            stream.write(piece)
        stream.flush()
        os.fsync(stream.fileno())
    return WrittenFile(file.name, file.size + 4 * features.size, crc32)


def write_file(folder: Path, name: str, write: Callable[[Path], None]) -> WrittenFile:
    """Writes a file of an index, by a function that is given its path."""
    path, crc32 = folder / name, 0
    with named_errors(path):
        write(path)
        with path.open("rb") as stream:
            while piece := stream.read(_PIECE):
                crc32 = zlib.crc32(piece, crc32)
            os.fsync(stream.fileno())
    return WrittenFile(name, path.stat().st_size, crc32)


def check_free(folder: Path) -> None:
    """Raises an error unless an index can be built in a folder, or in one's remains.

    Raises:
        FileExistsError: If it holds an index or anything else.
        FileNotFoundError: If it would lie in a folder that does not exist.
    """
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"The folder of {folder} must exist.")
    if folder.is_dir():
        remains = {path for pattern in PATTERNS for path in folder.glob(pattern)}
        if not set(contents_of(folder)) - remains:
            return
    if folder.exists():
        raise FileExistsError(
            f"{folder} already exists. Add to it with `topdb-tf index add {folder}`, "
            "choose another --out, or remove it."
        )
