"""Blocks of distances, from features or from matrices that are given."""

import numpy as np

from topdb_tf.retrieval.parallel import Buffer, Workers, compiled
from topdb_tf.retrieval.preparation import angles, differences
from topdb_tf.texts import check_one_of, listed

METRICS = ("sqeuclidean", "euclidean", "cosine")

_SQUARED, _EUCLIDEAN, _COSINE, _CHORD = range(4)
_KINDS = {
    "sqeuclidean": _SQUARED,
    "euclidean": _EUCLIDEAN,
    "cosine": _COSINE,
    "chord": _CHORD,
}
_SMALL_PRODUCT = 1 << 20
_LOOKED_AT = 32, 512  # queries and gallery images
_STEPS = 2.0**-46, 2.0**-22  # of float64 and float32, of the squares of two images
_DOUBTFUL = 0.01  # share of pairs of gallery images


def pairwise_distances(
    query_features: np.ndarray, gallery_features: np.ndarray, *, metric="sqeuclidean"
) -> np.ndarray:
    """Returns the distance of every query to every gallery image.

    `"sqeuclidean"` is |q|² + |g|² - 2 q·g, which rounding may leave slightly below
    zero; `"euclidean"` is its root, after negative values were set to zero;
    `"cosine"` is 1 - cos(q, g), and 1 where a feature vector is zero.

    What all features, or all directions of `"cosine"`, have in common is taken off in
    float64 where it makes up most of them, as the differences would be lost in it.
    Otherwise a value does not depend on the other images of the call.

    Args:
        query_features: Shape `(num_queries, dim)`.
        gallery_features: Shape `(num_gallery, dim)`.
        metric: One of `METRICS`.

    Returns:
        float32 array of shape `(num_queries, num_gallery)`.

    Raises:
        ValueError: If the metric is unknown, or the shapes do not fit.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.retrieval.distances import pairwise_distances
        >>> pairwise_distances(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]))
        array([[25.]], dtype=float32)
    """
    source = FeatureDistances(query_features, gallery_features, metric)
    num_queries, num_gallery = source.num_queries, source.num_gallery
    rows, columns = slice(0, num_queries), slice(num_queries, source.num_images)
    with Workers() as workers:
        buffer = Buffer(num_queries * num_gallery)
        return source.distances(rows, columns, buffer, workers)


