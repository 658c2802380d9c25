"""CUHK03 from generated files in the layout of its authors."""

import dataclasses

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

from topdb_tf.data import benchmarks, cuhk03
from topdb_tf.data.benchmarks import read_split
from topdb_tf.data.cuhk03 import extract_images, read_original, read_protocol
from topdb_tf.data.records import PartCounts, load_card

# Two persons of the first pair of cameras, one of the second. Labels count on over
# the pairs: 1, 2, 3. Person 3 is trained on; the first images of view 2 of persons 1
# and 2 are the queries.
FILE_NAMES = (
    "1_001_1_01.png",
    "1_001_1_03.png",
    "1_001_2_06.png",
    "1_002_1_05.png",
    "1_002_2_10.png",
    "2_001_1_02.png",
    "2_001_2_07.png",
)
LABELS = (1, 1, 1, 2, 2, 3, 3)
COUNTS = {
    "train": PartCounts(images=2, pids=1),
    "query": PartCounts(images=2, pids=2),
    "gallery": PartCounts(images=3, pids=2),
}
PERSONS_BY_PAIR = (2, 1, 1, 1, 1)
CARD = load_card("cuhk03-labeled")


def pixels_of(name):
    """An image of its own size and content for each name, (height, width, 3)."""
    seed = [int(number) for number in name[:-4].split("_")]
    rng = np.random.default_rng(seed)
    size = (20 + seed[1], 10 + seed[3], 3)
    return rng.integers(0, 256, size, dtype=np.uint8)


def write_mat(path, kind="labeled", file_names=FILE_NAMES):
    """Writes cells of cells as MATLAB's version 7.3 does: dimensions reversed."""
    with h5py.File(path, "w") as file:
        refs = file.create_group("#refs#")
        pairs = file.create_dataset(kind, (1, 5), dtype=h5py.ref_dtype)
        for pair, num_persons in enumerate(PERSONS_BY_PAIR, start=1):
            shape = (10, num_persons)
            table = refs.create_dataset(f"{pair}", shape, dtype=h5py.ref_dtype)
            for image, person in np.ndindex(shape):
                view = 1 if image < 5 else 2
                name = f"{pair}_{person + 1:03d}_{view}_{image + 1:02d}.png"
                if name in file_names:
                    stored = pixels_of(name).T
                    cell = refs.create_dataset(name, data=stored)
                else:
                    cell = refs.create_dataset(name, data=np.zeros(2, dtype="uint64"))
                    cell.attrs["MATLAB_empty"] = np.uint8(1)
                table[image, person] = cell.ref
            pairs[0, pair - 1] = table.ref


def write_protocol(path, **changes):
    file_names = np.empty((len(FILE_NAMES), 1), dtype=object)
    file_names[:, 0] = FILE_NAMES
    fields = {
        "filelist": file_names,
        "labels": np.array([LABELS], dtype="uint16").T,
        "camId": np.array([[int(name[6]) for name in FILE_NAMES]], dtype="uint8").T,
        "train_idx": np.array([[6], [7]], dtype="uint16"),
        "query_idx": np.array([[3], [5]], dtype="uint16"),
        "gallery_idx": np.array([[1], [2], [4]], dtype="uint16"),
    }
    scipy.io.savemat(path, fields | changes)


@pytest.fixture
def original(tmp_path):
    """A data root with the original files in `cuhk03`; returns that folder."""
    folder = tmp_path / "cuhk03"
    folder.mkdir()
    write_mat(folder / "cuhk-03.mat")
    write_protocol(folder / "cuhk03_new_protocol_config_labeled.mat")
    return folder


def numbers(records):
    return [(record.path.name, record.pid, record.camid) for record in records]


