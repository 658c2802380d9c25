from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import joint_distances, rerank_reference
from topdb_tf.retrieval.distances import FeatureDistances, pairwise_distances
from topdb_tf.retrieval.neighbors import nearest_neighbors
from topdb_tf.retrieval.parallel import Workers
from topdb_tf.retrieval.ranking import query_blocks
from topdb_tf.retrieval.reranking import RerankedDistances, Reranking, rerank_distances

GOLDEN = Path(__file__).parent / "golden" / "evaluation.npz"


@pytest.fixture
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def clustered_features(num_queries, num_gallery, dim=16, num_pids=12, seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((num_pids, dim))
    pids = rng.integers(0, num_pids, num_queries + num_gallery)
    features = centers[pids] + 0.7 * rng.standard_normal((len(pids), dim))
    features = features.astype(np.float32)
    return features[:num_queries], features[num_queries:]


def rerank_features(query, gallery, parameters, memory=1 << 20, num_threads=2):
    blocks = []
    with Workers(num_threads) as workers:
        source = FeatureDistances(query, gallery)
        source = RerankedDistances(source, parameters, workers=workers, memory=memory)
        for block in query_blocks(source, memory=memory):
            block.finish(0, len(block.distances))
            blocks.append(block.distances.copy())
    return np.concatenate(blocks)


def dense_reranking(query, gallery, parameters):
    joint = np.concatenate([query, gallery])
    options = parameters.k1, parameters.k2, parameters.lambda_value
    return rerank_reference(pairwise_distances(joint, joint), len(query), *options)


def test_two_images_by_hand():
    # k1 = 1, k2 = 1, lambda = 0.25; query 0 at 0, gallery 1 at 1 and 2 at 3, 3 at 3.5.
    # Nearest others: 0 -> 1, 1 -> 0, 2 -> 3, 3 -> 2, all mutual. Squared distances
    # from 0: 1, 9, 12.25; squared again over the largest 150.0625: 1/150.0625, ...
    # V(0) = {0, 1} and V(1) = {0, 1}; V(2) and V(3) share nothing with V(0).
    # round(1 / 2) + 1 = 1: the halved sets hold only the image itself, and join.
    # In row 1 the largest is 6.25 ** 2 = 39.0625.
    a, b = np.exp(-1 / 150.0625), np.exp(-1 / 39.0625)
    query = [1 / (1 + a), a / (1 + a)]
    match = [b / (1 + b), 1 / (1 + b)]
    shared = min(query[0], match[0]) + min(query[1], match[1])
    jaccard = 1 - shared / (2 - shared)
    expected = [
        0.75 * jaccard + 0.25 / 150.0625,
        0.75 + 0.25 * 81 / 150.0625,
        0.75 + 0.25,
    ]
    gallery = np.array([[1.0], [3.0], [3.5]], "float32")
    parameters = Reranking(k1=1, k2=1, lambda_value=0.25)
    distances = rerank_features(np.zeros((1, 1), "float32"), gallery, parameters)
    np.testing.assert_allclose(distances, [expected], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "prepare"),
    [
        ("rerank_authors_sq_input", lambda squared: squared),
        ("rerank_true_euclid_input", lambda squared: np.sqrt(np.maximum(squared, 0))),
    ],
)
def test_golden_matrices_are_met_bit_for_bit(golden, name, prepare):
    given = [prepare(golden[key]) for key in ("sq/dist", "dqq", "dgg")]
    np.testing.assert_array_equal(rerank_distances(*given), golden[f"{name}/dist"])


