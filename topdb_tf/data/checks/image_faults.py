"""Which image files are refused, and why: one list for all that reads images.

Training, evaluation, embedding, `data check` and an exported model all decode by
`pixels_or_fault`. It is made of TensorFlow's operations, since it is part of the graph
that is served.
"""

import io
from functools import cache

import numpy as np
import tensorflow as tf
from PIL import Image

MIN_SIDE = 4
"""Smallest height and width of an image, in pixels."""

MAX_PIXELS = 2**24
"""Largest height times width of an image: a crop of a person has far less."""

MAX_SCANS = 100
"""Most scans of a JPEG, each of which takes time: a progressive one has about ten."""

RULE = (
    "Every image must be a whole 8-bit JPEG or PNG file, grey or RGB, of at least "
    f"{MIN_SIDE} x {MIN_SIDE} and at most {MAX_PIXELS:,} pixels"
)
DAMAGED = "is damaged or cut off"

_DOUBTFUL = "may have lost a part of its data"
_LOST = "has lost a part of its data"
_JPEG_START = b"\xff\xd8\xff"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = 33  # bytes of the signature and the first chunk
_FRAME, _SCAN, _END = 0xC0, 0xDA, 0xD9  # second bytes of a JPEG's markers
_NOT_FRAMES = (0xC4, 0xC8, 0xCC)  # tables, between the frames' markers 0xC0 … 0xCF
_PROGRESSIVE = 0xC2
_USUAL = 4096  # pixels a side: the square of it is allowed
_FILLER = bytes(range(1, 255)) * 2  # no marker is in it


def rgb_pixels(contents):
    """Decodes a JPEG or PNG file that is known to be a good one.

    JPEG is decoded with the exact integer transform, as Pillow does. Grey images get
    three equal channels, transparency is left out, and a camera's note of how it was
    held (the orientation in EXIF) is not followed.
    """
    # Despite its name the operation decodes PNG too.
    return tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE")


def decode_contents(contents: bytes) -> tuple[np.ndarray, str]:
    """Returns the pixels of a file's bytes, and why they are refused, else ""."""
    try:
        pixels, fault = quick_decoder()(tf.constant(contents))
        fault = fault.numpy().decode()
        if fault == _DOUBTFUL:
            fault = _LOST if _ends_early_for_pillow(contents) else ""
            pixels = pixels if fault else rgb_pixels(contents)
    except tf.errors.InvalidArgumentError:
        return np.zeros((0, 0, 3), np.uint8), DAMAGED
    return pixels.numpy(), fault


@cache
def quick_decoder():
    """Returns a function as `pixels_or_fault`, but with no pixels of what is doubtful.

    It is traced once, which takes longer than to decode hundreds of images.
    """
    return _of_contents(lambda c: pixels_or_fault(c, lambda *_: _DOUBTFUL))


@cache
def _longer_function():
    return _of_contents(_longer)


def _of_contents(function):
    contents = tf.TensorSpec((), tf.string)
    # AutoGraph would take seconds to rewrite what has no Python branches.
    graph = tf.function(function, input_signature=[contents], autograph=False)
    return graph.get_concrete_function()


def _small_jpeg():
    stream = io.BytesIO()
    Image.new("L", (1, 1)).save(stream, "JPEG")
    return stream.getvalue()


def _ends_early_for_pillow(contents):
    """Tells what `_fault_of_end` does; TensorFlow would write to stderr each time."""
    longer = _longer_function()
    try:
        with (
            Image.open(io.BytesIO(contents)) as image,
            Image.open(io.BytesIO(longer(tf.constant(contents)).numpy())) as other,
        ):
            return image.tobytes() != other.tobytes()
    except Exception:  # Pillow's decoders raise many kinds
        return True


def pixels_or_fault(contents, fault_of_doubtful=None):
    """Decodes a JPEG or PNG file, or says why it is refused.

    Args:
        contents: The bytes of the file, a scalar string.
        fault_of_doubtful: Tells of a JPEG, by its contents and pixels, whether its
            data ends before the image. By default another decoding does.

    Returns:
        uint8 pixels of shape `(height, width, 3)` and an empty text; or no pixels,
        `(0, 0, 3)`, and what the file is, "is empty". When run, the decoder may give
        up with an `InvalidArgumentError`: then the file is damaged.
    """
    of_doubtful = fault_of_doubtful or _fault_of_end
    safe = tf.where(_is_jpeg(contents), contents, _small_jpeg())
    shape = tf.io.extract_jpeg_shape(safe)

    def usual():
        pixels = rgb_pixels(contents)
        # A look at one pixel is quick, and enough for almost every image.
        return tf.cond(
            tf.raw_ops.ApproximateEqual(x=_luma(pixels[-1, -1]), y=128.0, tolerance=2),
            lambda: _of_grey_end(contents, pixels, of_doubtful),
            lambda: (pixels, ""),
        )

    pixels, fault = tf.cond(
        _is_usual(contents, shape),
        usual,
        lambda: _of_unusual(contents, shape, of_doubtful),
    )
    return tf.ensure_shape(pixels, (None, None, 3)), fault


