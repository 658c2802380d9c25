"""A model as a function whose weights are constants in its graph."""

from collections.abc import Callable

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)


def frozen(outputs: Callable, image_size: tuple[int, int]):
    """Returns a function of float32 pixels as a concrete one without variables."""
    pixels = tf.TensorSpec((None, *image_size, 3), tf.float32, "pixels")
    traced = tf.function(
        outputs, input_signature=[pixels], autograph=False
    ).get_concrete_function()
    return convert_variables_to_constants_v2(traced)
