"""Images that are nearly the same picture, found by their thumbnails."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

CORRELATION = 0.95  # of grey thumbnails, above which two are compared in colour
DIFFERENCE = 8.0  # grey levels, up to which two are nearly the same picture
MAX_PAIRS = 100_000

_BLOCK = 2048


class NearDuplicates(NamedTuple):
    """Pairs of images that are nearly the same, the closest pair first.

    Args:
        first: Places of the first images, int64 of shape `(num_pairs,)`.
        second: Places of the second ones, each after its first.
        differences: How far apart the two thumbnails are, in grey levels.
    """

    first: np.ndarray
    second: np.ndarray
    differences: np.ndarray


def near_duplicates(
    thumbnails: np.ndarray,
    is_relevant: Callable[[slice, slice], np.ndarray],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> NearDuplicates:
    """Finds all pairs of images that are nearly the same picture.

    Every pair is looked at: the grey thumbnails, at half their size, are compared by
    their correlation, in products of blocks of 2048 by 2048, and what correlates by the
    mean difference of the colours, after the brightness of each channel is made equal.
    An image without contrast is like no other. Memory is linear in the number of
    images. Copies that were saved again, resized or made lighter are found; crops that
    are shifted by 3 % of the height or more mostly are not.

    Args:
        thumbnails: RGB, uint8 of shape `(num_images, height, width, 3)`; height and
            width are even.
        is_relevant: Says for two slices of the images which pairs to compare, bool of
            shape `(num_rows, num_columns)`.
        progress: Called with the numbers of blocks done and to do.

    Returns:
        The pairs; of more than 100,000 the closest ones.
    """
    vectors = _standardised(thumbnails)
    starts = range(0, len(vectors), _BLOCK)
    blocks = [(row, column) for row in starts for column in starts if column >= row]
    pairs, gaps = np.empty((0, 2), np.int64), np.empty(0)
    for done, (row, column) in enumerate(blocks, start=1):
        rows = slice(row, min(row + _BLOCK, len(vectors)))
        columns = slice(column, min(column + _BLOCK, len(vectors)))
        alike = vectors[rows] @ vectors[columns].T > CORRELATION
        places = np.argwhere(alike)
        if len(places):
            places = places[is_relevant(rows, columns)[places[:, 0], places[:, 1]]]
        places = places + (row, column)
        places = places[places[:, 0] < places[:, 1]]
        differences = _differences(thumbnails, places)
        near = differences <= DIFFERENCE
        pairs = np.concatenate([pairs, places[near]])
        gaps = np.concatenate([gaps, differences[near]])
        if len(pairs) > 2 * MAX_PAIRS or done == len(blocks):
            order = np.argsort(gaps, kind="stable")[:MAX_PAIRS]
            pairs, gaps = pairs[order], gaps[order]
        if progress is not None:
            progress(done, len(blocks))
    return NearDuplicates(pairs[:, 0], pairs[:, 1], gaps)


def _standardised(thumbnails):
    """Returns grey thumbnails of mean 0 and length 1, `(num_images, pixels)`."""
    num_images, height, width, channels = thumbnails.shape
    quarters = thumbnails.reshape(
        num_images, height // 2, 2, width // 2, 2, channels
    ).mean(axis=(2, 4, 5), dtype=np.float32)
    vectors = quarters.reshape(num_images, -1)
    vectors -= vectors.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    has_contrast = norms > np.sqrt(vectors.shape[1])  # a grey level of deviation
    return np.where(has_contrast, vectors / np.maximum(norms, 1e-6), 0)


def _differences(thumbnails, places):
    """Returns the mean absolute difference of each pair, in grey levels."""
    differences = np.empty(len(places))
    for start in range(0, len(places), 4096):
        pairs = places[start : start + 4096]
        gap = thumbnails[pairs[:, 0]].astype(np.float32) - thumbnails[pairs[:, 1]]
        gap -= gap.mean(axis=(1, 2), keepdims=True)
        differences[start : start + 4096] = np.abs(gap).mean(axis=(1, 2, 3))
    return differences
