"""Scores by the cameras of the query and of the gallery."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import retrieval_reference
from topdb_tf.retrieval.camera_pairs import camera_pair_scores
from topdb_tf.retrieval.distances import pairwise_distances
from topdb_tf.retrieval.features import RetrievalSet


def hand_set():
    # On a line. Queries: person 1 at 0 and person 2 at 10, both by camera 1; person 1
    # at 4 by camera 2. Gallery by camera 2: person 2 at 1, person 1 at 2, person 2 at
    # 12. Gallery by camera 3: person 1 at 5, person 3 at 9. By camera 1: person 1 at 0.
    queries, gallery = [[0.0], [10.0], [4.0]], [[1.0], [2.0], [12.0], [5.0], [9.0], [0]]
    return RetrievalSet(
        np.array(queries),
        np.array(gallery),
        *map(np.array, ([1, 2, 1], [2, 1, 2, 1, 3, 1])),
        *map(np.array, ([1, 1, 2], [2, 2, 2, 3, 3, 1])),
    )


def random_set(seed, *, num_queries=30, num_gallery=60):
    rng = np.random.default_rng(seed)
    return RetrievalSet(
        rng.integers(0, 4, (num_queries, 2)).astype("float32"),  # many ties
        rng.integers(0, 4, (num_gallery, 2)).astype("float32"),
        rng.integers(-1, 6, num_queries),
        rng.integers(-1, 6, num_gallery),
        rng.integers(2, 5, num_queries),
        rng.integers(3, 7, num_gallery),
    )


def cell_of_reference(images, distances, query_camid, gallery_camid, ignore_cameras):
    rows = np.flatnonzero(images.query_camids == query_camid)
    columns = np.flatnonzero(images.gallery_camids == gallery_camid)
    identities = zip(images[2:], (rows, columns) * 2, strict=True)
    arrays = [distances[np.ix_(rows, columns)], *(ids[own] for ids, own in identities)]
    scores = retrieval_reference(*arrays, ignore_cameras=ignore_cameras)
    if not scores["first"]:
        return np.nan, np.nan, 0
    return scores["cmc"][0], np.mean(scores["ap"]), len(scores["first"])


def test_cells_by_hand():
    # Camera 1 among camera 2: the query at 0 finds person 2 first, its match second
    # (AP 1/2); the one at 10 finds its match at 12 first, the other, at 1, last (AP of
    # matches at ranks 1 and 3: (1 + 2/3) / 2 = 5/6). Among camera 3 the query at 0 has
    # its match first, and the one at 10 has none. Camera 2 among camera 3: match first;
    # among camera 1: the only image is the match.
    scores = camera_pair_scores(hand_set())
    nan = np.nan
    assert scores.camids.tolist() == [1, 2, 3]
    counts = [[0, 2, 1], [1, 0, 1], [0, 0, 0]]
    assert scores.num_valid_queries.tolist() == counts
    np.testing.assert_array_equal(
        scores.rank_1, [[nan, 0.5, 1], [1, nan, 1], [nan, nan, nan]]
    )
    np.testing.assert_allclose(
        scores.mean_ap, [[nan, 2 / 3, 1], [1, nan, 1], [nan, nan, nan]]
    )


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 2**32), st.booleans(), st.sampled_from([1, 1 << 20]))
def test_every_cell_is_that_of_a_slow_ranking(seed, ignore_cameras, memory):
    images = random_set(seed)
    options = {"ignore_cameras": ignore_cameras, "memory": memory}
    scores = camera_pair_scores(images, **options)
    distances = pairwise_distances(*images[:2])
    for row, query_camid in enumerate(scores.camids):
        for column, gallery_camid in enumerate(scores.camids):
            expected = cell_of_reference(
                images, distances, query_camid, gallery_camid, ignore_cameras
            )
            cell = [array[row, column] for array in scores[1:4]]
            np.testing.assert_allclose(cell, expected, rtol=1e-12)


def test_the_order_of_cameras_in_the_gallery_does_not_matter():
    images = random_set(3)
    order = np.argsort(-images.gallery_camids, kind="stable")
    turned = images._replace(
        gallery_features=images.gallery_features[order],
        gallery_pids=images.gallery_pids[order],
        gallery_camids=images.gallery_camids[order],
    )
    for one, other in zip(
        camera_pair_scores(images), camera_pair_scores(turned), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_progress_ends_with_all_distances():
    reports = []
    camera_pair_scores(random_set(1), progress=lambda *report: reports.append(report))
    assert reports[-1] == (30 * 60, 30 * 60)
    assert reports == sorted(reports)


def test_what_does_not_fit_is_refused():
    images = hand_set()
    with pytest.raises(ValueError, match="`metric` must be one of"):
        camera_pair_scores(images, metric="manhattan")
    with pytest.raises(ValueError, match="one entry an image"):
        camera_pair_scores(images._replace(query_camids=np.array([1])))


def test_distances_that_rounding_decides_are_told():
    near = np.ones((4, 2), "float32")
    images = RetrievalSet(near, near, *[np.arange(4)] * 2, *[[1] * 4, [2] * 4])
    assert "equally far" in camera_pair_scores(images).warning
    assert camera_pair_scores(hand_set()).warning is None
