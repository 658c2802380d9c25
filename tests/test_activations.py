"""Activation maps and how they are laid over images."""

import numpy as np
import pytest
import tensorflow as tf

from topdb_tf.drawing.activations import activation_figure, epochs_figure
from topdb_tf.drawing.heat import activation_maps, heat, kept, overlay


def drawn_images(count=2, height=12, width=6):
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def texts_of(figure):
    return [text.get_text() for text in figure.texts if text.get_text()]


def pixels_of(figure):
    """Returns the pixels of every panel of a figure, in the order of drawing."""
    return [axes.images[0].get_array() for axes in figure.axes]


def test_activation_by_hand():
    # Sums of squares 1 + 4 = 5, 0, 9 + 9 = 18, 1. Norm sqrt(25 + 324 + 1) = sqrt(350).
    feature_map = np.array([[[1, -2], [0, 0]], [[3, 3], [0, 1]]], np.float16)
    found = activation_maps(feature_map[None])
    expected = np.array([[5, 0], [18, 1]]) / np.sqrt(350)
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


def test_squares_of_half_precision_do_not_overflow():
    found = activation_maps(np.full((1, 2, 2, 1), 60000, np.float16))
    np.testing.assert_allclose(found, 0.5)


def test_each_image_has_a_norm_of_its_own():
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(3, 4, 2, 5)) * np.array([1, 10, 0]).reshape(3, 1, 1, 1)
    norms = np.linalg.norm(activation_maps(maps).reshape(3, -1), axis=1)
    np.testing.assert_allclose(norms, [1, 1, 0], rtol=1e-6)


def test_a_hot_cell_lights_its_part_of_the_image():
    # Cells of 8 x 8 pixels. Between the centres of two cells the heat falls in a line,
    # so along the cell's middle half of the most is reached at its borders.
    cells = np.zeros((4, 2))
    cells[2, 1] = 7
    found = heat(cells, (32, 16))
    assert found.max() == 1
    assert found.min() == 0
    rows = np.flatnonzero(found.max(axis=1) > 0.5)
    columns = np.flatnonzero(found.max(axis=0) > 0.5)
    np.testing.assert_array_equal(rows, np.arange(16, 24))
    np.testing.assert_array_equal(columns, np.arange(8, 16))
    assert not found[:12].any()  # nothing beyond the centres of the cells beside it
    assert not found[:, :4].any()


def test_resizing_agrees_with_tensorflow():
    cells = np.random.default_rng(2).random((24, 8))
    resized = tf.image.resize(cells[..., None], (384, 128))[..., 0].numpy()
    expected = (resized - resized.min()) / (resized.max() - resized.min())
    np.testing.assert_allclose(heat(cells, (384, 128)), expected, atol=1e-5)


def test_the_strongest_pixel_is_the_hottest():
    # The authors' scaling makes it the coldest.
    found = heat(np.array([[3.0, 5.0], [4.0, 9.0]]), (4, 4))
    assert found[3, 3] == 1
    assert found[0, 0] == 0


def test_a_constant_map_has_no_heat():
    assert not heat(np.full((3, 2), 4.0), (6, 4)).any()


def test_pixels_that_reach_the_threshold_are_kept():
    image = drawn_images(1, 1, 3)[0]
    found = kept(image, np.array([[0.4, 0.5, 0.6]]), 0.5)
    np.testing.assert_array_equal(found[:, 1:], image[:, 1:])
    assert (found[:, 0] >= 255 * 0.84).all()


def test_heat_has_its_colour_whatever_the_image_has():
    image = np.uint8([[[255, 0, 0], [76, 76, 76]]])  # of the same luminance
    found = overlay(image, np.array([[0.7, 0.7]]))
    np.testing.assert_allclose(found[0, 0], found[0, 1], atol=1)


def test_each_image_stands_beside_its_own_heat():
    images, maps = drawn_images(2), np.zeros((2, 4, 2))
    maps[0, 0, 0] = maps[1, 3, 1] = 1
    panels = pixels_of(activation_figure(images, {"paper": maps}))[:6]
    for index, image in enumerate(images):
        shares = heat(maps[index], image.shape[:2])
        own = panels[3 * index : 3 * index + 3]
        np.testing.assert_array_equal(own[0], image)
        np.testing.assert_array_equal(own[1], overlay(image, shares))
        np.testing.assert_array_equal(own[2], kept(image, shares, 0.5))


