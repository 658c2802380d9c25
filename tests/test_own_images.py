"""One's own images: CSV files, folders of persons, and how they are divided."""

import itertools
import os
import random
import re
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topdb_tf.data.benchmarks import dataset_name, is_path, read_split
from topdb_tf.data.checks.check import check_data
from topdb_tf.data.checks.listing import list_dataset
from topdb_tf.data.checks.split import check_split
from topdb_tf.data.image_files import list_images
from topdb_tf.data.partition import split_of
from topdb_tf.data.records import camids_of, pids_of
from topdb_tf.data.sightings import Sighting, absolute
from topdb_tf.data.table import table_text
from topdb_tf.runs.settings import DataConfig

PARTS = ("train", "query", "gallery")
NAMES = ["anna", "bob", "cleo", "dan", "eve", "fay", "gus", "hal"]
NUMBERS = [f"{number:04d}" for number in range(1, 9)]
MARKET = [
    *(f"bounding_box_train/{n}_c{c}_1.jpg" for n in NUMBERS[:4] for c in "12"),
    *(f"query/{n}_c1_1.jpg" for n in NUMBERS[4:]),
    *(f"bounding_box_test/{n}_c2_1.jpg" for n in NUMBERS[4:]),
]


def write(folder, text, *, name="own.csv", images=(), encoding="utf-8"):
    """Writes a CSV file and empty image files beside it."""
    for image in images:
        path = folder / image
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / name).write_text(text, encoding=encoding)
    return folder / name


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def read(path, **division):
    return read_split(str(path), path.parent / "no-data-root", **division)


def seen(split, part):
    """Returns name, person and camera of each image, in the owner's words."""
    return [
        (r.path.name, split.pid_names[r.pid], split.camera_names.get(r.camid))
        for r in getattr(split, part)
    ]


def everything(split):
    return {part: getattr(split, part) for part in PARTS}


GIVEN = """path,pid,camid,split
a.jpg,anna,door,train
b.jpg,bob,yard,train
c.jpg,cleo,door,query
sub/d.jpg,cleo,yard,gallery
"""
GIVEN_IMAGES = ("a.jpg", "b.jpg", "c.jpg", "sub/d.jpg")


def test_a_csv_with_all_parts_is_used_as_it_is(tmp_path):
    split = read(write(tmp_path, GIVEN, images=GIVEN_IMAGES))
    assert split.name == "own"
    assert seen(split, "train") == [("a.jpg", "anna", "door"), ("b.jpg", "bob", "yard")]
    assert seen(split, "query") == [("c.jpg", "cleo", "door")]
    assert seen(split, "gallery") == [("d.jpg", "cleo", "yard")]
    # Names in their order: anna 1, bob 2, cleo 3; door 1, yard 2.
    assert [(r.pid, r.camid) for r in split.train + split.query] == [
        (1, 1),
        (2, 2),
        (3, 1),
    ]
    assert split.gallery[0].path == tmp_path / "sub" / "d.jpg"
    assert split.has_cameras
    assert split.notes == ()
    findings = check_split(split, images_per_pid=1)
    assert [f for f in findings if f.severity == "error"] == []


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_delimiters_and_byte_order_mark_are_seen(tmp_path, delimiter, encoding):
    text = GIVEN.replace(",", delimiter).replace("anna", "Änne")
    path = write(tmp_path, text, images=GIVEN_IMAGES, encoding=encoding)
    assert seen(read(path), "train")[0] == ("a.jpg", "Änne", "door")


def test_columns_may_have_any_order_and_others_are_noted(tmp_path):
    rows = [line.split(",") for line in GIVEN.splitlines()]
    rows = [[row[3], row[1], "x,y", row[0], row[2]] for row in rows]
    rows[0][2] = "Weather"
    lines = [",".join(f'"{cell}"' for cell in row) for row in rows]
    path = write(tmp_path, "\r\n".join(lines) + "\r\n\r\n", images=GIVEN_IMAGES)
    split = read(path)
    assert seen(split, "query") == [("c.jpg", "cleo", "door")]
    assert split.notes == ("Columns that are not used: Weather.",)


def test_paths_may_be_absolute_and_reach_above_the_file(tmp_path):
    touch(tmp_path, "one.jpg", "two.jpg")
    text = f"path,pid,split\n{tmp_path / 'one.jpg'},1,query\n../two.jpg,1,gallery\n"
    path = write(touch(tmp_path / "lists"), text, images=("list.jpg",))
    split = read(path)
    assert split.query[0].path == tmp_path / "one.jpg"
    assert split.gallery[0].path == tmp_path / "two.jpg"


@pytest.mark.parametrize(
    ("pids", "expected"),
    [
        (["7", "12", "7"], [7, 12, 7]),
        (["007", "12", "7"], [7, 12, 7]),
        (["b10", "b9", "b10"], [2, 1, 2]),
        (["0", "12", "12"], [1, 2, 2]),  # 0 is a person, but not where Market-1501's is
        (["12", "12", "0"], [12, 12, 0]),  # in the gallery alone: nobody known
    ],
)
def test_persons_that_are_numbers_keep_them(tmp_path, pids, expected):
    parts = ["train", "query", "gallery"]
    rows = [f"{part}.jpg,{pid},{part}" for part, pid in zip(parts, pids, strict=True)]
    text = "\n".join(["path,pid,split", *rows])
    split = read(write(tmp_path, text, images=[f"{part}.jpg" for part in parts]))
    assert [getattr(split, part)[0].pid for part in parts] == expected


def test_images_of_nobody_are_left_out(tmp_path):
    text = GIVEN.replace("anna", "1").replace("bob", "-1").replace("cleo", "3")
    split = read(write(tmp_path, text, images=GIVEN_IMAGES))
    assert seen(split, "train") == [("a.jpg", "1", "door")]
    assert split.notes == ("1 image of nobody known left out: pid -1.",)


@pytest.mark.parametrize(
    ("cameras", "expected"),
    [
        (("cam2", "cam10"), [2, 10]),
        (("cam2", "yard2"), [1, 2]),
        (("yard", "door"), [2, 1]),
        (("5", "3"), [5, 3]),
    ],
)
def test_cameras_keep_the_numbers_in_their_names(tmp_path, cameras, expected):
    text = GIVEN.replace("door", "{}").replace("yard", "{}")
    text = text.format(*cameras, *cameras)
    split = read(write(tmp_path, text, images=GIVEN_IMAGES))
    assert [split.query[0].camid, split.gallery[0].camid] == expected


