import random

import numpy as np
import pytest
import tensorflow as tf

from topdb_tf.data.augment import (
    ERASED_PIXEL,
    augmented_pixels,
    random_erasing_boxes,
    random_flips,
    random_windows,
)
from topdb_tf.data.decoding import resize_pixels

SIZE = (384, 128)
NO_BOX = (0, 0, 0, 0)
DRAWS = {
    "flips": lambda seed: random_flips(seed, 64),
    "windows": lambda seed: random_windows(seed, 64, image_size=SIZE),
    "boxes": lambda seed: random_erasing_boxes(seed, 64, image_size=SIZE),
}


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def pixels_of(image, image_size, window=None, flip=False, box=NO_BOX):
    """Augments one image as it is told."""
    window, box = tf.constant(window or (*image_size, 0, 0)), tf.constant(box)
    outputs = augmented_pixels(image, window, flip, box, image_size=image_size)
    return outputs.numpy()


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_draws_depend_on_the_seed_alone(draw):
    first, again, other = draw([1, 2]), draw([1, 2]), draw([1, 3])
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_draws_are_the_same_inside_tf_data(draw):
    seeds = tf.constant([[1, 2], [5, 9], [7, 0]])
    dataset = tf.data.Dataset.from_tensor_slices(seeds).map(draw, num_parallel_calls=2)
    for seed, inside in zip(seeds, dataset, strict=True):
        np.testing.assert_array_equal(inside, draw(seed))


def test_half_of_the_images_are_flipped():
    # 10,000 draws of probability 0.5: deviation 50.
    assert abs(int(tf.math.count_nonzero(random_flips([0, 0], 10_000))) - 5000) < 200


def test_probability_zero_switches_each_augmentation_off():
    assert not np.any(random_flips([0, 0], 100, probability=0))
    windows = random_windows([0, 0], 100, image_size=SIZE, probability=0)
    np.testing.assert_array_equal(windows, [[384, 128, 0, 0]] * 100)
    boxes = random_erasing_boxes([0, 0], 100, image_size=SIZE, probability=0)
    np.testing.assert_array_equal(boxes, np.zeros((100, 4)))


def test_a_zoom_shows_a_window_of_the_image_enlarged_by_an_eighth():
    windows = random_windows([0, 0], 10_000, image_size=SIZE, probability=1).numpy()
    np.testing.assert_array_equal(windows[:, :2], [[432, 144]] * 10_000)
    top, left = windows[:, 2], windows[:, 3]
    assert (top.min(), top.max(), left.min(), left.max()) == (0, 48, 0, 16)
    # round(U(0, 16)) is 0 for 1/32 of the draws, 312.5 of 10,000, and 8 for 1/16.
    assert abs(np.count_nonzero(left == 0) - 312) < 80
    assert abs(np.count_nonzero(left == 8) - 625) < 100


def test_half_of_the_images_are_zoomed():
    windows = random_windows([0, 0], 10_000, image_size=SIZE).numpy()
    assert abs(np.count_nonzero(windows[:, 0] == 432) - 5000) < 200
    whole = windows[windows[:, 0] == 384]
    np.testing.assert_array_equal(whole, [[384, 128, 0, 0]] * len(whole))


def reference_box(rng, height, width):
    """Draws one box the way the paper's algorithm 1 is written: one try at a time."""
    for _ in range(100):
        area = rng.uniform(0.02, 0.4) * height * width
        aspect = rng.uniform(0.3, 1 / 0.3)
        box_height = round((area * aspect) ** 0.5)
        box_width = round((area / aspect) ** 0.5)
        if box_height < height and box_width < width:
            top = rng.randint(0, height - box_height)
            left = rng.randint(0, width - box_width)
            return top, left, box_height, box_width
    return NO_BOX


def test_boxes_are_distributed_as_those_of_a_slow_implementation():
    count = 10_000
    boxes = random_erasing_boxes([0, 0], count, image_size=SIZE, probability=1).numpy()
    rng = random.Random(0)
    reference = np.array([reference_box(rng, *SIZE) for _ in range(count)])
    error = 5 * reference.std(axis=0) * np.sqrt(2 / count)
    assert np.all(np.abs(boxes.mean(axis=0) - reference.mean(axis=0)) < error)
    np.testing.assert_allclose(boxes.std(axis=0), reference.std(axis=0), rtol=0.05)


def test_boxes_lie_in_the_image_and_reach_its_borders():
    boxes = random_erasing_boxes([0, 0], 10_000, image_size=SIZE, probability=1)
    top, left, height, width = np.transpose(boxes)
    bottom, right = top + height, left + width
    assert (top.min(), left.min(), bottom.max(), right.max()) == (0, 0, 384, 128)
    share = height * width / (384 * 128)
    assert share.min() > 0.019
    assert share.max() < 0.41