class FeatureDistances:
    """Distances among queries and gallery, computed from their features.

    Images are numbered through: the queries first, then the gallery.

    Args:
        query_features: Shape `(num_queries, dim)`, any float type.
        gallery_features: Shape `(num_gallery, dim)`, any float type.
        metric: One of `METRICS`, or `"chord"`: the Euclidean distance of the
            normalised features.

    Raises:
        ValueError: If the metric is unknown, the shapes do not fit, or features are not
            finite, or too large or too small to be squared in float32.
    """

    def __init__(self, query_features, gallery_features, metric="sqeuclidean"):
        if metric != "chord":
            check_one_of("metric", metric, METRICS)
        given = [np.asarray(query_features), np.asarray(gallery_features)]
        _check_shapes(*given)
        self._kind = _KINDS[metric]
        self.num_queries, self.num_gallery = map(len, given)
        self.num_images = self.num_queries + self.num_gallery
        with np.errstate(over="ignore", under="ignore"):  # seen in the squares
            parts = [np.ascontiguousarray(part, np.float32) for part in given]
        if self._kind in (_COSINE, _CHORD):
            self._parts, terms, self._is_directed = angles(given, parts)
        else:
            self._parts, terms = differences(given, parts)
            self._is_directed = False
        self._terms = np.concatenate(terms)

    def begin(self, rows, columns, buffer: Buffer) -> np.ndarray:
        """Returns the matrix product of two sets of images, to be finished.

        Both are slices of the images, or their ascending numbers.
        """
        left, right = self.features(rows), self.features(columns)
        return _product(left, right, buffer)

    def finish(self, start, stop, block, rows, columns) -> None:
        """Makes distances of the rows `start` to `stop` of a block, in place."""
        left, right = self._terms[rows], self._terms[columns]
        _finish_rows(start, stop, block, left, right, self._kind, self._is_directed)

    def distances(self, rows, columns, buffer: Buffer, workers: Workers):
        """Returns the finished block of distances of two sets of images."""
        block = self.begin(rows, columns, buffer)
        workers.run(self.finish, len(block), block, rows, columns)
        return block

    def doubt(self) -> str | None:
        """Returns why a ranking by these distances means little, if it does.

        Of some queries and gallery images the distances are computed in float64: many
        may be equal, or differ by less than float32 resolves.
        """
        queries, gallery = (
            np.unique(np.linspace(0, count - 1, most).astype(np.int64))
            for count, most in zip(
                (self.num_queries, self.num_gallery), _LOOKED_AT, strict=True
            )
        )
        left, right = map(self._doubles, (queries, gallery + self.num_queries))
        sizes, others = (np.einsum("ij,ij->i", part, part) for part in (left, right))
        products = np.einsum("ik,jk->ij", left, right)
        exact = np.sort(sizes[:, np.newaxis] + others - 2 * products, axis=1)
        sizes += np.median(others)
        equal, near = (_share_within(exact, step * sizes) for step in _STEPS)
        if near < _DOUBTFUL:
            return None
        if equal < _DOUBTFUL:
            text = (
                f"In {near:.1%} of the pairs of gallery images rounding decides which "
                "is nearer to a query: their distances differ by less than float32 "
                "resolves."
            )
        else:
            text = (
                f"{equal:.1%} of the pairs of gallery images are equally far from a "
                "query: their order in the gallery decides which comes first."
            )
        return f"{text} Seen in {len(queries)} queries and {len(gallery)} such images."

    def _doubles(self, images):
        """Returns features as float64, those of angles with norms of 1."""
        features = self.features(images).astype(np.float64)
        if self._kind in (_COSINE, _CHORD) and not self._is_directed:
            features *= self._terms[images, np.newaxis]
        return features

    def features(self, images) -> np.ndarray:
        """Returns the features of images, given by a slice or ascending numbers."""
        parts = [
            self._parts[part][own] for part, _, own in _split(images, self.num_queries)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class MatrixDistances:
    """Distances among queries and gallery, read from matrices.

    Args:
        query_gallery: Shape `(num_queries, num_gallery)`.
        query_query: Shape `(num_queries, num_queries)`; only its upper triangle
            counts. Not needed where queries are compared with the gallery only.
        gallery_gallery: Shape `(num_gallery, num_gallery)`; the same.

    Raises:
        ValueError: If the shapes do not fit.
    """

    def __init__(self, query_gallery, query_query=None, gallery_gallery=None):
        query_gallery = np.asarray(query_gallery)
        if query_gallery.ndim != 2:
            raise ValueError(
                "Distances must have the shape (num_queries, num_gallery). "
                f"Received: shape={query_gallery.shape}"
            )
        self.num_queries, self.num_gallery = query_gallery.shape
        self.num_images = self.num_queries + self.num_gallery
        for name, matrix, side in (
            ("query_query", query_query, self.num_queries),
            ("gallery_gallery", gallery_gallery, self.num_gallery),
        ):
            if matrix is not None and matrix.shape != (side, side):
                raise ValueError(
                    f"`{name}` must have the shape {(side, side)}, to fit distances of "
                    f"shape {query_gallery.shape}. Received: shape={matrix.shape}"
                )
        self._matrices = (query_query, query_gallery, gallery_gallery)

    def begin(self, rows, columns, buffer: Buffer) -> np.ndarray:
        """Returns a copy of the distances of two sets of images."""
        block = buffer.block(_length(rows), _length(columns))
        for i, place, own_rows in _split(rows, self.num_queries):
            for j, other_place, own_columns in _split(columns, self.num_queries):
                block[place, other_place] = self._read(i, j, own_rows, own_columns)
        if block.size and not np.isfinite([block.min(), block.max()]).all():
            bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
            bad += rows.start if isinstance(rows, slice) else 0
            raise ValueError(
                f"Distances must be finite. Received: rows {listed(bad, 10)}"
            )
        return block

    def finish(self, start, stop, block, rows, columns) -> None:
        """Does nothing: the values are distances already."""

    def distances(self, rows, columns, buffer: Buffer, workers: Workers):
        """Returns the block of distances of two sets of images."""
        return self.begin(rows, columns, buffer)

    def _read(self, i, j, rows, columns):
        if i > j:
            return self._read(j, i, columns, rows).T
        return self._matrices[i + j][rows][:, columns]


def _check_shapes(query_features, gallery_features):
    shapes = query_features.shape, gallery_features.shape
    is_flat = [len(shape) for shape in shapes] != [2, 2]
    if is_flat or not shapes[0][1] == shapes[1][1] > 0:
        raise ValueError(
            "Features must have the shapes (num_queries, dim) and (num_gallery, dim), "
            "with at least one number an image. "
            f"Received: query_features {shapes[0]}, gallery_features {shapes[1]}"
        )


def _share_within(ordered, limits):
    """Returns the share of pairs of a row's ascending values that differ no more."""
    num_columns, count = ordered.shape[1], 0
    for row, limit in zip(ordered, limits, strict=True):
        after = np.searchsorted(row, row + limit, side="right")
        count += after.sum() - num_columns * (num_columns + 1) // 2
    return count / max(len(ordered) * num_columns * (num_columns - 1) // 2, 1)


def _length(images) -> int:
    return images.stop - images.start if isinstance(images, slice) else len(images)


def _split(images, num_queries):
    """Splits images into queries and gallery: (part, place among them, own numbers)."""
    if isinstance(images, slice):
        boundary = min(max(num_queries, images.start), images.stop)
        own = slice(images.start, boundary), slice(boundary, images.stop)
        own = own[0], slice(own[1].start - num_queries, own[1].stop - num_queries)
        boundary -= images.start
    else:
        boundary = int(np.searchsorted(images, num_queries))
        own = images[:boundary], images[boundary:] - num_queries
    places = slice(0, boundary), slice(boundary, _length(images))
    parts = [(part, places[part], own[part]) for part in range(2)]
    return [entry for entry in parts if _length(entry[1])] or parts[:1]


def _product(left, right, buffer: Buffer):
    """Returns left @ right.T, every value by the same order of summation.

    BLAS has kernels of their own, with another rounding, for vectors and for small
    matrices. Rows of zeros lift such products above that size, so that a value does
    not depend on the block in which it is computed.
    """
    height, width, dim = len(left), len(right), left.shape[1]
    block = buffer.block(height, width)
    if min(height, width) > 1 and height * width * dim > _SMALL_PRODUCT:
        return np.matmul(left, right.T, out=block)
    side = 2 + int((_SMALL_PRODUCT / max(dim, 1)) ** 0.5)
    left, right = _at_least(side, left), _at_least(side, right)
    block[:] = (left @ right.T)[:height, :width]
    return block


def _at_least(num_rows, features):
    missing = max(0, num_rows - len(features))
    return np.pad(features, ((0, missing), (0, 0)))


@compiled(fastmath={"nnan", "nsz"})
def _finish_rows(start, stop, block, row_terms, column_terms, kind, is_directed):
    for i in range(start, stop):
        row, term = block[i], row_terms[i]
        if kind == _SQUARED or kind == _EUCLIDEAN:
            for j in range(row.size):
                row[j] = (term + column_terms[j]) - np.float32(2) * row[j]
        elif is_directed:
            for j in range(row.size):
                half = np.float32(0.5) * (term + column_terms[j]) - row[j]
                row[j] = half if half < np.float32(3) else np.float32(1)  # no direction
        else:
            for j in range(row.size):
                row[j] = np.float32(1) - row[j] * (term * column_terms[j])
        if kind == _CHORD:
            for j in range(row.size):
                row[j] *= np.float32(2)
        if kind == _EUCLIDEAN or kind == _CHORD:
            for j in range(row.size):
                row[j] = np.sqrt(max(row[j], np.float32(0)))
