"""Image files to RGB pixels: all at once into memory, or each time one is needed."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from topdb_tf.data.checks.image_faults import (
    RULE,
    decode_contents,
    quick_decoder,
    rgb_pixels,
)
from topdb_tf.texts import listed

# TensorFlow would take its time to rewrite Python branches, of which there are none.
as_written = tf.autograph.experimental.do_not_convert

MESSAGES = {
    FileNotFoundError: "Every image file must exist. datasets/README.md says how to "
    "get the data.",
    ValueError: f"{RULE}. Extract or save these files again, or take them out; "
    "`topdb-tf data check` lists all.",
}


class ImageFiles(Sequence):
    """A sequence of images that reads a file whenever an image is asked for."""

    def __init__(self, paths: Sequence[Path | str]):
        self.paths = tuple(paths)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return decode_image(self.paths[index])


def decode_image(path: Path | str) -> np.ndarray:
    """Returns the RGB pixels of a JPEG or PNG file, uint8 `(height, width, 3)`."""
    pixels, fault = _pixels_or_fault(path)
    if fault:
        raise _error(ValueError, [f"{path} ({fault})"])
    return pixels


def decode_images(
    paths: Sequence[Path | str],
    *,
    cache_bytes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Sequence[np.ndarray]:
    """Decodes all images once and keeps them in memory where they fit.

    Every file is read in any case, so that a damaged one is found before training
    and not in the night.

    Args:
        paths: The image files.
        cache_bytes: Memory for the pixels. Beyond it none are kept, and each image is
            decoded whenever it is needed. Defaults to a quarter of the free memory, as
            the data sets make a copy.
        progress: Called with the number of files done and of all files.

    Returns:
        The images in the order of `paths`, each uint8 of shape `(height, width, 3)`:
        a list, or an `ImageFiles` where they do not fit.
    """
    if cache_bytes is None:
        cache_bytes = free_memory() // 4
    images, missing, refused, num_bytes = [], [], [], 0
    decoded = iter(_decoded_files(paths))
    for done, path in enumerate(paths, 1):
        try:
            image, fault = _next_image(decoded, path)
        except FileNotFoundError:
            missing.append(path)
        else:
            if fault:
                refused.append(f"{path} ({fault})")
            else:
                num_bytes += image.nbytes
                images.append(image)
        if num_bytes > cache_bytes:
            images.clear()
        if progress is not None:
            progress(done, len(paths))
    if missing:
        raise _error(FileNotFoundError, missing)
    if refused:
        raise _error(ValueError, refused)
    return ImageFiles(paths) if num_bytes > cache_bytes else images


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
    """Raises `ValueError` unless this is a `(height, width)`."""
    if len(image_size) != 2 or min(image_size) < 1:
        raise ValueError(
            "`image_size` must be (height, width) in pixels. "
            f"Received: image_size={image_size}"
        )


def pixel_reader(images: Sequence[np.ndarray]) -> Callable:
    """Returns the TensorFlow function that gives the pixels of image `index`.

    The images are those of `decode_images`; a list of arrays is copied into one tensor.
    """
    if isinstance(images, ImageFiles):
        paths = tf.constant([str(path) for path in images.paths])
        return lambda index: rgb_pixels(tf.io.read_file(paths[index]))
    with tf.device("CPU"):
        values = tf.constant(np.concatenate([np.ravel(image) for image in images]))
        shapes = tf.constant([image.shape for image in images], tf.int64)
        ends = tf.cumsum(tf.reduce_prod(shapes, axis=1))

    def read(index):
        shape = shapes[index]
        size = tf.reduce_prod(shape)
        pixels = tf.slice(values, [ends[index] - size], [size])
        return tf.ensure_shape(tf.reshape(pixels, shape), (None, None, 3))

    return read


def free_memory() -> int:
    """Returns the bytes of memory that are free, or 4 GiB where it cannot be read."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 4 * 2**30


def _decoded_files(paths):
    """Returns a data set of pixels: none where a file is refused or to be looked at."""
    decoder = quick_decoder()
    files = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    return files.map(
        as_written(lambda path: decoder(tf.io.read_file(path))[0]),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def _next_image(decoded, path):
    """Returns the next pixels of a data set, as `_pixels_or_fault` does."""
    try:
        image = next(decoded).numpy()
    except tf.errors.OpError:  # the data set goes on behind it
        return _pixels_or_fault(path)
    return (image, "") if image.size else _pixels_or_fault(path)


def _pixels_or_fault(path):
    """Returns the pixels of a file, and why they are refused, else ""."""
    try:
        contents = Path(path).read_bytes()
    except FileNotFoundError:
        raise _error(FileNotFoundError, [path]) from None
    return decode_contents(contents)


def _error(kind, paths):
    return kind(f"{MESSAGES[kind]} Received: path={listed(paths)}")
