"""Features changed before they are ranked: by neighbours, cameras, tracks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from topdb_tf.retrieval.distances import FeatureDistances
from topdb_tf.retrieval.features import RetrievalSet, checked_distances
from topdb_tf.retrieval.neighbors import nearest_neighbors
from topdb_tf.retrieval.parallel import Workers, compiled
from topdb_tf.texts import check_one_of

STATISTICS = ("all", "gallery")
"""Whose features a camera's mean and deviation are of."""
POOLS = ("mean", "median", "first")
"""How the embeddings of a track become one."""
PRIOR_IMAGES = 50
"""Images like all of them that are counted with those of each camera."""
_ROUNDING = 1e-7  # of float32: less is no difference between images
_BLOCK_BYTES = 64 << 20
_ROWS = 256


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
        >>> from topdb_tf.retrieval.postprocessing import expand_features
        >>> expand_features(np.array([[0.0]]), np.array([[1.0], [9.0]]), k=2)
        (array([[0.5]]), array([[0.5], [5. ]]))
    """
    if k < 1:
        raise ValueError(f"`k` must be at least 1. Received: {k=}")
    source = FeatureDistances(query_features, gallery_features, metric)
    with Workers() as workers:
        neighbors = nearest_neighbors(source, k, workers=workers, memory=_BLOCK_BYTES)
    features = np.concatenate([query_features, gallery_features])
    features = features.astype(np.result_type(features, np.float32), copy=False)
    expanded = np.empty_like(features)
    for start in range(0, source.num_images, _ROWS):
        ids = neighbors.ids[start : start + _ROWS]
        numbers, places = np.unique(ids, return_inverse=True)
        near = features[numbers][places.reshape(ids.shape)]
        expanded[start : start + _ROWS] = near.mean(axis=1)
    return expanded[: source.num_queries], expanded[source.num_queries :]


@dataclass(frozen=True)
class CameraNormalization:
    """How features are normalised by camera, for `CameraStatistics`.

    Args:
        statistics: Whose features a camera's mean and deviation are of: `"all"`,
            queries and gallery together, or `"gallery"`. Either looks at the test set
            as a whole, which a single query in use does not have.
        prior_images: As how many images what all cameras have in common counts beside
            those of each camera; 0: not at all, as in the paper.

    Raises:
        ValueError: If a parameter is out of its range.
    """

    statistics: str = "all"
    prior_images: int = PRIOR_IMAGES

    def __post_init__(self):
        check_one_of("statistics", self.statistics, STATISTICS)
        if self.prior_images < 0:
            raise ValueError(
                "`prior_images` must be a number of images, 0 or more. "
                f"Received: prior_images={self.prior_images}"
            )

    def __str__(self):
        by_gallery = " by the gallery alone" if self.statistics == "gallery" else ""
        return f"cameras normalised{by_gallery}"

    @classmethod
    def of(cls, wish: "bool | CameraNormalization") -> "CameraNormalization | None":
        """Returns the parameters that true stands for, or none, or those given."""
        if isinstance(wish, bool | None):
            return cls() if wish else None
        if not isinstance(wish, cls):
            raise ValueError(
                "`normalize_cameras` must be true, false or a `CameraNormalization`. "
                f"Received: {wish!r}"
            )
        return wish

    def normalized(self, images: RetrievalSet, metric: str) -> RetrievalSet:
        """Returns the images with features normalised by camera, of finite features.

        Where the metric is "cosine" they are divided by their lengths before.

        Raises:
            ValueError: If an image has no camera.
        """
        query, gallery = images[:2]
        if not _are_rows(query, gallery):
            checked_distances(images, metric)  # says what is wrong
        check_cameras(images.query_camids, images.gallery_camids)
        if metric == "cosine":
            query, gallery = unit_vectors(query), unit_vectors(gallery)
        features, camids = [gallery], [images.gallery_camids]
        if self.statistics == "all":
            features, camids = [query, gallery], [images.query_camids, *camids]
        found = camera_statistics(features, camids, prior_images=self.prior_images)
        if not np.isfinite(found.means).all():
            checked_distances(images, metric)
        return images._replace(
            query_features=found.normalized(query, images.query_camids),
            gallery_features=found.normalized(gallery, images.gallery_camids),
        )


class CameraStatistics(NamedTuple):
    """Mean and deviation of the features of each camera, and of all images.

    Args:
        camids: The cameras, ascending, int64 of shape `(num_cameras,)`.
        means: Shape `(num_cameras + 1, dim)`, float64; the last row is of all images,
            and is taken for a camera that had none.
        deviations: The same; 1 where all images have one value.
    """

    camids: np.ndarray
    means: np.ndarray
    deviations: np.ndarray

    def normalized(self, features: np.ndarray, camids: np.ndarray) -> np.ndarray:
        """Returns (features - mean) / deviation of each image's camera, float32."""
        rows = np.searchsorted(self.camids, camids)
        known = np.append(self.camids, -1)[rows] == camids
        rows = np.where(known, rows, len(self.camids))
        out = np.empty(features.shape, np.float32)
        features, scales = _plain(features), 1 / self.deviations
        with Workers() as workers:
            workers.run(_normalize, len(out), features, rows, self.means, scales, out)
        return out

    def of_cameras(self, camids: np.ndarray) -> "CameraStatistics":
        """Returns those of some cameras; others are then like one that had no image."""
        kept = np.append(np.isin(self.camids, camids), True)
        return CameraStatistics(
            self.camids[kept[:-1]], self.means[kept], self.deviations[kept]
        )


