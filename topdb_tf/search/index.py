"""An index on disk, opened for searches."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.embed.embed import Embedding
from topdb_tf.search import files, kinds
from topdb_tf.search.entries import Entries, entries_of
from topdb_tf.search.filters import Filter
from topdb_tf.search.manifest import (
    MANIFEST,
    Manifest,
    damaged,
    read_manifest,
)
from topdb_tf.search.scan import exact_neighbors, refined
from topdb_tf.texts import counted, listed

_ATTEMPTS = 5
_LARGEST_SQUARE, _LEAST_SQUARE = np.finfo(np.float32).max / 8, 2.0**-80
_READERS_ERRORS = (ValueError, KeyError, OSError, EOFError)


class Found(NamedTuple):
    """The neighbours of some queries, nearest first.

    Args:
        distances: float32 `(num_queries, k)`, in the metric of the index; infinite
            where there are no more images.
        rows: int64 `(num_queries, k)`, places in `entries`; -1 for none.
    """

    distances: np.ndarray
    rows: np.ndarray


class SearchIndex:
    """An index that was opened for searches.

    The features stay in their file and are mapped; an approximate kind is read into
    memory. What other processes change afterwards is not seen.

    Args:
        folder: Folder of the index.
        check: Whether the features are read once and compared with their checksum,
            which takes about a second for two gigabytes. The other files always are.

    Attributes:
        manifest: What `index.json` says.
        entries: What is known of the images; see `topdb_tf.search.entries.Entries`.
        features: float32 of shape `(num_rows, dim)`; normalised if the metric is
            `"cosine"`.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If a file of it is damaged or foreign, or FAISS is needed and is
            not installed.
    """

    def __init__(self, folder: Path | str, *, check: bool = True):
        self.folder = Path(folder)
        self._check = check
        for attempt in range(_ATTEMPTS):
            self.manifest = read_manifest(self.folder)
            try:
                self._open()
                return
            except FileNotFoundError as error:
                # A change may have ended since the manifest was read.
                if attempt == _ATTEMPTS - 1:
                    raise damaged(Path(error.filename), "it is gone") from error

    def _open(self):
        manifest, folder, written = self.manifest, self.folder, self.manifest.files
        self.features = files.map_features(folder, written.features, manifest.dim)
        if self._check:
            files.check_file(folder, written.features)
        contents = files.read_file(folder, written.entries)
        try:
            self.entries = entries_of(contents)
        except _READERS_ERRORS as error:
            raise damaged(folder / written.entries.name, str(error)) from error
        ids, squares = self.entries.ids, self.entries.squares
        if not len(self.features) == len(ids) == manifest.num_rows:
            raise damaged(folder / MANIFEST, "numbers of rows differ")
        if len(ids) and ids[-1] >= manifest.next_id:
            raise damaged(folder / MANIFEST, "an image has the id of the next one")
        if manifest.metric == "cosine" and not np.allclose(squares, 1, atol=1e-3):
            raise damaged(folder / MANIFEST, "features of cosine must have length 1")
        if manifest.is_by_camera != (self.entries.statistics is not None):
            raise damaged(folder / MANIFEST, "statistics of cameras are missing")
        self.approximate = None
        if written.approximate is not None:
            files.check_file(folder, written.approximate)
            self.approximate = kinds.read_approximate(
                folder / written.approximate.name,
                manifest.parameters,
                (manifest.approximate_rows, manifest.dim),
            )

    def normalized(self, features: np.ndarray, camids: np.ndarray) -> np.ndarray:
        """Returns features as those of the index are, where it is one by camera.

        Raises:
            ValueError: If the features do not fit the index, or tell no camera.
        """
        if not self.manifest.is_by_camera:
            return features
        check_told(camids)
        features = checked_features(features, self.manifest)
        return self.entries.statistics.normalized(features, camids)

    def __len__(self):
        return int(self.entries.is_live.sum())

    def search(
        self,
        features: np.ndarray,
        *,
        k: int = 10,
        parameters: dict | None = None,
        among: np.ndarray | None = None,
    ) -> Found:
        """Returns the nearest images of each query.

        Distances are computed from the features themselves, in float64, whatever the
        kind. Equal ones are in the order of the ids.

        Args:
            features: Of the queries, any float type, shape `(num_queries, dim)`.
            k: Number of neighbours.
            parameters: Values of `nprobe`, `efSearch` or `refine` for this search.
            among: Booleans of shape `(num_rows,)`: the rows that may be found.

        Raises:
            ValueError: If the features do not fit the index or are not finite, or a
                parameter is not one of a search.
        """
        if k < 1:
            raise ValueError(f"There must be a neighbour to find. Received: k={k}")
        queries = checked_features(features, self.manifest)
        known, changed = self.manifest.parameters, parameters or {}
        self.check_parameters(changed)
        is_live = self.entries.is_live
        is_live = is_live if among is None else is_live & among
        start = 0 if self.approximate is None else self.approximate.ntotal
        tail = slice(start, len(self.features))
        distances, rows = exact_neighbors(
            self.features[tail],
            self.entries.squares[tail],
            is_live[tail],
            queries,
            k,
        )
        if self.approximate is not None:
            rows[rows >= 0] += start
            likely = kinds.candidates(
                self.approximate, known | changed, queries, k, is_live
            )
            both = np.concatenate([likely, rows], axis=1)
            distances, rows = refined(self.features, queries, both, k)
        return Found(in_metric(distances, self.manifest.metric), rows)

    def check_filter(self, among: Filter) -> None:
        """Raises `ValueError` if a camera is not there, or no image has a time."""
        among.rows(self.entries)

    def check_parameters(self, parameters: dict[str, int]) -> None:
        """Raises `ValueError` unless a search may be told these."""
        kinds.check_parameters(self.manifest.parameters, parameters, of_search=True)

    def nearest(
        self, items: Embedding, k: int, parameters: dict[str, int], among: Filter
    ) -> tuple[Entries, Found]:
        """Returns the images of the index, and what is nearest."""
        features = items.features
        if self.manifest.is_by_camera:
            camids = self.entries.in_own_numbers(items).camids
            features = self.normalized(features, camids)
        rows = among.rows(self.entries)
        return self.entries, self.search(
            features, k=k, parameters=parameters, among=rows
        )

    def count(self, among: Filter) -> int:
        """Returns how many images may be found."""
        rows, is_live = among.rows(self.entries), self.entries.is_live
        return int((is_live if rows is None else is_live & rows).sum())


def check_told(camids: np.ndarray, paths: Sequence[str] = ()) -> None:
    """Raises `ValueError` unless all cameras are known, as an index by camera needs."""
    unknown = np.flatnonzero(np.asarray(camids) < 0)
    if len(unknown):
        names = [paths[place] for place in unknown] if len(paths) else []
        raise ValueError(
            "Where features are normalised by camera, every image must tell its own: "
            "by its name as in Market-1501, by --layout or --pattern, or by the column "
            f"camid of a CSV file. Received: {counted(len(unknown), 'image')} without "
            f"a camera{': ' * bool(names)}{listed(names, 5)}"
        )


def checked_features(features: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Returns features as an index keeps them: float32, normalised for `cosine`.

    Raises:
        ValueError: If the shape or type does not fit, or a value is not finite, too
            large to be squared in float32, or a vector of cosine is zero.
    """
    features = np.asarray(features)
    dim, metric = manifest.dim, manifest.metric
    if features.ndim != 2 or features.shape[1] != dim or features.dtype.kind != "f":
        raise ValueError(
            f"Features must be floats of the shape (num_images, {dim}), as those of "
            f"the index. Received: {features.dtype} of shape {features.shape}"
        )
    given = features
    with np.errstate(all="ignore"):
        features = np.ascontiguousarray(given, dtype=np.float32)
        squares = np.einsum("ij,ij->i", features, features)
    bad = ~(squares < _LARGEST_SQUARE)
    if squares.max(initial=0) < _LEAST_SQUARE:
        bad |= given.any(axis=1)  # all would be equally far
    if metric == "cosine":
        bad |= squares == 0
    if bad.any():
        zero = ", and not all zero" if metric == "cosine" else ""
        raise ValueError(
            "Features must be finite numbers, neither too large nor too small to be "
            f"squared in float32{zero}. "
            f"Received: {bad.sum()} rows that are not, the first row "
            f"{np.flatnonzero(bad)[0]}"
        )
    if metric == "cosine":
        features = features / np.sqrt(squares)[:, np.newaxis]
    return features


def in_metric(squared: np.ndarray, metric: str) -> np.ndarray:
    """Returns squared distances as distances of a metric."""
    if metric == "euclidean":
        return np.sqrt(squared)
    return squared / 2 if metric == "cosine" else squared
