"""Checks that every layer, every loss and every saved model must pass."""

import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

HALF_PRECISIONS = ("float16", "bfloat16")


def check_layer(layer, *inputs, identity_at_inference=False):
    """Fails unless the layer behaves as a layer of Keras should.

    It checks the config, the static output shape, finite outputs and gradients, half
    precision, and that a model with the layer gives the same after a round trip
    through a file.

    Args:
        layer: An unbuilt layer.
        *inputs: float32 arrays, the arguments of its call.
        identity_at_inference: Whether the layer is a regulariser, which returns its
            first input unless it trains.
    """
    config = layer.get_config()
    copy = type(layer).from_config(config)
    assert copy.get_config() == config
    _check_gradients(layer, inputs)
    outputs = to_numpy(layer(*inputs, training=False))
    assert tuple(layer.compute_output_shape(*[x.shape for x in inputs])) == (
        outputs.shape
    )
    if identity_at_inference:
        np.testing.assert_array_equal(outputs, inputs[0])
    symbols = [keras.Input(x.shape[1:]) for x in inputs]
    check_saving(keras.Model(symbols, copy(*symbols)), list(inputs))
    for precision in HALF_PRECISIONS:
        half = type(layer).from_config({**config, "dtype": f"mixed_{precision}"})
        for training in (False, True):
            outputs = half(*inputs, training=training)
            assert outputs.dtype == precision
            assert np.isfinite(to_numpy(outputs)).all()


def check_loss(loss, labels, predictions, *, expected, rtol=1e-5, atol=1e-6):
    """Fails unless the loss gives the expected values and behaves as losses must.

    It checks one value an image, their mean, the config, finite gradients also on
    identical images, and that half-precision predictions are computed in float32.

    Args:
        loss: A `keras.losses.Loss` with the reduction of Keras's default.
        labels: Training labels of shape `(batch,)`.
        predictions: float32 array of shape `(batch, any)`.
        expected: The value of each image, of shape `(batch,)`.
        rtol: Relative tolerance of the values.
        atol: Absolute tolerance of the values.
    """
    expected = np.asarray(expected, "float32")
    values = to_numpy(loss.call(tf.constant(labels), tf.constant(predictions)))
    assert values.shape == (len(labels),)
    np.testing.assert_allclose(values, expected, rtol, atol)
    np.testing.assert_allclose(
        to_numpy(loss(labels, predictions)), expected.mean(), rtol, atol
    )
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    assert copy.get_config() == loss.get_config()
    np.testing.assert_allclose(
        to_numpy(copy(labels, predictions)), expected.mean(), rtol, atol
    )
    for images in (predictions, np.repeat(predictions[:1], len(labels), axis=0)):
        images = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(images)
            value = loss(labels, images)
        assert np.isfinite(to_numpy(tape.gradient(value, images))).all()
    for precision in HALF_PRECISIONS:
        half = tf.cast(predictions, precision)
        value = loss(labels, half)
        assert value.dtype == "float32"
        rounded = to_numpy(loss(labels, tf.cast(half, "float32")))
        np.testing.assert_allclose(to_numpy(value), rounded, rtol, atol)


def check_saving(model, inputs):
    """Fails unless a model gives the same outputs behind a round trip to a file.

    Args:
        model: `keras.Model`.
        inputs: What it is called with: an array or a list of arrays.

    Returns:
        The model that was loaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
    paths = [[weight.path for weight in m.weights] for m in (model, loaded)]
    assert paths[0] == paths[1]
    outputs = keras.tree.map_structure(to_numpy, model(inputs, training=False))
    again = keras.tree.map_structure(to_numpy, loaded(inputs, training=False))
    keras.tree.assert_same_structure(outputs, again)
    pairs = zip(keras.tree.flatten(outputs), keras.tree.flatten(again), strict=True)
    for before, after in pairs:
        np.testing.assert_array_equal(before, after)
    return loaded


def to_numpy(tensor):
    """Returns a tensor as an array, half precision as float32."""
    if tensor.dtype in HALF_PRECISIONS:
        tensor = tf.cast(tensor, "float32")
    return tensor.numpy()


def _check_gradients(layer, inputs):
    tensors = [tf.constant(x) for x in inputs]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        outputs = layer(*tensors, training=True)
        total = tf.reduce_sum(tf.square(outputs))
    gradients = tape.gradient(total, [tensors[0], *layer.trainable_variables])
    for gradient in gradients:
        assert np.isfinite(to_numpy(gradient)).all()