def camera_statistics(
    features: Sequence[np.ndarray],
    camids: Sequence[np.ndarray],
    *,
    prior_images: int = PRIOR_IMAGES,
) -> CameraStatistics:
    """Returns the mean and the deviation of each camera's features, number by number.

    A camera of few images tells little: its statistics are those of its images
    together with `prior_images` more that have the mean and the deviation of all
    images. A camera with one image is so normalised almost as all of them are, and one
    with hundreds by its own.

    Source: Song, Park and Lee, Exploring the Camera Bias of Person Re-identification,
    ICLR 2025 (https://arxiv.org/abs/2502.10195), without the further images.

    Args:
        features: Parts of shape `(num_images, dim)`, finite numbers.
        camids: Camera of each image, of each part.
        prior_images: Number of the further images, at least 0.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.retrieval.postprocessing import camera_statistics
        >>> features, camids = np.array([[1.0], [3.0], [10.0], [30.0]]), [1, 1, 2, 2]
        >>> found = camera_statistics([features], [np.array(camids)], prior_images=0)
        >>> found.normalized(features, np.array(camids)).ravel()
        array([-1.,  1., -1.,  1.], dtype=float32)
    """
    cameras, rows = np.unique(np.concatenate(camids), return_inverse=True)
    dim = features[0].shape[1]
    counts = np.bincount(rows, minlength=len(cameras)).astype(float)[:, np.newaxis]
    # Squares are of what is more than an image of the camera: no digits are lost.
    shape, starts = (len(cameras), dim), np.cumsum([0, *map(len, features)])
    origins, sums, squares = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    seen = np.zeros(len(cameras), bool)
    with Workers() as workers:
        for part, start in zip(map(_plain, features), starts, strict=False):
            own = rows[start : start + len(part)]
            new, first = np.unique(own, return_index=True)
            origins[new] = np.where(seen[new, np.newaxis], origins[new], part[first])
            seen[new] = True
            workers.run(_add_up, dim, part, own, origins, sums, squares)
    shifts = sums / counts
    means, variances = origins + shifts, squares / counts - shifts**2
    mean = (counts * means).sum(0) / counts.sum()
    variance = (counts * (variances + (means - mean) ** 2)).sum(0) / counts.sum()
    share = counts / (counts + prior_images)  # that a camera's own images have
    variances = share * variances + (1 - share) * variance
    variances += share * (1 - share) * (means - mean) ** 2
    means = np.vstack([share * means + (1 - share) * mean, mean])
    deviations = np.sqrt(np.vstack([variances, variance]).clip(0))
    is_same = deviations <= _ROUNDING * np.abs(means)
    return CameraStatistics(cameras, means, np.where(is_same, 1, deviations))


class PooledTracks(NamedTuple):
    """One embedding a track, in the order in which the tracks begin.

    Args:
        features: float32 of shape `(num_tracks, dim)`, each of length 1.
        tracklets: Names of the tracks.
        rows: int64 of shape `(num_tracks,)`, the first image of each.
    """

    features: np.ndarray
    tracklets: np.ndarray
    rows: np.ndarray


