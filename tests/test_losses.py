import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.addons.batches import MARGINS, NO_NEGATIVES, NOT_COMPARED, batches
from tests.addons.compare import ATOL, FIGURES, RTOL
from tests.harness import check_loss
from topdb_tf.training.losses import (
    BatchHardTripletLoss,
    LabelSmoothedCrossEntropy,
    euclidean_distances,
)

COMPARED = [
    (batch, margin)
    for batch in batches()
    for margin in MARGINS
    if batch not in NO_NEGATIVES and (batch, margin) not in NOT_COMPARED
]


def slow_batch_hard(labels, features, margin):
    """Loops over anchors in float64, straight from the definition."""
    losses = []
    for anchor, label in zip(features, labels, strict=True):
        distances = np.linalg.norm(features - anchor, axis=1)
        positive = distances[labels == label].max()
        negative = distances[labels != label].min()
        losses.append(max(0.0, positive - negative + margin))
    return losses


def test_cross_entropy_by_hand():
    # Logits 0 and ln 3 give shares 1/4 and 3/4. With smoothing 0.2 the target of
    # label 1 is 0.1, 0.9: 0.1 * ln 4 + 0.9 * ln(4/3) = 0.1386 + 0.2589 = 0.3975.
    logits = np.array([[0.0, np.log(3.0)], [0.0, np.log(3.0)]], dtype="float32")
    expected = [
        0.1 * np.log(4) + 0.9 * np.log(4 / 3),
        0.9 * np.log(4) + 0.1 * np.log(4 / 3),
    ]
    check_loss(
        LabelSmoothedCrossEntropy(0.2), np.array([1, 0]), logits, expected=expected
    )


def test_cross_entropy_agrees_with_keras_on_one_hot_targets():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(8, 5)).astype("float32")
    labels = rng.integers(0, 5, 8)
    keras_loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.1
    )
    expected = keras_loss(np.eye(5, dtype="float32")[labels], logits)
    np.testing.assert_allclose(
        LabelSmoothedCrossEntropy(0.1)(labels, logits), expected, rtol=1e-6
    )


def test_cross_entropy_survives_huge_logits():
    loss = LabelSmoothedCrossEntropy()(np.array([0]), np.array([[1e30, -1e30]], "f4"))
    assert np.isfinite(loss)


def test_batch_hard_by_hand():
    # On a line: pid 0 at 0 and 1, pid 1 at 3 and 7. Farthest positive: 1, 1, 4, 4.
    # Closest negative: 3, 2, 2, 6. With margin 1.5: 0, 0.5, 3.5, 0.
    features = np.array([[0.0], [1.0], [3.0], [7.0]], dtype="float32")
    loss, labels = BatchHardTripletLoss(margin=1.5), np.array([0, 0, 1, 1])
    check_loss(loss, labels, features, expected=[0.0, 0.5, 3.5, 0.0])


def test_soft_margin_by_hand():
    # The same line: differences 1-3, 1-2, 4-2, 4-6; ln(1 + e^x) of each.
    features = np.array([[0.0], [1.0], [3.0], [7.0]], dtype="float32")
    expected = np.log1p(np.exp([-2.0, -1.0, 2.0, -2.0]))
    labels = np.array([0, 0, 1, 1])
    check_loss(BatchHardTripletLoss("soft"), labels, features, expected=expected)


def test_batch_hard_agrees_with_a_loop_over_anchors():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(24, 16)).astype("float32")
    labels = np.repeat(np.arange(6), 4)
    loss = BatchHardTripletLoss(0.3, reduction=None)(labels, features)
    expected = slow_batch_hard(labels, features.astype("float64"), 0.3)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_batch_hard_does_not_depend_on_the_order_of_the_batch():
    rng = np.random.default_rng(2)
    features = rng.normal(size=(12, 4)).astype("float32")
    labels, order = np.repeat(np.arange(3), 4), rng.permutation(12)
    loss = BatchHardTripletLoss(reduction=None)
    np.testing.assert_allclose(
        loss(labels[order], features[order]),
        np.asarray(loss(labels, features))[order],
        rtol=1e-5,
    )


