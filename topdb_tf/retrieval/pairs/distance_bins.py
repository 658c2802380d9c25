"""Histograms of the distances of pairs: of one person and of two, exactly counted."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.pairs.operating_points import (
    LOW_BITS,
    DistanceHistogram,
    cell_ends,
)
from topdb_tf.retrieval.pairs.pair_counts import PairDistances

_JUNK_PID, _DISTRACTOR_PID = -1, 0
_CELL_OF_ONE = int(np.float32(1).view(np.int32)) >> LOW_BITS


class PairHistograms(NamedTuple):
    """Numbers of pairs of a query and a gallery image by distance.

    Args:
        by_two_cameras: Pairs of images by two cameras.
        by_one_camera: Pairs of images by one camera.
        num_left_out: Number of images of which nobody knows whom they show.
    """

    by_two_cameras: DistanceHistogram
    by_one_camera: DistanceHistogram
    num_left_out: int


def pair_histograms(
    retrieval_set: RetrievalSet,
    *,
    metric: str = "sqeuclidean",
    progress: Callable[[int, int], None] | None = None,
) -> PairHistograms:
    """Counts all pairs of a query and a gallery image by their distance.

    Images of pid -1 are left out, and so are distractors (pid 0 where no query has
    it), as in `topdb_tf.retrieval.pairs.halves.checked_halves`. Distances are computed
    twice, some queries at a time; the memory does not grow with the number of pairs.

    Args:
        retrieval_set: Features and identities.
        metric: One of `topdb_tf.retrieval.distances.METRICS`.
        progress: Called with the number of distances done and of all.

    Raises:
        ValueError: If the input does not fit together, or nobody is known.
    """
    known, num_left_out = _of_known_persons(retrieval_set)
    parts = [
        PairDistances(known, metric=metric, ignore_cameras=ignored)
        for ignored in (False, True)
    ]
    done, total = 0, sum(part.num_distances for part in parts)

    def advance(work):
        nonlocal done
        done += work
        if progress is not None:
            progress(done, total)

    by_two, by_any = (part.histogram(advance) for part in parts)
    by_one = DistanceHistogram(
        by_any.impostors - by_two.impostors, by_any.genuine - by_two.genuine
    )
    return PairHistograms(by_two, by_one, num_left_out)


def bin_edges(histograms: PairHistograms, *, num_bins: int) -> np.ndarray:
    """Returns edges of bins of nearly equal width, from the least to the most distance.

    They are ends of the cells of the histograms, so that every pair is counted in the
    bin that it belongs to: a bin holds the distances above its lower edge, up to and
    including its upper one. An edge is moved for that by at most 1/2048 of itself.

    Args:
        histograms: Numbers of pairs by distance.
        num_bins: Most number of bins, less where distances hardly differ. Where all
            distances are zero the bins are those of [0, 1].

    Raises:
        ValueError: If there is no pair, or `num_bins` is below 1.
    """
    counts = sum(map(sum, histograms[:2]))
    cells = np.flatnonzero(counts)
    if not len(cells) or num_bins < 1:
        raise ValueError(
            "There must be pairs of a query and a gallery image, and at least one bin. "
            f"Received: {int(counts.sum())} pairs, {num_bins=}"
        )
    first, last = max(int(cells[0]) - 1, 0), int(cells[-1]) or _CELL_OF_ONE
    ends = cell_ends(np.arange(first, last + 1)).astype(float)
    if not cells[0]:
        ends[0] = 0
    wanted = np.linspace(ends[0], ends[-1], num_bins + 1)
    wanted[-1] = ends[-1]  # which rounding must not raise above all ends
    return np.unique(ends[np.searchsorted(ends, wanted)])


def binned(counts: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Returns the pairs of a histogram's cells in bins.

    Args:
        counts: Pairs in each cell, of a `DistanceHistogram`.
        edges: Of `bin_edges`, shape `(num_bins + 1,)`.

    Returns:
        Whole numbers, shape `(num_bins,)`; a distance of the lowest edge itself is in
        the first bin.
    """
    upto = np.concatenate([[0], np.cumsum(counts)])
    ends = np.searchsorted(cell_ends(np.arange(len(counts))), edges.astype(np.float32))
    ends[0] = -1
    return np.diff(upto[ends + 1])


def _of_known_persons(retrieval_set):
    query_features, features, query_pids, pids, query_camids, camids = retrieval_set
    queries = query_pids != _JUNK_PID
    gallery = pids != _JUNK_PID
    if _DISTRACTOR_PID not in query_pids:
        gallery &= pids != _DISTRACTOR_PID
    known = RetrievalSet(
        query_features[queries],
        features[gallery],
        query_pids[queries],
        pids[gallery],
        query_camids[queries],
        camids[gallery],
    )
    return known, int((~queries).sum() + (~gallery).sum())
