"""Random flip, zoom and erasing of training images.

What happens to the images of a batch is drawn for all of them at once, with stateless
seeds; `augmented_pixels` then carries it out on one image.
"""

import numpy as np
import tensorflow as tf

ZOOM = 1.125
ERASING_ATTEMPTS = 100
ERASED_AREA = (0.02, 0.4)  # share of the image
ERASED_ASPECT = (0.3, 1 / 0.3)  # height over width
# (0.4914, 0.4822, 0.4465) after the ImageNet normalisation, as raw RGB.
ERASED_PIXEL = tuple(
    255 * (value * std + mean)
    for value, std, mean in zip(
        (0.4914, 0.4822, 0.4465),
        (0.229, 0.224, 0.225),
        (0.485, 0.456, 0.406),
        strict=True,
    )
)


def random_flips(seed, batch, *, probability=0.5):
    """Draws which images are mirrored left to right.

    Args:
        seed: Two integers, the stateless seed.
        batch: Number of images.
        probability: Share of the images to flip, in [0, 1].

    Returns:
        bool tensor of shape `(batch,)`.
    """
    check_probability("flip", probability)
    return _uniform(seed, (batch,)) < probability


def random_windows(seed, batch, *, image_size, probability=0.5):
    """Draws the window each image is seen through.

    A zoomed image is resized to 1.125 times `image_size` and cut to `image_size` at
    a random place; the others are resized to `image_size` as a whole.

    Source: Quispe and Pedrini, Top-DB-Net, ICPR 2020
    (https://arxiv.org/abs/2010.05435), "random zooming".

    Args:
        seed: Two integers, the stateless seed.
        batch: Number of images.
        image_size: `(height, width)` in pixels.
        probability: Share of the images to zoom, in [0, 1].

    Returns:
        int32 tensor of shape `(batch, 4)`: height and width the image is resized to,
        top and left of the window in it.
    """
    check_probability("zoom", probability)
    zoomed_size = np.array([round(ZOOM * size) for size in image_size], np.float32)
    size = np.array(image_size, np.float32)
    draws = _uniform(seed, (batch, 3))
    is_zoomed = draws[:, :1] < probability
    corner = tf.round(draws[:, 1:] * (zoomed_size - size))
    windows = tf.where(
        is_zoomed,
        tf.concat([tf.broadcast_to(zoomed_size, (batch, 2)), corner], axis=1),
        tf.constant([*size, 0, 0]),
    )
    return tf.cast(windows, tf.int32)


def random_erasing_boxes(seed, batch, *, image_size, probability=0.5):
    """Draws the box erased from each image.

    A box has 2 to 40 % of the area of the image and a height of 0.3 to 1/0.3 times
    its width; of 100 attempts the first that fits counts. Where none fits, and where
    nothing is to be erased, the box is empty.

    Source: Zhong et al., Random Erasing Data Augmentation, AAAI 2020
    (https://arxiv.org/abs/1708.04896).

    Args:
        seed: Two integers, the stateless seed.
        batch: Number of images.
        image_size: `(height, width)` in pixels.
        probability: Share of the images to erase from, in [0, 1].

    Returns:
        int32 tensor of shape `(batch, 4)`: top, left, height, width.
    """
    check_probability("erase", probability)
    height, width = image_size
    seeds = tf.unstack(tf.random.split(seed, 3, alg="philox"))
    attempts = (batch, ERASING_ATTEMPTS)
    area = height * width * _uniform(seeds[0], attempts, *ERASED_AREA)
    aspect = _uniform(seeds[1], attempts, *ERASED_ASPECT)
    draws = _uniform(seeds[2], (batch, 3))
    sides = tf.round(tf.sqrt(tf.stack([area * aspect, area / aspect], axis=-1)))
    fits = tf.reduce_all(sides < [height, width], axis=-1)  # (batch, attempts)
    chosen = tf.gather(sides, tf.argmax(fits, axis=-1), batch_dims=1)  # (batch, 2)
    corner = tf.floor(draws[:, 1:] * ([height + 1, width + 1] - chosen))
    is_erased = tf.reduce_any(fits, axis=-1) & (draws[:, 0] < probability)
    boxes = tf.concat([corner, chosen], axis=1)
    return tf.cast(tf.where(is_erased[:, None], boxes, 0.0), tf.int32)


def check_probability(name: str, value: float) -> None:
    """Raises a ValueError if `value` is no probability."""
    if not 0 <= value <= 1:
        raise ValueError(
            f"`{name}` must be a probability, in [0, 1]. Received: {name}={value}"
        )


def augmented_pixels(pixels, window, flip, box, *, image_size):
    """Resizes, zooms, flips and erases one image, resampling it once.

    The window is cut from the image resized to the size in `window`, by a triangle
    filter that widens where the image shrinks, as Pillow's does. Zooming a resized
    image, as the reference does, would blur it a little more.

    The window, flip and box are those of `random_windows`, `random_flips` and
    `random_erasing_boxes` for it; the box is filled with `ERASED_PIXEL`. Pixels are
    float32 in [0, 255], not rounded.
    """
    height, width = image_size
    resized_size, (top, left) = window[:2], tf.unstack(window[2:])
    pixels = tf.cond(flip, lambda: tf.reverse(pixels, [1]), lambda: pixels)
    pixels = tf.cond(
        tf.reduce_all(tf.shape(pixels)[:2] <= resized_size),
        lambda: _enlarged(pixels, resized_size),
        lambda: tf.image.resize(pixels, resized_size, antialias=True),
    )
    # The flip came first, so the window of a flipped image counts from the other side.
    pixels = tf.slice(pixels, [top, left, 0], [height, width, 3])
    pixels = tf.cond(box[2] > 0, lambda: _erased(pixels, box), lambda: pixels)
    return tf.ensure_shape(pixels, (height, width, 3))


def _uniform(seed, shape, low=0.0, high=1.0):
    return tf.random.stateless_uniform(shape, seed, low, high, alg="philox")


def _enlarged(pixels, size):
    # What `tf.image.resize` does, antialiased or not, in a third of its operations.
    resized = tf.raw_ops.ResizeBilinear(
        images=pixels[None], size=size, half_pixel_centers=True
    )
    return resized[0]


def _erased(pixels, box):
    top, left, height, width = tf.unstack(box)
    rows = pixels[top : top + height]
    fill = tf.broadcast_to(tf.constant(ERASED_PIXEL), (height, width, 3))
    rows = tf.concat([rows[:, :left], fill, rows[:, left + width :]], axis=1)
    return tf.concat([pixels[:top], rows, pixels[top + height :]], axis=0)