def unlike(pids, cameras=("a", "b"), header="path,pid,camid"):
    """Returns the text of a CSV file: two images by each camera of six persons.

    A person and a camera are a name, or one for each of their two images in turn.
    """
    rows, pids = [header], list(pids) + [f"p{n}" for n in range(len(pids), 6)]
    for place, pid in enumerate(pids):
        for number in range(4):
            names = [
                name if isinstance(name, str) else name[number % 2]
                for name in (pid, cameras[number // 2])
            ]
            rows.append(",".join([f"{place}-{number}.jpg", *names]))
    return "\n".join(rows) + "\n"


UNLIKE_IMAGES = [f"{place}-{number}.jpg" for place in range(6) for number in range(4)]


@pytest.mark.parametrize(
    "unknown",
    ["-1", "-1.0", "00-1", "nan", "NaT", "None", "NULL", "N/A", "#NA", "?", "Unknown"]
    + ["-", "#REF!", "#DIV/0!", "\\N", "(blank)", "no id", "未知", "Desconhecido"],
)
def test_who_is_not_known_is_no_person_and_where_no_camera(tmp_path, unknown):
    for others in (["anna"], ["1", "2", "3", "4", "5"]):
        text = unlike([unknown, *others])
        split = read(write(tmp_path, text, images=UNLIKE_IMAGES))
        assert unknown not in split.pid_names.values()
        assert len(split.records) == 20
        assert f"4 images of nobody known left out: pid {unknown}." in split.notes
    split = read(write(tmp_path, unlike([], [unknown] * 2), images=UNLIKE_IMAGES))
    assert not split.has_cameras
    write(tmp_path, unlike([], [unknown, "b"]))
    with pytest.raises(ValueError, match="12 of 24 have no camid"):
        read(tmp_path / "own.csv")


@pytest.mark.parametrize(
    "name", ["nan_c1_1", "-2_c1_1", f"{2**64}_c1_1", "0001_c-1_1", f"1_c{2**64}_1"]
)
def test_a_name_as_in_market_1501_tells_numbers_that_can_be(tmp_path, name):
    names = [f"{pid:04d}_c{camid}_1.jpg" for pid in range(1, 6) for camid in (1, 2)]
    assert len(read(touch(tmp_path / "flat", *names)).records) == 10
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        touch(tmp_path / "parts" / folder, *names)
    touch(tmp_path / "parts" / "query", f"{name}.jpg")
    touch(tmp_path / "flat", f"{name}.jpg")
    for folder in ("flat", "parts"):
        with pytest.raises(ValueError, match=f"<pid>_c<camid>.*{name}"):
            read(tmp_path / folder)


def test_a_folder_of_nobody_known_is_no_person(tmp_path):
    folder = people(tmp_path)
    touch(folder, "unknown/1.jpg", "unknown/2.jpg")
    split = read(folder)
    assert "unknown" not in split.pid_names.values()
    assert any("2 images of nobody known" in note for note in split.notes)


@pytest.mark.parametrize(
    ("twins", "number"),
    [
        (("1", "001"), 6),
        (("1", "1.0"), 6),
        (("1", "\uff11"), 6),
        (("Jos\u00e9", "Jose\u0301"), 6),
        (("anna", " anna\u200b"), 6),
        (("3", "\u0663"), 6),  # the Arabic three
        (("007", '"=""007"""'), 6),  # as Excel keeps text, in a quoted cell
        (("007", "'007"), 6),
        # Not one, and not to be refused:
        (("3.1", "3.10"), 7),
        (("q1", "q10"), 7),
        (("anna-1", "anna 1"), 7),
        (("1e5", "100000"), 7),
        ((str(2**64), str(2**64 + 1)), 7),
        ((str(2**62), str(2**62 + 1)), 7),
    ],
)
def test_a_person_or_a_camera_in_two_spellings_is_one(tmp_path, twins, number):
    others = [str(n) for n in range(20, 25)] if twins[0].isdigit() else []
    split = read(write(tmp_path, unlike([twins, *others]), images=UNLIKE_IMAGES))
    assert len({record.pid for record in split.records}) == number
    cameras = [twins, "99"]
    split = read(write(tmp_path, unlike([], cameras), images=UNLIKE_IMAGES))
    assert len({record.camid for record in split.records}) == number - 4
    assert pids_of(split.records).dtype == camids_of(split.records).dtype == np.int64


@pytest.mark.parametrize(
    ("pid", "words"),
    [
        (("P1", "p1"), ["'P1' (line 2) and 'p1' (line 3)", "more than case"]),
        (("p1", "p01"), ["more than case, spaces, zeros"]),
        (("anna", "007"), None),
        (("7", "07"), ["more than case, spaces, zeros"]),  # not all are numbers
        ("-2", ["line 2", "negative number", "Received: -2"]),
        ("1.23E+12", ["line 2", "has lost digits"]),
        ("1.23E12", ["line 2", "has lost digits"]),
        (("1001", '"1,001"'), ["'1001' (line 2) and '1,001' (line 3)"]),
        (("p1", "p\u200b1"), ["what is not seen"]),
        (("p1", "p1\u200f"), ["what is not seen"]),
        ("9" * 5000, ["line 2", "at most 255"]),
        ("a\x1b[1mb", ["line 2", "on one line"]),
    ],
)
def test_an_id_that_cannot_be_meant_is_refused(tmp_path, pid, words):
    path = write(tmp_path, unlike([pid]), images=UNLIKE_IMAGES)
    if words is None:
        read(path)
        return
    with pytest.raises(ValueError, match=r"own\.csv") as error:
        read(path)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    "header",
    [
        "path,pid,camera,split",
        "image,person_id,camera_id,set",
        "Image Path,Identity,Cam ID,subset",
        "IMG-PATH,label,cams,partition",
        "filename,id,cam,Phase",
        "filename,id,Câmera,set",
        "filename,id,cam_no,set",
        "filename,id,camera index,set",
        "\ufefffile,target,cameraid,mode",
        "impath,vid,camid,fold",
    ],
)
def test_columns_are_known_by_other_usual_names(tmp_path, header):
    text = GIVEN.replace("path,pid,camid,split", header).replace("train", "Training")
    text = text.replace("query", "probe")
    split = read(write(tmp_path, text, images=GIVEN_IMAGES))
    assert seen(split, "query") == [("c.jpg", "cleo", "door")]
    assert split.has_cameras
    [note] = split.notes
    for name in header.strip("\ufeff").split(","):
        plain = name.lower().replace(" ", "")
        assert f"`{name}` as " in note or plain in ("path", "pid", "camid", "split")


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        ("path,pid,person_id", ["1,x", "2,x"], ["two columns `pid`: pid, person_id"]),
        ("path,pid,Pid", ["1,1", "2,2"], ["two columns `pid`"]),
        ("path,label,target", ["1,x", "2,x"], ["two columns `pid`"]),
        ("file,pid,filename", ["1,b.jpg", "2,a.jpg"], ["two columns `path`"]),
        ("path,pid,camid,camera", ["1,1,x", "2,1,y"], ["two columns `camid`"]),
        ("path,pid,view", ["1,1", "2,2"], ["`view`. Did you mean `camid`"]),
        ("path,pid,source_camera", ["1,1", "2,2"], ["Did you mean `camid`"]),
        ("path,pid,摄像头", ["1,1", "2,2"], ["Did you mean `camid`"]),
        ("path,pid,where", ["1,cam1", "2,cam2"], ["`where`. Did you mean `camid`"]),
        ("path,pid,usage", ["1,Train", "2,Test"], ["`usage`. Did you mean `split`"]),
        ("path,pid,is_train", ["1,True", "2,True"], ["Did you mean `split`"]),
        ("path,pid,split", ["1,1", "2,0"], ["line 2: the split must", "Wrong, too"]),
        ("path,pid,partition", ["1,0", "2,1"], ["line 2: the split must"]),
        ("path,pid,set", ["1,train", "2,trian"], ["line 3: the split must", "'trian'"]),
    ],
)
def test_columns_that_may_be_meant_are_asked_for(tmp_path, header, rows, words):
    lines = [f"{name},{row}" for name, row in zip(GIVEN_IMAGES, rows, strict=False)]
    path = write(tmp_path, "\n".join([header, *lines]), images=GIVEN_IMAGES)
    with pytest.raises(ValueError, match=r"own\.csv") as error:
        read(path)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("set", ["indoor", "outdoor"]),
        ("fold", ["0", "1"]),
        ("id", [str(n) for n in range(4)]),  # the numbers of the rows
        ("person_name", ["Anna", "Bob", "Cleo", "Cleo"]),
        ("image_path", ["frame.jpg"]),
        ("cam_model", ["a", "b"]),
        ("campus", ["a", "b"]),
        ("kind", ["train", "bus"]),
        ("model", ["a", "b"]),
        ("", ["1"]),
    ],
)
def test_other_columns_stay_out(tmp_path, name, values):
    lines = GIVEN.splitlines()
    cells = [name, *(values[n % len(values)] for n in range(4))]
    text = "\n".join(",".join(pair) for pair in zip(lines, cells, strict=True))
    split = read(write(tmp_path, text, images=GIVEN_IMAGES))
    assert seen(split, "query") == [("c.jpg", "cleo", "door")]
    name = name or "one without a name"
    assert split.notes == (f"Columns that are not used: {name}.",)


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\r\n" + GIVEN.replace(",", ";"),
        '"sep=;"\n' + GIVEN.replace(",", ";"),
        GIVEN.replace(",", "|"),
        GIVEN.replace(",", ", "),
        GIVEN.replace("sub/", "sub\\"),
        GIVEN.replace("\n", "\r"),
        "\n\n" + GIVEN.replace("\n", "\n\n"),
        GIVEN.replace("train\n", "train,\n"),  # a comma too many, with nothing behind
        GIVEN.replace("anna", '"anna"').replace("b.jpg", '"b.jpg"'),
        GIVEN.encode("utf-16"),
    ],
)
def test_what_other_programs_write_is_read(tmp_path, text):
    path = write(tmp_path, GIVEN, images=GIVEN_IMAGES)
    expected = read(path)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert read(path) == expected


