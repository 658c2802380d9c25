"""What goes into an index or is looked for in it: images, or files of features."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.data.market import record_of
from topdb_tf.embed.client import ServingClient
from topdb_tf.embed.embed import embed_paths
from topdb_tf.embed.model_probes import probe_features
from topdb_tf.search.entries import UNKNOWN


class Items(NamedTuple):
    """Images with their features.

    Args:
        features: float32 of shape `(num_images, dim)`.
        paths: Names of the images.
        pids: int64 of shape `(num_images,)`; `UNKNOWN` where the name does not tell.
        camids: The same, of cameras.
        probes: What `probe_features` returned, or `None` where it is not known.
        failures: Images that were left out, with `path` and `reason`.
        seconds: That embedding took.
    """

    features: np.ndarray
    paths: list[str]
    pids: np.ndarray
    camids: np.ndarray
    probes: np.ndarray | None
    failures: Sequence[dict] = ()
    seconds: float = 0.0


def features_file(places: Sequence[Path]) -> Path | None:
    """Returns the file of features, if the places are one.

    Raises:
        ValueError: If there are other places beside it.
    """
    files = [place for place in places if place.suffix == ".npz"]
    if files and len(places) > 1:
        raise ValueError(
            "Name images and folders, or one file of features (.npz). "
            f"Received: {', '.join(map(str, places))}"
        )
    return files[0] if files else None


def read_items(path: Path, part: str = "gallery") -> Items:
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
        names = ("features", "paths", "pids", "camids")
        try:
            found = {
                name: arrays[prefix + name] for name in names if prefix + name in arrays
            }
            probes = arrays["probe_features"] if "probe_features" in arrays else None
        except ValueError as error:
            raise ValueError(
                f"{path} must hold numbers and texts, no Python objects, since those "
                f"can run code. Received: {error}"
            ) from error
    count = len(found["features"]) if found["features"].ndim else 0
    paths = found.get("paths")
    if paths is None:
        paths = [f"{path.name}#{row}" for row in range(count)]
    unknown = np.full(count, UNKNOWN)
    pids, camids = (found.get(name, unknown) for name in ("pids", "camids"))
    return Items(found["features"], [str(p) for p in paths], pids, camids, probes)


def embed_items(
    client: ServingClient,
    paths: Sequence[Path],
    *,
    skip_bad: bool = False,
    timeout: float | None = None,
) -> Items:
    """Returns image files with their features.

    Args:
        client: What embeds them.
        paths: The files; a name as Market-1501 has them tells person and camera.
        skip_bad: As of `ServingClient.embed`.
        timeout: The same.

    Raises:
        ValueError: If an image is bad, or an embedding is not finite.
        ServingError: If the server fails.
    """
    embedded, facts = embed_paths(client, paths, skip_bad=skip_bad, timeout=timeout)
    paths = [paths[index] for index in embedded.kept]
    pids, camids = np.array([_numbers_of(path) for path in paths], np.int64).T
    return Items(
        embedded.embeddings,
        [str(path) for path in paths],
        pids,
        camids,
        probe_features(client),
        facts["failures"],
        facts["seconds"],
    )


def _numbers_of(path):
    try:
        record = record_of(path)
    except ValueError:
        return UNKNOWN, UNKNOWN
    return record.pid, record.camid
