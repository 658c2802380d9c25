"""The first images of every ranking."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import joint_distances, rerank_reference, retrieval_reference
from topdb_tf.retrieval.distances import pairwise_distances
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.protocol import Reranking, score
from topdb_tf.retrieval.rank_lists import ranked_lists

JUNK_PID = -1


def list_reference(distances, identities, *, k, ignore_cameras, with_junk):
    """Returns (index, distance, is match, is junk) of each query's first images."""
    query_pids, gallery_pids, query_camids, gallery_camids = identities
    lists = []
    for i in range(len(query_pids)):
        ranked = []
        for j in range(len(gallery_pids)):
            own = gallery_pids[j] == query_pids[i] != JUNK_PID
            junk = own and gallery_camids[j] == query_camids[i] and not ignore_cameras
            if gallery_pids[j] != JUNK_PID and (with_junk or not junk):
                ranked.append((distances[i, j], j, own and not junk, junk))
        ranked = [(j, d, match, junk) for d, j, match, junk in sorted(ranked)]
        lists.append((ranked + [(-1, np.nan, False, False)] * k)[:k])
    return [
        np.array(column)
        for column in zip(
            *(zip(*entries, strict=True) for entries in lists), strict=True
        )
    ]


@st.composite
def retrieval_sets(draw):
    num_queries, num_gallery = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    levels = draw(st.sampled_from([2, 1000]))  # two levels: many equal distances
    return RetrievalSet(
        rng.integers(0, levels, (num_queries, 2)).astype(np.float32),
        rng.integers(0, levels, (num_gallery, 2)).astype(np.float32),
        rng.integers(-1, 4, num_queries),
        rng.integers(-1, 4, num_gallery),
        rng.integers(0, 3, num_queries),
        rng.integers(0, 3, num_gallery),
    )


def clustered_set(seed=0, num_queries=30, num_gallery=90, num_pids=9):
    rng = np.random.default_rng(seed)
    pids = [rng.integers(0, num_pids, n) for n in (num_queries, num_gallery)]
    centers = rng.normal(size=(num_pids, 8))
    features = [centers[part] + rng.normal(size=(len(part), 8)) for part in pids]
    camids = [rng.integers(0, 3, n) for n in (num_queries, num_gallery)]
    return RetrievalSet(*features, *pids, *camids)


def test_a_list_by_hand():
    # From 0 on a line: junk at 1, pid 8 at 2, the match at 3, pid -1 at 4, the other
    # match at 5. Ranked: 8, match, match. AP (1/2 + 2/3) / 2 = 7/12.
    found = ranked_lists(
        RetrievalSet(
            np.array([[0.0]]),
            np.array([[5.0], [1.0], [4.0], [2.0], [3.0]]),
            np.array([7]),
            np.array([7, 7, -1, 8, 7]),
            np.array([1]),
            np.array([2, 1, 1, 1, 3]),
        ),
        metric="euclidean",
        k=4,
    )
    assert found.gallery_indices.tolist() == [[3, 4, 0, -1]]
    np.testing.assert_array_equal(found.distances, [[2, 3, 5, np.nan]])
    assert found.is_match.tolist() == [[False, True, True, False]]
    assert not found.is_junk.any()
    assert found.average_precision == pytest.approx(7 / 12)
    assert found.first_match_rank.tolist() == [2]


@settings(deadline=None, max_examples=150)
@given(retrieval_sets(), st.booleans(), st.booleans(), st.sampled_from([1, 3, 20]))
def test_lists_agree_with_sorting(retrieval_set, ignore_cameras, with_junk, k):
    distances = pairwise_distances(*retrieval_set[:2])
    identities = retrieval_set.identities
    expected = retrieval_reference(
        distances, *identities, ignore_cameras=ignore_cameras
    )
    if not expected["ap"]:
        with pytest.raises(ValueError, match="At least one query"):
            ranked_lists(retrieval_set, k=k, ignore_cameras=ignore_cameras)
        return
    options = {"k": k, "ignore_cameras": ignore_cameras, "with_junk": with_junk}
    found = ranked_lists(retrieval_set, **options)
    lists = list_reference(distances, identities, **options)
    for array, values in zip(found[:4], lists, strict=True):
        np.testing.assert_array_equal(array, values)
    valid = found.first_match_rank > 0
    np.testing.assert_allclose(found.average_precision[valid], expected["ap"])
    np.testing.assert_array_equal(found.first_match_rank[valid], expected["first"])
    assert np.isnan(found.average_precision[~valid]).all()


def test_reranked_lists_agree_with_the_reference():
    retrieval_set = clustered_set()
    queries, gallery, *identities = retrieval_set
    pairs = ((queries, gallery), (queries, queries), (gallery, gallery))
    distances = joint_distances(*(pairwise_distances(*pair) for pair in pairs))
    reranked = rerank_reference(distances, len(queries), 5, 3, 0.3)
    found = ranked_lists(retrieval_set, k=8, rerank=Reranking(5, 3, 0.3))
    indices, nearest, is_match, _ = list_reference(
        reranked, identities, k=8, ignore_cameras=False, with_junk=False
    )
    np.testing.assert_allclose(found.distances, nearest, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.gallery_indices, indices)
    np.testing.assert_array_equal(found.is_match, is_match)


@pytest.mark.parametrize("rerank", [None, Reranking()])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_scores_are_those_of_the_protocol(metric, rerank):
    retrieval_set = clustered_set(1)
    options = {"metric": metric, "rerank": rerank}
    scores = score(retrieval_set, **options).scores.queries
    found = ranked_lists(retrieval_set, k=3, **options)
    np.testing.assert_array_equal(found.average_precision, scores.average_precision)
    np.testing.assert_array_equal(found.first_match_rank, scores.first_match_rank)


def test_progress_ends_at_all():
    steps = []
    ranked_lists(clustered_set(), progress=lambda *step: steps.append(step))
    assert steps[-1][0] == steps[-1][1] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"k": 0}, "`k` must be at least 1.*k=0"), ({"metric": "dot"}, "metric='dot'")],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        ranked_lists(clustered_set(), **options)


def test_a_list_does_not_depend_on_the_other_queries():
    # 1,500 queries take several blocks.
    retrieval_set = clustered_set(2, num_queries=1500)
    found = ranked_lists(retrieval_set, k=4)
    some = slice(1300, 1400)
    gallery = retrieval_set.gallery_features, retrieval_set.gallery_pids
    alone = ranked_lists(
        RetrievalSet(
            retrieval_set.query_features[some],
            gallery[0],
            retrieval_set.query_pids[some],
            gallery[1],
            retrieval_set.query_camids[some],
            retrieval_set.gallery_camids,
        ),
        k=4,
    )
    for array, part in zip(found, alone, strict=True):
        np.testing.assert_array_equal(array[some], part)


def test_the_query_image_itself_is_junk_where_cameras_are_ignored():
    # Images of no camera have negative numbers: -1 is the query in the gallery again.
    found = ranked_lists(
        RetrievalSet(
            np.array([[0.0]]),
            np.array([[0.0], [1.0], [2.0]]),
            np.array([7]),
            np.array([7, 8, 7]),
            np.array([-1]),
            np.array([-1, -2, -3]),
        ),
        k=3,
        ignore_cameras=True,
        with_junk=True,
    )
    assert found.gallery_indices.tolist() == [[0, 1, 2]]
    assert found.is_junk.tolist() == [[True, False, False]]
    assert found.is_match.tolist() == [[False, False, True]]
    assert found.first_match_rank.tolist() == [2]
