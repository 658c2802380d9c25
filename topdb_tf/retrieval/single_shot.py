"""The classic protocol of CUHK03: one gallery image a person, drawn repeatedly."""

from dataclasses import dataclass

import numpy as np

from topdb_tf.retrieval.identities import JUNK_PID
from topdb_tf.retrieval.matches import MatchIndex
from topdb_tf.retrieval.parallel import Workers
from topdb_tf.retrieval.ranking import QueryBlock, QueryScores


@dataclass(frozen=True)
class SingleShot:
    """How often the gallery is drawn, and from which seed.

    Args:
        num_draws: Number of galleries over which scores are averaged, at least 1.
        seed: Seed of the draws.

    Raises:
        ValueError: If `num_draws` is below 1.
    """

    num_draws: int = 10
    seed: int = 0

    def __post_init__(self):
        if self.num_draws < 1:
            raise ValueError(
                f"`num_draws` must be at least 1. Received: num_draws={self.num_draws}"
            )


class DrawnRanks:
    """Scores queries against galleries of one image a person.

    For each draw the gallery images are put in random order, and each person is
    represented by their first image; the query's own person by the first that is a
    match, so that a draw never loses a query. Equal distances keep the order of the
    gallery.

    Source: Li et al., DeepReID, CVPR 2014 (protocol of CUHK03).
    """

    def __init__(self, index: MatchIndex, single_shot: SingleShot):
        self._index = index
        self._gallery_pids = index.identities.gallery_pids
        self._seed, self._num_draws = single_shot.seed, single_shot.num_draws

    def __call__(self, block: QueryBlock, workers: Workers) -> QueryScores:
        """Returns the scores of the queries of one block, one column a draw."""
        distances = block.distances
        workers.run(block.finish, len(distances))
        matches = self._index.matches(block.queries)
        rng = np.random.default_rng(self._seed)
        first_rank = np.zeros((len(distances), self._num_draws), np.int64)
        has_match = np.diff(matches.match_ends) > 0
        starts = matches.match_ends[:-1][has_match]
        pids = self._index.identities.query_pids[block.queries][has_match]
        for draw in range(self._num_draws if len(starts) else 0):
            order = rng.permutation(distances.shape[1])
            places = np.empty_like(order)
            places[order] = np.arange(len(order))
            right = order[np.minimum.reduceat(places[matches.match_ids], starts)]
            nearer = self._count(distances[has_match], pids, right, order)
            first_rank[has_match, draw] = 1 + nearer
        precision = np.full(first_rank.shape, np.nan)
        np.divide(1, first_rank, out=precision, where=first_rank > 0)
        before = np.where(first_rank == 1, 1, 0)
        trapezoid = (precision + before) / 2
        return QueryScores(precision, trapezoid, precision, first_rank)

    def _count(self, distances, pids, right, order):
        """Counts the drawn images of other persons that are nearer than the right."""
        _, firsts = np.unique(self._gallery_pids[order], return_index=True)
        drawn = order[firsts]
        drawn = drawn[self._gallery_pids[drawn] != JUNK_PID]
        others = distances[:, drawn]
        limits = np.take_along_axis(distances, right[:, None], axis=1)
        nearer = others < limits
        nearer |= (others == limits) & (drawn < right[:, None])
        nearer &= self._gallery_pids[drawn] != pids[:, None]
        return nearer.sum(axis=1)