def test_a_note_may_have_several_lines_and_a_name_quotes(tmp_path):
    text = GIVEN.replace("split\n", "split,note\n").replace(
        "train\n", 'train,"a, b,\nc"\n'
    )
    text = text.replace("query\n", "query,\n").replace("gallery\n", "gallery,5'11\"\n")
    path = write(
        tmp_path, text.replace("anna", '"Anna ""B"" C, Jr"'), images=GIVEN_IMAGES
    )
    split = read(path)
    assert seen(split, "train")[0] == ("a.jpg", 'Anna "B" C, Jr', "door")
    assert len(split.records) == 4
    path.write_text(path.read_text() + "e.jpg\n")
    with pytest.raises(ValueError, match="line 8: there must be 5 cells"):
        read(path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("bob", '"bob', "line 3: .*Is there a quote that is not closed"),
        ("bob", '"bob" the great', "line 3: .*Is there a quote"),
        ("yard,train\n", 'yard,"train\n', "line 3"),
        (
            "bob,yard,train\nc.jpg,cleo",
            '"bob,yard,train\nc.jpg",cleo',
            "line 3: a quote",
        ),
        ("bob", "b\0b", "line 3: it must be text"),
    ],
)
def test_a_row_is_never_lost_in_another(tmp_path, old, new, words):
    path = write(tmp_path, GIVEN.replace(old, new), images=GIVEN_IMAGES)
    with pytest.raises(ValueError, match=rf"(?s)own\.csv, {words}"):
        read(path)


def test_all_bad_lines_are_told_at_once(tmp_path):
    text = GIVEN.replace("bob", "").replace("query", "quary")
    path = write(tmp_path, text, images=GIVEN_IMAGES)
    with pytest.raises(ValueError, match=r"line 3: `pid` .*Wrong, too: line 4\."):
        read(path)


def test_an_image_may_be_query_and_in_the_gallery(tmp_path):
    text = GIVEN + "c.jpg,cleo,door,gallery\n"
    split = read(write(tmp_path, text, images=GIVEN_IMAGES))
    assert [r.path.name for r in split.gallery] == ["d.jpg", "c.jpg"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["own.csv is empty"]),
        ("path,pid\n", ["its header alone"]),
        ("a.jpg,1\n", ["line 1", "column `path`", "Received: a.jpg, 1"]),
        ("path,name\na.jpg,1\n", ["line 1", "`name`. Did you mean `pid`?"]),
        ("path,pid,camdi\na.jpg,1,1\n", ["`camdi`. Did you mean `camid`?"]),
        ("path,pid,pid\na.jpg,1,1\n", ["two columns `pid`"]),
        ("path,pid,split\na.jpg,1,trian\n", ["line 2", "Did you mean `train`?"]),
        ("path,pid\na.jpg,1\nb.jpg\n", ["line 3", "2 cells"]),
        ("path,pid\na.jpg,\n", ["line 2", "`pid` must not be empty"]),
        ("path,pid\na.jpg,1\n\na.jpg,1\n", ["listed twice", "line 2 and line 4"]),
        ("path,pid\na.jpg,1\na.jpg,2\n", ["two pids", "'1' (line 2) and '2' (line 3)"]),
        ("path,pid,camid\na.jpg,1,1\na.jpg,1,2\n", ["two camids"]),
        ("path,pid,camid\na.jpg,1,1\nb.jpg,1,\n", ["1 of 2 have no camid: line 3"]),
        ("path,pid,split\na.jpg,1,train\nb.jpg,1,\n", ["1 of 2 have none: line 3"]),
        (
            "path,pid,split\na.jpg,1,query\n",
            ["`gallery`, or", "Received: query"],
        ),
        (
            "path,pid,split\na.jpg,1,query\nb.jpg,1,gallery\nc.jpg,2,test\n",
            ["or `test`", "Received: gallery, query, test"],
        ),
        ("path,pid\na.jpg,1\nb.jpg,2\n", ["at least 4 identities", "Received: 2"]),
        (
            "path,pid,split\na.jpg,1,train\nb.jpg,2,test\nc.jpg,3,test\n",
            ["no person of the test has a second image", "--ignore-cameras"],
        ),
    ],
)
def test_what_is_wrong_in_a_csv_is_told_with_its_line(tmp_path, text, words):
    path = write(tmp_path, text, images=GIVEN_IMAGES)
    with pytest.raises(ValueError, match=r"own\.csv") as error:
        read(path)
    for word in words:
        assert word in str(error.value)


