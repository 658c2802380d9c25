from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from tests.reference import retrieval_reference
from topdb_tf.retrieval.ranking import retrieval_scores

GOLDEN = Path(__file__).parent / "golden" / "evaluation.npz"


@st.composite
def rankings(draw):
    num_queries, num_gallery = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    levels = draw(st.sampled_from([1, 3, 1000]))
    return (
        rng.integers(0, levels, (num_queries, num_gallery)).astype(np.float32),
        rng.integers(-1, 4, num_queries),
        rng.integers(-1, 4, num_gallery),
        rng.integers(0, 3, num_queries),
        rng.integers(0, 3, num_gallery),
    )


def random_ranking(seed, num_queries=40, num_gallery=300, num_pids=12):
    rng = np.random.default_rng(seed)
    return (
        rng.random((num_queries, num_gallery), dtype=np.float32),
        rng.integers(0, num_pids, num_queries),
        rng.integers(0, num_pids, num_gallery),
        rng.integers(0, 3, num_queries),
        rng.integers(0, 3, num_gallery),
    )


def test_scores_by_hand():
    # Ranked: junk (not counted), match, other, match, other. Ranks 1 and 3 of 4.
    # AP (1/1 + 2/3) / 2 = 5/6. Trapezoid ((1 + 1)/2 + (1/2 + 2/3)/2) / 2 = 19/24.
    # INP 2/3.
    scores = retrieval_scores(
        np.array([[0.2, 0.1, 0.3, 0.4, 0.5]]),
        np.array([7]),
        np.array([7, 7, 8, 7, 9]),
        np.array([1]),
        np.array([2, 1, 1, 3, 1]),
        max_rank=3,
    )
    assert scores.mean_ap == pytest.approx(5 / 6)
    assert scores.mean_ap_trapezoid == pytest.approx(19 / 24)
    assert scores.mean_inp == pytest.approx(2 / 3)
    assert scores.cmc.tolist() == [1, 1, 1]
    assert scores.queries.first_match_rank.tolist() == [1]


def test_golden_scores(golden):
    identities = [golden[key] for key in ("q_pids", "g_pids", "q_camids", "g_camids")]
    for kind in ("sq", "rerank_authors_sq_input", "rerank_true_euclid_input"):
        scores = retrieval_scores(golden[f"{kind}/dist"], *identities)
        assert scores.mean_ap == pytest.approx(float(golden[f"{kind}/mAP"]), abs=1e-12)
        np.testing.assert_array_equal(
            scores.cmc.astype("float32"), golden[f"{kind}/cmc"]
        )


@settings(deadline=None, max_examples=150)
@given(rankings(), st.booleans(), st.sampled_from([1, 4, 30]))
def test_agrees_with_sorting(arrays, ignore_cameras, max_rank):
    options = {"ignore_cameras": ignore_cameras, "max_rank": max_rank}
    expected = retrieval_reference(*arrays, **options)
    if not expected["ap"]:
        with pytest.raises(ValueError, match="At least one query"):
            retrieval_scores(*arrays, **options)
        return
    scores = retrieval_scores(*arrays, **options)
    queries = scores.queries
    found = queries.first_match_rank > 0
    assert scores.num_valid_queries == len(expected["ap"]) == found.sum()
    np.testing.assert_array_equal(queries.first_match_rank[found], expected["first"])
    np.testing.assert_allclose(queries.average_precision[found], expected["ap"])
    np.testing.assert_allclose(
        queries.average_precision_trapezoid[found], expected["trapezoid"]
    )
    np.testing.assert_allclose(queries.inverse_negative_penalty[found], expected["inp"])
    np.testing.assert_allclose(scores.cmc, expected["cmc"])
    np.testing.assert_allclose(scores.mean_ap, np.mean(expected["ap"]))


def test_agrees_with_scikit_learn_without_ties():
    distances, query_pids, gallery_pids, _, _ = arrays = random_ranking(3)
    scores = retrieval_scores(*arrays, ignore_cameras=True)
    expected = [
        average_precision_score(gallery_pids == pid, -row)
        for pid, row in zip(query_pids, distances, strict=True)
    ]
    np.testing.assert_allclose(scores.queries.average_precision, expected)


def test_order_of_gallery_and_queries_changes_nothing():
    distances, query_pids, gallery_pids, query_camids, gallery_camids = random_ranking(
        5
    )
    rng = np.random.default_rng(0)
    queries, gallery = rng.permutation(40), rng.permutation(300)
    plain = retrieval_scores(*random_ranking(5))
    moved = retrieval_scores(
        distances[queries][:, gallery],
        query_pids[queries],
        gallery_pids[gallery],
        query_camids[queries],
        gallery_camids[gallery],
    )
    for before, after in zip(plain.queries, moved.queries, strict=True):
        np.testing.assert_array_equal(before[queries], after)
    np.testing.assert_array_equal(plain.cmc, moved.cmc)


def test_equal_distances_keep_the_order_of_the_gallery():
    pids, camids = np.array([1]), np.array([1])
    for gallery_pids, first in (([1, 2, 3], 1), ([2, 1, 3], 2), ([2, 3, 1], 3)):
        scores = retrieval_scores(
            np.zeros((1, 3)), pids, np.array(gallery_pids), camids, np.full(3, 2)
        )
        assert scores.queries.first_match_rank.tolist() == [first]


def test_the_given_distances_are_left_alone():
    arrays = random_ranking(1)
    arrays[2][:50] = -1
    before = arrays[0].copy()
    retrieval_scores(*arrays)
    np.testing.assert_array_equal(arrays[0], before)


def test_cameras_that_look_constant_are_named():
    with pytest.raises(ValueError, match="every query's matches.*ignore-cameras"):
        retrieval_scores(np.zeros((1, 2)), *map(np.array, ([1], [1, 2], [0], [0, 0])))
    with pytest.raises(ValueError, match="no pid of a query occurs"):
        retrieval_scores(np.zeros((1, 2)), *map(np.array, ([5], [1, 2], [0], [0, 0])))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distances": np.zeros((1, 3))}, "one entry an image.*3 images, 2 pids"),
        ({"distances": np.zeros(2)}, "num_queries, num_gallery"),
        ({"distances": np.array([[0, np.nan]])}, "finite.*rows 0"),
        ({"gallery_pids": np.array([1.0, 2.5])}, "`gallery_pids`.*whole numbers"),
        ({"gallery_camids": np.array([1])}, "one entry an image"),
        ({"query_pids": np.array([], int), "query_camids": np.array([], int)}, "query"),
        ({"max_rank": 0}, "max_rank"),
    ],
)
def test_bad_input_is_refused(changes, message):
    arguments = {
        "distances": np.zeros((1, 2)),
        "query_pids": np.array([1]),
        "gallery_pids": np.array([1, 2]),
        "query_camids": np.array([1]),
        "gallery_camids": np.array([2, 2]),
    }
    with pytest.raises(ValueError, match=message):
        retrieval_scores(**{**arguments, **changes})


@pytest.fixture
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)