def pool(
    features: np.ndarray | Sequence, tracklets: Sequence, *, how: str = "mean"
) -> PooledTracks:
    """Returns one embedding for each track: a person's images in a row by one camera.

    Embeddings are divided by their lengths, pooled, and divided by their length again,
    so that tracks are ranked alike by every metric.

    Args:
        features: A row of numbers for each image, shape `(num_images, dim)`.
        tracklets: Track of each image, numbers or texts, `(num_images,)`.
        how: "mean", "median" (of each number by itself), or "first": the embedding of
            the first image alone.

    Raises:
        ValueError: If shapes do not fit, or features are not finite numbers.

    Example:
        >>> import topdb_tf
        >>> features = [[1.0, 0.0], [0.0, 7.0], [3.0, 4.0]]
        >>> pooled = topdb_tf.pool(features, ["a", "a", "b"])
        >>> pooled.features.round(2).astype(str).tolist()
        [['0.71', '0.71'], ['0.6', '0.8']]
    """
    check_one_of("how", how, POOLS)
    given, names = np.asarray(features), np.asarray(tracklets)
    if given.dtype.kind in "iub":
        given = given.astype(np.float32)
    if given.ndim != 2 or given.dtype.kind != "f" or names.shape != given.shape[:1]:
        raise ValueError(
            "`features` must be rows of numbers and `tracklets` one name for each. "
            f"Received: features of shape {given.shape}, tracklets of {names.shape}"
        )
    if not np.isfinite(given).all():
        raise ValueError("`features` must be finite numbers. Received: NaN or infinity")
    names, rows, places = np.unique(names, return_index=True, return_inverse=True)
    if how == "first":
        pooled = given[rows]
    else:
        order = np.argsort(places, kind="stable")
        units = unit_vectors(given[order])
        starts = np.searchsorted(places[order], np.arange(len(names)))
        if how == "mean":
            pooled = np.add.reduceat(units, starts) if len(names) else units
        else:
            parts = np.split(units, starts[1:])
            pooled = np.array([np.median(part, axis=0) for part in parts])
    order = np.argsort(rows)
    return PooledTracks(unit_vectors(pooled)[order], names[order], rows[order])


def check_cameras(*camids: np.ndarray) -> None:
    """Raises `ValueError` unless every image has a camera to be normalised by."""
    numbers = np.concatenate(camids)
    if (numbers < 0).any():
        raise ValueError(
            "To be normalised by camera every image must have one. Name the cameras, "
            "and leave --ignore-cameras away where queries are in the gallery as well. "
            f"Received: {(numbers < 0).sum():,} of {len(numbers):,} images without a "
            "camera"
        )


def unit_vectors(features: np.ndarray) -> np.ndarray:
    """Returns features divided by their lengths, float32; zeros stay zeros."""
    features, out = _plain(features), np.empty(features.shape, np.float32)
    with Workers() as workers:
        workers.run(_divide_by_lengths, len(features), features, out)
    return out


def _are_rows(query, gallery):
    shapes = query.shape[1:], gallery.shape[1:]
    return query.dtype.kind == gallery.dtype.kind == "f" and shapes[0] == shapes[1]


def _plain(features):
    """Returns features as the kernels take them: float32, or float64 where given so."""
    kind = np.float64 if features.dtype.itemsize > 4 else np.float32
    return np.ascontiguousarray(features, kind)


@compiled
def _add_up(start, stop, features, rows, origins, sums, squares):
    for image in range(len(features)):
        row, own = rows[image], features[image, start:stop]
        origin, total = origins[row, start:stop], sums[row, start:stop]
        square = squares[row, start:stop]
        for column in range(len(own)):
            more = own[column] - origin[column]
            total[column] += more
            square[column] += more * more


@compiled
def _normalize(start, stop, features, rows, means, scales, out):
    for image in range(start, stop):
        own, new = features[image], out[image]
        mean, scale = means[rows[image]], scales[rows[image]]
        for column in range(len(own)):
            new[column] = (own[column] - mean[column]) * scale[column]


@compiled
def _divide_by_lengths(start, stop, features, out):
    for image in range(start, stop):
        own, new, squared = features[image], out[image], 0.0
        largest = np.abs(own).max()
        scale = 1 / np.float64(largest) if largest > 0 else 1.0  # no overflow
        for column in range(len(own)):
            squared += (own[column] * scale) ** 2
        if squared > 0:
            scale /= np.sqrt(squared)
        for column in range(len(own)):
            new[column] = own[column] * scale