def _is_jpeg(contents):
    return tf.strings.substr(contents, 0, 3) == _JPEG_START


def _is_usual(contents, shape):
    """Returns whether a file is, for sure, a JPEG of one scan that may be decoded.

    Every image is asked this, so each operation counts.
    """
    allowed = tf.clip_by_value(shape, [MIN_SIDE, MIN_SIDE, 1], [_USUAL, _USUAL, 3])
    parts = _split(contents, bytes([0xFF, _SCAN]))
    heads = _split(parts[0], bytes([0xFF, _PROGRESSIVE]))
    return tf.reduce_all(shape == allowed) & (tf.size(parts) + tf.size(heads) == 3)


def _rare(function):
    """Keeps a part of the graph that few images need out of the way of all others."""
    return tf.function(
        function, autograph=False, experimental_attributes={"_noinline": True}
    )


@_rare
def _of_grey_end(contents, pixels, of_doubtful):
    fault = tf.cond(
        _is_corner_grey(pixels), lambda: of_doubtful(contents, pixels), lambda: ""
    )
    return _unless(fault, lambda: pixels)


@_rare
def _of_unusual(contents, shape, of_doubtful):
    return tf.cond(
        _is_jpeg(contents),
        lambda: _of_unusual_jpeg(contents, tf.cast(shape, tf.int64), of_doubtful),
        lambda: _unless(_fault_of_png(contents), lambda: rgb_pixels(contents)),
    )


def _of_unusual_jpeg(contents, shape, of_doubtful):
    fault = tf.where(
        shape[2] == 4, "has four channels (CMYK)", _fault_of_shape(shape[0], shape[1])
    )
    fault = tf.cond(fault == "", lambda: _fault_of_scans(contents), lambda: fault)

    def decoded():
        pixels = rgb_pixels(contents)
        return _unless(of_doubtful(contents, pixels), lambda: pixels)

    return tf.cond(fault == "", decoded, lambda: _refused(fault))


def _unless(fault, pixels):
    """Returns the pixels that a function gives, or none if there is a fault."""
    fault = tf.convert_to_tensor(fault)
    return tf.cond(fault == "", lambda: (pixels(), fault), lambda: _refused(fault))


def _fault_of_png(contents):
    length = tf.strings.length(contents)
    header = tf.strings.join([contents, "\0" * _PNG_HEADER])
    is_png = tf.strings.substr(header, 0, 8) == _PNG_START
    has_16_bits = tf.strings.substr(header, 24, 1) == b"\x10"
    start = tf.strings.substr(contents, 0, 1024)
    is_animation = tf.strings.regex_full_match(start, r"\C*acTL\C*")
    fault = _first_fault(
        (length == 0, "is empty"),
        (~is_png, "is neither a JPEG nor a PNG file"),
        (length < _PNG_HEADER, DAMAGED),
        (has_16_bits, "has 16 bits a channel"),
        (is_animation, "is an animation"),
    )
    bytes_of_size = tf.io.decode_raw(tf.strings.substr(header, 16, 8), tf.uint8)
    digits = tf.cast(tf.reshape(bytes_of_size, (2, 4)), tf.int64)
    size = tf.reduce_sum(digits * [2**24, 2**16, 2**8, 1], axis=1)
    return tf.where(fault == "", _fault_of_shape(size[1], size[0]), fault)