def test_missing_images_are_counted_and_the_first_five_named(tmp_path):
    rows = [f"{number}.jpg,1" for number in range(8)]
    path = write(tmp_path, "\n".join(["path,pid", *rows]), images=["3.jpg"])
    with pytest.raises(FileNotFoundError, match="7 of 8 are missing") as error:
        read(path)
    named = [n for n in range(8) if f"{n}.jpg (line {n + 2})" in str(error.value)]
    assert named == [0, 1, 2, 4, 5]
    assert "and 2 more" in str(error.value)


def test_a_file_in_another_encoding_is_explained(tmp_path):
    path = tmp_path / "own.csv"
    path.write_bytes("path,pid\nä.jpg,1\n".encode("latin-1"))
    with pytest.raises(ValueError, match="UTF-8"):
        read(path)


def test_a_share_that_is_none_is_refused(tmp_path):
    folder = people(tmp_path)
    with pytest.raises(ValueError, match="test_share"):
        read(folder, test_share=0.0)


# ---- folders


def people(tmp_path, *, persons=5, cameras=2, images=2, name="people"):
    """A folder a person; names tell the camera."""
    names = [
        f"p{person}/{person}_c{camera}_{image}.jpg"
        for person in range(persons)
        for camera in range(1, cameras + 1)
        for image in range(images)
    ]
    return touch(tmp_path / name, *names)


def test_names_of_images_tell_the_camera_where_all_do(tmp_path):
    folder = people(tmp_path)
    split = read(folder)
    assert {r.camid for r in split.train} == {1, 2}
    assert split.camera_names == {1: "1", 2: "2"}
    touch(folder, "p0/plain.jpg")
    split = read(folder)
    assert not split.has_cameras
    assert "1 of 21 do not tell it: plain.jpg" in split.notes[0]
    assert "No cameras" in split.notes[-1]


@pytest.mark.parametrize(
    "camera",
    ["_c{}", "_C{}", "_cam{}", " camera {}", ".cam{}.", "-cam_{}-x", "_camera{}_2"],
)
def test_names_of_images_tell_the_camera_in_many_ways(tmp_path, camera):
    pattern = "{}/image" + camera + ".jpg"
    for cameras in ("12", "AB"):
        names = paths(pattern, NAMES, cameras)
        split = read(touch(tmp_path / cameras, *names))
        is_told = cameras == "12" or "cam" in camera
        assert set(split.camera_names.values()) == set(cameras if is_told else "")


def test_numbers_that_name_one_person_are_told(tmp_path):
    names = paths("{}/1_c{}.jpg", ["7", "007", *NUMBERS[:4]], "12")
    split = read(touch(tmp_path / "people", *names))
    assert len({record.pid for record in split.records}) == 5
    assert "Taken for one person each: 007 and 7." in split.notes


def test_images_of_other_formats_are_told_wherever_they_lie(tmp_path):
    folder = touch(people(tmp_path), "p0/a.bmp", "new/b.WEBP")
    [note] = [note for note in read(folder).notes if "NOT READ" in note]
    assert "b.WEBP, a.bmp" in note
    market = touch(tmp_path / "market", *MARKET, "query/5_c1_9.tif")
    [note] = [note for note in read(market).notes if "NOT READ" in note]
    assert "5_c1_9.tif" in note
    with pytest.raises(ValueError, match=r"must hold images.*other formats: a\.bmp"):
        read(touch(tmp_path / "regdb", "1/a.bmp", "2/b.bmp"))


def test_pid_0_of_one_s_own_in_the_layout_of_market_1501_is_told(tmp_path):
    names = ["bounding_box_train/0_c1_1.jpg", "bounding_box_train/0_c2_1.jpg"]
    split = read(touch(tmp_path / "market", *MARKET, *names))
    assert any(note.startswith("Pid 0 is taken for one person") for note in split.notes)
    assert not any("Pid 0" in one for one in read(touch(tmp_path / "b", *MARKET)).notes)


def test_names_tell_the_camera_beside_folders_without_images(tmp_path):
    names = [
        f"{person}/{person}_c{camera}_1.jpg" for person in "abcde" for camera in "12"
    ]
    folder = touch(tmp_path / "people", *names, "notes.txt")
    (folder / "empty").mkdir()
    assert read(folder).has_cameras


def test_folders_of_cameras_are_cameras(tmp_path):
    names = [f"{p}/cam{c}/{n}.JPG" for p in "abcd" for c in (3, 12) for n in (1, 2)]
    split = read(touch(tmp_path / "people", *names, "a/cam3/.hidden.jpg"))
    assert {r.camid for r in split.gallery} == {3, 12}
    assert split.camera_names == {3: "cam3", 12: "cam12"}
    touch(tmp_path / "people", "a/beside.jpg")
    with pytest.raises(ValueError, match=r"1 of 17 have no camid: a/beside\.jpg"):
        read(tmp_path / "people")


def test_what_is_no_image_is_noted(tmp_path):
    folder = touch(people(tmp_path), "p0/notes.txt")
    (folder / "empty").mkdir()
    notes = read(folder).notes
    assert "Folders without images are left out: empty." in notes
    assert "Skipped, as no images: notes.txt." in notes


def test_folders_of_parts_hold_those_of_persons(tmp_path):
    names = ["train/a/1.jpg", "train/b/2.jpg", "query/c/3.jpg", "gallery/c/4.jpg"]
    split = read(touch(tmp_path / "people", *names))
    assert seen(split, "train") == [("1.jpg", "a", None), ("2.jpg", "b", None)]
    assert seen(split, "query") == [("3.jpg", "c", None)]
    assert seen(split, "gallery") == [("4.jpg", "c", None)]


def test_a_folder_in_the_layout_of_market_1501_is_read_as_that(tmp_path):
    folder = touch(
        tmp_path / "mine",
        "bounding_box_train/0007_c1_1.jpg",
        "query/0003_c5_1.jpg",
        "bounding_box_test/0003_c6_1.jpg",
        "bounding_box_test/0000_c1_1.jpg",
        "bounding_box_test/-1_c1_1.jpg",
    )
    split = read(folder)
    assert [(r.pid, r.camid) for r in split.gallery] == [(0, 1), (3, 6)]
    assert [(r.pid, r.camid) for r in split.query] == [(3, 5)]


def test_a_folder_of_images_named_as_market_1501_is_divided(tmp_path):
    names = [
        f"000{p}_c{c}_{n}.jpg" for p in range(1, 6) for c in (1, 2) for n in (1, 2)
    ]
    split = read(touch(tmp_path / "flat", *names))
    assert split.num_pids == 3
    assert len(split.query) == 4


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("beside.jpg", "beside.jpg directly in"),
        ("p0/cam1/day2/1.jpg", r"look like person/camera/\*, say so with --layout"),
    ],
)
def test_images_elsewhere_are_refused(tmp_path, name, words):
    folder = touch(people(tmp_path), name)
    with pytest.raises(ValueError, match=words):
        read(folder)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must hold images"):
        read(touch(tmp_path / "people", "a/notes.txt"))
    with pytest.raises(ValueError, match="one folder for each person.*loose.jpg"):
        read(touch(tmp_path / "flat", "loose.jpg"))


# ---- levels of folders

