"""What goes into an index or is looked for in it: images, or files of features."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.data.image_files import list_images
from topdb_tf.data.market import record_of
from topdb_tf.embed.embed import Source, embed_files
from topdb_tf.embed.errors import Failure
from topdb_tf.search.entries import UNKNOWN

_COLUMNS = ("features", "paths", "pids", "camids")


class Items(NamedTuple):
    """Images with their features.

    Args:
        features: float32 of shape `(num_images, dim)`.
        paths: Names of the images.
        pids: int64 of shape `(num_images,)`; `UNKNOWN` where the name does not tell.
        camids: The same, of cameras.
        probes: The model's embeddings of drawn images, as
            `topdb_tf.embed.model_probes` has them, if the model is known.
        failures: Images that were left out.
        seconds: Time for embedding.
    """

    features: np.ndarray
    paths: list[str]
    pids: np.ndarray
    camids: np.ndarray
    probes: np.ndarray | None = None
    failures: Sequence[Failure] = ()
    seconds: float = 0.0


def items_of(
    places: Sequence[Path],
    source: Source,
    *,
    part: str = "gallery",
    known: frozenset[str] = frozenset(),
) -> Items:
    """Returns images with their features.

    Args:
        places: Image files and folders, or one NPZ file of features.
        source: What embeds the images; not asked for a file of features.
        part: "gallery" or "query": what is taken from a file that has both.
        known: Names of images to leave out.

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
        return read_items(places[0], part)
    paths = [path for path in list_images(places).paths if str(path) not in known]
    if not paths:
        nobody = np.empty(0, np.int64)
        return Items(np.empty((0, 0), np.float32), [], nobody, nobody)
    embedding = embed_files(source, paths)
    pids, camids = np.array([_numbers_of(path) for path in embedding.paths]).T
    return Items(
        features=embedding.features,
        paths=[str(path) for path in embedding.paths],
        pids=pids,
        camids=camids,
        probes=embedding.probes,
        failures=embedding.failures,
        seconds=embedding.seconds,
    )


def read_items(path: Path, part: str) -> Items:
    """Returns the features in an NPZ file, of `topdb-tf embed` or another program.

    The arrays are `features`, or with `gallery_` or `query_` before it, and likewise
    `paths`, `pids` and `camids` where they are there. Without paths an image is called
    after the file and its row, `features.npz#7`.

    Args:
        path: The file.
        part: "gallery" or "query": which of the two is taken where both are there.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no NPZ file, or an array is missing or does not fit.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of features {path}.")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} must be an NPZ file, as `topdb-tf embed` writes it.")
    with np.load(path, allow_pickle=False) as arrays:
        prefix = "" if "features" in arrays else f"{part}_"
        if f"{prefix}features" not in arrays:
            raise ValueError(
                f"{path} must hold an array `features` or `{part}_features`. "
                f"Received: {', '.join(arrays) or 'no array'}"
            )
        names = [*(prefix + name for name in _COLUMNS), "probe_features"]
        try:
            columns = [arrays[name] if name in arrays else None for name in names]
        except ValueError as error:
            raise ValueError(
                f"{path} must hold numbers and texts, no Python objects, since those "
                f"can run code. Received: {error}"
            ) from error
    features, paths, pids, camids, probes = columns
    count = len(features) if features.ndim else 0
    unknown = np.full(count, UNKNOWN)
    if paths is None:
        paths = [f"{path.name}#{row}" for row in range(count)]
    return Items(
        features=features,
        paths=[str(path) for path in paths],
        pids=unknown if pids is None else pids,
        camids=unknown if camids is None else camids,
        probes=probes,
    )


def _numbers_of(path):
    try:
        record = record_of(path)
    except ValueError:
        return UNKNOWN, UNKNOWN
    return record.pid, record.camid
