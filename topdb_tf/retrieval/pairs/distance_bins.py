"""Histograms of the distances of pairs: of one person and of two, exactly counted."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from topdb_tf.progress import adding_up
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.matches import of_known_persons
from topdb_tf.retrieval.pairs.operating_points import (
    LOW_BITS,
    DistanceHistogram,
    cell_ends,
)
from topdb_tf.retrieval.pairs.pair_counts import PairDistances

_USUAL_SHARE = 0.98  # of the pairs of a kind: one odd image is in fewer
_ROOM, _FAR = 1.3, 2.0  # times the distance that they reach
_CELL_OF_ONE = int(np.float32(1).view(np.int32)) >> LOW_BITS


class PairHistograms(NamedTuple):
    """Numbers of pairs of a query and a gallery image by distance.

    Pairs by one camera do not count unless cameras are ignored; then there are no
    others. Images are left out of which nobody knows whom they show. The warning says
    why the distances mean little, if they do.
    """

    counted: DistanceHistogram
    by_one_camera: DistanceHistogram
    num_left_out: int
    warning: str | None = None


def pair_histograms(
    retrieval_set: RetrievalSet,
    *,
    metric: str = "sqeuclidean",
    ignore_cameras: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PairHistograms:
    """Counts all pairs of a query and a gallery image by their distance.

    Images of pid -1 are left out, and so are distractors (pid 0 where no query has
    it); an image and itself, told by a negative camid, are no pair. Distances are
    computed some queries at a time, twice unless cameras are ignored; the memory does
    not grow with the number of pairs.

    Args:
        retrieval_set: Features and identities.
        metric: One of `topdb_tf.retrieval.distances.METRICS`.
        ignore_cameras: Whether pairs by one camera count as well.
        progress: Called with the number of distances done and of all.

    Raises:
        ValueError: If the input does not fit together, or nobody is known.
    """
    queries, gallery = of_known_persons(
        retrieval_set.query_pids, retrieval_set.gallery_pids
    )
    num_left_out = int((~queries).sum() + (~gallery).sum())
    known = retrieval_set.take(queries, gallery)
    of_all = PairDistances(known, metric=metric, ignore_cameras=True)
    num_passes = 1 if ignore_cameras else 2
    advance = adding_up(progress, num_passes * of_all.num_distances)
    counted = by_any = of_all.histogram(advance)
    if not ignore_cameras:
        counted = PairDistances(known, metric=metric).histogram(advance)
    by_one = DistanceHistogram(
        by_any.impostors - counted.impostors, by_any.genuine - counted.genuine
    )
    return PairHistograms(counted, by_one, num_left_out, of_all.doubt())


def bin_edges(histograms: PairHistograms, *, num_bins: int) -> np.ndarray:
    """Returns edges of bins of nearly equal width, from the least to the most distance.

    Where a few distances are far beyond all others the last bin holds them, so that
    the others do not share a few bins.

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
    counts = sum(histograms.counted) + sum(histograms.by_one_camera)
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
    kinds = [*histograms.counted, *histograms.by_one_camera]
    usual = max(_cell_of_share(kind, _USUAL_SHARE) for kind in kinds if kind.any())
    most = ends[max(usual - first, 0)]
    is_far = num_bins > 1 and ends[-1] > _FAR * most > 0
    last = _ROOM * most if is_far else ends[-1]
    wanted = np.linspace(ends[0], last, num_bins + 1 - is_far)
    wanted[-1] = min(wanted[-1], ends[-1])  # which rounding must not exceed
    wanted = np.append(wanted, ends[-1:])
    return np.unique(ends[np.searchsorted(ends, wanted)])


def _cell_of_share(counts, share):
    """Returns the first cell up to which there is a share of the pairs."""
    upto = np.cumsum(counts)
    return int(np.searchsorted(upto, share * upto[-1]))


def binned(counts: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Returns the pairs of a histogram's cells in bins.

    Args:
        counts: Pairs in each cell, of a `DistanceHistogram`.
        edges: Edges of the bins, as `bin_edges` returns them, shape `(num_bins + 1,)`.

    Returns:
        Whole numbers, shape `(num_bins,)`; a distance of the lowest edge itself is in
        the first bin.
    """
    upto = np.concatenate([[0], np.cumsum(counts)])
    ends = np.searchsorted(cell_ends(np.arange(len(counts))), edges.astype(np.float32))
    ends[0] = -1
    return np.diff(upto[ends + 1])