CAMS = ("cam1", "cam2", "cam3")
DAYS = ("2024-01-05", "2024-01-06")
TRAINED, TESTED = NUMBERS[:4], NUMBERS[4:]


def paths(pattern, *levels):
    """Returns a path for each choice of one name a level."""
    return [pattern.format(*names) for names in itertools.product(*levels)]


def parts_of(train, query, gallery, pattern="{}/{}/1_c{}.jpg"):
    return [
        *paths(pattern, [train], TRAINED, "12"),
        *paths(pattern, [query], TESTED, "1"),
        *paths(pattern, [gallery], TESTED, "2"),
    ]


def persons_and_cameras(split):
    persons = {split.pid_names.get(r.pid, str(r.pid)) for r in split.records}
    return sorted(persons), len({r.camid for r in split.records})


@pytest.mark.parametrize(
    ("names", "persons", "cameras", "note"),
    [
        (paths("{}/person_{}/1.jpg", CAMS, NUMBERS), "person", 3, "as camera/person"),
        (paths("{}/{}/1.jpg", ("C01", "camera-2"), NAMES), "", 2, "as camera/person"),
        (paths("0{}/person_{}/1.jpg", "12", NUMBERS), "person", 2, "as camera/person"),
        (paths("sets/cam_{}/person_{}/1.png", "ab", NUMBERS), "person", 2, "alone in"),
        (paths("{}/{}/1.jpg", NAMES, ("door", "yard")), "", 2, "as person/camera"),
        (paths("{}/{}/1.jpg", NUMBERS, "123"), "", 3, "as person/camera"),
        (paths("p{}/c{}/1.jpg", "12345", "12345678"), "p", 8, ""),
        (paths("all/{}/1_c{}.jpg", NAMES, "12"), "", 2, "alone in"),
        (paths("{}/{}_c{}s1_001.jpg", CAMS, NUMBERS, "12"), "", 3, "Read as camera:"),
        (parts_of("train", "query", "gallery"), "", 2, ""),
        (parts_of("training", "probe", "gallery"), "", 2, "probe is query"),
        (parts_of("trainSet", "querySet", "gallery_set"), "", 2, "querySet is query"),
        (parts_of("train", "query", "gallery", "x/{}/{}/c{}/1.jpg"), "", 2, "alone in"),
        (parts_of("train", "query", "gallery", "{}/{}_c{}.jpg"), "", 2, "as split:"),
        (
            parts_of("bounding_box_train", "query", "bounding_box_test"),
            "",
            2,
            "bounding_box_test is gallery",
        ),
        (
            [
                *paths("train/cam{}/{}/1.jpg", "12", NAMES[:4]),
                *paths("query/cam1/{}/1.jpg", NAMES[4:]),
                *paths("gallery/cam2/{}/1.jpg", NAMES[4:]),
            ],
            "",
            2,
            "as split/camera/person",
        ),
        # People have such names, and their folders are as the others'.
        (paths("{}/{}_c{}.jpg", [*NAMES, "Val"], "1", "12"), "", 2, "Val"),
        (paths("{}/cam{}/1.jpg", [*NAMES, "query"], "12"), "", 2, "as person/camera"),
        (paths("{}/cam{}/1.jpg", ["Cam", "Camille", "Cameron", "x"], "12"), "", 2, ""),
        (paths("2021{}/1_c{}.jpg", NUMBERS, "12"), "", 2, ""),
        (paths("track_{}/1_c{}.jpg", NUMBERS, "12"), "track", 2, ""),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_persons_are_told_from_cameras_and_parts(
    tmp_path, names, persons, cameras, note
):
    split = read(touch(tmp_path / "people", *names))
    found, num_cameras = persons_and_cameras(split)
    assert num_cameras == cameras
    assert len(found) >= 4
    assert all(name.startswith(persons) for name in found)
    assert not {"train", "query", "gallery", "door", "yard", *CAMS} & (
        {*found} - {"query" if "query" in note or "person/camera" in note else ""}
    )
    assert note in " ".join(split.notes)
    assert "Read as" not in " ".join(split.notes) or note


@pytest.mark.parametrize(
    ("names", "likely"),
    [
        (paths("{}/{}/1.jpg", ("door", "yard"), NAMES), "camera/person"),
        (paths("{}/{}/1.jpg", "123456", NUMBERS), "camera/person"),
        (paths("{}/{}/1.jpg", range(10, 25), NUMBERS), "camera/person"),
        (paths("{}/c{}/1.jpg", CAMS, NUMBERS), "look like camera/person"),
        (paths("{}/{}/1.jpg", DAYS, NAMES), r"\*/person"),
        (paths("{}/{}/1.jpg", NAMES, DAYS), r"person/\*"),
        (paths("{}/track_{}/1.jpg", NAMES, "12"), r"person/\*"),
        (paths("{}/{}/1.jpg", NAMES, ("train", "test")), r"person/\*"),
        (paths("fold{}/{}/{}/1.jpg", "12", ["train"], NAMES), r"\*/\*/person"),
        (paths("{}/cam{}/{}/1.jpg", NAMES, "12", DAYS), r"person/camera/\*"),
        (paths("{}/{}.jpg", CAMS, NUMBERS), "no name of a folder or image tells"),
        (paths("{}/{}.jpg", DAYS, NUMBERS), "no name of a folder or image tells"),
        (
            paths("{}/cam{}/person{}.jpg", ["train", "query", "gallery"], "12", "123"),
            "--layout split/person",
        ),
        (paths("north{}/{}_c1s1_000151_01.jpg", "abcd", NUMBERS), r"--layout '\*'"),
        (paths("{}/{}/1.jpg", [*NAMES, "train", "test"], "1"), "parts of a split, and"),
        (paths("{}/1_c{}.jpg", [*NAMES, "train"], "12"), "parts of a split, and"),
        (paths("{}/1_c{}.jpg", [*NAMES, "junk"], "12"), "parts of a split, and"),
        (paths("{}/0{}/1_C{}_F1.jpg", NUMBERS, "12", "12"), r"person/\*"),  # tracklets
        ([*paths("{}/1.jpg", NAMES), "query/anna/1.jpg"], "parts of a split, and"),
        (
            [*parts_of("train", "test/query", "test/gallery")],
            "side by side. Received: gallery in test",
        ),
        (
            paths("{}/{}/1.jpg", ["train_all", "train", "query", "gallery"], NAMES)[1:],
            "must hold all images of both.*train_all",
        ),
        (parts_of("trainset", "queryset", "testset"), "Is `test` the gallery"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_levels_that_could_be_others_are_refused_with_a_way_out(
    tmp_path, names, likely
):
    folder = touch(tmp_path / "people", *names)
    with pytest.raises(ValueError, match=likely):
        read(folder)
    [finding] = check_data(str(folder), quick=True).findings
    assert finding.severity == "error"


@pytest.mark.parametrize(
    ("layout", "names", "persons"),
    [
        ("camera/person", paths("{}/{}/1.jpg", ("door", "yard"), NAMES), NAMES),
        ("*/person", paths("{}/{}/1_c{}.jpg", DAYS, NAMES, "12"), NAMES),
        ("person/*", paths("{}/{}/1_c{}.jpg", NAMES, DAYS, "12"), NAMES),
        ("person/*", paths("{}/a/b/1_c{}.jpg", NAMES, "12"), NAMES),
        ("person/camera/*", paths("{}/cam{}/{}/1.jpg", NAMES, "12", DAYS), NAMES),
        ("person", paths("{}/1_c{}.jpg", ["Val", "Dev", *NAMES], "12"), None),
        ("person", paths("{}/1_{}.jpg", ("c1", "c2", "c3", "c4"), "12"), None),
        ("*", paths("{}/{}_c{}_1.jpg", "ab", NUMBERS, "12"), None),
    ],
)
def test_a_layout_decides(tmp_path, layout, names, persons):
    folder = touch(tmp_path / "people", *names)
    split = read(folder, layout=layout)
    found, _ = persons_and_cameras(split)
    assert found == (persons or found)
    assert len(split.records) == len(names)
    if persons is None and layout == "person":
        assert {"Val", "c1"} & {*found}


@pytest.mark.parametrize("layout", ["", "persons", "person/person", "person/split/x"])
def test_a_layout_that_is_none_is_refused(tmp_path, layout):
    with pytest.raises(ValueError, match=r"data\.layout.*split, person, camera"):
        read(people(tmp_path), layout=layout)


def test_a_layout_is_for_folders_alone(tmp_path):
    path = write(tmp_path, GIVEN, images=GIVEN_IMAGES)
    for name in (str(path), "market1501"):
        with pytest.raises(ValueError, match="Leave it out"):
            read_split(name, tmp_path, layout="person")


def test_all_of_training_is_read_once_from_a_prepared_benchmark(tmp_path):
    names = [
        *paths("train_all/{}/1_c{}.jpg", TRAINED, "12"),
        *paths("train/{}/1_c1.jpg", TRAINED),
        *paths("val/{}/1_c2.jpg", TRAINED),
        *paths("query/{}/1_c1.jpg", TESTED),
        *paths("gallery/{}/1_c2.jpg", TESTED),
        *paths("multi-query/{}/1_c1.jpg", TESTED),
    ]
    split = read(touch(tmp_path / "people", *names))
    assert [split.counts(part).images for part in PARTS] == [8, 4, 4]
    assert "not used: multi-query, train, val" in " ".join(split.notes)


def test_mars_is_read_without_its_junk_and_distractors(tmp_path):
    mars = "{}/{}/{}C{}T0001F00{}.jpg"
    names = [
        *(
            mars.format("bbox_train", n, n, c, k)
            for n in TRAINED
            for c in "13"
            for k in "12"
        ),
        *(
            mars.format("bbox_test", n, n, c, k)
            for n in [*TESTED, "0000", "00-1"]
            for c in "13"
            for k in "12"
        ),
    ]
    split = read(touch(tmp_path / "mars", *names))
    assert persons_and_cameras(split) == (NUMBERS, 2)
    assert [split.counts(part).images for part in PARTS] == [16, 8, 8]
    assert "4 images of pid 0 left out" in " ".join(split.notes)


def test_distractors_of_a_benchmark_that_is_divided_anew_are_left_out(tmp_path):
    pids = ["-1", "0000", *NUMBERS]
    names = paths("{}_c{}s1_00015{}_01.jpg", pids, "12", "12")
    split = read(touch(tmp_path / "all", *names))
    assert persons_and_cameras(split) == ([str(n) for n in range(1, 9)], 2)
    own = paths("{}_c{}_{}.jpg", "01234567", "12", "12")  # numbered from 0
    split = read(touch(tmp_path / "own", *own))
    assert persons_and_cameras(split) == (list("01234567"), 2)


def test_distractors_are_in_the_gallery_and_nobody(tmp_path):
    folder = touch(tmp_path / "people", *parts_of("train", "query", "gallery"))
    touch(folder, *paths("distractors/{}/1_c1.jpg", TESTED), "junk/1/1_c1.jpg")
    gallery = read(folder).gallery
    assert sorted(r.pid for r in gallery) == [0, 0, 0, 0, 5, 6, 7, 8]


def test_folders_of_the_system_hold_no_images(tmp_path):
    folder = people(tmp_path)
    before = everything(read(folder))
    touch(
        folder,
        "p0/.ipynb_checkpoints/0_c1_0-checkpoint.jpg",
        "p1/@eaDir/1_c1_0.jpg",
        "__MACOSX/p1/1_c1_0.jpg",
    )
    assert everything(read(folder)) == before
    images = [record.path for record in read(folder).records]
    assert sorted(list_images([folder]).paths) == sorted(images)


def test_accents_in_a_path_are_found_however_they_are_composed(tmp_path):
    path = write(
        tmp_path, GIVEN.replace("a.jpg", "Jose\u0301.jpg"), images=GIVEN_IMAGES
    )
    (tmp_path / "a.jpg").rename(tmp_path / "Jos\u00e9.jpg")
    assert read(path).train[0].path == tmp_path / "Jos\u00e9.jpg"


def test_cameras_of_one_person_each_are_no_cameras(tmp_path):
    text = "\n".join(
        ["path,pid,camid", *(f"{n},p{n[0]},t{k}" for k, n in enumerate(UNLIKE_IMAGES))]
    )
    split = read(write(tmp_path, text, images=UNLIKE_IMAGES))
    kinds = [one.kind for one in check_split(split, images_per_pid=1)]
    assert kinds == ["own-cameras"]
    split = read(write(tmp_path, unlike([]), images=UNLIKE_IMAGES))
    assert check_split(split, images_per_pid=1) == []


def test_two_dots_behind_a_link_leave_where_it_leads_to(tmp_path):
    touch(tmp_path, "big/images/a.jpg", "images/a.jpg", "big/v3/b.jpg")
    (tmp_path / "current").symlink_to(tmp_path / "big" / "v3")
    write(tmp_path / "big" / "v3", "path,pid,split\n../images/a.jpg,1,query\n")
    with (tmp_path / "big" / "v3" / "own.csv").open("a") as file:
        file.write("b.jpg,1,gallery\n")
    split = read(tmp_path / "current" / "own.csv")
    assert split.query[0].path == tmp_path / "big" / "images" / "a.jpg"
    assert split.gallery[0].path == tmp_path / "current" / "b.jpg"
    assert absolute(tmp_path / "big" / "v3" / ".." / "x") == tmp_path / "big" / "x"
    assert absolute(tmp_path / "none" / ".." / "x") == tmp_path / "x"


def test_a_pipe_among_images_is_not_waited_for(tmp_path):
    folder = people(tmp_path)
    os.mkfifo(folder / "p0" / "9_c1_9.jpg")
    assert "Skipped, as no images: 9_c1_9.jpg." in read(folder).notes


def test_a_link_to_a_folder_above_ends(tmp_path):
    folder = people(tmp_path)
    (folder / "p0" / "loop").symlink_to(folder)
    assert sum(map(len, everything(read(folder)).values())) == 20


def test_a_benchmark_with_a_folder_a_person_is_refused(tmp_path):
    names = parts_of("bounding_box_train", "query", "bounding_box_test")
    folder = touch(tmp_path / "market1501", *names)
    with pytest.raises(ValueError, match=r"Move them up; or.*--dataset .*/market1501"):
        read_split("market1501", tmp_path)
    touch(folder, "bounding_box_train/0001_c1_1.jpg")
    with pytest.raises(ValueError, match="must hold its images itself"):
        read(folder)


# ---- names


@pytest.mark.parametrize(
    ("name", "shown"), [(b"Jos\xe9/1.jpg", "Jos\\xe9/1.jpg"), (b"p0/a\rb.jpg", "a\\rb")]
)
def test_names_that_no_list_can_hold_are_refused_and_shown(tmp_path, name, shown):
    people(tmp_path)
    touch(tmp_path / "people", os.fsdecode(name))
    with pytest.raises(ValueError, match="UTF-8") as error:
        read(tmp_path / "people")
    assert shown in str(error.value)
    [finding] = check_data(str(tmp_path / "people"), quick=True).findings
    assert shown in finding.message


@pytest.mark.parametrize("name", ["a,b", 'a"b', " a ", "a;b", "x" * 250])
def test_names_of_any_text_are_read_back_from_a_division(tmp_path, name):
    folder = people(tmp_path)
    (folder / "p0").rename(folder / name)
    split = read(folder)
    path = write(tmp_path, table_text(split), name="split.csv")
    again = read(path)
    assert everything(again) == everything(split)
    assert again.pid_names == split.pid_names


# ---- dividing


def test_queries_are_one_a_camera_while_matches_are_left(tmp_path):
    # By cameras 1, 1, 2: the query by camera 1 leaves an image by each; a query by
    # camera 2 would leave nothing for the first. By 1 and 2 once each: one query.
    rows = [("a1", 1, 1), ("a2", 1, 1), ("a3", 1, 2), ("b1", 2, 1), ("b2", 2, 2)]
    lines = [f"{n}.jpg,{pid},{camid},test" for n, pid, camid in rows]
    text = "\n".join(["path,pid,camid,split", *lines, "t.jpg,9,1,train"])
    images = ["t.jpg", *(f"{row[0]}.jpg" for row in rows)]
    split = read(write(tmp_path, text, images=images))
    assert [(r.pid, r.camid) for r in split.query] == [(1, 1), (2, 1)]
    assert [(r.pid, r.camid) for r in split.gallery] == [(1, 1), (1, 2), (2, 2)]
    assert "2, with 3 images in the gallery" in split.notes[-1]


@pytest.mark.parametrize(
    ("parts", "trained"), [(("train", "val"), "a"), (("train", "val", "test"), "ab")]
)
def test_val_is_the_test_unless_there_is_one(tmp_path, parts, trained):
    rows = [
        f"{person}{n}.jpg,{person},{part}"
        for person, part in zip("abc", parts, strict=False)
        for n in (1, 2)
    ]
    images = [row.split(",")[0] for row in rows]
    split = read(write(tmp_path, "\n".join(["path,pid,split", *rows]), images=images))
    assert {split.pid_names[r.pid] for r in split.train} == set(trained)


def test_who_cannot_be_found_again_is_trained_on(tmp_path):
    folder = people(tmp_path, persons=4)
    touch(folder, "single/9_c1_1.jpg", "single/9_c1_2.jpg")
    for seed in range(5):
        split = read(folder, division_seed=seed, test_share=0.9)
        assert "single" in {split.pid_names[r.pid] for r in split.train}
        assert len({r.pid for r in split.query}) == 3  # of 5, two are trained on
    assert any("1 do not have an image by another camera" in n for n in split.notes)
    ignoring = [read(folder, division_seed=s, ignore_cameras=True) for s in range(12)]
    tested = {s.pid_names[r.pid] for s in ignoring for r in s.query}
    assert "single" in tested


def test_a_split_does_not_depend_on_where_or_how_the_images_lie(tmp_path):
    here = people(tmp_path, persons=9)
    shutil.copytree(here, tmp_path / "there")
    first, second = read(here), read(tmp_path / "there")
    for part in PARTS:
        names = [
            [r.path.relative_to(folder) for r in getattr(split, part)]
            for split, folder in ((first, here), (second, tmp_path / "there"))
        ]
        assert names[0] == names[1]
    other = read(here, division_seed=2)
    assert {r.pid for r in other.query} != {r.pid for r in first.query}


def test_a_new_person_moves_few_others(tmp_path):
    folder = people(tmp_path, persons=10)
    before = {r.path for r in read(folder, test_share=0.3).train}
    touch(folder, *(f"new/{n}_c{n}_1.jpg" for n in (1, 2)))
    after = {r.path for r in read(folder, test_share=0.3).train}
    # 3 of 10, and 3 of 11: at most one leaves the test, for the new one.
    assert len({path.parent for path in before ^ after} - {folder / "new"}) <= 1


def sightings(draw_rows):
    return [
        Sighting(
            path=f"/images/{person}-{number}.jpg",
            person=f"p{person}",
            camera=None if camera is None else f"c{camera}",
            part=None,
            place=f"line {number}",
        )
        for number, (person, camera) in enumerate(draw_rows)
    ]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 7), st.integers(1, 3)), max_size=40),
    with_cameras=st.booleans(),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 3),
)
def test_a_made_split_is_sound(tmp_path_factory, rows, with_cameras, share, seed):
    from pathlib import Path

    images = [
        one._replace(path=Path(one.path), camera=one.camera if with_cameras else None)
        for one in sightings(rows)
    ]
    options = {"name": "x", "source": Path("x"), "test_share": share}
    try:
        split = split_of(images, **options, division_seed=seed)
    except ValueError:
        persons = {one.person for one in images}
        with_match = [
            person
            for person in persons
            if len(
                {
                    one.camera if len({i.camera for i in images}) > 1 else one.path
                    for one in images
                    if one.person == person
                }
            )
            > 1
        ]
        assert len(persons) < 4 or len(with_match) < 2
        return
    train, query, gallery = (getattr(split, part) for part in PARTS)
    paths = [r.path for r in train + query + gallery]
    assert sorted(paths) == sorted(one.path for one in images)  # each image once
    tested = {r.pid for r in query}
    assert tested == {r.pid for r in query + gallery}
    assert not tested & {r.pid for r in train}
    assert min(len(tested), split.num_pids) >= 2
    for one in query:
        own = [r for r in gallery if r.pid == one.pid]
        assert any(r.camid != one.camid or not split.has_cameras for r in own)
    shuffled = random.Random(seed).sample(images, len(images))
    again = split_of(shuffled, **options, division_seed=seed)
    for part in PARTS:
        assert set(getattr(again, part)) == set(getattr(split, part))


