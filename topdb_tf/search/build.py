"""Indexes of images: built, added to, removed from, made compact."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from topdb_tf.embed.model_probes import check_same_model, recorded_model
from topdb_tf.embed.source import Source
from topdb_tf.progress import progress_bar
from topdb_tf.runs.models import find_model, metric_of
from topdb_tf.search import kinds
from topdb_tf.search.changes import (
    add_entries,
    compact_index,
    create_index,
    remove_entries,
)
from topdb_tf.search.files import check_free
from topdb_tf.search.index import SearchIndex
from topdb_tf.search.items import items_of
from topdb_tf.search.manifest import METRICS, Manifest
from topdb_tf.search.milvus.collection import MilvusIndex
from topdb_tf.search.milvus.place import MilvusPlace, manifest_of
from topdb_tf.search.overview import (
    Change,
    IndexOverview,
    collection_overview,
    overview_of,
)
from topdb_tf.texts import check_one_of


def build_index(
    places: Sequence[Path],
    out: Path | MilvusPlace,
    source: Source,
    *,
    kind: str = "exact",
    metric: str | None = None,
    parameters: dict[str, int] | None = None,
    normalize_cameras: bool = False,
    **reading,
) -> IndexOverview:
    """Writes a new index of images, or of a file of features.

    Args:
        places: Image files and folders, one CSV file, or one file of features.
        out: Folder of the index, which must not exist, or a collection of Milvus,
            which may if a build was cut short: it goes on.
        source: What embeds the images; not asked for a file of features.
        kind: "exact", "hnsw", "ivf" or a FAISS factory string.
        metric: Of the distances. Defaults to that of the run whose model it is, and
            to squared Euclidean for others.
        parameters: Of the kind, where they are not to be the defaults.
        normalize_cameras: Whether features are normalised by camera; then all images
            and queries must tell theirs.
        **reading: `layout`, `pattern` and `say` of `topdb_tf.search.items.items_of`.

    Raises:
        FileExistsError: If `out` exists.
        FileNotFoundError, ValueError, ServingError: If something is missing, damaged
            or does not fit.
    """
    metric = metric or metric_of(find_model(source.model))
    if isinstance(out, MilvusPlace):
        manifest = manifest_of(kind, metric, parameters or {})
        if normalize_cameras:
            raise ValueError(
                "--normalize-cameras is for an index on disk (--out), which keeps the "
                f"statistics. Received: --to {out}"
            )
        return _build_collection(places, out, source, manifest, reading)
    check_free(out)
    check_one_of("metric", metric, METRICS)
    kinds.check_kind(kind, parameters or {})
    reading |= {"metric": metric, "needs_cameras": normalize_cameras}
    items = items_of(places, source, **reading)
    model = _model_of(items, source)
    with progress_bar("building") as progress:
        create_index(
            out,
            items.features,
            items.paths,
            pids=items.pids,
            camids=items.camids,
            names=items.names,
            normalize_cameras=normalize_cameras,
            times=items.times,
            kind=kind,
            metric=metric,
            parameters=parameters,
            model=model,
            progress=progress,
        )
    return _overview_with(out, items)


def add_to_index(
    folder: Path | MilvusPlace,
    places: Sequence[Path],
    source: Source,
    *,
    skip_known: bool = False,
    **reading,
) -> IndexOverview:
    """Adds images to an index; one that is there by its path is replaced or skipped.

    A source without a model or server is the model that the index was built with. How
    places are read is told as for `build_index`.

    Raises:
        FileNotFoundError, ValueError, ServingError: If something is missing, damaged
            or does not fit, or the features are of another model or length.
    """
    if isinstance(folder, MilvusPlace):
        with MilvusIndex(folder) as index:
            known = index.known_paths if skip_known else None
            source = source_of_index(index.manifest, source)
            reading["metric"] = index.manifest.metric
            return _stored(index, items_of(places, source, known=known, **reading))
    index = SearchIndex(folder)
    known = (lambda _: {*index.entries.live_paths()}) if skip_known else None
    source = source_of_index(index.manifest, source)
    manifest = index.manifest
    reading |= {"metric": manifest.metric, "needs_cameras": manifest.is_by_camera}
    items = items_of(places, source, known=known, **reading)
    check_same_model(items.probes, index.manifest.model)
    num_replaced = 0
    if len(items.paths):
        with progress_bar("adding") as progress:
            num_replaced = add_entries(
                folder,
                items.features,
                items.paths,
                pids=items.pids,
                camids=items.camids,
                names=items.names,
                times=items.times,
                progress=progress,
            )
    return _overview_with(folder, items, num_replaced)


def remove_from_index(
    folder: Path | MilvusPlace,
    *,
    paths: Sequence[str] = (),
    pids: Sequence[int | str] = (),
    prefixes: Sequence[str] = (),
) -> IndexOverview:
    """Removes images by their paths, persons, or what their paths begin with.

    Persons are named by their names or numbers.

    Raises:
        FileNotFoundError: If there is no index, or no image of a path or pid in it.
        ValueError: If nothing is named, or the index is damaged.
    """
    if not (paths or pids or prefixes):
        raise ValueError("Name what is to go: --path, --pid or --prefix.")
    if isinstance(folder, MilvusPlace):
        with MilvusIndex(folder) as index:
            removed = index.remove(paths, pids, prefixes)
            return collection_overview(index, Change(removed=removed))
    wanted, starts = set(paths), tuple(prefixes)

    def is_named(entries):
        live, numbers = set(entries.live_paths()), entries.numbers_of("pid", pids)
        missing = [path for path in paths if path not in live]
        pairs = zip(pids, numbers, strict=True)
        missing += [f"pid {pid}" for pid, number in pairs if number is None]
        if missing:
            raise FileNotFoundError(
                f"There is no such image in {folder}, so nothing was removed. "
                f"Received: {', '.join(missing)}"
            )
        by_path = [path in wanted or path.startswith(starts) for path in entries.paths]
        return np.array(by_path, bool) | np.isin(entries.pids, numbers)

    return overview_of(folder, Change(removed=remove_entries(folder, is_named)))


def compact(folder: Path) -> IndexOverview:
    """Writes an index anew without what was removed.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If it is damaged, or so few images are left that its kind is not
            possible.
    """
    with progress_bar("building") as progress:
        num_dropped = compact_index(folder, progress=progress)
    return overview_of(folder, Change(num_dropped=num_dropped))


def _build_collection(places, place, source, manifest, reading):
    """Stores images in a new collection, or the rest in one of the same kind."""
    with MilvusIndex(place, is_new=True) as index:
        there, known = index.manifest, None
        if there is not None:
            for name in ("kind", "metric", "parameters"):
                old, new = getattr(there, name), getattr(manifest, name)
                if old != new:
                    raise ValueError(
                        f"{place} is there with {name} {old}. Name another collection "
                        f"or the same {name}. Received: {new}"
                    )
            known = index.known_paths
        reading |= {"metric": manifest.metric, "known": known}
        items = items_of(places, source, **reading)
        if there is None:
            if not items.features.size:
                raise ValueError("There must be an image with features. Received: none")
            model = _model_of(items, source)
            dim = items.features.shape[1]
            index.create(replace(manifest, dim=dim, model=model))
        return _stored(index, items)


def _model_of(items, source):
    """Returns what an index records of the model, `None` where it is not known."""
    if items.probes is None:
        return None
    names = {name: getattr(source, name) for name in ("model", "server", "pca")}
    return recorded_model(items.probes, **names)


def _stored(index, items):
    """Returns what a collection is after images of the same model were stored there."""
    check_same_model(items.probes, index.manifest.model)
    num_replaced = 0
    if len(items.paths):
        with progress_bar("storing") as progress:
            num_replaced = index.add(items, progress)
    return collection_overview(index, _change_of(items, num_replaced))


def collection_info(place: MilvusPlace) -> IndexOverview:
    """Returns what a collection of Milvus is."""
    with MilvusIndex(place) as index:
        return collection_overview(index)


def source_of_index(manifest: Manifest, source: Source) -> Source:
    """Returns a source, with the model that made an index if it names none."""
    model = manifest.model
    is_open = source.model is None and source.server is None
    if is_open and model is not None and model.path is not None:
        source = replace(source, model=Path(model.path))
    if source.pca is None and model is not None and model.pca is not None:
        source = replace(source, pca=Path(model.pca))
    return source


def _overview_with(folder, items, num_replaced=None):
    """Returns what an index is after items were added."""
    return overview_of(folder, _change_of(items, num_replaced))


def _change_of(items, num_replaced):
    return Change(
        num_added=len(items.paths),
        failures=items.failures,
        seconds=items.seconds,
        num_replaced=num_replaced,
    )
