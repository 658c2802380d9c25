"""Scores by the camera of the query and the camera of the gallery."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from topdb_tf.progress import adding_up
from topdb_tf.retrieval.features import RetrievalSet, checked_distances
from topdb_tf.retrieval.matches import MatchIndex
from topdb_tf.retrieval.parallel import Workers
from topdb_tf.retrieval.ranking import BLOCK_BYTES, CountedRanks, joined, query_blocks


class CameraPairScores(NamedTuple):
    """Scores of the queries of each camera among the images of each camera.

    Rows are the cameras of the queries, columns those of the gallery, both in the
    order of `camids`, which is sorted. Scores are those of the valid queries, which
    have a match by that camera, and NaN where there is none. The warning says why the
    rankings mean little, if they do.
    """

    camids: np.ndarray
    rank_1: np.ndarray
    mean_ap: np.ndarray
    num_valid_queries: np.ndarray
    warning: str | None = None


def camera_pair_scores(
    retrieval_set: RetrievalSet,
    *,
    metric: str = "sqeuclidean",
    ignore_cameras: bool = False,
    memory: int = BLOCK_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> CameraPairScores:
    """Ranks the gallery of each camera alone, and scores by the camera of the query.

    A cell counts the queries of camera `a`, ranked against the gallery images of
    camera `b` and no others. A query is valid there if camera `b` has an image of its
    person; the others do not count. As in the whole ranking, images of pid -1 are not
    ranked, nor are those of the query's own person by its own camera: so the diagonal
    has no valid query, unless cameras are ignored. Images of other persons by the own
    camera would be ranked, but there is nothing to find.

    A cell is an easier task than the whole gallery, as there are fewer images to be
    confused with; cells of galleries of different sizes are to be compared with care.
    Distances are computed once, some queries at a time.

    Args:
        retrieval_set: Features and identities.
        metric: One of `topdb_tf.retrieval.distances.METRICS`.
        ignore_cameras: Whether matches by the query's own camera count as well.
        memory: Bytes that a block of distances may take.
        progress: Called with the number of distances done and of all.

    Raises:
        ValueError: If the input does not fit together.
    """
    warning = checked_distances(retrieval_set, metric).doubt()
    query_camids = retrieval_set.query_camids
    gallery_camids = retrieval_set.gallery_camids
    camids = np.union1d(query_camids, gallery_camids)
    sums = np.zeros((3, len(camids), len(camids)))
    advance = adding_up(progress, len(query_camids) * len(gallery_camids))
    rows = np.searchsorted(camids, query_camids)
    for column, camid in enumerate(camids):
        of_camera = retrieval_set.take(slice(None), gallery_camids == camid)
        if not len(of_camera.gallery_pids):
            continue
        source = checked_distances(of_camera, metric)
        index = MatchIndex(of_camera.identities, ignore_cameras=ignore_cameras)
        judge = CountedRanks(index)
        blocks = query_blocks(source, memory=memory, advance=advance)
        with Workers() as workers:
            queries = joined([judge(block, workers) for block in blocks])
        valid = queries.first_match_rank > 0
        for place, values in enumerate(
            (valid, queries.first_match_rank == 1, queries.average_precision)
        ):
            sums[place, :, column] = np.bincount(
                rows[valid], weights=values[valid], minlength=len(camids)
            )
    counts = sums[0].astype(np.int64)
    means = np.full((2, *counts.shape), np.nan)
    np.divide(sums[1:], counts, out=means, where=counts > 0)
    return CameraPairScores(camids, *means, counts, warning)