def test_parts_follow_the_protocol(original):
    split = read_original(original, "labeled", CARD)
    assert split.name == "cuhk03-labeled"
    assert numbers(split.train) == [("2_001_1_02.png", 3, 1), ("2_001_2_07.png", 3, 2)]
    assert numbers(split.query) == [("1_001_2_06.png", 1, 2), ("1_002_2_10.png", 2, 2)]
    assert numbers(split.gallery) == [
        ("1_001_1_01.png", 1, 1),
        ("1_001_1_03.png", 1, 1),
        ("1_002_1_05.png", 2, 1),
    ]


def test_images_are_extracted_bit_by_bit_and_upright(original):
    split = read_original(original, "labeled", CARD)
    for record in split.train + split.query + split.gallery:
        assert record.path.parent == original / "images_labeled"
        with Image.open(record.path) as image:
            np.testing.assert_array_equal(
                np.asarray(image), pixels_of(record.path.name)
            )


def test_empty_cells_leave_no_file(original):
    read_original(original, "labeled", CARD)
    files = sorted(path.name for path in (original / "images_labeled").iterdir())
    assert files == sorted(FILE_NAMES)


def test_the_release_folder_may_hold_the_files(original):
    release = original / "cuhk03_release"
    release.mkdir()
    (original / "cuhk-03.mat").rename(release / "cuhk-03.mat")
    split = read_original(original, "labeled", CARD)
    assert split.query[0].path.parent == original / "images_labeled"


def test_progress_counts_the_images(original):
    calls = []
    read_original(
        original, "labeled", CARD, progress=lambda *numbers: calls.append(numbers)
    )
    assert calls == [(done, 7) for done in range(1, 8)]


def test_nothing_is_extracted_twice(original):
    first = read_original(original, "labeled", CARD)
    (original / "cuhk-03.mat").unlink()
    assert read_original(original, "labeled", CARD) == first


def test_an_interrupted_extraction_is_continued(original):
    def stop_after_three(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_original(original, "labeled", CARD, progress=stop_after_three)
    calls = []
    read_original(
        original, "labeled", CARD, progress=lambda *numbers: calls.append(numbers)
    )
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_write_that_fails_leaves_no_file(original, monkeypatch):
    def write_half(image, path, **_):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", write_half)
    with pytest.raises(OSError, match="No space left"):
        read_original(original, "labeled", CARD)
    assert list((original / "images_labeled").iterdir()) == []


@pytest.mark.parametrize(
    "name", ["cuhk-03.mat", "cuhk03_new_protocol_config_labeled.mat"]
)
def test_a_missing_file_is_named_with_its_source(original, name):
    (original / name).unlink()
    message = rf"needs .*cuhk03/{name} or .*cuhk03_release/{name}.*person-re-ranking"
    with pytest.raises(FileNotFoundError, match=message):
        read_original(original, "labeled", CARD)


def test_a_truncated_mat_file_is_named(original):
    path = original / "cuhk-03.mat"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"complete HDF5 file.*path=.*cuhk-03\.mat"):
        read_original(original, "labeled", CARD)


def test_an_image_that_the_mat_file_lacks_is_named(original):
    write_mat(original / "cuhk-03.mat", file_names=FILE_NAMES[1:])
    message = r"hold the image 1_001_1_01\.png under 'labeled', but that cell is empty"
    with pytest.raises(ValueError, match=message):
        read_original(original, "labeled", CARD)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"shape": (3, 10**6, 10**6), "dtype": "u1"}, "says to hold 3,000,000,000,000"),
        ({"data": np.zeros((3, 8, 16), "f4")}, "pixels of the type float32"),
    ],
)
def test_an_image_of_impossible_size_or_type_is_refused(tmp_path, cell, message):
    path, (name, *_) = tmp_path / "cuhk-03.mat", FILE_NAMES
    write_mat(path)
    with h5py.File(path, "r+") as file:
        pair, person, _, image = (int(part) for part in name[:-4].split("_"))
        table = file[file["labeled"][0, pair - 1]]
        if "shape" in cell:
            cell |= {"chunks": (3, 1000, 1000)}
        table[image - 1, person - 1] = file.create_dataset("cell", **cell).ref
    with pytest.raises(ValueError, match=f"must hold the image {name}.*{message}"):
        extract_images(path, "labeled", [name], tmp_path / "images")


