"""Whom the images of files, folders and lists show, whatever is done with them."""

import numpy as np
import pytest

from tests.test_own_images import touch
from topdb_tf.data.image_files import read_images
from topdb_tf.data.records import UNKNOWN, IdNames
from topdb_tf.search.entries import entries_bytes, entries_of, new_entries


def told(images):
    """Returns name, person and camera of each image, as they are called."""
    return [
        (
            one.path.name,
            images.names.persons.get(one.pid, one.pid),
            images.names.cameras.get(one.camid, one.camid),
        )
        for one in images.records
    ]


@pytest.fixture
def crops(tmp_path):
    """A function that writes a CSV file of these lines, of images that exist."""
    touch(tmp_path, *"abcd")
    for name in "abcd":
        (tmp_path / name).rename(tmp_path / f"{name}.jpg")

    def write(*lines, header="path,pid,camid"):
        (tmp_path / "crops.csv").write_text("\n".join([header, *lines]))
        return read_images([tmp_path / "crops.csv"])

    return write


def test_a_list_tells_names_and_those_who_are_not_known_stay(crops):
    images = crops("b.jpg,bob,yard", "a.jpg,anna,door", "c.jpg,NaN,yard")
    assert [one.pid for one in images.records] == [2, 1, -1]
    assert [one.camid for one in images.records] == [2, 1, 2]
    assert images.names == IdNames({1: "anna", 2: "bob"}, {1: "door", 2: "yard"})
    assert "1 image of nobody known: pid NaN." in images.notes


def test_numbers_stay_and_have_no_names(crops):
    images = crops("a.jpg,7,3", "b.jpg,0,1")
    assert [(one.pid, one.camid) for one in images.records] == [(7, 3), (0, 1)]
    assert images.names == IdNames({}, {})