def test_a_lone_image_is_at_distance_zero_of_itself_however_large():
    # Float32 rounds squared norms of 8e6 by 0.5, whose root is no small distance.
    rng = np.random.default_rng(3)
    features = (1000 * rng.normal(size=(8, 8))).astype("float32")
    loss = BatchHardTripletLoss(margin=1e4, reduction=None)(np.arange(8), features)
    between = np.linalg.norm(features[:, None] - features.astype("f8"), axis=2)
    nearest = np.where(np.eye(8, dtype=bool), np.inf, between).min(axis=1)
    np.testing.assert_allclose(loss, 1e4 - nearest, rtol=1e-6)


@pytest.mark.parametrize(("batch", "margin"), COMPARED)
def test_losses_and_gradients_are_those_of_tensorflow_addons(batch, margin):
    with np.load(FIGURES) as figures:
        labels, features = figures[f"{batch}/labels"], figures[f"{batch}/features"]
        expected = figures[f"{batch}/{margin}/loss"]
        gradient = figures[f"{batch}/{margin}/gradient"]
    variable = tf.Variable(features)
    with tf.GradientTape() as tape:
        loss = BatchHardTripletLoss(MARGINS[margin])(labels, variable)
    np.testing.assert_allclose(loss, expected, rtol=RTOL, atol=ATOL)
    np.testing.assert_allclose(
        tape.gradient(loss, variable), gradient, rtol=RTOL, atol=ATOL
    )


def test_the_soft_margin_of_a_far_outlier_is_finite():
    # Pid 0 at 0 and 1000, pid 1 alone at 1. Differences: 1000 - 1, 1000 - 999, 0 - 1.
    # ln(1 + e^999) is 999, though e^999 overflows.
    features = np.array([[0.0], [1000.0], [1.0]], dtype="float32")
    loss = BatchHardTripletLoss("soft", reduction=None)
    expected = [999, np.log1p(np.e), np.log1p(1 / np.e)]
    np.testing.assert_allclose(loss(np.array([0, 0, 1]), features), expected, rtol=1e-6)


def test_a_batch_of_one_identity_has_no_triplet():
    features = np.eye(4, dtype="float32")
    loss = BatchHardTripletLoss(reduction=None)(np.zeros(4, int), features)
    np.testing.assert_array_equal(loss, np.zeros(4))


def test_the_gradient_is_finite_where_an_image_comes_twice():
    features = tf.Variable([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [0.0, 1.0]])
    with tf.GradientTape() as tape:
        loss = BatchHardTripletLoss()(np.array([0, 0, 1, 1]), features)
    assert np.isfinite(tape.gradient(loss, features)).all()


def test_distances_of_identical_features_are_the_smallest():
    distances = euclidean_distances(
        np.array([[3.0, 4.0], [3.0, 4.0], [0.0, 0.0]], "f4")
    )
    np.testing.assert_allclose(
        distances, [[1e-6, 1e-6, 5], [1e-6, 1e-6, 5], [5, 5, 1e-6]]
    )


@pytest.mark.parametrize("loss", [LabelSmoothedCrossEntropy, BatchHardTripletLoss])
def test_a_half_precision_loss_is_refused(loss):
    with pytest.raises(ValueError, match="float32 or wider.*bfloat16"):
        loss(dtype="bfloat16")


def test_a_loss_is_float32_under_a_half_precision_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert BatchHardTripletLoss().dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("margin", [-0.1, float("nan"), "hard"])
def test_a_wrong_margin_is_refused(margin):
    with pytest.raises(ValueError, match="`margin` must be"):
        BatchHardTripletLoss(margin)


def test_a_wrong_smoothing_is_refused():
    with pytest.raises(ValueError, match=r"in \[0, 1\). Received: label_smoothing=1"):
        LabelSmoothedCrossEntropy(1)
