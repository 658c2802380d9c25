"""Random flip, zoom and erasing of training images.

What happens to the images of a batch is drawn by TensorFlow functions with stateless
seeds; `augmented_pixels` then carries it all out in one pass over the pixels.
"""

from collections.abc import Sequence

import numba
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

    Raises:
        ValueError: If `probability` is outside [0, 1].
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

    Raises:
        ValueError: If `probability` is outside [0, 1].
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

    Raises:
        ValueError: If `probability` is outside [0, 1].
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


def augmented_pixels(
    images: Sequence[np.ndarray],
    windows: np.ndarray,
    flips: np.ndarray,
    boxes: np.ndarray,
    *,
    image_size: tuple[int, int],
    dtype: str = "float32",
) -> np.ndarray:
    """Resizes, zooms, flips and erases a batch of images, each in one resampling.

    Pixels are resampled with a triangle filter that widens where the image shrinks,
    along the width and then along the height, and rounded to whole grey levels after
    each, as Pillow does. Where nothing is drawn, this is `pipeline.resize_pixels`.

    The erased box is filled with `ERASED_PIXEL`; "uint8" rounds that, and nothing
    else, by at most 0.4 grey levels.

    Args:
        images: RGB images of any size, each uint8 of shape `(height, width, 3)`.
        windows: Result of `random_windows`, shape `(batch, 4)`.
        flips: Result of `random_flips`, shape `(batch,)`.
        boxes: Result of `random_erasing_boxes`, shape `(batch, 4)`.
        image_size: `(height, width)` of the result, in pixels.
        dtype: "float32" or "uint8".

    Returns:
        Pixels in [0, 255] of shape `(batch, height, width, 3)`.
    """
    sizes = np.array([image.shape[:2] for image in images])
    flat = np.concatenate([np.ravel(image) for image in images])
    height, width = image_size
    outputs = np.empty((len(images), height, 3 * width), dtype)
    fill = np.array(ERASED_PIXEL, np.float32)
    if dtype == "uint8":
        fill = np.rint(fill)
    _render(flat, sizes, windows, flips, boxes, fill, outputs)
    return outputs.reshape(len(images), height, width, 3)


def _uniform(seed, shape, low=0.0, high=1.0):
    return tf.random.stateless_uniform(shape, seed, low, high, alg="philox")


# Loops over single numbers below: array expressions take Numba seconds to compile.


@numba.njit(nogil=True)
def _render(flat, sizes, windows, flips, boxes, fill, outputs):
    height, width = outputs.shape[1], outputs.shape[2] // 3
    start = 0
    for image in range(outputs.shape[0]):
        rows, columns = sizes[image, 0], sizes[image, 1]
        taps = _filter(columns, windows[image, 1], windows[image, 3], width)
        source = flat[start : start + rows * columns * 3].reshape(rows, columns * 3)
        narrow = _resample_width(source, taps, flips[image])
        taps = _filter(rows, windows[image, 0], windows[image, 2], height)
        _resample_height(narrow, taps, outputs[image])
        top, left = boxes[image, 0], boxes[image, 1]
        for row in range(top, top + boxes[image, 2]):
            for column in range(left, left + boxes[image, 3]):
                for channel in range(3):
                    outputs[image, row, 3 * column + channel] = fill[channel]
        start += rows * columns * 3


@numba.njit(nogil=True)
def _filter(size, resized_size, offset, num_outputs):
    """Returns each output's first source pixel, number of them, and their weights."""
    scale = size / resized_size
    support = max(scale, 1.0)
    first = np.empty(num_outputs, np.int64)
    num_taps = np.empty(num_outputs, np.int64)
    weights = np.empty((num_outputs, 2 * int(support) + 3), np.float32)
    for output in range(num_outputs):
        center = (output + offset + 0.5) * scale
        low = max(int(center - support + 0.5), 0)
        high = min(int(center + support + 0.5), size)
        total = 0.0
        for tap in range(high - low):
            distance = abs(low + tap + 0.5 - center)
            weight = max(1.0 - distance / support, 0.0)
            weights[output, tap] = weight
            total += weight
        for tap in range(high - low):
            weights[output, tap] /= total
        first[output] = low
        num_taps[output] = high - low
    return first, num_taps, weights


@numba.njit(nogil=True)
def _resample_width(source, taps, flip):
    first, num_taps, weights = taps
    rows, width = source.shape[0], first.shape[0]
    result = np.empty((rows, 3 * width), np.float32)
    for row in range(rows):
        for output in range(width):
            red, green, blue = np.float32(0.5), np.float32(0.5), np.float32(0.5)
            for tap in range(num_taps[output]):
                weight, start = weights[output, tap], 3 * (first[output] + tap)
                red += weight * source[row, start]
                green += weight * source[row, start + 1]
                blue += weight * source[row, start + 2]
            column = 3 * (width - 1 - output if flip else output)
            result[row, column] = np.floor(red)
            result[row, column + 1] = np.floor(green)
            result[row, column + 2] = np.floor(blue)
    return result


@numba.njit(nogil=True)
def _resample_height(source, taps, result):
    first, num_taps, weights = taps
    sums = np.empty(source.shape[1], np.float32)
    for row in range(first.shape[0]):
        low, weight = first[row], weights[row, 0]
        for column in range(sums.shape[0]):
            sums[column] = np.float32(0.5) + weight * source[low, column]
        for tap in range(1, num_taps[row]):
            weight = weights[row, tap]
            for column in range(sums.shape[0]):
                sums[column] += weight * source[low + tap, column]
        for column in range(sums.shape[0]):
            result[row, column] = np.floor(sums[column])
