"""Indexes of images: built, added to, removed from, looked over."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from topdb_tf.data.image_files import list_images
from topdb_tf.embed.embed import open_client
from topdb_tf.embed.model_probes import check_same_model, keras_file, model_facts
from topdb_tf.progress import progress_bar
from topdb_tf.runs.folder import RunFolder, open_run
from topdb_tf.search.changes import (
    add_entries,
    compact_index,
    create_index,
    remove_entries,
)
from topdb_tf.search.facts import index_facts
from topdb_tf.search.index import SearchIndex
from topdb_tf.search.items import Items, embed_items, features_file, read_items


def build_index(
    places: Sequence[Path],
    out: Path,
    *,
    kind: str,
    metric: str | None = None,
    parameters: dict[str, int] | None = None,
    skip_bad: bool = False,
    timeout: float | None = None,
    **where,
) -> dict:
    """Writes a new index of images, or of a file of features.

    Args:
        places: Image files and folders, or one NPZ file as of `read_items`.
        out: Folder of the index; it must not exist.
        kind: One of `topdb_tf.search.kinds.KINDS`.
        metric: Of the distances. Defaults to the run's whose model it is, and to
            squared Euclidean for others.
        parameters: Of the kind, where they are not to be the defaults.
        skip_bad: Whether bad images are left out.
        timeout: Seconds for the embedding.
        **where: The model, as of `topdb_tf.embed.embed.open_client`; not for a file.

    Returns:
        As `index_facts`, with `num_added`, `failures` and `seconds` of the embedding.

    Raises:
        FileExistsError: If `out` exists.
        FileNotFoundError, ValueError, ServingError: If something is missing, damaged
            or does not fit.
    """
    if out.exists() and (not out.is_dir() or (out / "index.json").exists()):
        raise FileExistsError(
            f"{out} already exists. Add to it with `topdb-tf index add {out}`, choose "
            "another --out, or remove it."
        )
    items = _items(places, where, skip_bad=skip_bad, timeout=timeout)
    model = None
    if items.probes is not None:
        origin = {name: where.get(name) for name in ("model", "server")}
        model = model_facts(items.probes, **origin)
    with progress_bar("building") as progress:
        create_index(
            out,
            items.features,
            items.paths,
            pids=items.pids,
            camids=items.camids,
            kind=kind,
            metric=metric or _metric_of(where.get("model")),
            parameters=parameters,
            model=model,
            progress=progress,
        )
    return {**index_facts(out), **_added(items)}


def add_to_index(
    folder: Path,
    places: Sequence[Path],
    *,
    skip_known: bool = False,
    skip_bad: bool = False,
    timeout: float | None = None,
    **where,
) -> dict:
    """Adds images to an index; one that is there by its path is replaced.

    Args:
        folder: Folder of the index.
        places: As of `build_index`.
        skip_known: Whether images that are there by their paths are left alone.
        skip_bad: Whether bad images are left out.
        timeout: Seconds for the embedding.
        **where: The model. Defaults to the one that the index was built with, if it
            is still there.

    Returns:
        As `index_facts`, with `num_added`, `num_replaced`, `failures` and `seconds`.

    Raises:
        FileNotFoundError, ValueError, ServingError: As `build_index`; or if the
            features are of another model or length.
    """
    index = SearchIndex(folder)
    known = frozenset()
    if skip_known:
        entries = index.entries
        known = frozenset(entries.paths[row] for row in entries.live_rows())
    options = {"skip_bad": skip_bad, "timeout": timeout, "known": known}
    if features_file(places) is None:
        where = model_of_index(index.manifest, **where)
    items = _items(places, where, **options)
    check_items(items, index.manifest)
    num_replaced = 0
    if len(items.paths):
        with progress_bar("adding") as progress:
            num_replaced = add_entries(
                folder,
                items.features,
                items.paths,
                pids=items.pids,
                camids=items.camids,
                progress=progress,
            )
    return {**index_facts(folder), **_added(items), "num_replaced": num_replaced}


def remove_from_index(
    folder: Path,
    *,
    paths: Sequence[str] = (),
    pids: Sequence[int] = (),
    prefixes: Sequence[str] = (),
) -> dict:
    """Removes images by their paths, persons, or what their paths begin with.

    Returns:
        As `index_facts`, with `removed`, the paths.

    Raises:
        FileNotFoundError: If there is no index, or no image of a path or pid in it.
        ValueError: If nothing is named, or the index is damaged.
    """
    if not (paths or pids or prefixes):
        raise ValueError("Name what is to go: --path, --pid or --prefix.")
    wanted, starts = set(paths), tuple(prefixes)

    def chosen(entries):
        live = [entries.paths[row] for row in entries.live_rows()]
        missing = [path for path in paths if path not in set(live)]
        missing += [
            f"pid {pid}" for pid in pids if pid not in entries.pids[entries.is_live]
        ]
        if missing:
            raise FileNotFoundError(
                f"There is no such image in {folder}, so nothing was removed. "
                f"Received: {', '.join(missing)}"
            )
        named = [path in wanted or path.startswith(starts) for path in entries.paths]
        return np.array(named, bool) | np.isin(entries.pids, list(pids))

    removed = remove_entries(folder, chosen)
    return {**index_facts(folder), "removed": removed}


def compact(folder: Path) -> dict:
    """Writes an index anew without what was removed.

    Returns:
        As `index_facts`, with `num_dropped`, the number of removed images whose
        features are gone from the disk.

    Raises:
        FileNotFoundError, ValueError: As `compact_index`.
    """
    with progress_bar("building") as progress:
        num_dropped = compact_index(folder, progress=progress)
    return {**index_facts(folder), "num_dropped": num_dropped}


def model_of_index(manifest: dict, **where) -> dict:
    """Returns where the model is: as named, or as an index has it.

    Raises:
        ValueError: If none is named and the index does not tell a file.
    """
    if where.get("model") is not None or where.get("server") is not None:
        return where
    model = manifest.get("model") or {}
    if not model.get("path") or not Path(model["path"]).exists():
        raise ValueError(
            "Name the model that made the index with --model or --server. Received: "
            f"none, and the index has {model.get('name', 'no model')}"
        )
    return {**where, "model": Path(model["path"])}


def check_items(items: Items, manifest: dict) -> None:
    """Raises `ValueError` if features are known to be of another model than an index.

    Args:
        items: With probes, or without where their model is not known.
        manifest: What `index.json` of the index says.
    """
    model = manifest.get("model")
    if model is not None and items.probes is not None:
        check_same_model(items.probes, model)


def _items(places, where, *, known=frozenset(), **options) -> Items:
    """Returns the images of places with their features."""
    path = features_file(places)
    if path is not None:
        return read_items(path)
    paths = [path for path in list_images(places).paths if str(path) not in known]
    if not paths:
        none = np.empty(0, np.int64)
        return Items(np.empty((0, 0), np.float32), [], none, none, None)
    with open_client(**where) as client:
        return embed_items(client, paths, **options)


def _metric_of(model):
    """Returns the metric of the run of a model, or squared Euclidean."""
    path = keras_file(model)
    if path is None or not RunFolder(path.parent).holds_run:
        return "sqeuclidean"
    return open_run(path.parent).config.evaluation.metric


def _added(items):
    failures = list(items.failures)
    added = {"num_added": len(items.paths), "failures": failures}
    return {**added, "seconds": items.seconds}
