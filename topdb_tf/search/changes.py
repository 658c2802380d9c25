"""Changes of an index on disk: built, added to, removed from, made compact."""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from topdb_tf.data.records import NO_NAMES, IdNames
from topdb_tf.embed.model_probes import RecordedModel
from topdb_tf.embed.places import ids_of_images
from topdb_tf.files import held_folder
from topdb_tf.retrieval.postprocessing import camera_statistics
from topdb_tf.search import files, kinds
from topdb_tf.search.entries import (
    Entries,
    entries_bytes,
    new_entries,
    squared_lengths,
)
from topdb_tf.search.index import SearchIndex, check_told, checked_features
from topdb_tf.search.manifest import (
    MANIFEST,
    METRICS,
    IndexFiles,
    Manifest,
    clear_away,
    read_manifest,
    write_manifest,
)
from topdb_tf.texts import check_one_of

_LOCK_SECONDS = 120
_TAIL_ROWS, _TAIL_SHARE = 10_000, 0.05


def create_index(
    folder: Path | str,
    features: np.ndarray,
    paths: Iterable[str],
    *,
    pids: np.ndarray | None = None,
    camids: np.ndarray | None = None,
    names: IdNames = NO_NAMES,
    normalize_cameras: bool = False,
    times: np.ndarray | None = None,
    kind: str = "exact",
    metric: str = "sqeuclidean",
    parameters: dict[str, int] | None = None,
    model: RecordedModel | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes a new index.

    Args:
        folder: Its folder; it must not exist.
        features: Of the images, any float type, shape `(num_images, dim)`.
        paths: Names of the images, each once.
        pids: Persons, whole numbers of shape `(num_images,)`, if they are known.
        camids: Cameras, the same.
        names: What these are called, where not their number.
        normalize_cameras: Whether features are normalised by camera, those that are
            added or asked for later too.
        times: When the images were taken, in seconds since 1970 or as texts.
        kind: What `kinds.factory_string` takes: "exact", "hnsw", "HNSW32,SQ8"…
        metric: One of `METRICS`.
        parameters: Values to take instead of those of `kinds.default_parameters`.
        model: What made the features, to be kept in `index.json`.
        progress: Called with the number of images that FAISS holds and of all.

    Raises:
        FileExistsError: If the folder exists.
        ValueError: If something told does not fit, or a path is there twice.
    """
    folder, features = Path(folder), np.asarray(features)
    check_one_of("metric", metric, METRICS)
    if features.ndim != 2 or not features.size:
        raise ValueError(
            "Features must have the shape (num_images, dim), none of them 0. "
            f"Received: shape={features.shape}"
        )
    known, changed = kinds.default_parameters(kind, *features.shape), parameters or {}
    kinds.check_parameters(known, changed)
    kind, dim = kinds.factory_string(kind, len(features)), features.shape[1]
    by_camera = {"is_by_camera": normalize_cameras}
    manifest = Manifest(kind, known | changed, metric, dim, model, **by_camera)
    features, statistics = _normalized(features, camids, manifest)
    entries = new_entries(0, list(paths), features, pids, camids, names, times)
    entries = entries._replace(statistics=statistics)
    files.check_free(folder)
    folder.mkdir(exist_ok=True)
    with _held(folder):
        if (folder / MANIFEST).exists():
            raise FileExistsError(f"Another process has just built {folder}.")
        try:
            _rewrite(folder, manifest, features, entries, progress)
        except BaseException:
            clear_away(folder)
            with contextlib.suppress(OSError):
                folder.rmdir()
            raise


def _normalized(features, camids, manifest):
    """Returns features as a new index keeps them, and by which statistics, if any."""
    features = checked_features(features, manifest)
    if not manifest.is_by_camera:
        return features, None
    camids = ids_of_images("camids", camids, len(features))
    check_told(camids)
    statistics = camera_statistics([features], [camids])
    features = statistics.normalized(features, camids)
    return checked_features(features, manifest), statistics


def add_entries(
    folder: Path | str,
    features: np.ndarray,
    paths: Iterable[str],
    *,
    pids: np.ndarray | None = None,
    camids: np.ndarray | None = None,
    names: IdNames = NO_NAMES,
    times: np.ndarray | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Adds images to an index; one that is there by its path is replaced.

    The features are appended to their file. FAISS is given them when they have become
    more than 10,000 and more than 5 % of the images; until then they are compared one
    by one, whatever the kind.

    Args:
        folder: Folder of the index.
        features: Of the images, any float type, shape `(num_images, dim)`.
        paths: Names of the images, each once.
        pids: Persons, whole numbers of shape `(num_images,)`, if they are known.
        camids: Cameras, the same.
        names: What they are called, where not their number. Who is called as a person
            of the index gets that one's number, others one that is free.
        times: When the images were taken, as for `create_index`.
        progress: Called with the number of images that FAISS holds and of all.

    Returns:
        The number of images that were replaced.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If it is damaged, features do not fit it or are not finite, or a
            path is there twice.
    """
    folder = Path(folder)
    with _opened(folder) as index:
        manifest, features = index.manifest, np.asarray(features)
        features = checked_features(features, manifest)
        new = manifest.next_id, list(paths), features, pids, camids, names, times
        entries = new_entries(*new)
        if manifest.is_by_camera:
            own = index.entries.in_own_numbers(entries).camids
            features = checked_features(index.normalized(features, own), manifest)
            entries = entries._replace(squares=squared_lengths(features))
        wanted = set(entries.paths)
        live = index.entries.live_rows()
        old = [row for row in live if index.entries.paths[row] in wanted]
        joined = index.entries.without(np.array(old, int)).joined(entries)
        file = files.append_features(
            folder, manifest.files.features, features, manifest.change + 1
        )
        manifest = replace(manifest, files=manifest.files._replace(features=file))
        tail = len(joined.ids) - (manifest.approximate_rows or 0)
        is_long = tail > max(_TAIL_ROWS, _TAIL_SHARE * len(joined.ids))
        if index.approximate is not None and is_long:
            rows = files.map_features(folder, file, manifest.dim)
            kinds.extend(index.approximate, rows, progress=progress)
            manifest = _with_approximate(folder, manifest, index.approximate)
        _finish(folder, manifest, joined)
    return len(old)


def remove_entries(
    folder: Path | str, is_named: Callable[[Entries], np.ndarray]
) -> list[str]:
    """Removes images from an index; they are found no more.

    Their features stay in the file until `compact_index`.

    Args:
        folder: Folder of the index.
        is_named: Function from the entries to booleans, True for what is to go.

    Returns:
        The paths of the images that were removed.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If it is damaged.
    """
    folder = Path(folder)
    with _opened(folder) as index:
        entries = index.entries
        rows = np.flatnonzero(is_named(entries) & entries.is_live)
        if len(rows):
            _finish(folder, index.manifest, entries.without(rows))
        return [entries.paths[row] for row in rows]


def compact_index(
    folder: Path | str, *, progress: Callable[[int, int], None] | None = None
) -> int:
    """Writes an index anew, without what was removed, and with new centres and graph.

    Ids and the kind stay as they are, but for cells that are more than the images.

    Args:
        folder: Folder of the index.
        progress: Called with the number of images that FAISS holds and of all.

    Returns:
        The number of removed images whose features are gone from the disk.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If it is damaged, or so few images are left that the kind is not
            possible.
    """
    folder = Path(folder)
    with _opened(folder) as index:
        rows = index.entries.live_rows()
        entries = index.entries.take(rows)
        _rewrite(folder, index.manifest, index.features[rows], entries, progress)
        return len(index.entries.ids) - len(rows)


def check_index(folder: Path | str) -> None:
    """Reads all files of an index and compares them with their checksums.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If a file of it is damaged.
    """
    with _opened(Path(folder)):
        pass


def _held(folder):
    """Holds an index for this process while it changes it, where the system can."""
    refusal = f"Another process is changing {folder}. Wait for its end, and try again."
    return held_folder(folder, refusal, seconds=_LOCK_SECONDS)


@contextlib.contextmanager
def _opened(folder):
    """Gives an index, all files checked, that no other process changes meanwhile."""
    read_manifest(folder)
    with _held(folder):
        yield SearchIndex(folder)


def _rewrite(folder, manifest, features, entries, progress):
    """Writes all files of an index anew."""
    file = files.append_features(folder, None, features, manifest.change + 1)
    manifest = replace(manifest, files=IndexFiles(file), approximate_rows=None)
    if manifest.kind != "exact":
        manifest = replace(manifest, kind=kinds.fitting(manifest.kind, len(features)))
        kinds.factory_string(manifest.kind, len(features))
        built = kinds.build(
            manifest.kind, manifest.parameters, features, progress=progress
        )
        manifest = _with_approximate(folder, manifest, built)
    _finish(folder, manifest, entries)


def _with_approximate(folder, manifest, index):
    file = files.write_file(
        folder,
        f"approximate-{manifest.change + 1:06d}.faiss",
        lambda path: kinds.load_faiss().write_index(index, str(path)),
    )
    written = manifest.files._replace(approximate=file)
    return replace(manifest, files=written, approximate_rows=index.ntotal)


def _finish(folder, manifest, entries):
    """Writes the entries and makes the change valid."""
    change, contents = manifest.change + 1, entries_bytes(entries)
    file = files.write_file(
        folder, f"entries-{change:06d}.npz", lambda path: path.write_bytes(contents)
    )
    next_id = manifest.next_id
    if len(entries.ids):
        next_id = max(next_id, int(entries.ids[-1]) + 1)
    manifest = replace(
        manifest,
        files=manifest.files._replace(entries=file),
        change=change,
        num_rows=len(entries.ids),
        next_id=next_id,
    )
    write_manifest(folder, manifest)
