import resource

import numpy as np
import pytest
import tensorflow as tf

from tests.image_zoo import BAD, GOOD, encoded, picture
from topdb_tf.data.checks.image_faults import MAX_PIXELS
from topdb_tf.data.decoding import decode_image
from topdb_tf.data.pipeline import evaluation_dataset
from topdb_tf.export.preprocessing import pixels_of_bytes, pixels_of_images

SIZE = (32, 16)


@pytest.fixture(scope="module")
def of_bytes():
    signature = [tf.TensorSpec((None,), tf.string)]
    return tf.function(lambda b: pixels_of_bytes(b, SIZE), signature, autograph=False)


@pytest.fixture(scope="module")
def of_images():
    signature = [tf.TensorSpec((None, None, None, 3), tf.uint8)]
    return tf.function(lambda x: pixels_of_images(x, SIZE), signature, autograph=False)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """The pixels of `GOOD` by name, as an evaluation makes them."""
    folder = tmp_path_factory.mktemp("good")
    paths = [folder / str(place) for place in range(len(GOOD))]
    for path, contents in zip(paths, GOOD.values(), strict=True):
        path.write_bytes(contents)
    batches = evaluation_dataset(paths, image_size=SIZE, batch_size=7)
    return dict(zip(GOOD, np.concatenate([*batches]), strict=True))


@pytest.mark.parametrize("name", GOOD)
def test_bytes_become_the_pixels_of_an_evaluation(name, of_bytes, evaluated):
    np.testing.assert_array_equal(of_bytes([GOOD[name]])[0], evaluated[name])


def test_images_become_the_pixels_of_an_evaluation(of_images, evaluated, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(GOOD["png"])
    (pixels,) = of_images(decode_image(path)[None])
    np.testing.assert_array_equal(pixels, evaluated["png"])


def test_a_batch_keeps_its_order_whatever_the_sizes(of_bytes):
    images = [encoded(picture(4 + 4 * k, 8, seed=k)) for k in range(20)]
    together = of_bytes(images)
    for index, image in enumerate(images):
        np.testing.assert_array_equal(together[index], of_bytes([image])[0])


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_named_with_its_place_and_reason(name, of_bytes):
    contents, reason = BAD[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=reason) as error:
        of_bytes([GOOD["jpeg"], GOOD["png"], contents, GOOD["png"]])
    assert "image_bytes[2] " in str(error.value)


def test_the_first_of_several_bad_images_is_named(of_bytes):
    batch = [GOOD["png"], BAD["half a jpeg"][0], BAD["text"][0], BAD["empty"][0]]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"bytes\[1\] is damaged"):
        of_bytes(batch)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"bytes\[0\] is empty"):
        of_bytes([b""])


def test_a_request_without_images_is_refused(of_bytes, of_images):
    with pytest.raises(tf.errors.InvalidArgumentError, match="holds no image"):
        of_bytes(tf.constant([], tf.string))
    for shape in ((0, 8, 8, 3), (1, 0, 8, 3)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="none of them 0"):
            of_images(np.zeros(shape, np.uint8))


def mutated(contents, rng):
    """Damages a file: bytes changed, cut, repeated, put in."""
    contents = bytearray(contents)
    for _ in range(rng.integers(1, 6)):
        start, length = rng.integers(len(contents)), int(rng.integers(1, 40))
        noise = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
        kind = rng.integers(4)
        if kind == 0:
            contents[start : start + length] = noise
        elif kind == 1 and start > 0:
            del contents[start:]
        elif kind == 2:
            contents[start:start] = noise
        else:
            contents[start:start] = contents[start : start + length]
    return bytes(contents)


@pytest.mark.parametrize("count", [400, pytest.param(4000, marks=pytest.mark.slow)])
def test_damaged_images_break_nothing(count, of_bytes):
    rng = np.random.default_rng(0)
    seeds = [*GOOD.values(), BAD["cmyk"][0], BAD["16 bits"][0], BAD["animation"][0]]
    expected = of_bytes([GOOD["png"]])
    messages = []
    for number in range(count):
        if number == 100:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        bad = mutated(seeds[number % len(seeds)], rng)
        try:
            pixels = of_bytes([GOOD["png"], bad])
        except tf.errors.InvalidArgumentError as error:
            messages.append(str(error))
        else:
            np.testing.assert_array_equal(pixels[0], expected[0])
            assert np.isfinite(pixels[1]).all()
    np.testing.assert_array_equal(of_bytes([GOOD["png"]]), expected)
    assert len(messages) > count / 4
    assert all("image_bytes[1] " in message for message in messages)
    # In kibibytes: what one image may take at most, decoded, and nothing that grows.
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    assert grown < 4 * MAX_PIXELS / 1024
