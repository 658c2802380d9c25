"""The files of a checkpoint: written whole or not at all, checked when they are read.

A checkpoint is a folder `EPOCHS-STEPS` with `arrays.npz`, `facts.json` and a
`manifest.json` of the sizes and SHA-256 sums of both. No TensorFlow is needed here.
"""

import contextlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.files import plain, remove_whole, sha256_of, sync, whole_folder
from topdb_tf.json_files import record_of
from topdb_tf.training.errors import CheckpointError, DamagedCheckpointError

_ARRAYS, _FACTS, _MANIFEST = "arrays.npz", "facts.json", "manifest.json"
_OTHER_CONTENT = (
    FileNotFoundError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
    zipfile.BadZipFile,
)
FIGURES = "figures"
"""How the names of the arrays begin that are figures of an epoch, and no state."""


class Position(NamedTuple):
    """How far a training is: whole epochs, and the steps of the epoch after them."""

    epoch: int = 0
    step: int = 0

    @property
    def name(self) -> str:
        """Name of the checkpoint's folder; names sort as positions do."""
        return f"{self.epoch:05d}-{self.step:07d}"

    def first_step(self, epoch: int) -> int:
        """Returns the step at which the training enters the epoch, from 0."""
        return self.step if epoch == self.epoch else 0


START = Position()


class BestEpoch(NamedTuple):
    """The epoch with the highest mAP so far, counted from 1, and that mAP."""

    epochs_done: int
    mean_ap: float


class TrainingRecord(NamedTuple):
    """What a checkpoint tells of its training beside the state: its `facts.json`.

    The precision is for people, and says why it was taken. Of the training images there
    is the checksum of names, identities and cameras, and of the log its text, `None`
    before the first epoch has ended.
    """

    precision: str = ""
    training_images: str = ""
    num_replicas: int = 1
    best: BestEpoch | None = None
    log: str | None = None


class Checkpoint(NamedTuple):
    """What a checkpoint holds; the arrays are the state by name."""

    position: Position
    record: TrainingRecord
    arrays: dict[str, np.ndarray]


def positions(folder: Path) -> list[Position]:
    """Returns the positions of the complete checkpoints of a folder, newest first.

    Raises:
        CheckpointError: If it cannot be read now.
    """
    found = []
    with _told_if_unreadable(folder):
        try:
            # `glob` would leave out what it is denied.
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            return []
        for entry in entries:
            epoch, _, step = entry.name.partition("-")
            if epoch.isdecimal() and step.isdecimal() and entry.is_dir():
                found.append(Position(int(epoch), int(step)))
    return sorted(found, reverse=True)