def test_a_mat_file_without_the_kind_is_refused(original, tmp_path):
    message = r"must hold the image 1_001_1_01\.png under 'detected'.*Received: path="
    with pytest.raises(ValueError, match=message):
        extract_images(
            original / "cuhk-03.mat", "detected", FILE_NAMES, tmp_path / "images"
        )


@pytest.mark.parametrize("content", [b"<!DOCTYPE html>" * 40, b"", b"MATLAB 5.0 MAT"])
def test_a_web_page_in_place_of_the_protocol_is_refused(tmp_path, content):
    path = tmp_path / "protocol.mat"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not the web page that shows it. Received"):
        read_protocol(path)


def test_a_small_protocol_of_a_huge_content_is_refused(tmp_path):
    path = tmp_path / "protocol.mat"
    labels = np.zeros(10**7)
    scipy.io.savemat(path, {"labels": labels}, do_compression=True)
    with pytest.raises(ValueError, match="says to hold 80,000,000"):
        read_protocol(path)


def test_a_truncated_protocol_is_refused(tmp_path):
    path = tmp_path / "protocol.mat"
    write_protocol(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"Received: path=.*protocol\.mat"):
        read_protocol(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": np.array([[1], [2]])},
        {"camId": np.array([[1], [2]])},
        {"train_idx": np.array([[0]])},
        {"gallery_idx": np.array([[8]])},
        {"labels": np.array([[1.0], [1], [2], [2], [2], [np.nan], [3]])},
        {"labels": np.array([[1.0], [1], [2], [2], [2], [2.5], [3]])},
        {"labels": np.array([[1], [1], [2], [2], [2], [-1], [3]])},
        {"filelist": np.array([["0001_c1.png"]] * 7, dtype=object)},
    ],
)
def test_a_protocol_that_contradicts_itself_is_refused(tmp_path, changes):
    write_protocol(tmp_path / "protocol.mat", **changes)
    with pytest.raises(ValueError, match="count from 1 in its indices"):
        read_protocol(tmp_path / "protocol.mat")


@pytest.fixture
def small_cards(monkeypatch):
    monkeypatch.setattr(
        benchmarks,
        "load_card",
        lambda name: dataclasses.replace(load_card(name), parts=COUNTS),
    )


@pytest.mark.parametrize("kind", ["labeled", "detected"])
@pytest.mark.usefixtures("small_cards")
def test_both_kinds_are_benchmarks(tmp_path, kind):
    folder = tmp_path / "cuhk03"
    folder.mkdir()
    write_mat(folder / "cuhk-03.mat", kind)
    write_protocol(folder / f"cuhk03_new_protocol_config_{kind}.mat")
    split = read_split(f"cuhk03-{kind}", tmp_path)
    assert split.name == f"cuhk03-{kind}"
    assert split.train[0].path.parent == folder / f"images_{kind}"


@pytest.mark.usefixtures("small_cards")
def test_ready_made_folders_are_read_before_the_original(original, monkeypatch):
    ready_made = original.parent / "cuhk03-np/labeled"
    names = ["bounding_box_train/0003_c1_1.png", "bounding_box_train/0003_c2_2.png"]
    names += ["query/0001_c2_1.png", "query/0002_c2_1.png"]
    names += [f"bounding_box_test/000{pid}_c1_{pid}.png" for pid in (1, 2)]
    names += ["bounding_box_test/0001_c1_9.png"]
    for name in names:
        (ready_made / name).parent.mkdir(parents=True, exist_ok=True)
        (ready_made / name).touch()
    monkeypatch.delattr(cuhk03, "read_original")
    split = read_split("cuhk03-labeled", original.parent)
    assert numbers(split.query) == [("0001_c2_1.png", 1, 2), ("0002_c2_1.png", 2, 2)]