def test_a_list_without_cameras_knows_none(crops):
    images = crops("a.jpg,anna", "b.jpg,bob", header="path,pid")
    assert {one.camid for one in images.records} == {UNKNOWN}
    one_camera = crops("a.jpg,anna,door", "b.jpg,bob,door")
    assert one_camera.names.cameras == {1: "door"}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a.jpg,Anna,1", "b.jpg,anna,1"], r"'Anna' \(line 2\) and 'anna' \(line 3\)"),
        (["a.jpg,anna,1", "a.jpg,bob,1"], "two pids"),
        (["a.jpg,anna,1", "b.jpg,bob,"], "cameras must be told for all"),
        (["gone.jpg,anna,1"], "must exist"),
    ],
)
def test_a_list_is_refused_as_fit_refuses_it(crops, lines, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        crops(*lines)


def test_folders_are_read_as_a_data_set_is(tmp_path):
    touch(tmp_path / "people", "anna/cam1/1.jpg", "anna/cam2/1.jpg", "bob/cam1/1.jpg")
    images = read_images([tmp_path / "people"])
    assert told(images) == [
        ("1.jpg", "anna", "cam1"),
        ("1.jpg", "anna", "cam2"),
        ("1.jpg", "bob", "cam1"),
    ]
    touch(tmp_path / "people", "Anna/cam1/1.jpg")
    with pytest.raises(ValueError, match="pids must differ"):
        read_images([tmp_path / "people"])


def test_layout_and_pattern_say_how(tmp_path):
    flat = touch(tmp_path / "flat", "door-0105-anna-3.jpg", "yard-0105-bob-1.jpg")
    images = read_images([flat], pattern="{camid}-{date}-{pid}-{n}")
    assert [one[1:] for one in told(images)] == [("anna", "door"), ("bob", "yard")]
    deep = touch(tmp_path / "deep", "monday/anna/1.jpg", "tuesday/bob/2.jpg")
    images = read_images([deep], layout="*/person")
    assert [one[1] for one in told(images)] == ["anna", "bob"]
    with pytest.raises(ValueError, match="not of the pattern|must be of the pattern"):
        read_images([flat], pattern="{pid}_{n}")


def test_a_flat_folder_is_told_by_its_names_or_not_at_all(tmp_path):
    names = ["-1_c1s1_1.jpg", "0000_c2s1_1.jpg", "0007_c2s1_1.jpg", "x.jpg"]
    folder = touch(tmp_path / "flat", *names, "notes.txt")
    images = read_images([folder])
    assert [(one.pid, one.camid) for one in images.records] == [
        (-1, 1),
        (0, 2),
        (7, 2),
        (UNKNOWN, UNKNOWN),
    ]
    assert images.names == IdNames({}, {})
    assert [path.name for path in images.skipped] == ["notes.txt"]


def test_a_folder_without_an_order_is_taken_as_it_is_and_said(tmp_path):
    folder = touch(tmp_path / "photos", "0003_c1s1_1.jpg", "deep/y.jpg")
    images = read_images([folder, folder / "deep" / "y.jpg"])
    assert [one.pid for one in images.records] == [3, UNKNOWN]
    (note,) = images.notes
    assert "as in Market-1501" in note
    assert "directly in" in note


def test_persons_of_several_places_are_numbered_together(tmp_path):
    touch(tmp_path / "today", "carl/1.jpg", "anna/1.jpg")
    touch(tmp_path / "before", "bob/1.jpg", "anna/2.jpg")
    images = read_images([tmp_path / "today", tmp_path / "before"])
    pids = [one.pid for one in images.records]
    assert pids == [1, 3, 1, 2]
    assert images.names.persons == {1: "anna", 2: "bob", 3: "carl"}


def rows(first_id, pids, camids=None, persons=None, cameras=None):
    """Returns entries of an index, called by their ids."""
    paths = [f"{first_id + place}.jpg" for place in range(len(pids))]
    names = IdNames(persons or {}, cameras or {})
    features = np.zeros((len(pids), 2), np.float32)
    return new_entries(first_id, paths, features, pids, camids, names)


def test_an_index_knows_persons_by_their_names_whatever_their_numbers():
    index = rows(0, [1, 2], [1, 2], {1: "anna", 2: "bob"}, {1: "door", 2: "yard"})
    more = rows(2, [1, 2, 3], [1, 2, 1], {1: "ben", 2: "Bob", 3: "9"}, {2: "cam7"})
    joined = index.joined(more)
    # ben is new, and 1 and 2 are taken, so he is 3; Bob is bob; 3 is taken then, so 9
    # is 4. Camera 1 of the new ones has no name: it is called 1, and is not the door.
    assert joined.pids.tolist() == [1, 2, 3, 2, 4]
    assert joined.names.persons == {1: "anna", 2: "bob", 3: "ben", 4: "9"}
    assert joined.camids.tolist() == [1, 2, 3, 4, 3]
    assert joined.names.cameras == {1: "door", 2: "yard", 3: "1", 4: "cam7"}
    assert joined.numbers_of("pid", ["anna", "BOB", 3, "carl"]) == [1, 2, 3, None]
    assert joined.numbers_of("camid", ["yard", "c7", "x"]) == [2, 4, None]
    forgotten = joined.take(np.array([0, 2]))
    assert forgotten.names.persons == {1: "anna", 3: "ben"}


def test_a_camera_is_the_same_in_its_usual_spellings():
    index = rows(0, [1], [2], cameras={2: "cam2"})
    joined = index.joined(rows(1, [1], [2]))  # as in a name 0001_c2s1
    assert joined.camids.tolist() == [2, 2]
    assert joined.pids.tolist() == [1, 1]


def test_names_are_kept_in_the_file_of_an_index_and_may_be_missing_there():
    named = rows(0, [1, -1], [5, 5], {1: "ann\u00e4 \ud800"}, {5: "door"})
    again = entries_of(entries_bytes(named))
    assert again.names == named.names
    plain = rows(0, [1, 2])
    contents = entries_bytes(plain)
    assert b"names" not in contents  # as before names were kept
    assert entries_of(contents).names == IdNames({}, {})
