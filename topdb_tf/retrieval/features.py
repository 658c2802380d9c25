"""Features and identities of queries and gallery, read from files and checked."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.retrieval.distances import FeatureDistances
from topdb_tf.retrieval.matches import Identities, check_identities

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


class RetrievalSet(NamedTuple):
    """Features and identities of queries and gallery.

    Args:
        query_features: Shape `(num_queries, dim)`, any float type.
        gallery_features: Shape `(num_gallery, dim)`, any float type.
        query_pids: Shape `(num_queries,)`, whole numbers.
        gallery_pids: Shape `(num_gallery,)`; images of pid -1 are never ranked.
        query_camids: Shape `(num_queries,)`, whole numbers. A negative one stands for
            no camera and numbers the image: two of the same are one image, which never
            is its own match, even where cameras are ignored.
        gallery_camids: Shape `(num_gallery,)`.
    """

    query_features: np.ndarray
    gallery_features: np.ndarray
    query_pids: np.ndarray
    gallery_pids: np.ndarray
    query_camids: np.ndarray
    gallery_camids: np.ndarray

    @property
    def identities(self) -> Identities:
        """The pids and camids, without the features."""
        return Identities(
            self.query_pids, self.gallery_pids, self.query_camids, self.gallery_camids
        )

    def take(self, queries, gallery) -> "RetrievalSet":
        """Returns the set of some queries and some gallery images, in their order.

        Args:
            queries: Numbers of queries, a mask of them or a slice.
            gallery: The same of the gallery.
        """
        return RetrievalSet(
            self.query_features[queries],
            self.gallery_features[gallery],
            *self.identities.take(queries, gallery),
        )


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
    if not zipfile.is_zipfile(path):
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
        retrieval_set = RetrievalSet(
            *(array_in(arrays, name, path) for name in RetrievalSet._fields)
        )
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
        raise ValueError(
            f"`{name}` must be whole, and of numbers or texts: Python objects are not "
            f"read, since they can run code. Received: {path} (datasets/README.md); "
            f"{error or type(error).__name__}"
        ) from error
