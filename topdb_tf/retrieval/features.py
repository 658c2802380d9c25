"""Features and identities of queries and gallery, checked; arrays of files."""

import contextlib
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.damage import check_unpacked, told_as_damage
from topdb_tf.parquet_files import SUFFIX, read_arrays
from topdb_tf.retrieval.distances import FeatureDistances
from topdb_tf.retrieval.identities import Identities
from topdb_tf.retrieval.matches import check_identities


class _Arrays(NamedTuple):
    query_features: np.ndarray
    gallery_features: np.ndarray
    query_pids: np.ndarray
    gallery_pids: np.ndarray
    query_camids: np.ndarray
    gallery_camids: np.ndarray


class RetrievalSet(_Arrays):
    """Features and identities of queries and gallery.

    Ids are kept as `topdb_tf.retrieval.identities.Identities` keeps them.

    Args:
        query_features: Shape `(num_queries, dim)`, any float type.
        gallery_features: Shape `(num_gallery, dim)`, any float type.
        query_pids: Shape `(num_queries,)`, as those of `Identities`.
        gallery_pids: Shape `(num_gallery,)`; images of pid -1 are never ranked.
        query_camids: Shape `(num_queries,)`. A negative one stands for no camera and
            numbers the image: two of the same are one image, which never is its own
            match, even where cameras are ignored.
        gallery_camids: Shape `(num_gallery,)`.

    Raises:
        ValueError: If ids are not what `Identities` takes.
    """

    __slots__ = ()

    def __new__(cls, query_features, gallery_features, *identities, **named):
        features = np.asarray(query_features), np.asarray(gallery_features)
        return super().__new__(cls, *features, *Identities(*identities, **named))

    @property
    def identities(self) -> Identities:
        """The pids and camids, without the features."""
        return Identities._make(self[2:])

    def take(self, queries, gallery) -> "RetrievalSet":
        """Returns the set of some queries and some gallery images, in their order.

        Args:
            queries: Numbers of queries, a mask of them or a slice.
            gallery: The same of the gallery.
        """
        features = self.query_features[queries], self.gallery_features[gallery]
        identities = self.identities.take(queries, gallery)
        return RetrievalSet._make((*features, *identities))


def checked_distances(retrieval_set: RetrievalSet, metric: str) -> FeatureDistances:
    """Returns the distances among the images of a set that holds together.

    Raises:
        ValueError: If features are not of a float type, hold NaN or overflowed in
            float16, if shapes do not fit, or if queries or gallery are empty.
    """
    for name in ("query_features", "gallery_features"):
        kind = getattr(retrieval_set, name).dtype
        if kind.kind != "f":
            raise ValueError(f"`{name}` must be of a float type. Received: type {kind}")
    source = FeatureDistances(
        retrieval_set.query_features, retrieval_set.gallery_features, metric
    )
    check_identities(retrieval_set.identities, source)
    return source


@contextlib.contextmanager
def open_arrays(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """Opens an NPZ file after a look at the sizes of its arrays, or a Parquet file."""
    if path.suffix.lower() == SUFFIX:
        yield read_arrays(path)
        return

    def explained(error):
        return (
            f"{path} must be an NPZ file, whole, as `np.savez` writes it "
            f"(datasets/README.md). Received: {error or type(error).__name__}"
        )

    with path.open("rb") as file:
        with told_as_damage(explained):
            _check_sizes(path, file)
            file.seek(0)
            arrays = np.load(file, allow_pickle=False)
        with arrays:
            yield arrays


def _check_sizes(path, file):
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        if len({part.filename for part in parts}) < len(parts):
            raise ValueError("two arrays of one name")
        check_unpacked(path, sum(part.file_size for part in parts))
        for part in parts:
            with archive.open(part) as array:
                if array.read(6) == b"\x93NUMPY":
                    _check_size(part, array)


def _check_size(part, array):
    read = np.lib.format.read_array_header_2_0
    if array.read(2) == b"\x01\x00":
        read = np.lib.format.read_array_header_1_0
    shape, _, kind = read(array)
    is_longer = math.prod(shape) * kind.itemsize > part.file_size
    if not kind.hasobject and (is_longer or min(shape, default=0) < 0):
        raise ValueError(
            f"{part.filename} says to be of shape {shape}, and has "
            f"{part.file_size:,} bytes"
        )


def array_in(arrays: Mapping, name: str, path: Path) -> np.ndarray:
    """Returns an array of a file that is open."""

    def explained(error):
        return (
            f"`{name}` must be whole, and of numbers or texts: Python objects are not "
            f"read, since they can run code. Received: {path} (datasets/README.md); "
            f"{error or type(error).__name__}"
        )

    with told_as_damage(explained):
        return arrays[name]
