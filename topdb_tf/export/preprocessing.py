"""What a request brings to the pixels of the network, in the graph.

A request is decoded and resized as images are for an evaluation, and what cannot be
is refused with its place in the request and the reason.
"""

import tensorflow as tf

from topdb_tf.data.checks.image_faults import DAMAGED, RULE, pixels_or_fault
from topdb_tf.data.decoding import resize_pixels

_DECODED_AT_A_TIME = 8


def pixels_of_bytes(image_bytes, image_size):
    """Returns the pixels of encoded images, as an evaluation would make them.

    The images are strings of shape `(batch,)`, the pixels are float32 in [0, 255].

    Raises:
        InvalidArgumentError: When run, if there is no image or one cannot be used;
            the message has the index of the first such image and the reason.
    """
    count = tf.size(image_bytes, tf.int64)
    # In a graph a data set alone goes on after an operation has failed: what cannot
    # be decoded is left out, and then its number is missing.
    images = tf.data.Dataset.from_tensor_slices(image_bytes).enumerate()
    images = images.map(
        lambda index, contents: (index, *_resized_or_fault(contents, image_size)),
        num_parallel_calls=_DECODED_AT_A_TIME,
        deterministic=True,
    ).ignore_errors()
    end = (count, tf.zeros((*image_size, 3)), tf.constant(""))
    images = images.concatenate(tf.data.Dataset.from_tensors(end))
    numbers, pixels, faults = images.batch(count + 1).get_single_element()
    positions = tf.range(tf.size(numbers, tf.int64))
    faults = tf.where(numbers == positions, faults, DAMAGED)
    with tf.control_dependencies([_no_fault(count, faults)]):
        return pixels[:-1]


def pixels_of_images(images, image_size):
    """Returns the pixels of decoded images, as an evaluation would make them.

    The images are uint8 RGB of any size, the pixels are float32 in [0, 255].
    """
    shape = tf.shape(images)
    message = "images must be (batch, height, width, 3), none of them 0. Received:"
    some = tf.Assert(tf.reduce_min(shape) > 0, [message, shape])
    with tf.control_dependencies([some]):
        images = tf.identity(images)
    return resize_pixels(images, image_size)


def _resized_or_fault(contents, image_size):
    """Returns the pixels of an image and an empty text, or what is wrong with it."""
    pixels, fault = pixels_or_fault(contents)
    pixels = tf.cond(
        fault == "",
        lambda: resize_pixels(pixels, image_size),
        lambda: tf.zeros((*image_size, 3)),
    )
    return tf.ensure_shape(pixels, (*image_size, 3)), fault


def _no_fault(count, faults):
    """Returns the operation that fails with the first fault, if there is one."""
    bad = tf.where(faults != "")[:, 0]
    index = tf.reduce_min(tf.concat([bad, [tf.size(faults, tf.int64) - 1]], axis=0))
    fault = tf.strings.join(
        ["image_bytes[", tf.strings.as_string(index), "] ", faults[index]]
    )
    message = tf.where(count == 0, "image_bytes holds no image", fault)
    return tf.Assert((count > 0) & (tf.size(bad) == 0), [message, RULE])