def test_half_of_the_images_have_a_box():
    boxes = random_erasing_boxes([0, 0], 10_000, image_size=SIZE).numpy()
    assert abs(np.count_nonzero(boxes[:, 2]) - 5000) < 200


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (lambda p: random_flips([0, 0], 4, probability=p), "flip"),
        (lambda p: random_windows([0, 0], 4, image_size=SIZE, probability=p), "zoom"),
        (
            lambda p: random_erasing_boxes([0, 0], 4, image_size=SIZE, probability=p),
            "erase",
        ),
    ],
)
def test_what_is_no_probability_is_refused(draw, name):
    with pytest.raises(ValueError, match=rf"`{name}` must be a probability.*=1.5"):
        draw(1.5)


def test_widening_by_hand():
    # Centres of the four outputs at 0.25, 0.75, 1.25, 1.75 of pixels at 0.5 and 1.5:
    # 0, 0.25 * 102 = 25.5, 0.75 * 102 = 76.5, 102.
    image = np.array([[[0, 0, 0], [102, 102, 0]]], np.uint8)
    outputs = pixels_of(image, (1, 4))
    np.testing.assert_array_equal(outputs[0, :, 0], [0, 25.5, 76.5, 102])
    np.testing.assert_array_equal(outputs[0, :, 2], [0, 0, 0, 0])


def test_shrinking_averages_the_pixels_under_the_filter():
    # Four rows to two: the filter is 4 wide; at 1.0 it sees pixels at 0.5, 1.5, 2.5
    # with 0.75, 0.75, 0.25: (0.75 * 10 + 0.75 * 20 + 0.25 * 100) / 1.75 = 27.14.
    # At 3.0: (0.25 * 20 + 0.75 * 100 + 0.75 * 200) / 1.75 = 131.43.
    image = np.array([10, 20, 100, 200], np.uint8)[:, None, None].repeat(3, axis=2)
    outputs = pixels_of(image, (2, 1))
    np.testing.assert_allclose(outputs[:, 0, 0], [190 / 7, 920 / 7], rtol=1e-6)


SIZES = [(128, 64), (200, 90), (500, 193), (500, 64), (384, 128), (1, 1)]


@pytest.mark.parametrize("size", SIZES)
def test_an_image_left_alone_is_only_resized(size):
    image = noise(*size)
    expected = tf.image.resize(image, SIZE, antialias=True)
    np.testing.assert_allclose(pixels_of(image, SIZE), expected, atol=0.02)
    # Rounded after the width and after the height: half a grey level each.
    rounded = resize_pixels(image, SIZE)
    np.testing.assert_allclose(pixels_of(image, SIZE), rounded, atol=1.02)


@pytest.mark.parametrize("size", SIZES)
def test_a_zoom_is_a_crop_of_the_enlarged_image(size):
    image = noise(*size)
    outputs = pixels_of(image, SIZE, window=(432, 144, 30, 5))
    enlarged = tf.image.resize(image, (432, 144), antialias=True)
    np.testing.assert_allclose(outputs, enlarged[30:414, 5:133], atol=0.02)


def test_a_flip_mirrors_the_image():
    # 45 columns, 40 from the left at 4 or, mirrored, from the right at 45 - 40 - 4.
    image = noise(50, 30)
    flipped = pixels_of(image, (48, 40), window=(54, 45, 3, 4), flip=True)
    mirrored = pixels_of(image, (48, 40), window=(54, 45, 3, 1))[:, ::-1]
    np.testing.assert_allclose(flipped, mirrored, atol=0.02)


@pytest.mark.parametrize("box", [(2, 1, 5, 3), (0, 0, 5, 3), (7, 5, 5, 3)])
def test_the_box_is_filled_and_nothing_else_changes(box):
    image = noise(12, 8)
    top, left, height, width = box
    expected = image.astype("float32")
    expected[top : top + height, left : left + width] = ERASED_PIXEL
    np.testing.assert_array_equal(pixels_of(image, (12, 8), box=box), expected)


def test_the_fill_is_the_reference_value_after_normalisation():
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalised = (np.array(ERASED_PIXEL) / 255 - mean) / std
    np.testing.assert_allclose(normalised, [0.4914, 0.4822, 0.4465])


def test_an_image_is_augmented_alike_alone_and_inside_tf_data():
    images = np.stack([noise(60, 20, seed=seed) for seed in range(8)])
    draws = (
        random_windows([0, 0], 8, image_size=(32, 16)),
        random_flips([0, 1], 8),
        random_erasing_boxes([0, 2], 8, image_size=(32, 16), probability=1),
    )

    def augmented(*image):
        return augmented_pixels(*image, image_size=(32, 16))

    dataset = tf.data.Dataset.from_tensor_slices((images, *draws))
    inside = dataset.map(augmented, num_parallel_calls=2)
    for i, pixels in enumerate(inside):
        alone = augmented(images[i], *(draw[i] for draw in draws))
        np.testing.assert_array_equal(pixels, alone)
