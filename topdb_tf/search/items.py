"""What goes into an index or is looked for in it: images, or files of features."""

from collections.abc import Callable, Sequence, Set
from pathlib import Path

import numpy as np

from topdb_tf.data.image_files import read_images
from topdb_tf.data.own_images import check_no_layout
from topdb_tf.data.records import IdNames, camids_of
from topdb_tf.data.trees.levels import AUTO
from topdb_tf.embed.embed import Embedding, embed_files
from topdb_tf.embed.places import times_of_images, told_ids
from topdb_tf.embed.projection import check_pca_file, read_projection
from topdb_tf.embed.source import Source
from topdb_tf.parquet_files import SUFFIX
from topdb_tf.retrieval.features import array_in, open_arrays
from topdb_tf.search.index import check_told
from topdb_tf.texts import Say, silent

_TEXTS = ("paths", "pid_names", "camera_names")


def items_of(
    places: Sequence[Path],
    source: Source,
    *,
    metric: str | None = None,
    part: str = "gallery",
    known: Callable[[list[str]], Set[str]] | None = None,
    layout: str = AUTO,
    pattern: str | None = None,
    needs_cameras: bool = False,
    say: Say = silent,
) -> Embedding:
    """Returns images, or those of a file, but for the known ones, with their features.

    Places, layout and pattern are those of `topdb_tf.data.image_files.read_images`, or
    the place is one NPZ or Parquet file of features, by image or, where they are to be
    compared by the metric "cosine", by track.

    Raises:
        FileNotFoundError: If an image, a file or the model does not exist.
        ValueError: If there are other places beside a file of features, that file is
            none, an image is bad, or an embedding is not finite; if cameras are needed,
            where one is not told.
        ServingError: If the server fails.
    """
    if source is not None:
        check_pca_file(source.pca, "an index")
    if any(place.suffix in (".npz", SUFFIX) for place in places):
        if len(places) > 1:
            raise ValueError(
                "Name images and folders, or one file of features (.npz, .parquet). "
                f"Received: {', '.join(map(str, places))}"
            )
        check_no_layout(places[0], layout, pattern)
        items = _without(_read_items(places[0], part), known)
        if items.pool is not None and metric not in (None, "cosine"):
            raise ValueError(
                "Embeddings of tracks have length 1, so an index of them, or one that "
                "they are looked for in, must be built with --metric cosine. Received: "
                f"{places[0]} ({items.pool}), metric {metric}"
            )
        if needs_cameras:
            check_told(items.camids, items.paths)
        pca = source and source.pca
        return read_projection(pca).applied(items) if pca else items
    images = read_images(places, layout=layout, pattern=pattern)
    for note in images.notes:
        say(note)
    records = images.records
    if known is not None:
        there = known([str(one.path) for one in records])
        records = [one for one in records if str(one.path) not in there]
    if not records:
        nobody = np.empty(0, np.int64)
        return Embedding(np.empty((0, 0), np.float32), [], nobody, nobody)
    if needs_cameras:
        check_told(camids_of(records), [str(one.path) for one in records])
    return embed_files(source, records, images.names)


def _without(items, known):
    """Returns images of a file of features without those whose paths are known."""
    there = known(items.paths) if known is not None else ()
    if not there:
        return items
    return items.take(
        [row for row, path in enumerate(items.paths) if path not in there]
    )


def _read_items(path: Path, part: str) -> Embedding:
    """Returns the features in a file, of `topdb-tf embed` or another program.

    The arrays are `features`, or with `gallery_` or `query_` before it, and likewise
    `paths`, `pids`, `camids`, `times` and what the ids are called, `pid_names` and
    `camera_names`, where they are there. Without paths an image is called after the
    file and its row, `features.npz#7`.
    """
    if not (path.is_file() or (path.is_dir() and path.suffix == SUFFIX)):
        raise FileNotFoundError(f"There is no file of features {path}.")
    with open_arrays(path) as arrays:
        prefix = "" if "features" in arrays else f"{part}_"
        if f"{prefix}features" not in arrays:
            raise ValueError(
                f"{path} must hold an array `features` or `{part}_features`. "
                f"Received: {', '.join(arrays) or 'no array'}"
            )

        def column(name):
            return array_in(arrays, name, path) if name in arrays else None

        features, probes = column(f"{prefix}features"), column("probe_features")
        pool = column("pool")
        times = column(f"{prefix}times")
        ids = [column(f"{prefix}{name}") for name in ("pids", "camids")]
        texts = [column(f"{prefix}{name}") for name in _TEXTS]
    count = len(features) if features.ndim else 0
    for name, given in zip(_TEXTS, texts, strict=True):
        if given is not None and (given.dtype.kind != "U" or given.shape != (count,)):
            raise ValueError(
                f"`{name}` must be texts, one for each of {count} images. "
                f"Received: {given.dtype} of shape {given.shape} in {path}"
            )
    paths, *names = texts
    if paths is None:
        paths = [f"{path.name}#{row}" for row in range(count)]
    pids, persons = told_ids(f"pids of {path}", ids[0], names[0], count)
    camids, cameras = told_ids(f"camids of {path}", ids[1], names[1], count)
    return Embedding(
        features=features,
        paths=[str(path) for path in paths],
        pids=pids,
        camids=camids,
        names=IdNames(persons, cameras),
        times=times_of_images(times, count, str(path)),
        probes=probes,
        pool=None if pool is None else str(pool),
    )