def write_checkpoint(
    folder: Path,
    position: Position,
    record: TrainingRecord,
    arrays: Iterable[tuple[str, np.ndarray]],
) -> None:
    """Writes a checkpoint; it appears under its name when all of it is on the disk.

    Raises:
        CheckpointError: If it cannot be written. Nothing is left of it then.
    """
    path = folder / position.name
    if path.is_dir():
        return  # the same state
    with explained(path):
        with whole_folder(path) as partial:
            _write_arrays(partial / _ARRAYS, arrays)
            _write_json(partial / _FACTS, plain(record))
            manifest = {name: _sum_of(partial / name) for name in (_ARRAYS, _FACTS)}
            _write_json(partial / _MANIFEST, manifest)
            sync(partial)
        sync(folder)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Says of an error while a file of a run is written what can be done."""
    try:
        yield
    except OSError as error:
        free = _free_bytes(path)
        raise CheckpointError(
            f"{path} could not be written: {error.strerror or error}. "
            f"{free / 2**20:,.0f} MiB are free there."
        ) from error


def read_checkpoint(folder: Path, position: Position) -> Checkpoint:
    """Reads a checkpoint and checks it against its manifest.

    Raises:
        CheckpointError: If it cannot be read now; nobody knows what it holds.
        DamagedCheckpointError: If a file is missing or not what was written, or the
            state is not finite.
        ValueError: If another version wrote it.
    """
    path = folder / position.name
    # Not at the top: it brings Numba along, which the settings of runs do without.
    from topdb_tf.retrieval.features import array_in, open_arrays

    with _told_if_unreadable(path):
        _check_sums(path)
        try:
            with open_arrays(path / _ARRAYS) as opened:
                arrays = {name: array_in(opened, name, path) for name in opened}
            checkpoint = Checkpoint(position, _record_in(path), arrays)
        except _OTHER_CONTENT as error:
            raise ValueError(
                f"The checkpoint {path} is whole, but not as this version writes it. "
                "Go on with the version of topdb-tf that wrote it (environment.json "
                f"tells which). Received: {error!r}"
            ) from error
    for name, array in checkpoint.arrays.items():
        if not name.startswith(FIGURES) and not_finite(array):
            raise DamagedCheckpointError(
                f"The checkpoint {path} cannot be gone on with: {name} is not finite."
            )
    return checkpoint


def read_record(folder: Path, position: Position) -> TrainingRecord:
    """Returns what a checkpoint tells of its training, without its state.

    Raises:
        CheckpointError: If it cannot be read now.
        DamagedCheckpointError: If it is not what was written.
    """
    path = folder / position.name
    with _told_if_unreadable(path), _told_if_damaged(path):
        return _record_in(path)


def not_finite(array: np.ndarray) -> bool:
    """Returns whether an array holds a number that is NaN or infinite."""
    return array.dtype.kind == "f" and not np.isfinite(array).all()


def _check_sums(path):
    with _told_if_damaged(path):
        manifest = _read_json(path / _MANIFEST)
        for name in {_ARRAYS, _FACTS, *manifest}:
            if manifest[name] != _sum_of(path / name):
                raise ValueError(f"{name} is not what was written")


def _record_in(path):
    """Returns the record of a checkpoint; older versions wrote less into it."""
    return record_of(TrainingRecord, _read_json(path / _FACTS))


@contextlib.contextmanager
def _told_if_damaged(path):
    try:
        yield
    except _OTHER_CONTENT as error:
        raise DamagedCheckpointError(
            f"The checkpoint {path} is damaged ({error})."
        ) from error


@contextlib.contextmanager
def _told_if_unreadable(path):
    """Says of an error of the system, which may pass, that it tells of no damage."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{error.filename or path} could not be read: {error.strerror or error}. "
            "Nothing was changed: see to it, and repeat the command."
        ) from error


def newest_checkpoint(folder: Path, *, say: Callable[[str], None]) -> Checkpoint:
    """Returns the newest checkpoint that is whole; damaged newer ones are set aside.

    They stay beside the others, as `NAME.damaged`.

    Raises:
        CheckpointError: If one cannot be read now.
        FileNotFoundError: If there is none.
        ValueError: If another version wrote it.
    """
    damaged = []
    for position in positions(folder):
        try:
            checkpoint = read_checkpoint(folder, position)
        except DamagedCheckpointError as error:
            damaged.append(position)
            say(f"warning: {error}")
            continue
        for other in damaged:
            aside = _set_aside(folder / other.name)
            say(f"kept as {aside}: going on from {position.name}")
        return checkpoint
    state = "only damaged checkpoints" if damaged else "no checkpoint"
    raise FileNotFoundError(
        f"{folder} holds {state}, so there is nothing to resume. Start anew with "
        "`topdb-tf fit` and another --run-dir."
    )


def prune(folder: Path, *, keep: int, also: Iterable[Position] = ()) -> None:
    """Removes all but the newest checkpoints, `keep` of them, and those `also` kept."""
    for position in positions(folder)[keep:]:
        if position not in set(also):
            remove_whole(folder / position.name)


def _set_aside(path):
    """Gives what looks damaged a name by which nothing reads it; returns its place."""
    number = len(list(path.parent.glob(f"{path.name}.damaged*")))
    aside = path.with_name(f"{path.name}.damaged{f'-{number}' if number else ''}")
    return path.rename(aside)


def _write_arrays(path, arrays):
    """Writes what `np.savez` would, one array in memory at a time."""
    with path.open("wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays:
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)
    sync(path)


def _write_json(path, value):
    with path.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
    sync(path)


def _read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _sum_of(path):
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _free_bytes(path):
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
