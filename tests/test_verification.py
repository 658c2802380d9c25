import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from topdb_tf.retrieval.distances import MatrixDistances, pairwise_distances
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.identities import Identities
from topdb_tf.retrieval.matches import MatchIndex
from topdb_tf.retrieval.pairs.pair_counts import PairDistances
from topdb_tf.retrieval.pairs.verification import (
    equal_error_rate,
    roc_curve,
    roc_curve_of,
    threshold_at_fpr,
    tpr_at_fpr,
)


def roc_curve_of_distances(distances, *identities, ignore_cameras=False):
    index = MatchIndex(Identities(*identities), ignore_cameras=ignore_cameras)
    return roc_curve_of(MatrixDistances(distances), index)


def hand_curve():
    # Genuine at 1 and 3, impostors at 2, 3 and 4; the pair at 0 is by one camera.
    return roc_curve_of_distances(
        np.array([[1.0, 3.0, 2.0, 3.0, 4.0, 0.0]]),
        np.array([1]),
        np.array([1, 1, 2, 3, 2, 1]),
        np.array([1]),
        np.array([2, 3, 1, 1, 1, 1]),
    )


def random_pairs(seed, levels, num_queries=12, num_gallery=50):
    rng = np.random.default_rng(seed)
    return (
        rng.integers(0, levels, (num_queries, num_gallery)) / np.float32(16),
        rng.integers(-1, 5, num_queries),
        rng.integers(-1, 5, num_gallery),
        rng.integers(0, 3, num_queries),
        rng.integers(0, 3, num_gallery),
    )


def flat_pairs(distances, query_pids, gallery_pids, query_camids, gallery_camids):
    """Returns for scikit-learn which pairs are genuine, and their scores."""
    same = query_pids[:, None] == gallery_pids
    kept = ~(same & (query_camids[:, None] == gallery_camids))
    kept &= (query_pids[:, None] != -1) & (gallery_pids != -1)
    return same[kept], -distances[kept]


def test_curve_by_hand():
    curve = hand_curve()
    assert curve.thresholds.tolist() == [1, 3]
    assert curve.true_positives.tolist() == [1, 2]
    assert curve.false_positives.tolist() == [0, 2]
    assert curve.false_positives_below.tolist() == [0, 1]
    assert (curve.num_genuine, curve.num_impostors) == (2, 3)


def test_rates_by_hand():
    # Up to a distance of 1 half of the genuine pairs and no impostor; up to 3 all
    # genuine pairs and two of three impostors.
    curve = hand_curve()
    assert [tpr_at_fpr(curve, fpr) for fpr in (0, 0.5, 0.7, 1)] == [0.5, 0.5, 1, 1]
    assert [threshold_at_fpr(curve, fpr) for fpr in (0, 0.7)] == [1, 3]
    # Joined points: (1/3, 1/2) to (2/3, 1); 1 - fpr = tpr at fpr = 0.4.
    rate, threshold = equal_error_rate(curve)
    assert rate == pytest.approx(0.4)
    assert threshold == 3


def test_an_impostor_nearer_than_all_leaves_no_threshold():
    curve = roc_curve_of_distances(
        np.array([[1.0, 0.5]]), *map(np.array, ([1], [1, 2], [1], [2, 2]))
    )
    assert tpr_at_fpr(curve, 0.5) == 0
    assert threshold_at_fpr(curve, 0.5) == -np.inf


def test_distances_within_one_cell_of_a_histogram_are_told_apart():
    # Squares 1 (genuine) and 1.0001 (impostor): a histogram has both in one cell.
    images = RetrievalSet(
        np.array([[0.0]]),
        np.array([[1.0], [1.00005], [2.0]]),
        *map(np.array, ([1], [1, 2, 2], [1], [2, 2, 2])),
    )
    curve = roc_curve(images)
    assert (tpr_at_fpr(curve, 0), threshold_at_fpr(curve, 0)) == (1, 1)
    histogram = PairDistances(images).histogram()
    assert histogram.impostors[histogram.genuine > 0].tolist() == [1]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([2, 20, 2000]))
def test_agrees_with_scikit_learn(seed, levels):
    arrays = random_pairs(seed, levels)
    genuine, scores = flat_pairs(*arrays)
    curve = roc_curve_of_distances(*arrays)
    fpr, tpr, thresholds = metrics.roc_curve(genuine, scores, drop_intermediate=False)
    for wanted in (0, 0.01, 0.2, 0.9, 1):
        assert tpr_at_fpr(curve, wanted) == tpr[fpr <= wanted].max()
    places = np.searchsorted(-thresholds[1:], curve.thresholds)
    rates = curve.false_positives / curve.num_impostors
    np.testing.assert_array_equal(rates, fpr[1:][places])
    rates = curve.true_positives / curve.num_genuine
    np.testing.assert_array_equal(rates, tpr[1:][places])
    rate, _ = equal_error_rate(curve)
    assert np.interp(rate, fpr, tpr) == pytest.approx(1 - rate, abs=1e-6) or (
        rate in fpr  # the curve is upright there
    )


@pytest.mark.parametrize("memory", [1, 1 << 24])
def test_features_give_the_curve_of_their_distances(memory):
    _, *identities = random_pairs(2, 9, num_queries=40)
    rng = np.random.default_rng(0)
    query, gallery = (rng.standard_normal((n, 9), dtype="float32") for n in (40, 50))
    reports = []
    curve = roc_curve(
        RetrievalSet(query, gallery, *identities),
        memory=memory,
        progress=lambda done, total: reports.append(done / total),
    )
    distances = pairwise_distances(query, gallery)
    expected = roc_curve_of_distances(distances, *identities)
    for one, other in zip(curve, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert reports[-1] == 1
    assert reports == sorted(reports)


def test_cameras_may_be_ignored():
    arrays = random_pairs(4, 50)
    distances, query_pids, gallery_pids, *_ = arrays
    curve = roc_curve_of_distances(*arrays, ignore_cameras=True)
    same = (query_pids[:, None] == gallery_pids) & (query_pids[:, None] != -1)
    assert curve.num_genuine == same.sum()
    np.testing.assert_array_equal(curve.thresholds, np.unique(distances[same]))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="`fpr` must be a share"):
        tpr_at_fpr(hand_curve(), 1.5)
    with pytest.raises(ValueError, match="pairs of different persons"):
        roc_curve_of_distances(np.zeros((1, 1)), *map(np.array, ([1], [1], [1], [2])))
    with pytest.raises(ValueError, match="no pid of a query"):
        roc_curve_of_distances(np.zeros((1, 1)), *map(np.array, ([1], [3], [1], [2])))
