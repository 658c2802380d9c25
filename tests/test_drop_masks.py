"""Pictures of what the drop blocks take away."""

import numpy as np
import pytest

from topdb_tf.drawing.drop_masks import drop_mask_figure, rectangles

IMAGES = [np.full((8, 4, 3), value, np.uint8) for value in (10, 20)]
ACTIVITY = np.array([[1.0, 4.0, 3.0, 2.0], [8.0, 1.0, 1.0, 9.0]])
TOP = (ACTIVITY >= np.array([[3], [8]]))[:, :, None]
BLOCK = np.array([[0, 0], [0, 1], [0, 1], [0, 0]], bool)


def draw(**options):
    arguments = {"top_dropped": [TOP], "block_dropped": BLOCK, **options}
    images = arguments.pop("images", IMAGES)
    return drop_mask_figure(images, arguments.pop("activity", ACTIVITY), **arguments)


def covered(axes, rows, columns):
    """Returns which cells of a panel lie under a hatched patch."""
    mask = np.zeros((rows, columns), bool)
    for patch in axes.patches:
        if patch.get_hatch():
            box = patch.get_bbox()
            mask |= (
                (box.y0 < (np.arange(rows)[:, None] + 0.5) / rows)
                & ((np.arange(rows)[:, None] + 0.5) / rows < box.y1)
                & (box.x0 < (np.arange(columns) + 0.5) / columns)
                & ((np.arange(columns) + 0.5) / columns < box.x1)
            )
    return mask


def test_each_image_loses_its_own_rows_and_all_the_same_block():
    axes = draw().axes
    for index in range(2):
        _, _, top, block = axes[4 * index : 4 * index + 4]
        np.testing.assert_array_equal(covered(top, 4, 1), TOP[index])
        np.testing.assert_array_equal(covered(block, 4, 2), BLOCK)


def test_each_of_several_blocks_has_a_panel():
    cells = np.zeros((2, 4, 2), bool)
    cells[0, 1, 0] = cells[1, 0, 1] = True
    figure = draw(top_dropped=[cells, TOP])
    for index in range(2):
        _, bars, first, second, _ = figure.axes[5 * index : 5 * index + 5]
        np.testing.assert_array_equal(covered(first, 4, 2), cells[index])
        np.testing.assert_array_equal(covered(second, 4, 1), TOP[index])
        hatched = [bar.get_y() + 0.4 for bar in bars.patches if bar.get_hatch()]
        rows = np.flatnonzero(TOP[index, :, 0]) + 0.5
        np.testing.assert_allclose(sorted(hatched), rows)
    titles = [text.get_text() for text in figure.texts]
    assert {"Top 1", "Top 2", "DropBlock"} <= set(titles)


def test_bars_stand_beside_their_rows():
    bars = draw().axes[1].patches
    lengths = {round(bar.get_y() + 0.4, 6): bar.get_width() for bar in bars}
    assert lengths == {0.5: 1, 1.5: 4, 2.5: 3, 3.5: 2}
    hatched = {bar.get_width() for bar in bars if bar.get_hatch()}
    assert hatched == {4, 3}


def test_rectangles_cover_what_is_dropped_and_nothing_else():
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = rng.random((6, 5)) < 0.5
        found = np.zeros(mask.shape, int)
        for top, left, bottom, right in rectangles(mask):
            found[top:bottom, left:right] += 1
        np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize("width", [3.5, 7.2])
@pytest.mark.parametrize(("count", "blocks"), [(1, 1), (4, 1), (3, 2)])
def test_nothing_lies_outside_the_figure_or_on_other_words(width, count, blocks):
    figure = draw(
        images=[IMAGES[0]] * count,
        activity=ACTIVITY[:1].repeat(count, axis=0),
        top_dropped=[TOP[:1].repeat(count, axis=0)] * blocks,
        labels=["pid 1501, camera 6, and more"] * count,
        width=width,
    )
    figure.draw_without_rendering()
    assert figure.get_size_inches()[0] <= width + 1e-6
    texts = [text.get_window_extent() for text in figure.texts if text.get_text()]
    for box in [*texts, *(axes.get_window_extent() for axes in figure.axes)]:
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1
    for place, box in enumerate(texts):
        for other in texts[:place]:
            across = min(box.x1, other.x1) - max(box.x0, other.x0)
            along = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert across < 0.5 or along < 1.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": IMAGES[:1]}, "1 images"),
        ({"top_dropped": [TOP[:, :3]]}, r"\(2, 3, 1\)"),
        ({"top_dropped": [TOP[:, :, 0]]}, r"\[\(2, 4\)\]"),
        ({"block_dropped": BLOCK[:3]}, r"\(3, 2\)"),
        (
            {"images": [], "activity": ACTIVITY[:0], "top_dropped": [TOP[:0]]},
            "0 images",
        ),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        draw(**options)