# ---- written and read again


@pytest.mark.parametrize("cameras", [1, 3])
def test_a_division_is_read_back_as_it_was(tmp_path, cameras):
    folder = people(tmp_path, persons=6, cameras=cameras)
    split = read(folder)
    path = tmp_path / "split.csv"
    path.write_text(table_text(split), encoding="utf-8")
    again = read(path)
    assert everything(again) == everything(split)
    assert again.pid_names == split.pid_names
    assert again.camera_names == split.camera_names
    assert again.has_cameras == split.has_cameras == (cameras > 1)


# ---- names and paths


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("market1501", "market1501"),
        ("crops/people", "people"),
        ("crops/my people.csv", "my-people"),
        ("runs/night/split.csv", "night-split"),
        ("data/synthetic", "own-synthetic"),
        ("ä" * 100, "ä" * 60 + "-8c8b9015"),
    ],
)
def test_short_names_are_good_for_files(name, short):
    assert dataset_name(name) == short


def test_names_of_benchmarks_are_benchmarks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "market1501/1.jpg", "people/anna/1.jpg")
    assert not is_path("market1501")
    assert is_path("./market1501")
    assert is_path("people")
    assert not is_path("peoples")


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("msmt17", ValueError, "Did you mean 'msmt17-v1' or 'msmt17-v2'?"),
        (
            "poeple",
            ValueError,
            "Did you mean 'people'?.*no file or folder of",
        ),
        ("./poeple", FileNotFoundError, "no file or folder .*poeple"),
        ("poeple.csv", FileNotFoundError, "no file or folder .*poeple.csv"),
        ("people/1.jpg", ValueError, "must be one of .csv"),
    ],
)
def test_what_is_not_there_is_explained(tmp_path, monkeypatch, name, error, words):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "people/1.jpg")
    with pytest.raises(error, match=words):
        read_split(name, tmp_path)


