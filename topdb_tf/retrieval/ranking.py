"""CMC, mAP by both definitions and mINP; ranks are counted, never sorted."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from topdb_tf.retrieval.distances import MatrixDistances
from topdb_tf.retrieval.identities import Identities
from topdb_tf.retrieval.matches import MatchIndex, check_identities
from topdb_tf.retrieval.parallel import Buffer, Workers, compiled

BLOCK_BYTES = 128 << 20
"""Bytes that a block of distances takes unless less is asked for."""

MIN_ROWS, _MAX_ROWS = 16, 704
_CACHED_ROWS = 16  # finished and ranked while they are in the cache


class QueryScores(NamedTuple):
    """Scores of single queries; one column a draw if the gallery is drawn anew.

    Args:
        average_precision: Mean of the precision at each match, NaN without a match.
        average_precision_trapezoid: Area by the trapezoid rule, the same.
        inverse_negative_penalty: Share of matches up to the last one, the same.
        first_match_rank: Rank of the first match, from 1; 0 without a match.
    """

    average_precision: np.ndarray
    average_precision_trapezoid: np.ndarray
    inverse_negative_penalty: np.ndarray
    first_match_rank: np.ndarray


class RetrievalScores(NamedTuple):
    """Scores of a ranking, as shares in [0, 1], and those of its single queries.

    Args:
        cmc: Share of queries with a match among the first 1, 2, … images, shape
            `(max_rank,)`.
        mean_ap: Mean over the queries of the mean precision at each match.
        mean_ap_trapezoid: Mean over the queries of the area under precision and
            recall by the trapezoid rule, as the Market-1501 benchmark's own code.
        mean_inp: Mean over the queries of the share of matches among the images up to
            the last match.
        num_valid_queries: Number of queries with a match; the others do not count.
        queries: The scores of each query; `None` of scores that were read from a file.
    """

    cmc: np.ndarray
    mean_ap: float
    mean_ap_trapezoid: float
    mean_inp: float
    num_valid_queries: int
    queries: QueryScores | None


def retrieval_scores(
    distances: np.ndarray,
    query_pids: np.ndarray,
    gallery_pids: np.ndarray,
    query_camids: np.ndarray,
    gallery_camids: np.ndarray,
    *,
    max_rank: int = 50,
    ignore_cameras: bool = False,
) -> RetrievalScores:
    """Ranks the gallery for every query and scores the rankings.

    A gallery image of the query's own person seen by the query's own camera is not
    ranked at all, nor is one of pid -1. Equal distances keep the order of the gallery.
    A query without a match does not count. The CMC of ranks beyond the gallery is that
    of its end.

    Source: Zheng et al., Scalable Person Re-identification, ICCV 2015 (protocol); Ye
    et al., Deep Learning for Person Re-identification, TPAMI 2021 (mINP,
    https://arxiv.org/abs/2001.04193).

    Args:
        distances: Shape `(num_queries, num_gallery)`; smaller is more alike. Compared
            as float32.
        query_pids: Shape `(num_queries,)`.
        gallery_pids: Shape `(num_gallery,)`.
        query_camids: Shape `(num_queries,)`.
        gallery_camids: Shape `(num_gallery,)`.
        max_rank: Length of the CMC, at least 1.
        ignore_cameras: Whether matches by the query's own camera count as well.

    Raises:
        ValueError: If shapes do not fit, distances are not finite, ids are not what
            `Identities` takes, or no query has a match.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.retrieval.ranking import retrieval_scores
        >>> pids, camids = np.array([1]), np.array([1])
        >>> scores = retrieval_scores(
        ...     np.array([[0.1, 0.2, 0.3]]), pids, np.array([1, 2, 1]), camids,
        ...     np.array([1, 1, 2]), max_rank=2)
        >>> scores.cmc, scores.mean_ap  # the first image is by the query's camera
        (array([0., 1.]), 0.5)
    """
    identities = Identities(query_pids, gallery_pids, query_camids, gallery_camids)
    source = MatrixDistances(distances)
    check_identities(identities, source)
    index = MatchIndex(identities, ignore_cameras=ignore_cameras)
    index.check_any()
    with Workers() as workers:
        judge = CountedRanks(index)
        blocks = query_blocks(source)
        return summarize([judge(block, workers) for block in blocks], max_rank)


class QueryBlock(NamedTuple):
    """The distances of some queries to the gallery.

    Rows of the shape `(num_rows, num_gallery)` are unfinished until `finish` was called
    with their start and stop, and gone when the next block is asked for.
    """

    queries: slice
    distances: np.ndarray
    finish: Callable[[int, int], None]


def query_blocks(
    source, *, memory: int = BLOCK_BYTES, advance=None
) -> Iterator[QueryBlock]:
    """Yields the distances of some queries to the gallery, after one another.

    A block takes so many bytes of memory, but has at least 16 rows. `advance` is called
    with the number of distances since its last call.
    """
    num_queries, num_gallery = source.num_queries, source.num_gallery
    height = int(np.clip(memory // (4 * num_gallery), MIN_ROWS, _MAX_ROWS))
    height = -(-num_queries // -(-num_queries // height))  # blocks of equal size
    buffer = Buffer(height * num_gallery)
    columns = slice(num_queries, source.num_images)
    for start in range(0, num_queries, height):
        rows = slice(start, min(start + height, num_queries))
        block = source.begin(rows, columns, buffer)

        def finish(first, last, block=block, rows=rows):
            source.finish(first, last, block, rows, columns)

        yield QueryBlock(rows, block, finish)
        if advance is not None:
            advance(block.size)


class CountedRanks:
    """Scores queries by counting the gallery images nearer than each of the matches."""

    def __init__(self, index: MatchIndex):
        self._index = index

    def __call__(self, block: QueryBlock, workers: Workers) -> QueryScores:
        """Returns the scores of the queries of one block."""
        matches, distances = self._index.matches(block.queries), block.distances
        ranks = np.empty(len(matches.match_ids), np.int64)

        def rank(first, last):
            for row in range(first, last, _CACHED_ROWS):
                few = row, min(row + _CACHED_ROWS, last)
                block.finish(*few)
                _rank_matches(*few, distances, matches, ranks)

        workers.run(rank, len(distances))
        return _query_scores(matches.match_ends, ranks, distances.shape[1])


def joined(parts: list[QueryScores]) -> QueryScores:
    """Returns the scores of all queries from those of consecutive ones."""
    return QueryScores(*map(np.concatenate, zip(*parts, strict=True)))


def summarize(parts: list[QueryScores], max_rank: int) -> RetrievalScores:
    """Returns the scores of a ranking from those of consecutive queries."""
    if max_rank < 1:
        raise ValueError(f"`max_rank` must be at least 1. Received: {max_rank=}")
    queries = joined(parts)
    has_match = queries.first_match_rank > 0
    first = queries.first_match_rank[has_match]
    hits = np.bincount(np.minimum(first, max_rank + 1), minlength=max_rank + 2)
    return RetrievalScores(
        np.cumsum(hits[1 : max_rank + 1]) / len(first),
        float(queries.average_precision[has_match].mean()),
        float(queries.average_precision_trapezoid[has_match].mean()),
        float(queries.inverse_negative_penalty[has_match].mean()),
        int(np.count_nonzero(has_match.reshape(len(has_match), -1).any(axis=1))),
        queries,
    )


def _query_scores(ends, ranks, num_gallery) -> QueryScores:
    """Scores queries by the ranks of their matches, from 0 and in any order."""
    counts = np.diff(ends)
    has_match = counts > 0
    starts, counts = ends[:-1][has_match], counts[has_match]
    offsets = np.repeat(np.arange(len(starts)) * num_gallery, counts)
    ranks = np.sort(ranks + offsets) - offsets
    hits = np.arange(1, len(ranks) + 1) - np.repeat(starts, counts)
    precision = hits / (ranks + 1)
    before = np.divide(hits - 1, ranks, out=np.ones(len(ranks)), where=ranks > 0)
    average, average_trapezoid, penalty = np.full((3, len(has_match)), np.nan)
    first_rank = np.zeros(len(has_match), np.int64)
    if len(starts):
        average[has_match] = np.add.reduceat(precision, starts) / counts
        trapezoids = (precision + before) / 2
        average_trapezoid[has_match] = np.add.reduceat(trapezoids, starts) / counts
        penalty[has_match] = counts / (ranks[starts + counts - 1] + 1)
        first_rank[has_match] = ranks[starts] + 1
    return QueryScores(average, average_trapezoid, penalty, first_rank)


@compiled
def _rank_matches(start, stop, block, matches, ranks):
    for i in range(start, stop):
        row = block[i]
        first, last = matches.match_ends[i], matches.match_ends[i + 1]
        if first == last:
            continue
        for j in matches.excluded:
            row[j] = np.inf
        ids, own_ranks = matches.match_ids[first:last], ranks[first:last]
        for m in range(ids.size):
            own_ranks[m] = _count_nearer(row, row[ids[m]], ids[m])
        for k in range(matches.junk_ends[i], matches.junk_ends[i + 1]):
            junk = matches.junk_ids[k]
            for m in range(ids.size):
                distance = row[ids[m]]
                if row[junk] < distance or (row[junk] == distance and junk < ids[m]):
                    own_ranks[m] -= 1


@compiled
def _count_nearer(row, distance, index):
    """Counts values before `distance` at `index`: smaller, or equal and earlier."""
    nearer = np.int32(0)
    earlier, later = row[:index], row[index + 1 :]  # slices are read without checks
    for j in range(earlier.size):
        nearer = np.int32(nearer + (earlier[j] <= distance))
    for j in range(later.size):
        nearer = np.int32(nearer + (later[j] < distance))
    return nearer
