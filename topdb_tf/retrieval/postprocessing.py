"""Features changed before they are ranked: by cameras, by tracks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from topdb_tf.retrieval.features import RetrievalSet, checked_distances
from topdb_tf.retrieval.parallel import Workers, compiled
from topdb_tf.texts import check_one_of

STATISTICS = ("all", "gallery")
"""Whose features a camera's mean and deviation are of."""
POOLS = ("mean", "median", "first")
"""How the embeddings of a track become one."""
PRIOR_IMAGES = 50
"""Images like all of them that are counted with those of each camera."""
_ROUNDING = 1e-7  # of float32: less is no difference between images
_ROWS = 256  # that are added up in float32


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
        parts = [(query, images.query_camids), (gallery, images.gallery_camids)]
        scales = [_scales(part) if metric == "cosine" else None for part, _ in parts]
        some = slice(self.statistics == "gallery", None)
        features, camids = zip(*parts[some], strict=True)
        prior = self.prior_images
        found = _statistics(features, camids, scales[some], prior_images=prior)
        if not np.isfinite(found.means).all():
            checked_distances(images, metric)
        changed = [
            found.normalized(*part, scales=own)
            for part, own in zip(parts, scales, strict=True)
        ]
        return images._replace(query_features=changed[0], gallery_features=changed[1])


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

    def normalized(
        self,
        features: np.ndarray,
        camids: np.ndarray,
        *,
        scales: np.ndarray | None = None,
    ) -> np.ndarray:
        """Returns (features - mean) / deviation of each image's camera, float32.

        Features are those given, or these times a number an image.
        """
        rows = np.searchsorted(self.camids, camids)
        known = np.append(self.camids, -1)[rows] == camids
        rows = np.where(known, rows, len(self.camids))
        out, features = np.empty(features.shape, np.float32), _plain(features)
        shifts = self.means.astype(features.dtype), 1 / self.deviations
        shifts = [shift.astype(features.dtype) for shift in shifts]
        given = features, _factors(features, scales), rows, *shifts, out
        with Workers() as workers:
            workers.run(_normalize, len(out), *given)
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
    ones = [None] * len(features)
    return _statistics(features, camids, ones, prior_images=prior_images)


