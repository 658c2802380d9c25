"""Readers of the benchmarks, on small folders drawn for each test."""

import dataclasses
from pathlib import Path

import pytest

from topdb_tf.data import benchmarks
from topdb_tf.data.benchmarks import (
    DATASETS,
    data_root,
    read_market_layout,
    read_split,
    register_dataset,
)
from topdb_tf.data.records import ImageRecord, PartCounts, load_card

# Two training identities; one query; its match, a distractor and a junk image.
MARKET = (
    "bounding_box_train/0007_c2s3_070952_01.jpg",
    "bounding_box_train/0002_c1s1_000776_01.jpg",
    "bounding_box_train/0002_c1s1_000451_03.jpg.jpg",
    "bounding_box_train/Thumbs.db",
    "query/0003_c5s1_001051_00.jpg",
    "bounding_box_test/0003_c6s1_001051_01.jpg",
    "bounding_box_test/0000_c1s1_000151_01.jpg",
    "bounding_box_test/-1_c3s1_000401_03.jpg",
    "bounding_box_test/Thumbs.db",
)
COUNTS = {
    "train": PartCounts(images=3, pids=2),
    "query": PartCounts(images=1, pids=1),
    "gallery": PartCounts(images=2, pids=2),
}


def touch(folder, names=MARKET):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.fixture
def small_cards(monkeypatch):
    """Cards that expect the images of `MARKET`."""
    monkeypatch.setattr(
        benchmarks,
        "load_card",
        lambda name: dataclasses.replace(load_card(name), parts=COUNTS),
    )


def numbers(records):
    return [(record.path.name, record.pid, record.camid) for record in records]


def test_names_tell_person_and_camera_and_records_are_sorted(tmp_path):
    split = read_market_layout(touch(tmp_path), name="own")
    assert split.name == "own"
    assert numbers(split.train) == [
        ("0002_c1s1_000451_03.jpg.jpg", 2, 1),
        ("0002_c1s1_000776_01.jpg", 2, 1),
        ("0007_c2s3_070952_01.jpg", 7, 2),
    ]
    assert split.query == (
        ImageRecord(tmp_path / "query/0003_c5s1_001051_00.jpg", pid=3, camid=5),
    )


def test_junk_is_left_out_and_distractors_are_kept(tmp_path):
    split = read_market_layout(touch(tmp_path), name="own")
    assert [record.pid for record in split.gallery] == [0, 3]


def test_files_that_are_not_images_are_skipped(tmp_path):
    others = ("notes.txt", "._0001_c1s1_1.jpg", ".DS_Store", "desktop.ini")
    touch(tmp_path, [f"query/{name}" for name in others])
    (tmp_path / "query/0001_c1").mkdir()
    assert read_market_layout(tmp_path, name="own").query == ()


def test_a_folder_that_looks_like_an_image_name_changes_nothing(tmp_path):
    folder = touch(tmp_path / "0009_c4" / "1_c2", ["query/0003_c10_f000123.PNG"])
    assert numbers(read_market_layout(folder, name="own").query) == [
        ("0003_c10_f000123.PNG", 3, 10)
    ]


@pytest.mark.parametrize("name", ["portrait.jpg", "-2_c1s1_1.jpg", "x_0001_c1.jpg"])
def test_a_name_that_does_not_parse_is_named(tmp_path, name):
    touch(tmp_path, [*MARKET, f"query/{name}"])
    message = rf"must start with <pid>_c<camid>.*Received: path=.*query/{name}"
    with pytest.raises(ValueError, match=message):
        read_market_layout(tmp_path, name="own")


def test_a_folder_without_any_part_is_not_a_market_folder(tmp_path):
    message = (
        "must hold bounding_box_train, query, bounding_box_test.*Received: folder="
    )
    with pytest.raises(FileNotFoundError, match=message):
        read_market_layout(tmp_path, name="own")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("market1501", "market1501"),
        ("market1501", "market1501/Market-1501-v15.09.15"),
        ("dukemtmc-reid", "dukemtmc-reid"),
        ("dukemtmc-reid", "dukemtmc-reid/DukeMTMC-reID"),
        ("cuhk03-labeled", "cuhk03-np/labeled"),
        ("cuhk03-detected", "cuhk03-np/detected"),
    ],
)
@pytest.mark.usefixtures("small_cards")
def test_each_benchmark_is_read_from_its_folders(tmp_path, name, folder):
    touch(tmp_path / folder)
    split = read_split(name, tmp_path)
    assert split.name == name
    assert [len(part) for part in (split.train, split.query, split.gallery)] == [
        3,
        1,
        2,
    ]
    assert split.query[0].path.parent == tmp_path / folder / "query"


def test_names_of_duke_and_of_the_ready_made_cuhk03_parse(tmp_path):
    names = ["query/0005_c8_f0046985.jpg", "query/0003_c1_21.png"]
    assert numbers(read_market_layout(touch(tmp_path, names), name="own").query) == [
        ("0003_c1_21.png", 3, 1),
        ("0005_c8_f0046985.jpg", 5, 8),
    ]


def test_an_unknown_name_is_answered_with_the_nearest_and_all_others(tmp_path):
    message = r"one of market1501, dukemtmc-reid, cuhk03-labeled, .*Did you mean 'mark"
    with pytest.raises(ValueError, match=message):
        read_split("market-1501", tmp_path)


