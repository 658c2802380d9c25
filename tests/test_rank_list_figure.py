"""Pictures of ranked lists."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from topdb_tf.drawing.rank_lists import MARKS, Listed, RankList, rank_list_figure


def image_of(value):
    return np.full((6, 3, 3), value, np.uint8)


def list_of(kinds, *, title="query 1: AP 50.0 %", distance=0.25):
    listed = [
        Listed(image_of(place), kind, distance * (place + 1), f"pid {place}\ncam 2")
        for place, kind in enumerate(kinds)
    ]
    return RankList(image_of(99), "pid 5\ncam 1", title, listed)


def texts_of(figure):
    return [text.get_text() for text in figure.texts if text.get_text()]


def marks_of(figure):
    """Returns (pixel value, letter, colour, line style) of each marked panel."""
    found = []
    for axes in figure.axes:
        if axes.images and axes.texts:
            border = axes.patches[-1]
            value = int(axes.images[0].get_array()[0, 0, 0])
            letter = axes.texts[0].get_text()
            found.append(
                (value, letter, to_hex(border.get_edgecolor()), border.get_linestyle())
            )
    return found


def test_each_image_has_the_mark_of_its_kind():
    kinds = ["wrong", "right", "junk", "right"]
    found = marks_of(rank_list_figure([list_of(kinds)]))
    assert [value for value, *_ in found] == [0, 1, 2, 3]  # the query has none
    for (_, letter, color, line), kind in zip(found, kinds, strict=True):
        mark = MARKS[kind]
        assert (letter, color, line) == (mark.letter, mark.color.lower(), mark.line)


def test_kinds_differ_without_their_colours():
    assert len({mark.letter for mark in MARKS.values()}) == len(MARKS)
    assert len({mark.line for mark in MARKS.values()}) == len(MARKS)


def test_junk_has_no_rank_and_is_not_counted():
    texts = texts_of(rank_list_figure([list_of(["wrong", "junk", "right"])]))
    ranks = [text for text in texts if text in ("1", "2", "3", "–")]
    assert ranks == ["1", "–", "2"]


def test_titles_labels_and_distances_are_written():
    texts = texts_of(rank_list_figure([list_of(["right", "wrong"], distance=1234.56)]))
    assert {"query 1: AP 50.0 %", "pid 5", "cam 1", "pid 0", "1235", "2469"} <= set(
        texts
    )


def test_only_marks_that_occur_are_explained():
    texts = texts_of(rank_list_figure([list_of(["right", "right"])]))
    assert MARKS["right"].meaning in texts
    assert MARKS["wrong"].meaning not in texts


def test_lists_may_end_early():
    figure = rank_list_figure([list_of(["right"] * 5), list_of(["wrong"])])
    assert len(marks_of(figure)) == 6


@pytest.mark.parametrize(
    ("length", "width"), [(10, 7.2), (5, 3.5), (1, 3.5), (20, 7.2)]
)
def test_nothing_lies_outside_the_figure(length, width):
    lists = [list_of((["right", "wrong", "junk"] * length)[:length])] * 2
    figure = rank_list_figure(lists, width=width)
    figure.draw_without_rendering()
    assert figure.get_size_inches()[0] <= width + 1e-6
    for artist in [*figure.axes, *figure.texts]:
        box = artist.get_window_extent()
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1


def test_persons_are_drawn_three_times_as_high_as_wide():
    figure = rank_list_figure([list_of(["right"] * 4)])
    width, height = figure.get_size_inches()
    box = figure.axes[0].get_position()
    assert box.height * height / (box.width * width) == pytest.approx(3)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([], "at least one ranked list"),
        ([list_of(["good"])], "right, wrong, junk.*kind='good'"),
        ([list_of([])._replace(query=np.zeros((3, 3)))], "RGB.*float64"),
    ],
)
def test_errors(lists, message):
    with pytest.raises(ValueError, match=message):
        rank_list_figure(lists)