def _statistics(features, camids, scales, *, prior_images):
    """Returns the statistics of features that are multiplied by a number an image."""
    cameras, firsts, rows = np.unique(
        np.concatenate(camids), return_index=True, return_inverse=True
    )
    shape, stop = (len(cameras), features[0].shape[1]), 0
    counts = np.bincount(rows, minlength=len(cameras)).astype(float)[:, np.newaxis]
    # Squares are of what is more than an image of the camera: no digits are lost.
    parts, origins = [], np.zeros(shape)
    for part, scale in zip(map(_plain, features), scales, strict=True):
        start, stop, scale = stop, stop + len(part), _factors(part, scale)
        own = (firsts >= start) & (firsts < stop)
        images = firsts[own] - start
        origins[own] = part[images] * scale[images, np.newaxis]
        parts.append((part, scale, rows[start:stop]))
    sums, squares = np.zeros(shape), np.zeros(shape)
    with Workers() as workers:
        for given in parts:
            count = len(given[0])
            grain = max(1, -(-count // workers.num_threads))
            added = np.zeros((2, -(-count // grain), *shape))
            origin = origins.astype(given[0].dtype)
            workers.run(_add_up, count, *given, origin, grain, *added, grain=grain)
            sums += added[0].sum(axis=0)
            squares += added[1].sum(axis=0)
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
        tracklets: Track of each image, numbers or texts, `(num_images,)`. An image
            whose text is empty is of no track, and stays by itself.
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
    scales = _scales(given)
    if not np.isfinite(scales).all():
        raise ValueError("`features` must be finite numbers. Received: NaN or infinity")
    numbers: dict = {}  # of the tracks; one of no track has a key of its own
    places = [
        numbers.setdefault((row,) if name == "" else name, len(numbers))
        for row, name in enumerate(names.tolist())
    ]
    order = np.argsort(places, kind="stable")
    starts = np.searchsorted(np.array(places, np.int64)[order], range(len(numbers) + 1))
    rows = order[starts[:-1]]
    if how == "first":
        order, starts = rows, np.arange(len(rows) + 1)
    kernel = _pool_medians if how == "median" else _pool_means
    pooled = np.empty((len(rows), given.shape[1]), np.float32)
    with Workers() as workers:
        arrays = _plain(given), scales, order, starts, pooled
        workers.run(kernel, len(rows), *arrays)
    return PooledTracks(pooled, names[rows], rows)


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


def _scales(features):
    """Returns 1 / length of each row, 1 for zeros, NaN for what is not finite."""
    scales = np.empty(len(features))
    with Workers() as workers:
        workers.run(_invert_lengths, len(scales), _plain(features), scales)
    return scales


def _factors(features, scales):
    """Returns a number an image, 1 where none are told, of the type of the kernels."""
    kind = _plain(features[:0]).dtype
    return np.ones(len(features), kind) if scales is None else scales.astype(kind)


def _are_rows(query, gallery):
    shapes = query.shape[1:], gallery.shape[1:]
    return query.dtype.kind == gallery.dtype.kind == "f" and shapes[0] == shapes[1]


def _plain(features):
    """Returns features as the kernels take them: float32, or float64 where given so."""
    kind = np.float64 if features.dtype.itemsize > 4 else np.float32
    return np.ascontiguousarray(features, kind)


@compiled
def _add_up(start, stop, features, scales, rows, origins, grain, sums, squares):
    total, square = np.zeros_like(origins), np.zeros_like(origins)
    # Of some images in float32, which is fast, and these in float64.
    block = max(_ROWS, 4 * len(origins))
    for first in range(start, stop, block):
        total[:], square[:] = 0, 0
        for image in range(first, min(first + block, stop)):
            row, own, scale = rows[image], features[image], scales[image]
            origin, added, more_added = origins[row], total[row], square[row]
            for column in range(len(own)):
                more = own[column] * scale - origin[column]
                added[column] += more
                more_added[column] += more * more
        sums[start // grain] += total
        squares[start // grain] += square


@compiled
def _normalize(start, stop, features, scales, rows, means, inverse, out):
    for image in range(start, stop):
        own, new, scale = features[image], out[image], scales[image]
        mean, factor = means[rows[image]], inverse[rows[image]]
        for column in range(len(own)):
            new[column] = (own[column] * scale - mean[column]) * factor[column]


@compiled(fastmath={"reassoc", "contract"})
def _invert_length(row):
    squared = 0.0
    for column in range(len(row)):
        squared += np.float64(row[column]) * row[column]
    if 0 < squared < np.inf:
        return 1 / np.sqrt(squared)
    largest = np.float64(np.abs(row).max())
    if largest == 0:
        return 1.0
    squared = 0.0  # of float64 that are too large, or too small, to be squared
    for column in range(len(row)):
        squared += (row[column] / largest) ** 2
    return 1 / (np.sqrt(squared) * largest)


@compiled
def _invert_lengths(start, stop, features, scales):
    for image in range(start, stop):
        scales[image] = _invert_length(features[image])


@compiled
def _pool_means(start, stop, features, scales, order, starts, out):
    for track in range(start, stop):
        new = out[track]
        new[:] = 0
        for image in order[starts[track] : starts[track + 1]]:
            own, scale = features[image], scales[image]
            for column in range(len(own)):
                new[column] += own[column] * scale
        new *= _invert_length(new)


@compiled
def _pool_medians(start, stop, features, scales, order, starts, out):
    for track in range(start, stop):
        images = order[starts[track] : starts[track + 1]]
        count, new = len(images), out[track]
        rows = np.empty((count, features.shape[1]), np.float32)
        for place, image in enumerate(images):
            rows[place] = features[image] * scales[image]
        # Numbers are sorted by exchanging those of neighbouring rows, all columns at
        # once: what a processor does fast for the few images of a track.
        for turn in range(count):
            for place in range(turn % 2, count - 1, 2):
                low, high = rows[place], rows[place + 1]
                for column in range(len(low)):
                    least = min(low[column], high[column])
                    high[column] = max(low[column], high[column])
                    low[column] = least
        new[:] = (rows[(count - 1) // 2] + rows[count // 2]) / 2
        new *= _invert_length(new)
