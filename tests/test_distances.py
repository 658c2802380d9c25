from pathlib import Path

import numpy as np
import pytest

from topdb_tf.retrieval.distances import (
    FeatureDistances,
    MatrixDistances,
    pairwise_distances,
)
from topdb_tf.retrieval.parallel import Buffer, Workers

GOLDEN = Path(__file__).parent / "golden" / "evaluation.npz"
QUERY = np.array([[1.0, 0.0], [0.0, 0.0]])
GALLERY = np.array([[0.0, 2.0], [3.0, 0.0]])


def random_features(num_images, dim, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((num_images, dim), dtype=np.float32)


def test_metrics_by_hand():
    # From (1, 0): to (0, 2) squared 1 + 4 = 5, to (3, 0) squared 4. The cosines are 0
    # and 1. The zero vector has squared distances 4 and 9, and no direction.
    squared = pairwise_distances(QUERY, GALLERY)
    np.testing.assert_array_equal(squared, np.array([[5, 4], [4, 9]], "float32"))
    euclidean = pairwise_distances(QUERY, GALLERY, metric="euclidean")
    np.testing.assert_allclose(euclidean, [[5**0.5, 2], [2, 3]], rtol=1e-7)
    cosine = pairwise_distances(QUERY, GALLERY, metric="cosine")
    np.testing.assert_array_equal(cosine, np.array([[1, 0], [1, 1]], "float32"))
    assert squared.dtype == euclidean.dtype == cosine.dtype == np.float32


def test_golden_distances(golden):
    squared = pairwise_distances(golden["qf"], golden["gf"])
    np.testing.assert_allclose(squared, golden["sq/dist"], rtol=1e-6)
    cosine = pairwise_distances(golden["qf"], golden["gf"], metric="cosine")
    np.testing.assert_allclose(cosine, golden["cosine/dist"], atol=1e-6)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine"])
def test_agrees_with_double_precision(metric):
    query, gallery = random_features(7, 33), random_features(9, 33, seed=1)
    wide, tall = query.astype("float64")[:, None], gallery.astype("float64")[None]
    expected = np.square(wide - tall).sum(axis=2)
    if metric == "euclidean":
        expected = np.sqrt(expected)
    if metric == "cosine":
        norms = np.linalg.norm(wide, axis=2) * np.linalg.norm(tall, axis=2)
        expected = 1 - (wide * tall).sum(axis=2) / norms
    distances = pairwise_distances(query, gallery, metric=metric)
    np.testing.assert_allclose(distances, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dim", [1, 5, 64, 700])
def test_a_distance_does_not_depend_on_its_block(dim):
    query, gallery = random_features(90, dim), random_features(310, dim, seed=1)
    whole = pairwise_distances(query, gallery)
    for height, width in ((1, 1), (1, 310), (90, 1), (2, 7), (17, 64), (90, 100)):
        block = pairwise_distances(query[-height:], gallery[:width])
        np.testing.assert_array_equal(block, whole[-height:, :width])


def test_a_distance_does_not_depend_on_its_direction():
    query, gallery = random_features(60, 48), random_features(200, 48, seed=1)
    for metric in ("sqeuclidean", "euclidean", "cosine"):
        there = pairwise_distances(query, gallery, metric=metric)
        back = pairwise_distances(gallery, query, metric=metric)
        np.testing.assert_array_equal(there, back.T)


@pytest.mark.parametrize("from_matrices", [False, True])
def test_blocks_of_any_images(from_matrices):
    query, gallery = random_features(5, 8), random_features(7, 8, seed=1)
    joint = np.concatenate([query, gallery])
    expected = pairwise_distances(joint, joint)
    source = FeatureDistances(query, gallery)
    if from_matrices:
        source = MatrixDistances(expected[:5, 5:], expected[:5, :5], expected[5:, 5:])
    buffer = Buffer(144)
    selections = [slice(0, 5), slice(5, 12), slice(3, 8), np.array([0, 4, 5, 11])]
    with Workers(2) as workers:
        for rows in selections:
            for columns in selections:
                block = source.distances(rows, columns, buffer, workers)
                np.testing.assert_array_equal(block, expected[rows][:, columns])


def test_identical_images_are_at_no_euclidean_distance_below_zero():
    features = random_features(20, 100) * 1000
    distances = pairwise_distances(features, features, metric="euclidean")
    assert np.isfinite(distances).all()
    assert distances.min() >= 0


def test_half_and_double_precision_are_accepted():
    expected = pairwise_distances(QUERY, GALLERY)
    for dtype in ("float16", "float32", "float64"):
        distances = pairwise_distances(QUERY.astype(dtype), GALLERY.astype(dtype))
        np.testing.assert_array_equal(distances, expected)


def test_rows_with_nan_or_overflow_are_named():
    for value in (np.nan, np.inf, 1e30, 1e300):
        gallery = np.zeros((40, 2))
        gallery[3:33, 1] = value
        with pytest.raises(ValueError, match="30 rows.*gallery_features, rows 3, 4, "):
            pairwise_distances(QUERY, gallery)
    with pytest.raises(ValueError, match="float16.*query_features, rows 0"):
        pairwise_distances(np.full((1, 2), np.inf, "float16"), GALLERY)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"query_features \(2, 2\), gallery.*\(2, 3\)"):
        pairwise_distances(QUERY, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="`metric` must be one of.*'manhattan'"):
        pairwise_distances(QUERY, GALLERY, metric="manhattan")
    with pytest.raises(ValueError, match="`gallery_gallery` must have the shape"):
        MatrixDistances(np.zeros((2, 3)), np.zeros((2, 2)), np.zeros((2, 2)))


@pytest.fixture
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def exact_squares(query, gallery):
    query, gallery = (np.asarray(part, np.longdouble) for part in (query, gallery))
    return np.square(query[:, None] - gallery[None]).sum(axis=2)


def directions(features):
    features = np.asarray(features, np.longdouble)
    features = features / np.abs(features).max(axis=1, keepdims=True)
    return features / np.sqrt(np.square(features).sum(axis=1, keepdims=True))


def order(distances):
    return np.argsort(distances, axis=1, kind="stable").tolist()


@pytest.mark.parametrize(
    ("scale", "offset"),
    [(1, 1e2), (1, 1e4), (1, 1e8), (1, -1e9), (1e-4, 1), (1e-9, 1), (1e-7, 1e-3)],
)
def test_what_all_features_have_in_common_hides_no_difference(scale, offset):
    query, gallery = (
        scale * random_features(count, 8, seed=count).astype(float) + offset
        for count in (20, 50)
    )
    expected = exact_squares(query, gallery)
    squares = pairwise_distances(query, gallery)
    np.testing.assert_allclose(squares, expected.astype(float), rtol=2e-5)
    assert order(squares) == order(expected)
    cosine = pairwise_distances(query, gallery, metric="cosine")
    expected = exact_squares(directions(query), directions(gallery)) / 2
    np.testing.assert_allclose(cosine, expected.astype(float), rtol=1e-4)
    assert order(cosine) == order(expected)


def test_a_common_offset_of_one_place_hides_no_difference():
    query, gallery = random_features(20, 8), random_features(50, 8, seed=1)
    query[:, 3] += 5000
    gallery[:, 3] += 5000
    distances = pairwise_distances(query, gallery, metric="euclidean")
    assert order(distances) == order(exact_squares(query, gallery))


@pytest.mark.parametrize("scale", [1e-310, 1e-25, 1e10, 1e20, 1e200])
def test_cosine_is_the_same_at_any_scale(scale):
    query, gallery = (random_features(count, 8).astype(float) for count in (20, 50))
    gallery[7] = 0
    plain = pairwise_distances(query, gallery, metric="cosine")
    scaled = pairwise_distances(query * scale, gallery * scale, metric="cosine")
    np.testing.assert_allclose(scaled, plain, atol=1e-6)
    assert (scaled[:, 7] == 1).all()


def test_squares_that_float32_cannot_hold_are_refused():
    query, gallery = random_features(20, 8), random_features(50, 8).astype(float)
    for scale in (1e-25, 1e-300):
        with pytest.raises(ValueError, match="Multiply them all by the same large"):
            pairwise_distances(query * scale, gallery * scale)
    squares = pairwise_distances(query * 1e-6, gallery * 1e-6)
    expected = pairwise_distances(query, gallery)
    np.testing.assert_allclose(squares * 1e12, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("metric", ["sqeuclidean", "cosine"])
@pytest.mark.parametrize("value", [0.1, 3.3, 1e-12, 1e12])
def test_equal_features_are_doubted(metric, value):
    equal = FeatureDistances(np.full((6, 8), value), np.full((24, 8), value), metric)
    assert equal.doubt().startswith("100.0% of the pairs of gallery images are equally")


def test_only_distances_that_tell_little_are_doubted():
    query, gallery = random_features(40, 64), random_features(300, 64, seed=1)
    for metric in ("sqeuclidean", "cosine"):
        for offset in (0, 3, 1e4):
            assert FeatureDistances(query + offset, gallery, metric).doubt() is None
        with_outlier = np.concatenate([gallery, np.full((1, 64), 1e6)])
        assert FeatureDistances(query, with_outlier, metric).doubt() is None
        copies = np.concatenate([gallery, gallery[:5]])
        assert FeatureDistances(query, copies, metric).doubt() is None
    assert FeatureDistances(query[:1], gallery[:1]).doubt() is None  # nothing to order
    by_camera = gallery + 1e5 * (np.arange(300) % 2)[:, None]
    assert "rounding decides" in FeatureDistances(query, by_camera).doubt()
    half_zero = gallery * (np.arange(300) % 2)[:, None]
    assert "equally far" in FeatureDistances(query, half_zero, "cosine").doubt()


def test_features_of_no_number_are_refused():
    with pytest.raises(ValueError, match="at least one number an image"):
        pairwise_distances(np.empty((2, 0), "float32"), np.empty((3, 0), "float32"))