def test_golden_matrices_are_met_from_features(golden):
    distances = rerank_features(golden["qf"], golden["gf"], Reranking())
    expected = golden["rerank_authors_sq_input/dist"]
    np.testing.assert_allclose(distances, expected, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 5),
    st.integers(1, 25),
    st.integers(1, 3),
    st.integers(0, 3),
    st.sampled_from([(1, 1), (3, 2), (5, 9), (20, 6), (60, 40)]),
    st.integers(0, 2**32),
)
def test_agrees_with_the_dense_reference(
    num_queries, num_gallery, dim, largest, ks, seed
):
    # Small whole numbers: ties, duplicated images, zero features, k1 beyond N.
    rng = np.random.default_rng(seed)
    shape = num_queries + num_gallery, dim
    features = rng.integers(-largest, largest + 1, shape).astype(np.float32)
    query, gallery = features[:num_queries], features[num_queries:]
    parameters = Reranking(*ks, lambda_value=0.3)
    distances = rerank_features(query, gallery, parameters)
    expected = dense_reranking(query, gallery, parameters)
    np.testing.assert_array_equal(distances, expected)


@pytest.mark.parametrize("ks", [(20, 6), (7, 3), (40, 1), (3, 12)])
def test_equals_the_dense_reference_bit_for_bit(ks):
    query, gallery = clustered_features(40, 260)
    parameters = Reranking(*ks)
    expected = dense_reranking(query, gallery, parameters)
    for memory, num_threads in ((1 << 24, 2), (1 << 12, 3), (1 << 17, 1)):
        distances = rerank_features(query, gallery, parameters, memory, num_threads)
        np.testing.assert_array_equal(distances, expected)


def test_matrices_and_features_give_the_same():
    query, gallery = clustered_features(30, 100)
    given = [
        pairwise_distances(left, right)
        for left, right in ((query, gallery), (query, query), (gallery, gallery))
    ]
    distances = rerank_distances(*given)
    expected = rerank_features(query, gallery, Reranking())
    np.testing.assert_array_equal(distances, expected)
    joint = joint_distances(*given)
    np.testing.assert_array_equal(distances, rerank_reference(joint, len(query)))


def test_order_of_gallery_and_queries_changes_only_rounding():
    query, gallery = clustered_features(40, 260)
    rng = np.random.default_rng(1)
    rows, columns = rng.permutation(40), rng.permutation(260)
    plain = rerank_features(query, gallery, Reranking())
    moved = rerank_features(query[rows], gallery[columns], Reranking())
    np.testing.assert_allclose(moved, plain[rows][:, columns], rtol=0, atol=1e-6)


def test_scale_of_the_features_changes_only_rounding():
    query, gallery = clustered_features(40, 260)
    plain = rerank_features(query, gallery, Reranking())
    doubled = rerank_features(2 * query, 2 * gallery, Reranking())
    np.testing.assert_array_equal(plain, doubled)


def test_neighbors_are_those_of_a_full_sort():
    query, gallery = clustered_features(30, 200)
    query[3] = gallery[17] = gallery[5]
    joint = np.concatenate([query, gallery])
    squares = np.square(pairwise_distances(joint, joint))
    order = np.argsort(squares, axis=1, kind="stable")
    for memory in (1 << 10, 1 << 15, 1 << 24):
        with Workers(2) as workers:
            source = FeatureDistances(query, gallery)
            found = nearest_neighbors(source, 9, workers=workers, memory=memory)
        np.testing.assert_array_equal(found.ids, order[:, :9])
        np.testing.assert_array_equal(
            found.squares, np.take_along_axis(squares, order[:, :9], axis=1)
        )
        np.testing.assert_array_equal(found.largest, squares.max(axis=1))


def test_distances_whose_squares_overflow_are_refused():
    gallery = np.array([[1e12], [3e12]], np.float32)
    with pytest.raises(ValueError, match="Squares of distances must fit in float32"):
        rerank_features(np.zeros((1, 1), np.float32), gallery, Reranking())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"k1": 0}, "k1=0"),
        ({"k2": 0}, "k2=0"),
        ({"lambda_value": 1.5}, "lambda_value=1.5"),
        ({"input": "cubed"}, "input='cubed'"),
    ],
)
def test_bad_parameters_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        Reranking(**parameters)