def test_a_name_like_no_other_is_answered_with_the_choices_alone(tmp_path):
    with pytest.raises(ValueError, match=r"detected.*\. Received: name='xyz'"):
        read_split("xyz", tmp_path)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("market1501", "zheng-lab.cecs.anu.edu.au"),
        ("dukemtmc-reid", "April 2019"),
        ("cuhk03-labeled", "cuhk03_new_protocol_config_labeled.mat"),
        ("cuhk03-detected", "cuhk03_new_protocol_config_detected.mat"),
    ],
)
def test_a_missing_data_set_is_answered_with_paths_and_source(tmp_path, name, source):
    with pytest.raises(FileNotFoundError, match="must lie in") as error:
        read_split(name, tmp_path)
    message = str(error.value)
    folders = load_card(name).folders
    assert all(str(tmp_path / folder) in message for folder in folders)
    assert source in message
    assert "datasets/README.md" in message
    assert "$TOPDB_DATA" in message


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("market1501", "market1501/market1501/bounding_box_train"),
        ("cuhk03-labeled", "cuhk03-np/CUHK03-NP/labeled/bounding_box_train"),
        ("msmt17-v1", "msmt17/MSMT17_V1/MSMT17_V1/list_train.txt"),
    ],
)
def test_a_data_set_that_lies_too_deep_is_pointed_at(tmp_path, name, folder):
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "cuhk03-np/detected/bounding_box_train").mkdir(parents=True)
    with pytest.raises(FileNotFoundError) as error:
        read_split(name, tmp_path)
    assert f"Is it {(tmp_path / folder).parent}? That is too deep" in str(error.value)
    with pytest.raises(FileNotFoundError, match="itself. The root is"):
        read_split("market1501", (tmp_path / folder).parent)
    assert "detected" not in str(error.value).replace("detected.mat", "")


@pytest.mark.usefixtures("small_cards")
def test_a_half_extracted_data_set_is_told_part_by_part(tmp_path):
    # One image and with it one identity of three and two; no gallery folder at all.
    touch(tmp_path / "market1501", [*MARKET[1:5]])
    with pytest.raises(ValueError, match="Market-1501 must be complete") as error:
        read_split("market1501", tmp_path)
    message = str(error.value)
    assert (
        "train (bounding_box_train) holds 2 images of 1 identities, expected 3 of 2 "
        "(1 images missing, 1 identities missing)"
    ) in message
    assert "query (query) holds 1 images of 1 identities" in message
    assert "expected 1 of 1 (complete)" in message
    assert "expected 2 of 2 (2 images missing, 2 identities missing)" in message
    assert "zheng-lab.cecs.anu.edu.au" in message
    assert "check_counts=False" in message


@pytest.mark.usefixtures("small_cards")
def test_images_that_do_not_belong_there_are_told(tmp_path):
    touch(tmp_path / "market1501", [*MARKET, "query/0003_c4s1_1.jpg"])
    with pytest.raises(ValueError, match=r"expected 1 of 1 \(1 images too many\)"):
        read_split("market1501", tmp_path)


@pytest.mark.usefixtures("small_cards")
def test_the_junk_images_do_not_count(tmp_path):
    touch(tmp_path / "market1501", [*MARKET, "bounding_box_test/-1_c1s1_1.jpg"])
    assert len(read_split("market1501", tmp_path).gallery) == 2


def test_a_subset_is_read_on_request(tmp_path):
    touch(tmp_path / "market1501", MARKET[:4])
    split = read_split("market1501", tmp_path, check_counts=False)
    assert [len(part) for part in (split.train, split.query, split.gallery)] == [
        3,
        0,
        0,
    ]


def test_a_part_without_expected_numbers_must_not_be_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(
        benchmarks,
        "load_card",
        lambda name: dataclasses.replace(load_card(name), parts={}),
    )
    touch(tmp_path / "market1501", MARKET[:5])
    with pytest.raises(ValueError, match=r"\(bounding_box_test\) holds 0 images of 0"):
        read_split("market1501", tmp_path)
    touch(tmp_path / "market1501")
    assert len(read_split("market1501", tmp_path).gallery) == 2


def test_every_split_has_a_card_with_a_source_and_terms():
    for name in DATASETS:
        card = load_card(name)
        assert card.name == name
        assert card.source
        assert card.terms


def test_the_option_beats_the_environment_and_that_beats_the_default(monkeypatch):
    monkeypatch.setenv("TOPDB_DATA", "/from/environment")
    assert data_root(Path("chosen")) == Path("chosen")
    assert data_root() == Path("/from/environment")
    monkeypatch.setenv("TOPDB_DATA", "")
    assert data_root() == Path("datasets")
    monkeypatch.delenv("TOPDB_DATA")
    assert data_root(None) == Path("datasets")


def test_the_data_root_may_start_at_home():
    assert data_root(Path("~/reid")) == Path.home() / "reid"


def test_a_name_that_is_taken_keeps_its_card():
    card = load_card("market1501")
    with pytest.raises(ValueError, match="There is a data set 'market1501' already"):
        register_dataset("market1501", lambda root: None)
    assert load_card("market1501") == card
    assert card.parts  # by which its images are counted
