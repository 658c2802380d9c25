"""A model as a function whose weights are constants in its graph."""

from collections.abc import Callable

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)


def frozen(outputs: Callable, image_size: tuple[int, int]):
    """Returns a function of pixels as a concrete function without variables.

    Args:
        outputs: From float32 pixels `(batch, height, width, 3)` to one tensor or more.
        image_size: `(height, width)` of the pixels.
    """
    pixels = tf.TensorSpec((None, *image_size, 3), tf.float32, "pixels")
    traced = tf.function(outputs, input_signature=[pixels]).get_concrete_function()
    return convert_variables_to_constants_v2(traced)
