"""The first images of every query's ranking, with the scores of the whole ranking."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.matches import MatchIndex
from topdb_tf.retrieval.parallel import compiled
from topdb_tf.retrieval.protocol import Reranking, distance_blocks, ranked_distances
from topdb_tf.retrieval.ranking import CountedRanks, joined


class RankLists(NamedTuple):
    """The first `k` gallery images of every query, nearest first.

    Where fewer than `k` images are ranked, the places that are left have index -1,
    distance NaN, and are neither match nor junk.

    Args:
        gallery_indices: Places in the gallery, int64 of shape `(num_queries, k)`.
        distances: float32 of the same shape; smaller is more alike.
        is_match: Whether they show the query's person, bool of the same shape.
        is_junk: Whether they show the query's person seen by the query's own camera,
            which the protocol leaves out; false everywhere unless asked for.
        average_precision: Mean of the precision at each match of the whole ranking,
            shape `(num_queries,)`; NaN for a query without a match.
        first_match_rank: Rank of the first match, from 1, shape `(num_queries,)`; 0
            without a match.
    """

    gallery_indices: np.ndarray
    distances: np.ndarray
    is_match: np.ndarray
    is_junk: np.ndarray
    average_precision: np.ndarray
    first_match_rank: np.ndarray


class RankedImage(NamedTuple):
    """One image of a ranked list, by its place in the gallery, and what it is.

    The kind is `right` for the query's person, `wrong` for another one, and `junk` for
    the query's person seen by the query's own camera, which has no rank.
    """

    index: int
    kind: str
    rank: int | None
    distance: float


def images_of_list(
    lists: RankLists, query: int, *, most_ranked: int | None = None
) -> list[RankedImage]:
    """Returns the images of one query's list, nearest first.

    The list ends after the `most_ranked` images that are ranked; junk comes on top.
    """
    images, rank = [], 0
    for place, index in enumerate(lists.gallery_indices[query].tolist()):
        if index < 0 or rank == most_ranked:
            break
        distance = float(lists.distances[query, place])
        if lists.is_junk[query, place]:
            images.append(RankedImage(index, "junk", None, distance))
            continue
        rank += 1
        kind = "right" if lists.is_match[query, place] else "wrong"
        images.append(RankedImage(index, kind, rank, distance))
    return images


LOWEST, WRONG = "lowest AP", "wrong at rank 1"
HIGHEST, DRAWN = "highest AP", "drawn at random"
"""Why a query is shown."""


def chosen_queries(
    lists: RankLists,
    *,
    lowest: int = 0,
    wrong: int = 0,
    highest: int = 0,
    in_all: int = 0,
    seed: int = 1,
) -> dict[int, str]:
    """Returns the places of some queries with a match, and of each why it is there.

    A query is there once, for the first of the reasons in the order below. Which of
    several of the same average precision are taken is drawn.

    `lowest` and `highest` count those of the lowest and the highest average precision,
    `wrong` those, drawn, whose first image is wrong; others are drawn until there are
    `in_all`.
    """
    precision, first = lists.average_precision, lists.first_match_rank
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(np.flatnonzero(first > 0))
    order = drawn[np.argsort(precision[drawn], kind="stable")]
    reasons = {}
    for reason, pool, number in (
        (LOWEST, order, lowest),
        (WRONG, drawn[first[drawn] > 1], wrong),
        (HIGHEST, order[::-1], highest),
    ):
        free = [query for query in pool.tolist() if query not in reasons]
        reasons |= dict.fromkeys(free[:number], reason)
    free = [query for query in drawn.tolist() if query not in reasons]
    return reasons | dict.fromkeys(free[: max(in_all - len(reasons), 0)], DRAWN)


def ranked_lists(
    retrieval_set: RetrievalSet,
    *,
    metric: str = "sqeuclidean",
    k: int = 10,
    rerank: Reranking | None = None,
    ignore_cameras: bool = False,
    with_junk: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> RankLists:
    """Returns the first images of every query's ranking, ranked and scored as `score`.

    Args:
        retrieval_set: Features and identities.
        metric: `"sqeuclidean"`, `"euclidean"` or `"cosine"`.
        k: Length of the lists, at least 1.
        rerank: Parameters of the re-ranking. Defaults to none.
        ignore_cameras: Whether matches by the query's own camera count as well.
        with_junk: Whether images of the query's person by the query's own camera are
            listed too, marked as junk. They have no rank and change no score.
        progress: Called with the work done and all of it, in arbitrary units.

    Raises:
        ValueError: If `k` is below 1, or as `topdb_tf.retrieval.protocol.score`.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.retrieval.features import RetrievalSet
        >>> from topdb_tf.retrieval.rank_lists import ranked_lists
        >>> found = ranked_lists(RetrievalSet(
        ...     np.array([[0.0]]), np.array([[3.0], [1.0], [2.0]]),
        ...     np.array([7]), np.array([8, 9, 7]),
        ...     np.array([1]), np.array([2, 2, 2])), k=2)
        >>> found.gallery_indices, found.is_match, found.average_precision
        (array([[1, 2]]), array([[False,  True]]), array([0.5]))
    """
    if k < 1:
        raise ValueError(f"`k` must be at least 1. Received: {k=}")
    source = ranked_distances(retrieval_set, metric, rerank)
    blocks = distance_blocks(source, rerank=rerank, progress=progress)
    index = MatchIndex(retrieval_set.identities, ignore_cameras=ignore_cameras)
    index.check_any()
    judge = CountedRanks(index)
    shape = len(retrieval_set.query_pids), k
    nearest = np.full(shape, -1, np.int64), np.full(shape, np.inf, np.float32)
    kinds, scores = np.zeros((2, *shape), bool), []
    for block, workers in blocks:
        scores.append(judge(block, workers))  # finishes the rows
        rows, to_gallery = block.queries, block.distances
        matches = index.matches(rows)
        _leave_out(to_gallery, matches, with_junk)
        part = [array[rows] for array in nearest]
        workers.run(_keep_nearest, len(to_gallery), to_gallery, *part)
        kinds[:, rows] = _matches_and_junk(part[0], matches, to_gallery.shape[1])
    ids, distances = nearest
    distances[ids < 0] = np.nan
    queries = joined(scores)
    return RankLists(
        ids, distances, *kinds, queries.average_precision, queries.first_match_rank
    )


def _leave_out(block, matches, with_junk):
    block[:, matches.excluded] = np.inf
    if not with_junk:
        owners = np.repeat(np.arange(len(block)), np.diff(matches.junk_ends))
        block[owners, matches.junk_ids] = np.inf


def _matches_and_junk(ids, matches, num_gallery):
    """Returns which listed images are matches, and which are junk."""
    pairs = np.arange(len(ids))[:, None] * num_gallery + ids
    found = []
    for ends, own in (
        (matches.match_ends, matches.match_ids),
        (matches.junk_ends, matches.junk_ids),
    ):
        owners = np.repeat(np.arange(len(ids)), np.diff(ends))
        found.append((ids >= 0) & np.isin(pairs, owners * num_gallery + own))
    return found


@compiled
def _keep_nearest(start, stop, block, ids, distances):
    """Writes the nearest images of the rows, equal ones in the gallery's order."""
    last = ids.shape[1] - 1
    for i in range(start, stop):
        row, own_ids, nearest = block[i], ids[i], distances[i]
        for j in range(row.size):
            if row[j] < nearest[last]:
                place = last
                while place > 0 and nearest[place - 1] > row[j]:
                    own_ids[place], nearest[place] = (
                        own_ids[place - 1],
                        nearest[place - 1],
                    )
                    place -= 1
                own_ids[place], nearest[place] = j, row[j]