def test_a_name_that_begins_with_a_tilde_is_a_name(tmp_path):
    text = GIVEN.replace("a.jpg", "~a.jpg").replace("b.jpg", "~root.jpg")
    images = ("~a.jpg", "~root.jpg", *GIVEN_IMAGES[2:])
    split = read(write(tmp_path, text, images=images))
    assert [r.path for r in split.train] == [tmp_path / image for image in images[:2]]


def test_a_link_that_leads_nowhere_is_not_left_out_in_silence(tmp_path):
    names = [f"{person}/{camera}/1.jpg" for person in "abcd" for camera in "xy"]
    touch(tmp_path / "people", *names)
    (tmp_path / "people" / "a" / "x" / "2.jpg").symlink_to("nowhere.jpg")
    split = read(tmp_path / "people")
    read_images = [record.path for part in PARTS for record in getattr(split, part)]
    assert tmp_path / "people" / "a" / "x" / "2.jpg" in read_images


PATTERN = "{camid}-{date}-{pid}-{n}"


def test_names_of_a_pattern_tell_person_and_camera(tmp_path):
    names = paths("{}-0105-{}-{}.jpg", ("door", "yard"), "abcde", "12")
    touch(tmp_path / "people", *names, "door-0105-unknown-1.jpg", "notes.txt")
    split = read(tmp_path / "people", pattern=PATTERN)
    assert persons_and_cameras(split) == ([*"abcde"], 2)
    assert set(split.camera_names.values()) == {"door", "yard"}
    assert "1 image of nobody known left out" in "".join(split.notes)


