"""Resizing images the way Pillow does."""

import tensorflow as tf


def resize_pixels(pixels, image_size):
    """Resizes images the way Pillow's bilinear filter does, antialiased.

    Pixels are rounded to whole grey levels after the width and again after the
    height, so the result is Pillow's but for rare ties.

    Args:
        pixels: uint8 or float32 in [0, 255], shape `(height, width, 3)` or `(batch,
            height, width, 3)`.
        image_size: `(height, width)` of the result, in pixels.

    Returns:
        float32 pixels in [0, 255] of that size.
    """
    height, width = image_size
    rows = tf.shape(pixels)[-3]
    pixels = tf.image.resize(pixels, (rows, width), antialias=True)
    pixels = tf.floor(pixels + 0.5)
    pixels = tf.image.resize(pixels, (height, width), antialias=True)
    return tf.floor(pixels + 0.5)


def check_image_size(image_size):
    """Checks a `(height, width)`.

    Raises:
        ValueError: If it is none.
    """
    if len(image_size) != 2 or min(image_size) < 1:
        raise ValueError(
            "`image_size` must be (height, width) in pixels. "
            f"Received: image_size={image_size}"
        )