def _is_corner_grey(pixels):
    """Returns whether the last block of a JPEG is as if its data were missing.

    A decoder makes a grey of luma 128 of it; colours can leak in from beside it.
    """
    rows, columns = (tf.shape(pixels)[axis] - 1 for axis in (0, 1))
    luma = _luma(pixels[rows // 8 * 8 :, columns // 8 * 8 :])
    return tf.reduce_all(tf.abs(luma - 128) <= 1.5)


def _luma(pixels):
    return tf.reduce_sum(tf.cast(pixels, tf.float32) * [0.299, 0.587, 0.114], -1)


def _fault_of_shape(height, width):
    is_small = tf.minimum(height, width) < MIN_SIDE
    is_large = height > MAX_PIXELS // tf.maximum(width, 1)

    def fault():
        size = tf.strings.format("has {} x {} pixels", (height, width))
        small, large = f", less than {MIN_SIDE} a side", f", more than {MAX_PIXELS:,}"
        return size + tf.where(is_small, small, large)

    return tf.cond(is_small | is_large, fault, lambda: "")


def _split(text, separator):
    # Of `tf.strings.split` only this operation; the rest of it costs more time.
    return tf.raw_ops.StringSplitV2(input=[text], sep=separator).values


def _fault_of_scans(contents):
    """Returns what is wrong with the number of scans in a JPEG, or what they hold.

    When its data is cut between two scans, each of those that are there is whole. Then
    some coefficient of a component was never sent down to its last bit.
    """
    values = _values(contents)
    frame, start, end = _places(values)
    scans = _markers(values, _SCAN)
    scans = tf.boolean_mask(scans, (scans >= start) & (scans < end))
    too_many = tf.size(scans) > MAX_SCANS
    scans = scans[:MAX_SCANS, None]
    count = tf.gather(values, scans + 4)
    sent = tf.gather(values, scans + 5 + 2 * tf.range(4))  # (scans, 4)
    sent = tf.where(tf.range(4) < count, sent, -1)
    first, last, bits = (
        tf.gather(values, scans + 5 + 2 * count + place) for place in range(3)
    )
    coefficients = tf.range(64)
    is_last_bit = (first <= coefficients) & (coefficients <= last) & (bits % 16 == 0)
    # A scan of another kind holds all of a component, whatever its fields say.
    is_last_bit |= tf.gather(values, frame + 1) != _PROGRESSIVE  # (scans, 64)
    components = tf.gather(values, frame + 10 + 3 * tf.range(4))
    components = tf.where(tf.range(4) < values[frame + 9], components, -2)
    holds = tf.reduce_any(sent[:, None] == components[:, None], -1)  # (scans, 4)
    is_whole = tf.reduce_any(holds[:, :, None] & is_last_bit[:, None], axis=0)
    is_whole |= components[:, None] == -2
    return _first_fault(
        (too_many, f"has more than {MAX_SCANS} scans"),
        (~tf.reduce_all(is_whole), _LOST),
    )


def _fault_of_end(contents, pixels):
    """Tells whether more data before the end of a JPEG would change its pixels.

    A decoder skips what follows the last block of an image. If some blocks are missing
    it takes it for these.
    """
    is_lost = tf.reduce_any(rgb_pixels(_longer(contents)) != pixels)
    return tf.where(is_lost, _LOST, "")


def _longer(contents):
    """Returns a JPEG with more data before its end."""
    end = _places(_values(contents))[2]
    parts = [tf.strings.substr(contents, 0, end), _FILLER]
    rest = tf.strings.substr(contents, end, tf.strings.length(contents))
    return tf.strings.join([*parts, rest])


def _values(contents):
    """Returns the bytes of a file as int32, and some zeros behind them."""
    values = tf.cast(tf.io.decode_raw(contents, tf.uint8), tf.int32)
    return tf.pad(values, [[0, 600]])


def _markers(values, marker):
    places = tf.where((values[:-1] == 0xFF) & (values[1:] == marker))[:, 0]
    return tf.cast(places, tf.int32)


def _places(values):
    """Returns where frame, first scan and end of a JPEG begin.

    Segments before the scan are skipped by their lengths: a small copy of the image
    among them has such markers, too.
    """
    size = tf.size(values) - 600

    def goes_on(place, frame):
        is_scan = (values[place] == 0xFF) & (values[place + 1] == _SCAN)
        return (place < size) & ~is_scan

    def next_segment(place, frame):
        marker = values[place + 1]
        is_marker = (values[place] == 0xFF) & (marker != 0xFF)
        is_alone = (marker < _FRAME) | ((marker >= 0xD0) & (marker <= _END))
        is_frame = is_marker & (marker >= _FRAME) & (marker < _FRAME + 16)
        is_frame &= tf.reduce_all(marker != _NOT_FRAMES)
        length = tf.where(is_alone, 0, 256 * values[place + 2] + values[place + 3])
        step = tf.where(is_marker, 2 + length, 1)
        return tf.minimum(place + step, size), tf.where(is_frame, place, frame)

    start, frame = tf.while_loop(goes_on, next_segment, (2, 0))
    ends = _markers(values, _END)
    ends = tf.boolean_mask(ends, ends >= start)
    return frame, start, tf.reduce_min(tf.concat([ends, [size]], 0))


def _refused(fault):
    return tf.zeros((0, 0, 3), tf.uint8), tf.convert_to_tensor(fault)


def _first_fault(*cases):
    fault = tf.constant("")
    for condition, text in reversed(cases):
        fault = tf.where(condition, text, fault)
    return fault
