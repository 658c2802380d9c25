"""Changes of an index on disk: built, added to, removed from, made compact."""

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from topdb_tf import __version__
from topdb_tf.search import files, kinds
from topdb_tf.search.entries import Entries, entries_bytes, new_entries
from topdb_tf.search.index import METRICS, SearchIndex, checked_features

_TAIL_ROWS, _TAIL_SHARE = 10_000, 0.05


def create_index(
    folder: Path | str,
    features: np.ndarray,
    paths: Iterable[str],
    *,
    pids: np.ndarray | None = None,
    camids: np.ndarray | None = None,
    kind: str = "exact",
    metric: str = "sqeuclidean",
    parameters: dict[str, int] | None = None,
    model: dict | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes a new index.

    Args:
        folder: Its folder; it must not exist.
        features: Of the images, any float type, shape `(num_images, dim)`.
        paths: Names of the images, each once.
        pids: Persons, whole numbers of shape `(num_images,)`, if they are known.
        camids: Cameras, the same.
        kind: One of `topdb_tf.search.kinds.KINDS`.
        metric: One of `METRICS`.
        parameters: Other values for those of `kinds.default_parameters`.
        model: What made the features, to be kept in `index.json`.
        progress: Called with the number of images that FAISS holds and of all.

    Raises:
        FileExistsError: If the folder exists.
        ValueError: If kind, metric or a parameter is unknown or does not fit, features
            are not finite numbers, or a path is there twice.
    """
    folder, features = Path(folder), np.asarray(features)
    if metric not in METRICS:
        raise ValueError(
            f"The metric must be one of {', '.join(METRICS)}. Received: {metric}"
        )
    if features.ndim != 2 or not features.size:
        raise ValueError(
            "Features must have the shape (num_images, dim), none of them 0. "
            f"Received: shape={features.shape}"
        )
    known = kinds.default_parameters(kind, *features.shape)
    manifest = {
        "topdb_tf": __version__,
        "kind": kind,
        "metric": metric,
        "dim": features.shape[1],
        "parameters": kinds.checked_parameters(known, parameters or {}),
        "model": model,
        "change": 0,
        "next_id": 0,
        "files": {},
    }
    if kind != "exact":
        kinds.load_faiss()
    features = checked_features(features, manifest)
    entries = new_entries(0, list(paths), features, pids, camids)
    files.make_folder(folder)
    with files.locked(folder):
        if (folder / files.MANIFEST).exists():
            raise FileExistsError(f"Another process has just built {folder}.")
        _rewrite(folder, manifest, features, entries, progress)


def add_entries(
    folder: Path | str,
    features: np.ndarray,
    paths: Iterable[str],
    *,
    pids: np.ndarray | None = None,
    camids: np.ndarray | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Adds images to an index; one that is there by its path is replaced.

    The features are appended to their file. FAISS is given them when they have become
    more than 10,000 and more than 5 % of the images; until then they are compared one
    by one, whatever the kind.

    Args:
        folder: Folder of the index.
        features, paths, pids, camids, progress: As of `create_index`.

    Returns:
        The number of images that were replaced.

    Raises:
        FileNotFoundError, ValueError: As `SearchIndex` and `create_index`.
    """
    folder = Path(folder)
    with _opened(folder) as index:
        manifest = index.manifest
        features = checked_features(np.asarray(features), manifest)
        entries = new_entries(manifest["next_id"], list(paths), features, pids, camids)
        names = set(entries.paths)
        live = index.entries.live_rows()
        old = [row for row in live if index.entries.paths[row] in names]
        joined = index.entries.without(np.array(old, int)).joined(entries)
        change = manifest["change"] + 1
        written = dict(manifest["files"])
        written["features"] = files.append_features(
            folder, written["features"], features, change
        )
        manifest = {**manifest, "files": written}
        tail = len(joined.ids) - manifest.get("approximate_rows", 0)
        if index.approximate is not None and _is_long(tail, len(joined.ids)):
            rows = files.map_features(folder, written["features"], manifest["dim"])
            kinds.extend(index.approximate, rows, progress=progress)
            manifest = _with_approximate(folder, manifest, index.approximate)
        _finish(folder, manifest, joined)
    return len(old)


def remove_entries(
    folder: Path | str, chosen: Callable[[Entries], np.ndarray]
) -> list[str]:
    """Removes images from an index; they are found no more.

    Their features stay in the file until `compact_index`.

    Args:
        folder: Folder of the index.
        chosen: Function from the entries to booleans, True for what is to go.

    Returns:
        The paths of the images that were removed.

    Raises:
        FileNotFoundError, ValueError: As `SearchIndex`.
    """
    folder = Path(folder)
    with _opened(folder) as index:
        entries = index.entries
        rows = np.flatnonzero(chosen(entries) & entries.is_live)
        if len(rows):
            _finish(folder, index.manifest, entries.without(rows))
        return [entries.paths[row] for row in rows]


def compact_index(
    folder: Path | str, *, progress: Callable[[int, int], None] | None = None
) -> int:
    """Writes an index anew, without what was removed, and with new centres and graph.

    Ids stay as they are. Parameters do too, but for those that the number of images
    does not allow any more.

    Args:
        folder: Folder of the index.
        progress: As of `create_index`.

    Returns:
        The number of removed images whose features are gone from the disk.

    Raises:
        FileNotFoundError, ValueError: As `SearchIndex`; or if so few images are left
            that the kind is not possible.
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
        FileNotFoundError, ValueError: As `SearchIndex`; or if a file is damaged.
    """
    folder = Path(folder)
    with _opened(folder) as index:
        for file in index.manifest["files"].values():
            files.check_file(folder, file)


@contextlib.contextmanager
def _opened(folder):
    """Gives an index that no other process changes meanwhile."""
    files.read_manifest(folder)
    with files.locked(folder):
        yield SearchIndex(folder)


def _rewrite(folder, manifest, features, entries, progress):
    """Writes all files of an index anew."""
    change, kind = manifest["change"] + 1, manifest["kind"]
    written = {"features": files.append_features(folder, None, features, change)}
    manifest = {**manifest, "files": written}
    if kind != "exact":
        parameters = _fitting(kind, manifest["parameters"], features.shape)
        built = kinds.build(kind, parameters, features, progress=progress)
        manifest = {**manifest, "parameters": parameters}
        manifest = _with_approximate(folder, manifest, built)
    _finish(folder, manifest, entries)


def _fitting(kind, parameters, shape):
    """Returns parameters with no more cells than the images allow."""
    known = kinds.default_parameters(kind, *shape)
    if parameters.get("nlist", 0) <= shape[0]:
        return parameters
    cells = {name: known[name] for name in ("nlist", "nprobe")}
    return {**parameters, **cells}


def _with_approximate(folder, manifest, index):
    name = f"approximate-{manifest['change'] + 1:06d}.faiss"
    file = files.write_file(
        folder, name, lambda path: kinds.write_approximate(index, path)
    )
    written = {**manifest["files"], "approximate": file}
    return {**manifest, "files": written, "approximate_rows": index.ntotal}


def _finish(folder, manifest, entries):
    """Writes the entries and makes the change valid."""
    change = manifest["change"] + 1
    contents = entries_bytes(entries)
    file = files.write_file(
        folder, f"entries-{change:06d}.npz", lambda path: path.write_bytes(contents)
    )
    next_id = manifest["next_id"]
    if len(entries.ids):
        next_id = max(next_id, int(entries.ids[-1]) + 1)
    manifest = {
        **manifest,
        "change": change,
        "num_rows": len(entries.ids),
        "next_id": next_id,
        "files": {**manifest["files"], "entries": file},
    }
    files.write_manifest(folder, manifest)


def _is_long(tail, num_rows):
    return tail > max(_TAIL_ROWS, _TAIL_SHARE * num_rows)