def test_a_pattern_goes_with_parts_and_levels(tmp_path):
    names = [
        *paths("train/{}_{}.jpg", "ab", "12"),
        *paths("query/{}_{}.jpg", "cd", "1"),
        *paths("gallery/new/{}_{}.jpg", "cd", "2"),
    ]
    split = read(touch(tmp_path / "parts", *names), pattern="{pid}_{camid}.jpg")
    assert [len(split.part(part)) for part in ("train", "query", "gallery")] == [
        4,
        2,
        2,
    ]
    names = paths("{}/{}#1.jpg", "abcde", ("door", "yard"))
    split = read(touch(tmp_path / "levels", *names), pattern="{camid}#{n}")
    assert set(split.camera_names.values()) == {"door", "yard"}
    # Without a field for cameras no name tells one, whatever it looks like.
    names = paths("{}_c{}.jpg", "abcde", "12")
    split = read(touch(tmp_path / "alone", *names), pattern="{pid}_{n}")
    assert not split.has_cameras


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            [f"door{n}.jpg" for n in range(7)],
            r"7 of 8 are not: door0\.jpg.* and 2 more",
        ),
        (["door-01-05-anna-3.jpg"], "camid=door, date=01, pid=05, n=anna-3 or camid="),
        (["door--anna-3.jpg"], "1 of 2 are not"),  # no field is empty
        (["DOOR-1-anna-3.jpg", "x/door_1-anna-3.jpg"], r"are not: door_1-anna-3"),
        (["query/a-b-c-1.jpg", "x/a-b-c-2.jpg"], "query look like parts of a split"),
    ],
)
def test_names_that_are_not_of_the_pattern_are_named(tmp_path, names, words):
    touch(tmp_path / "people", "yard-1-bob-2.jpg", *names)
    with pytest.raises(ValueError, match=words):
        read(tmp_path / "people", pattern=PATTERN)
    [finding] = list_dataset(tmp_path / "people", tmp_path, pattern=PATTERN).findings
    assert finding.severity == "error"
    assert re.search(words, finding.message)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("{pid}{camid}-{n}", "have a text between two fields"),
        ("{pid}-{pid}", "name each field once"),
        ("{date}-{n}", r"hold \{pid\}"),
        ("", r"hold \{pid\}"),
        ("{pid}-{camid", "have whole fields"),
        ("{pid}/{camid}", "be of names of files"),
    ],
)
def test_a_pattern_that_is_none_is_refused(tmp_path, pattern, words):
    with pytest.raises(ValueError, match=rf"data\.pattern.*must {words}.*Received"):
        read(people(tmp_path), pattern=pattern)
    with pytest.raises(ValueError, match=words):
        DataConfig(pattern=pattern)


def test_person_and_camera_are_told_once(tmp_path):
    for pattern, words in (
        ("{pid}-{n}", "person must be told by the pattern .* not by both"),
        ("{camid}-{n}", "camera must be told by the pattern .* not by both"),
    ):
        names = [f"a/cam1/{n}-1.jpg" for n in range(4)]
        touch(tmp_path / "people", *names)
        with pytest.raises(ValueError, match=words):
            read(tmp_path / "people", layout="person/camera", pattern=pattern)
    with pytest.raises(ValueError, match=r"person must be told by \{pid\}"):
        read(tmp_path / "people", layout="*/*", pattern="{camid}-{n}")
    write(tmp_path, "path,pid\n1.jpg,a\n", images=["1.jpg"])
    for name in (tmp_path / "own.csv", "market1501"):
        with pytest.raises(ValueError, match="--pattern .* Leave it out for"):
            read_split(name, tmp_path, pattern="{pid}-{n}")


def test_training_refuses_the_folder_of_a_benchmark_as_the_check_does(tmp_path):
    touch(tmp_path / "cuhk03", "cuhk-03.mat", "anna/1.jpg")
    with pytest.raises(ValueError, match="looks like CUHK03"):
        read(tmp_path / "cuhk03")
    [finding] = list_dataset(tmp_path / "cuhk03", tmp_path).findings
    assert "looks like CUHK03" in finding.message
