"""The nearest images of every image, in one pass over half of all distances."""

from typing import NamedTuple

import numpy as np

from topdb_tf.retrieval.distances import FeatureDistances
from topdb_tf.retrieval.parallel import Buffer, Workers, compiled

_ROWS, _COLUMNS = 1024, 4096
_CHUNK = 256  # columns that are compared before any is looked at
_NARROW = 64
_LEAST = 2.0**-90  # of the largest square: those of near images are not lost


class Neighbors(NamedTuple):
    """The nearest images of every image, itself among them.

    Images are ordered by the squares of their distances, so that distances which
    rounding left below zero are in their place; equal ones keep their order.

    `ids` and `squares` are of shape `(num_images, k)`, queries first and the nearest
    first; `largest` is the largest square among all images.
    """

    ids: np.ndarray
    squares: np.ndarray
    largest: np.ndarray


def nearest_neighbors(
    source, k: int, *, workers: Workers, memory: int, advance=None
) -> Neighbors:
    """Returns the `k` nearest images of every image, or all if there are fewer.

    The image itself is one of them. Every distance is computed once and serves both of
    its images. The pass keeps one block of distances and `k` values an image.
    """
    num_images = source.num_images
    k = min(k, num_images)
    neighbors = Neighbors(
        np.full((num_images, k), -1, np.int32),
        np.full((num_images, k), np.inf, np.float32),
        np.zeros(num_images, np.float32),
    )
    limits = np.full(num_images, np.inf, np.float32)
    height, width = block_shape(num_images, memory)
    buffer = Buffer(height * width)
    for top in range(0, num_images, height):
        rows = slice(top, min(top + height, num_images))
        block = source.distances(rows, rows, buffer, workers)
        workers.run(_scan_rows, len(block), block, top, top, neighbors, limits)
        for left in range(rows.stop, num_images, width):
            columns = slice(left, min(left + width, num_images))
            block = source.distances(rows, columns, buffer, workers)
            workers.run(_scan_rows, len(block), block, top, left, neighbors, limits)
            workers.run(
                _scan_columns, block.shape[1], block, top, left, neighbors, limits
            )
        if advance is not None:
            advance(sum(num_images - image for image in range(top, rows.stop)))
    largest = neighbors.largest.max(initial=0)
    is_lost = 0 < largest < _LEAST
    if not largest:
        all_images = slice(0, num_images)
        first = source.distances(slice(0, 1), all_images, Buffer(num_images), workers)
        is_lost = first.any()
    if is_lost or not np.isfinite(largest):
        raise ValueError(
            "Squares of distances must fit in float32, the smallest too. Multiply all "
            f"features by the same number. Received: {largest=:.3g}"
        )
    return neighbors


def block_shape(num_images: int, memory: int) -> tuple[int, int]:
    """Returns height and width, `height <= width`, of a block within the memory."""
    values = max(1, memory // 4)
    height = max(1, min(_ROWS, num_images, int(values**0.5)))
    return height, max(height, min(_COLUMNS, num_images, values // height))


def expand_features(
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    *,
    k: int = 5,
    metric: str = "sqeuclidean",
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the features of every image, averaged over its `k` nearest images.

    An image is among its own nearest, so `k=1` changes nothing. Neighbours are taken
    from queries and gallery alike. No camera or identity is looked at.

    Source: Chum et al., Total Recall, ICCV 2007 (average query expansion; here of
    gallery images as well).

    Args:
        query_features: Shape `(num_queries, dim)`.
        gallery_features: Shape `(num_gallery, dim)`.
        k: Number of images that are averaged, at least 1; all if there are fewer.
        metric: One of `topdb_tf.retrieval.distances.METRICS`.

    Returns:
        New features of queries and gallery of the same shapes, float64 if one is.

    Raises:
        ValueError: If `k` is below 1, shapes do not fit, or features are not finite.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.retrieval.neighbors import expand_features
        >>> expand_features(np.array([[0.0]]), np.array([[1.0], [9.0]]), k=2)
        (array([[0.5]]), array([[0.5], [5. ]]))
    """
    if k < 1:
        raise ValueError(f"`k` must be at least 1. Received: {k=}")
    source = FeatureDistances(query_features, gallery_features, metric)
    with Workers() as workers:
        neighbors = nearest_neighbors(source, k, workers=workers, memory=64 << 20)
    features = np.concatenate([query_features, gallery_features])
    features = features.astype(np.result_type(features, np.float32), copy=False)
    expanded, rows = np.empty_like(features), 256
    for start in range(0, source.num_images, rows):
        ids = neighbors.ids[start : start + rows]
        numbers, places = np.unique(ids, return_inverse=True)
        near = features[numbers][places.reshape(ids.shape)]
        expanded[start : start + rows] = near.mean(axis=1)
    return expanded[: source.num_queries], expanded[source.num_queries :]


@compiled(fastmath={"nnan", "nsz"})
def _scan_rows(start, stop, block, top, left, neighbors, limits):
    """Offers the images of the columns to those of the rows `start` to `stop`."""
    for i in range(start, stop):
        image = top + i
        largest, limit = neighbors.largest[image], limits[image]
        for first in range(0, block.shape[1], _CHUNK):
            row = block[i, first : first + _CHUNK]
            nearer = np.int32(0)
            for j in range(row.size):
                square = row[j] * row[j]
                nearer = np.int32(nearer + (square < limit))
                largest = max(largest, square)
            if nearer:
                for j in range(row.size):
                    square = row[j] * row[j]
                    if square < limit:
                        limit = _insert(neighbors, image, square, left + first + j)
        neighbors.largest[image] = largest
        limits[image] = limit


@compiled(fastmath={"nnan", "nsz"})
def _scan_columns(start, stop, block, top, left, neighbors, limits):
    """Offers the images of the rows to those of the columns `start` to `stop`."""
    for first in range(start, stop, _NARROW):
        last = min(first + _NARROW, stop)
        limit = limits[left + first : left + last]
        largest = neighbors.largest[left + first : left + last]
        for i in range(block.shape[0]):
            row = block[i, first:last]
            nearer = np.int32(0)
            for j in range(row.size):
                square = row[j] * row[j]
                nearer = np.int32(nearer + (square < limit[j]))
                largest[j] = max(largest[j], square)
            if nearer:
                for j in range(row.size):
                    square = row[j] * row[j]
                    if square < limit[j]:
                        image = left + first + j
                        limit[j] = _insert(neighbors, image, square, top + i)


@compiled
def _insert(neighbors, image, square, other):
    """Puts an image in its place and returns the square it takes to be nearer."""
    ids, squares = neighbors.ids[image], neighbors.squares[image]
    place = ids.size - 1
    while place > 0 and squares[place - 1] > square:
        ids[place], squares[place] = ids[place - 1], squares[place - 1]
        place -= 1
    ids[place], squares[place] = other, square
    return squares[-1]
