"""Same person or not, by a threshold on the distance: ROC by counting pairs."""

from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import NamedTuple

import numpy as np

from topdb_tf.progress import adding_up
from topdb_tf.retrieval.features import RetrievalSet, checked_distances
from topdb_tf.retrieval.identities import JUNK_PID
from topdb_tf.retrieval.matches import MatchIndex
from topdb_tf.retrieval.parallel import Workers, compiled
from topdb_tf.retrieval.ranking import BLOCK_BYTES, query_blocks


class RocCurve(NamedTuple):
    """Counts of pairs that are taken for the same person, by the largest distance.

    A pair is accepted if its distance is at most the threshold. Only distances of
    genuine pairs are thresholds; between two of them only false positives change.

    Args:
        thresholds: The distances of genuine pairs, ascending, each once.
        true_positives: Genuine pairs that each threshold accepts.
        false_positives: Impostor pairs that each threshold accepts.
        false_positives_below: Impostor pairs nearer than the threshold.
        num_impostors: Number of impostor pairs.
    """

    thresholds: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray
    false_positives_below: np.ndarray
    num_impostors: int

    @property
    def num_genuine(self) -> int:
        """Number of genuine pairs."""
        return int(self.true_positives[-1])


def roc_curve(
    retrieval_set: RetrievalSet,
    *,
    metric: str = "sqeuclidean",
    ignore_cameras: bool = False,
    memory: int = BLOCK_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> RocCurve:
    """Returns the exact ROC of all pairs of a query and a gallery image.

    The histogram of `topdb_tf.retrieval.pairs.operating_points` takes distances within
    1/2048 for equal, so its thresholds lie above the distance of the pair, and a nearer
    impostor can count as a tie; published rates are not to depend on that. It in turn
    has thresholds at impostor distances and keeps no distance, which calibration needs.

    A genuine pair shows one person, by two cameras; pairs by one camera of one person,
    and gallery images of pid -1, are left out. Distances are computed twice, some
    queries at a time; what is kept is one value a genuine pair.

    Args:
        retrieval_set: Features and identities.
        metric: One of `topdb_tf.retrieval.distances.METRICS`.
        ignore_cameras: Whether pairs by one camera count as well.
        memory: Bytes that a block of distances may take.
        progress: Called with the number of distances done and of all.

    Raises:
        ValueError: If the input does not fit together, or there are no genuine or no
            impostor pairs.
    """
    source = checked_distances(retrieval_set, metric)
    index = MatchIndex(retrieval_set.identities, ignore_cameras=ignore_cameras)
    return roc_curve_of(source, index, memory=memory, progress=progress)


def roc_curve_of(
    source,
    index: MatchIndex,
    *,
    memory: int = BLOCK_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> RocCurve:
    """Returns what `roc_curve` does, from distances such as `MatrixDistances`."""
    index.check_any()
    advance = adding_up(progress, 2 * source.num_queries * source.num_gallery)
    blocks = partial(query_blocks, source, memory=memory, advance=advance)
    with Workers() as workers:
        genuine, num_impostors = _genuine_distances(blocks(), index, workers)
        if not num_impostors:
            raise ValueError(
                "There must be pairs of different persons. "
                f"Received: {len(genuine)} pairs, all of the same person"
            )
        thresholds, counts = np.unique(genuine, return_counts=True)
        nearer, equal = _count_impostors(blocks(), index, thresholds, workers)
    upto = np.cumsum(nearer[:-1])
    return RocCurve(
        thresholds, np.cumsum(counts), upto, upto - equal[:-1], int(num_impostors)
    )


def tpr_at_fpr(curve: RocCurve, fpr: float) -> float:
    """Returns the largest share of genuine pairs accepted at a false positive rate.

    Args:
        curve: The ROC.
        fpr: Share of the impostor pairs that may be accepted, in [0, 1].

    Raises:
        ValueError: If `fpr` is outside [0, 1].
    """
    place = _place_at_fpr(curve, fpr)
    return 0.0 if place < 0 else float(curve.true_positives[place] / curve.num_genuine)


def threshold_at_fpr(curve: RocCurve, fpr: float) -> float:
    """Returns the largest distance of a genuine pair that keeps a false positive rate.

    Pairs up to and including this distance are to be accepted; it is minus infinity
    where the nearest genuine pair already comes after too many impostors.

    Args:
        curve: The ROC.
        fpr: Share of the impostor pairs that may be accepted, in [0, 1].

    Raises:
        ValueError: If `fpr` is outside [0, 1].
    """
    place = _place_at_fpr(curve, fpr)
    return -np.inf if place < 0 else float(curve.thresholds[place])


def equal_error_rate(curve: RocCurve) -> tuple[float, float]:
    """Returns the equal error rate, and the threshold that comes nearest to it.

    The rate is where the ROC, its points joined by lines, meets that of equal false
    positives and false negatives. The threshold is the distance of the genuine pair
    at which false positives first make up as large a share as false negatives.
    """
    genuine = curve.true_positives / curve.num_genuine
    before = np.concatenate([[0.0], genuine[:-1]])
    below = curve.false_positives_below / curve.num_impostors
    upto = curve.false_positives / curve.num_impostors
    fpr = np.concatenate([[0.0], np.column_stack([below, upto]).ravel(), [1.0]])
    tpr = np.concatenate([[0.0], np.column_stack([before, genuine]).ravel(), [1.0]])
    excess = fpr + tpr - 1
    place = int(np.argmax(excess >= 0))
    step = excess[place] - excess[place - 1]
    share = -excess[place - 1] / step
    rate = fpr[place - 1] + share * (fpr[place] - fpr[place - 1])
    threshold = curve.thresholds[min((place - 1) // 2, len(curve.thresholds) - 1)]
    return float(rate), float(threshold)


def _place_at_fpr(curve, fpr):
    if not 0 <= fpr <= 1:
        raise ValueError(f"`fpr` must be a share, in [0, 1]. Received: {fpr=}")
    rates = curve.false_positives / curve.num_impostors
    return int(np.searchsorted(rates, fpr, side="right")) - 1


def _genuine_distances(blocks, index, workers):
    """Returns the distances of all genuine pairs, and the number of impostor pairs."""
    query_pids = index.identities.query_pids
    genuine, num_impostors = [], 0
    for block in blocks:
        distances = block.distances
        workers.run(block.finish, len(distances))
        matches = index.matches(block.queries)
        owners = np.repeat(np.arange(len(distances)), np.diff(matches.match_ends))
        genuine.append(distances[owners, matches.match_ids])
        num_persons = np.count_nonzero(query_pids[block.queries] != JUNK_PID)
        num_impostors += num_persons * (distances.shape[1] - len(matches.excluded))
        num_impostors -= len(matches.match_ids) + len(matches.junk_ids)
    return np.concatenate(genuine), num_impostors


def _count_impostors(blocks, index, thresholds, workers):
    """Counts impostor distances by the first threshold that accepts them."""
    low, high = float(thresholds[0]), float(thresholds[-1])
    num_cells = 4 * len(thresholds)
    scale = (num_cells - 1) / (high - low) if high > low else 0.0
    cells = ((thresholds.astype(np.float64) - low) * scale).astype(np.int64)
    grid = np.searchsorted(cells, np.arange(num_cells + 1)), scale
    totals = np.zeros((2, len(thresholds) + 1), np.int64)
    lock = Lock()
    for block in blocks:
        matches = index.matches(block.queries)
        nobody = index.identities.query_pids[block.queries] == JUNK_PID

        def count(first, last, block=block, matches=matches, nobody=nobody):
            block.finish(first, last)
            block.distances[first:last][nobody[first:last]] = np.inf
            counts = np.zeros_like(totals)
            _bin_rows(first, last, block.distances, matches, thresholds, grid, counts)
            with lock:
                np.add(totals, counts, out=totals)

        workers.run(count, len(block.distances))
    return totals


@compiled
def _bin_rows(start, stop, block, matches, thresholds, grid, counts):
    """Counts distances up to the last threshold; equal ones in the second row, too."""
    low, high = np.float64(thresholds[0]), thresholds[-1]
    table, scale = grid
    for i in range(start, stop):
        row = block[i]
        for j in matches.excluded:
            row[j] = np.inf
        for place in range(matches.match_ends[i], matches.match_ends[i + 1]):
            row[matches.match_ids[place]] = np.inf
        for place in range(matches.junk_ends[i], matches.junk_ends[i + 1]):
            row[matches.junk_ids[place]] = np.inf
        for j in range(row.size):
            distance = row[j]
            if distance <= high:
                cell = max(0, np.int64((np.float64(distance) - low) * scale))
                place = table[cell]
                while thresholds[place] < distance:
                    place += 1
                counts[0, place] += 1
                counts[1, place] += distance == thresholds[place]
