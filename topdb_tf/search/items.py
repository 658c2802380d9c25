"""What goes into an index or is looked for in it: images, or files of features."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from topdb_tf.data.image_files import list_images
from topdb_tf.embed.embed import Embedding, Source, embed_files
from topdb_tf.files import is_zip
from topdb_tf.retrieval.features import array_in
from topdb_tf.search.entries import ids_of_images

_COLUMNS = ("features", "paths", "pids", "camids")


def items_of(
    places: Sequence[Path],
    source: Source,
    *,
    part: str = "gallery",
    known: frozenset[str] = frozenset(),
) -> Embedding:
    """Returns images, but for the known ones, or those of a file, with their features.

    Raises:
        FileNotFoundError: If an image, a file or the model does not exist.
        ValueError: If there are other places beside a file of features, that file is
            none, an image is bad, or an embedding is not finite.
        ServingError: If the server fails.
    """
    if any(place.suffix == ".npz" for place in places):
        if len(places) > 1:
            raise ValueError(
                "Name images and folders, or one file of features (.npz). "
                f"Received: {', '.join(map(str, places))}"
            )
        return _read_items(places[0], part)
    paths = [path for path in list_images(places).paths if str(path) not in known]
    if not paths:
        nobody = np.empty(0, np.int64)
        return Embedding(np.empty((0, 0), np.float32), [], nobody, nobody)
    return embed_files(source, paths)


def _read_items(path: Path, part: str) -> Embedding:
    """Returns the features in an NPZ file, of `topdb-tf embed` or another program.

    The arrays are `features`, or with `gallery_` or `query_` before it, and likewise
    `paths`, `pids` and `camids` where they are there. Without paths an image is called
    after the file and its row, `features.npz#7`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of features {path}.")
    if not is_zip(path):
        raise ValueError(f"{path} must be an NPZ file, as `topdb-tf embed` writes it.")
    with np.load(path, allow_pickle=False) as arrays:
        prefix = "" if "features" in arrays else f"{part}_"
        if f"{prefix}features" not in arrays:
            raise ValueError(
                f"{path} must hold an array `features` or `{part}_features`. "
                f"Received: {', '.join(arrays) or 'no array'}"
            )
        names = [*(prefix + name for name in _COLUMNS), "probe_features"]
        columns = [
            array_in(arrays, name, path) if name in arrays else None for name in names
        ]
    features, paths, pids, camids, probes = columns
    count = len(features) if features.ndim else 0
    if paths is not None and (paths.dtype.kind != "U" or paths.shape != (count,)):
        raise ValueError(
            f"`paths` must be texts, one for each of {count} images. "
            f"Received: {paths.dtype} of shape {paths.shape} in {path}"
        )
    if paths is None:
        paths = [f"{path.name}#{row}" for row in range(count)]
    return Embedding(
        features=features,
        paths=[str(path) for path in paths],
        pids=ids_of_images(f"pids of {path}", pids, count),
        camids=ids_of_images(f"camids of {path}", camids, count),
        probes=probes,
    )
