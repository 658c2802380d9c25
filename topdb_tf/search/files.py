"""The files of an index: written beside the old ones, then named by a small file.

`index.json` names the files that hold the index. A change writes new files, or appends
to the features behind the rows that count, and then replaces `index.json`. So a change
that is cut short leaves the index as it was, and what it left behind is cleared away by
the next. A reader that has opened the files is not disturbed.
"""

import contextlib
import datetime
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.files import write_whole

MANIFEST = "index.json"
FORMAT = 1
_PATTERNS = ("features-*.f32", "entries-*.npz", "approximate-*.faiss", "*.partial")
_LOCK_SECONDS = 120
_PIECE = 16 << 20
_FIELDS = {
    "kind": str,
    "parameters": dict,
    "metric": str,
    "dim": int,
    "num_rows": int,
    "next_id": int,
    "change": int,
    "files": dict,
}


class WrittenFile(NamedTuple):
    """A file of an index as `index.json` names it.

    Args:
        name: Name in the folder.
        size: Number of bytes that count.
        crc32: Their checksum.
    """

    name: str
    size: int
    crc32: int


def read_manifest(folder: Path) -> dict:
    """Returns what `index.json` of an index says.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If the file is damaged, foreign, or of a newer version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} is no index: it has no {MANIFEST}. Build one with "
            f"`topdb-tf index build PLACES --out {folder}`."
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["format"]
    except (ValueError, KeyError, TypeError):
        raise damaged(path, "it is not what `topdb-tf index` writes") from None
    if version != FORMAT:
        raise ValueError(
            f"{path} must be of format {FORMAT}. Build the index again with this "
            f"version. Received: format {version}"
        )
    wrong = [
        name
        for name, kind in _FIELDS.items()
        if type(manifest.get(name)) is not kind or (kind is int and manifest[name] < 0)
    ]
    if wrong or manifest["dim"] < 1 or {"features", "entries"} - set(manifest["files"]):
        raise damaged(path, f"not as written: {', '.join(wrong) or 'files'}")
    try:
        files = {name: WrittenFile(*f) for name, f in manifest["files"].items()}
    except TypeError:
        raise damaged(path, "not as written: files") from None
    if any(Path(str(file.name)).name != file.name for file in files.values()):
        raise damaged(path, "it names files outside the folder")
    return {**manifest, "files": files}


def damaged(path: Path, reason: str) -> ValueError:
    """Returns the error for a file of an index that cannot be used."""
    return ValueError(
        f"{path} is damaged or no file of an index: {reason}. Build the index again, "
        "or take it from a backup."
    )


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
    """Raises as `read_file`, without holding the file in memory."""
    path, crc32, left = folder / file.name, 0, file.size
    with path.open("rb") as stream:
        while left and (piece := stream.read(min(_PIECE, left))):
            crc32, left = zlib.crc32(piece, crc32), left - len(piece)
    if left or crc32 != file.crc32:
        raise damaged(path, "its contents are not what was written")


def map_features(folder: Path, file: WrittenFile, dim: int) -> np.ndarray:
    """Returns the features of an index, mapped from their file.

    Returns:
        float32 of shape `(num_rows, dim)`, read-only.

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
    """Writes features behind those of a file, or into a new one.

    Args:
        folder: Folder of the index.
        file: The file so far, or `None`.
        features: float32 of shape `(num_rows, dim)`.
        change: Number of the change, for the name of a new file.
    """
    if file is None:
        file = WrittenFile(f"features-{change:06d}.f32", 0, 0)
        (folder / file.name).write_bytes(b"")
    crc32 = file.crc32
    with (folder / file.name).open("r+b") as stream:
        stream.truncate(file.size)  # what a change left that was cut short
        stream.seek(file.size)
        rows_a_piece = max(1, _PIECE // (4 * features.shape[1]))
        for start in range(0, len(features), rows_a_piece):
            rows = features[start : start + rows_a_piece]
            piece = np.ascontiguousarray(rows, "<f4").tobytes()
            crc32 = zlib.crc32(piece, crc32)
            stream.write(piece)
        _to_disk(stream)
    return WrittenFile(file.name, file.size + 4 * features.size, crc32)


def write_file(folder: Path, name: str, write: Callable[[Path], None]) -> WrittenFile:
    """Writes a file of an index, by a function that is given its path."""
    path, crc32 = folder / name, 0
    write(path)
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            crc32 = zlib.crc32(piece, crc32)
        os.fsync(stream.fileno())
    return WrittenFile(name, path.stat().st_size, crc32)


def write_manifest(folder: Path, manifest: dict) -> None:
    """Makes the files that a manifest names the index, and clears others away."""
    now = datetime.datetime.now(datetime.timezone.utc)
    manifest = {**manifest, "format": FORMAT, "date": now.isoformat(timespec="seconds")}
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    names = {file.name for file in manifest["files"].values()}
    for pattern in _PATTERNS:
        for path in folder.glob(pattern):
            if path.name not in names:
                with contextlib.suppress(OSError):  # in use, where that forbids it
                    path.unlink()


def make_folder(folder: Path) -> None:
    """Makes the folder of a new index, where there is nothing but one's remains.

    Raises:
        FileExistsError: If it holds an index or anything else.
        FileNotFoundError: If it would lie in a folder that does not exist.
    """
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"The folder of {folder} must exist.")
    if folder.is_dir():
        own = {path for pattern in _PATTERNS for path in folder.glob(pattern)}
        if not set(folder.iterdir()) - own:
            return
    if folder.exists():
        raise FileExistsError(
            f"{folder} already exists. Add to it with `topdb-tf index add {folder}`, "
            "choose another --out, or remove it."
        )
    folder.mkdir()


@contextlib.contextmanager
def locked(folder: Path, seconds: float = _LOCK_SECONDS) -> Iterator[None]:
    """Holds an index for this process while it changes it, where the system can.

    Args:
        folder: Folder of the index.
        seconds: How long another process is waited for.

    Raises:
        ValueError: If another process holds it all the time.
    """
    with contextlib.ExitStack() as stack:
        if os.name == "posix":
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            _wait_for_lock(descriptor, folder, time.monotonic() + seconds)
        yield


def _wait_for_lock(descriptor, folder, end):
    import fcntl

    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= end:
                raise ValueError(
                    f"Another process is changing {folder}. Wait for its end, and "
                    "try again."
                ) from error
            time.sleep(0.05)
        except OSError:
            return  # some network file systems have no locks


def _to_disk(stream):
    stream.flush()
    os.fsync(stream.fileno())
