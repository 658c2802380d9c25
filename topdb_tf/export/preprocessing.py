"""What a request brings to the pixels of the network, in the graph.

A request is decoded and resized as images are for an evaluation, and what cannot be
is refused with its place in the request and the reason.
"""

import tensorflow as tf

from topdb_tf.data.decoding import resize_pixels, rgb_pixels

MIN_SIDE = 4
"""Smallest height and width of an image, in pixels."""

MAX_PIXELS = 2**24
"""Largest height times width of an image: a crop of a person has far less."""

_DECODED_AT_A_TIME = 8
_PNG_HEADER = 33  # bytes of the signature and the first chunk
_DAMAGED = "is damaged or cut off"
_JPEG_START = b"\xff\xd8\xff"
_PNG_START = b"\x89PNG\r\n\x1a\n"


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
        lambda index, contents: (index, *_pixels_or_fault(contents, image_size)),
        num_parallel_calls=_DECODED_AT_A_TIME,
        deterministic=True,
    ).ignore_errors()
    end = (count, tf.zeros((*image_size, 3)), tf.constant(""))
    images = images.concatenate(tf.data.Dataset.from_tensors(end))
    numbers, pixels, faults = images.batch(count + 1).get_single_element()
    positions = tf.range(tf.size(numbers, tf.int64))
    faults = tf.where(numbers == positions, faults, _DAMAGED)
    with tf.control_dependencies([_no_fault(count, faults)]):
        return pixels[:-1]


def pixels_of_images(images, image_size):
    """Returns the pixels of decoded images, as an evaluation would make them.

    The images are uint8 RGB of any size, the pixels are float32 in [0, 255].

    Raises:
        InvalidArgumentError: When run, if an extent is zero.
    """
    shape = tf.shape(images)
    message = "images must be (batch, height, width, 3), none of them 0. Received:"
    some = tf.Assert(tf.reduce_min(shape) > 0, [message, shape])
    with tf.control_dependencies([some]):
        images = tf.identity(images)
    return resize_pixels(images, image_size)


def _pixels_or_fault(contents, image_size):
    """Returns the pixels of an image and an empty text, or what is wrong with it."""
    fault = _fault_of_start(contents)
    fault = tf.cond(
        fault == "", lambda: _fault_of_shape(_shape_of(contents)), lambda: fault
    )
    pixels = tf.cond(
        fault == "",
        lambda: resize_pixels(rgb_pixels(contents), image_size),
        lambda: tf.zeros((*image_size, 3)),
    )
    return tf.ensure_shape(pixels, (*image_size, 3)), fault


def _fault_of_start(contents):
    length = tf.strings.length(contents)
    contents = tf.strings.join([contents, "\0" * _PNG_HEADER])
    is_jpeg = tf.strings.substr(contents, 0, 3) == _JPEG_START
    is_png = tf.strings.substr(contents, 0, 8) == _PNG_START
    has_16_bits = tf.strings.substr(contents, 24, 1) == b"\x10"
    start = tf.strings.substr(contents, 0, 1024)
    is_animation = tf.strings.regex_full_match(start, r"\C*acTL\C*")
    return _first_fault(
        (length == 0, "is empty"),
        (~is_jpeg & ~is_png, "is neither a JPEG nor a PNG file"),
        (is_png & (length < _PNG_HEADER), _DAMAGED),
        (is_png & has_16_bits, "has 16 bits a channel"),
        (is_png & is_animation, "is an animation"),
    )


def _shape_of(contents):
    is_jpeg = tf.strings.substr(contents, 0, 3) == _JPEG_START
    return tf.cond(
        is_jpeg,
        lambda: tf.cast(tf.io.extract_jpeg_shape(contents), tf.int64),
        lambda: _png_shape(contents),
    )


def _png_shape(contents):
    fields = tf.io.decode_raw(tf.strings.substr(contents, 16, 8), tf.uint8)
    digits = tf.cast(tf.reshape(fields, (2, 4)), tf.int64)
    width, height = tf.unstack(tf.reduce_sum(digits * [2**24, 2**16, 2**8, 1], axis=1))
    return tf.stack([height, width, tf.constant(3, tf.int64)])


def _fault_of_shape(shape):
    height, width, channels = tf.unstack(shape)
    size = tf.strings.format("has {} x {} pixels", (height, width))
    is_large = height > MAX_PIXELS // tf.maximum(width, 1)
    return _first_fault(
        (channels == 4, "has four channels (CMYK)"),
        (tf.minimum(height, width) < MIN_SIDE, size + f", less than {MIN_SIDE} a side"),
        (is_large, size + f", more than {MAX_PIXELS:,}"),
    )


def _first_fault(*cases):
    fault = tf.constant("")
    for condition, text in reversed(cases):
        fault = tf.where(condition, text, fault)
    return fault


def _no_fault(count, faults):
    """Returns the operation that fails with the first fault, if there is one."""
    bad = tf.where(faults != "")[:, 0]
    index = tf.reduce_min(tf.concat([bad, [tf.size(faults, tf.int64) - 1]], axis=0))
    fault = tf.strings.join(
        ["image_bytes[", tf.strings.as_string(index), "] ", faults[index]]
    )
    message = tf.where(count == 0, "image_bytes holds no image", fault)
    rule = (
        "Every image must be an 8-bit JPEG or PNG, grey or RGB, of at least "
        f"{MIN_SIDE} x {MIN_SIDE} and at most {MAX_PIXELS:,} pixels"
    )
    return tf.Assert((count > 0) & (tf.size(bad) == 0), [message, rule])