def test_the_kept_share_is_that_of_the_pixels():
    # One row of two cells over 1 x 8 pixels: 0, 0, 1/8, 3/8, 5/8, 7/8, 1, 1.
    image = drawn_images(1, 1, 8)
    figure = activation_figure(image, {"a": np.array([[[0.0, 1.0]]])}, threshold=0.75)
    assert "≥ 75 %" in texts_of(figure)
    assert "38 % kept" in texts_of(figure)


def test_two_models_stand_side_by_side_under_their_names():
    rng = np.random.default_rng(3)
    maps = {"no_drop": rng.random((1, 4, 2)), "paper": rng.random((1, 4, 2))}
    image = drawn_images(1)
    figure = activation_figure(image, maps, labels=["pid 7"])
    assert {"no_drop", "paper", "pid 7"} <= set(texts_of(figure))
    panels = pixels_of(figure)
    for place, name in ((1, "no_drop"), (3, "paper")):
        shares = heat(maps[name][0], image[0].shape[:2])
        np.testing.assert_array_equal(panels[place], overlay(image[0], shares))


def test_panels_have_the_aspect_that_is_asked_for():
    figure = activation_figure(drawn_images(3), {"a": np.ones((3, 4, 2))}, aspect=2.5)
    width, height = figure.get_size_inches()
    for axes in figure.axes[:9]:
        box = axes.get_position()
        assert box.height * height / (box.width * width) == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("width", "count", "names"),
    [(3.5, 1, "a"), (3.5, 5, "ab"), (7.2, 1, "a"), (7.2, 7, "ab"), (3.5, 9, "a")],
)
def test_nothing_lies_outside_the_figure_or_on_another_panel(width, count, names):
    maps = {f"{name}-very-long-name-of-a-run": np.ones((count, 4, 2)) for name in names}
    labels = [f"pid {10**place}, camera 6" for place in range(count)]
    figure = activation_figure(drawn_images(count), maps, labels=labels, width=width)
    figure.draw_without_rendering()
    assert figure.get_size_inches()[0] <= width + 1e-6
    boxes = [axes.get_window_extent() for axes in figure.axes]
    boxes += [text.get_window_extent() for text in figure.texts if text.get_text()]
    for place, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
        for other in boxes[:place]:
            across = min(box.x1, other.x1) - max(box.x0, other.x0)
            along = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert across < 0.5 or along < 0.5, (box, other)


def test_a_figure_fits_on_a_page_where_panels_can_be_smaller():
    images, maps = drawn_images(4), {"a": np.ones((4, 4, 2))}
    for width in (3.5, 7.2):
        figure = activation_figure(images, maps, width=width)
        assert figure.get_size_inches()[1] <= 9 + 1e-6


def test_lines_are_of_almost_equal_length():
    # Three groups would fit beside each other; four make two lines of two.
    figure = activation_figure(drawn_images(4), {n: np.ones((4, 4, 2)) for n in "ab"})
    tops = [round(axes.get_position().y1, 4) for axes in figure.axes[:20:5]]
    assert tops[0] == tops[1] > tops[2] == tops[3]


def test_a_column_an_epoch():
    images, maps = drawn_images(2), np.random.default_rng(4).random((3, 2, 4, 2))
    figure = epochs_figure(images, maps, epochs=[1, 9, 18])
    assert {"epoch 1", "epoch 9", "epoch 18"} <= set(texts_of(figure))
    panels = pixels_of(figure)
    expected = overlay(images[1], heat(maps[2, 1], images[1].shape[:2]))
    np.testing.assert_array_equal(panels[7], expected)


@pytest.mark.parametrize(
    ("images", "maps", "options", "message"),
    [
        ([], {"a": np.ones((0, 2, 2))}, {}, "at least one image"),
        (drawn_images(2), {}, {}, "at least one model"),
        (
            drawn_images(2),
            {"a": np.ones((3, 2, 2))},
            {},
            r"2 images.*\(3, 2, 2\) \(a\)",
        ),
        (drawn_images(1), {"a": np.full((1, 2, 2), np.nan)}, {}, "finite.*of a"),
        ([np.zeros((2, 2, 3))], {"a": np.ones((1, 2, 2))}, {}, "uint8.*float64"),
        (drawn_images(1), {"a": np.ones((1, 2, 2))}, {"threshold": 1}, "threshold=1"),
    ],
)
def test_errors(images, maps, options, message):
    with pytest.raises(ValueError, match=message):
        activation_figure(images, maps, **options)
