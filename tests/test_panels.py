"""What keeps the words of a figure within their panels."""

import pytest

from topdb_tf.drawing.panels import shortened, text_width

NAME = "0002_c1s1_000451_03_of_a_long_name.jpg"


def test_a_text_that_fits_is_left_as_it_is():
    assert shortened(NAME, text_width(NAME)) == NAME


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_longer_one_loses_no_more_of_its_middle_than_it_must(share):
    room = share * text_width(NAME)
    text = shortened(NAME, room)
    head, tail = text.split("…")
    assert text_width(text) <= room
    assert NAME.startswith(head)
    assert NAME.endswith(tail)
    assert len(head) - len(tail) in (0, 1)
    more = len(head) + len(tail) + 1
    longer = f"{NAME[: (more + 1) // 2]}…{NAME[len(NAME) - more // 2 :]}"
    assert text_width(longer) > room


def test_of_a_text_without_room_a_letter_is_left():
    assert shortened(NAME, 0) == f"{NAME[0]}…"


@pytest.mark.parametrize("text", ["", "a"])
def test_less_than_two_letters_stay(text):
    assert shortened(text, 0) == text
