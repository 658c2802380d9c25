"""Features and identities of queries and gallery, read from files and checked."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.files import is_zip, may_pass
from topdb_tf.retrieval.distances import FeatureDistances
from topdb_tf.retrieval.identities import Identities
from topdb_tf.retrieval.matches import check_identities

_UNREADABLE = (
    ValueError,
    OSError,
    EOFError,
    MemoryError,
    NotImplementedError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
)


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


def load_retrieval_set(path: Path | str) -> RetrievalSet:
    """Returns the arrays of an NPZ file, checked.

    Args:
        path: File with the arrays that `RetrievalSet` names; others are not read.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no NPZ file, if an array is missing or holds Python
            objects, or if features and identities do not fit together.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"No file of features at {path}. What it must hold: datasets/README.md"
        )
    if not is_zip(path):
        raise ValueError(
            f"{path} must be an NPZ file, as `np.savez` writes it (datasets/README.md)"
        )
    with np.load(path, allow_pickle=False) as arrays:
        missing = [name for name in RetrievalSet._fields if name not in arrays]
        if missing:
            raise ValueError(
                f"{path} must hold the arrays {', '.join(RetrievalSet._fields)} "
                f"(datasets/README.md). Missing: {', '.join(missing)}"
            )
        arrays = [array_in(arrays, name, path) for name in RetrievalSet._fields]
    retrieval_set = RetrievalSet(*arrays)
    checked_distances(retrieval_set, "sqeuclidean")
    return retrieval_set


def checked_distances(retrieval_set: RetrievalSet, metric: str) -> FeatureDistances:
    """Returns the distances among the images of a set that holds together.

    Args:
        retrieval_set: Features and identities.
        metric: `"sqeuclidean"`, `"euclidean"` or `"cosine"`.

    Raises:
        ValueError: If features are not of a float type, hold NaN or overflowed in
            float16, if shapes do not fit, or if there are no queries or the gallery
            is empty.
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


def array_in(arrays: Mapping, name: str, path: Path) -> np.ndarray:
    """Returns an array of an NPZ file that is open.

    Raises:
        ValueError: If it holds Python objects, or is damaged.
    """
    try:
        return arrays[name]
    except _UNREADABLE as error:
        if may_pass(error):
            raise
        raise ValueError(
            f"`{name}` must be whole, and of numbers or texts: Python objects are not "
            f"read, since they can run code. Received: {path} (datasets/README.md); "
            f"{error or type(error).__name__}"
        ) from error
