import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.harness import check_layer, to_numpy
from topdb_tf.model.normalization import FusedBatchNormalization

SHAPES = [(16, 5), (4, 6, 3, 5)]


def inputs_of(shape, seed=0):
    return np.random.default_rng(seed).normal(3, 2, shape).astype("float32")


def trained_pair(shape, **kwargs):
    """Ours and Keras's layer with the same random scale and shift."""
    pair = (
        FusedBatchNormalization(**kwargs),
        keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, **kwargs),
    )
    rng = np.random.default_rng(1)
    weights = [rng.uniform(0.5, 1.5, shape[-1]).astype("float32") for _ in range(4)]
    for layer in pair:
        layer.build(shape)
        layer.set_weights(weights[-len(layer.weights) :])
    return pair


@pytest.fixture(params=["fused", "unfused"])
def path(request, monkeypatch):
    """Runs a test with the kernel, and with the way of the other backends."""
    if request.param == "unfused":
        unfused = FusedBatchNormalization._unfused
        monkeypatch.setattr(FusedBatchNormalization, "_fused", unfused)
    return request.param


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("options", [{}, {"center": False}, {"scale": False}])
@pytest.mark.usefixtures("path")
def test_is_a_layer(shape, options):
    check_layer(FusedBatchNormalization(**options), inputs_of(shape))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.usefixtures("path")
def test_outputs_and_gradients_are_those_of_keras(shape, training):
    inputs, weights = tf.constant(inputs_of(shape)), inputs_of(shape, seed=2)
    results = []
    for layer in trained_pair(shape):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=training)
            total = tf.reduce_sum(outputs * weights)
        gradients = tape.gradient(total, [inputs, layer.gamma, layer.beta])
        results.append([outputs, *gradients])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.usefixtures("path")
def test_moving_statistics_by_hand():
    # Values 1, 3, 8: mean 4, squared deviations 9 + 1 + 16 = 26, unbiased 26 / 2 = 13.
    # Moving mean .9 * 0 + .1 * 4 = 0.4, variance .9 * 1 + .1 * 13 = 2.2.
    layer = FusedBatchNormalization()
    layer(np.array([[1.0], [3.0], [8.0]], "float32"), training=True)
    np.testing.assert_allclose(layer.moving_mean, [0.4], rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, [2.2], rtol=1e-6)


@pytest.mark.usefixtures("path")
def test_moving_variance_counts_all_positions():
    inputs = inputs_of((2, 3, 2, 4))
    layer = FusedBatchNormalization(momentum=0.0)
    layer(inputs, training=True)
    expected = inputs.reshape(12, 4).var(axis=0, ddof=1)
    np.testing.assert_allclose(layer.moving_variance, expected, rtol=1e-5)


@pytest.mark.usefixtures("path")
def test_a_batch_of_one_is_finite():
    layer = FusedBatchNormalization()
    outputs = layer(inputs_of((1, 5)), training=True)
    np.testing.assert_allclose(outputs, np.zeros((1, 5)), atol=1e-6)
    assert np.isfinite(layer.moving_variance.numpy()).all()


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.usefixtures("path")
def test_statistics_of_half_precision_are_float32(precision):
    # Squares of 300 are infinite in float16; 1,000 values of mean 300, deviation 2.
    inputs = 300 + inputs_of((1000, 4))
    layer = FusedBatchNormalization(momentum=0.0, dtype=f"mixed_{precision}")
    outputs = layer(tf.cast(inputs, precision), training=True)
    rounded = to_numpy(tf.cast(inputs, precision))
    assert layer.gamma.dtype == layer.moving_variance.dtype == "float32"
    np.testing.assert_allclose(layer.moving_mean, rounded.mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, rounded.var(0, ddof=1), rtol=1e-3)
    np.testing.assert_allclose(to_numpy(outputs).std(0), 1, atol=1e-2)


@pytest.mark.usefixtures("path")
def test_a_frozen_layer_keeps_its_statistics():
    layer, theirs = trained_pair((16, 5))
    layer.trainable = theirs.trainable = False
    before = layer.moving_mean.numpy()
    outputs = layer(inputs_of((16, 5)), training=True)
    np.testing.assert_array_equal(layer.moving_mean, before)
    np.testing.assert_allclose(outputs, theirs(inputs_of((16, 5))), rtol=1e-5)


def test_without_shift_there_is_none():
    layer = FusedBatchNormalization(center=False)
    layer.build((None, 5))
    assert [weight.name for weight in layer.trainable_weights] == ["gamma"]


def test_float64_and_synchronized_use_the_way_without_kernel():
    inputs = inputs_of((16, 5))
    expected = FusedBatchNormalization()(inputs, training=True)
    for layer in (
        FusedBatchNormalization(dtype="float64"),
        FusedBatchNormalization(synchronized=True),
    ):
        outputs = layer(inputs, training=True)
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_other_ranks_and_axes_are_refused():
    with pytest.raises(ValueError, match="rank 2 or 4"):
        FusedBatchNormalization()(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="axis=1"):
        FusedBatchNormalization(axis=1)(np.zeros((2, 3, 4, 5)))


def test_masks_and_renorm_are_refused():
    with pytest.raises(ValueError, match="mask"):
        FusedBatchNormalization()(np.zeros((2, 3)), mask=np.ones((2, 3)))
    with pytest.raises(ValueError, match="renorm"):
        FusedBatchNormalization(renorm=True)
