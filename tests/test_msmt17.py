"""MSMT17 in both versions, on empty files with its names and lists."""

import dataclasses

import pytest

from topdb_tf.data import benchmarks
from topdb_tf.data.benchmarks import read_split
from topdb_tf.data.checks.split import check_split
from topdb_tf.data.records import ImageRecord, PartCounts, load_card

# The lists restart at person 0 in the test; val shows the persons of train.
LISTS = {
    "list_train.txt": [("0000/0000_000_01_0303morning_0008_0.jpg", 0)],
    "list_val.txt": [
        ("0000/0000_001_14_0303morning_0015_0.jpg", 0),
        ("0001/0001_000_03_0303noon_0001_1.jpg", 1),
    ],
    "list_query.txt": [("0000/0000_000_05_0113afternoon_0001_0_ex.jpg", 0)],
    "list_gallery.txt": [
        ("0000/0000_004_07_0113afternoon_0003_2.jpg", 0),
        ("0001/0001_000_15_0113morning_0003_2.jpg", 1),
    ],
}
FOLDERS = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}
COUNTS = {
    "train": PartCounts(images=3, pids=2),
    "query": PartCounts(images=1, pids=1),
    "gallery": PartCounts(images=2, pids=2),
}


def write(folder, version):
    for name, lines in LISTS.items():
        is_test = name in ("list_query.txt", "list_gallery.txt")
        images = folder / FOLDERS[version][is_test]
        for path, _ in lines:
            (images / path).parent.mkdir(parents=True, exist_ok=True)
            (images / path).touch()
        text = "".join(f"{path} {pid}\n" for path, pid in lines)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(autouse=True)
def _small_cards(monkeypatch):
    monkeypatch.setattr(
        benchmarks,
        "load_card",
        lambda name: dataclasses.replace(load_card(name), parts=COUNTS),
    )


@pytest.mark.parametrize("version", ["V1", "V2"])
@pytest.mark.parametrize("place", ["msmt17/MSMT17_{}", "MSMT17_{}", "msmt17", "MSMT17"])
def test_lists_tell_persons_and_names_tell_cameras(tmp_path, version, place):
    folder = write(tmp_path / place.format(version), version)
    split = read_split(f"msmt17-{version.lower()}", tmp_path)
    train, test = (folder / name for name in FOLDERS[version])
    assert split.train == tuple(
        ImageRecord(train / path, 1 + pid, camid)
        for (path, pid), camid in zip(
            LISTS["list_train.txt"] + LISTS["list_val.txt"], (1, 14, 3), strict=True
        )
    )
    query = ImageRecord(test / LISTS["list_query.txt"][0][0], 1042, 5)
    assert split.query == (query,)
    assert [(r.pid, r.camid) for r in split.gallery] == [(1042, 7), (1043, 15)]


def test_no_person_of_the_test_has_the_number_of_one_in_training(tmp_path):
    write(tmp_path / "MSMT17_V1", "V1")
    findings = check_split(read_split("msmt17-v1", tmp_path), images_per_pid=1)
    assert [f for f in findings if f.severity == "error"] == []
    # The real training has persons 0 to 1040, which become 1 to 1041.
    assert load_card("msmt17-v1").parts["train"].pids == 1041


def test_the_two_versions_are_two_data_sets(tmp_path):
    write(tmp_path / "msmt17" / "MSMT17_V1", "V1")
    write(tmp_path / "msmt17" / "MSMT17_V2", "V2")
    first, second = (read_split(f"msmt17-v{n}", tmp_path) for n in (1, 2))
    assert "MSMT17_V1" in str(first.train[0].path)
    assert "MSMT17_V2" in str(second.train[0].path)
    assert first.name != second.name
    with pytest.raises(ValueError, match="'msmt17-v1' or 'msmt17-v2'"):
        read_split("msmt17", tmp_path)


def test_the_other_version_is_pointed_at(tmp_path):
    write(tmp_path / "MSMT17", "V2")
    with pytest.raises(
        FileNotFoundError, match="There is V2 there: msmt17-v2"
    ) as error:
        read_split("msmt17-v1", tmp_path)
    assert "licence agreement" in str(error.value)


def test_what_is_missing_is_named(tmp_path):
    folder = write(tmp_path / "MSMT17", "V1")
    image = LISTS["list_gallery.txt"][1][0]
    (folder / "test" / image).unlink()
    with pytest.raises(FileNotFoundError, match=f"1 of 2 are missing: .*{image}"):
        read_split("msmt17-v1", tmp_path)
    (folder / "list_val.txt").unlink()
    with pytest.raises(FileNotFoundError, match="list_val.txt, one of its four lists"):
        read_split("msmt17-v1", tmp_path)


def test_a_line_that_does_not_parse_is_named(tmp_path):
    folder = write(tmp_path / "MSMT17", "V1")
    with (folder / "list_train.txt").open("a") as file:
        file.write("\n0001/somebody.jpg 1\n")
    with pytest.raises(ValueError, match="somebody.jpg.*line 3"):
        read_split("msmt17-v1", tmp_path)


@pytest.mark.parametrize(
    ("form", "encoding"),
    [
        ("{}  {}\n", "utf-8-sig"),
        ("{}\t{}\r\n", "utf-8"),
        ("train/{} {} \n", "utf-8"),
        ("./test/{} {}\n", "utf-16"),
    ],
)
def test_lists_may_be_written_in_other_ways(tmp_path, form, encoding):
    folder = write(tmp_path / "MSMT17", "V1")
    expected = read_split("msmt17-v1", tmp_path)
    for name, lines in LISTS.items():
        text = "".join(form.format(*line) for line in lines)
        (folder / name).write_text(text, encoding=encoding, newline="")
    assert read_split("msmt17-v1", tmp_path) == expected
    (folder / "list_gallery.txt").write_bytes(b"\n\xe4/1.jpg 1")
    with pytest.raises(ValueError, match=r"list_gallery\.txt, line 2"):
        read_split("msmt17-v1", tmp_path)


def test_half_a_data_set_is_counted(tmp_path):
    folder = write(tmp_path / "MSMT17", "V1")
    (folder / "list_val.txt").write_text("")
    with pytest.raises(ValueError, match="1 images of 1 identities, expected 3 of 2"):
        read_split("msmt17-v1", tmp_path)
    assert read_split("msmt17-v1", tmp_path, check_counts=False).num_pids == 1


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_cards_have_the_published_counts(version):
    parts = load_card(f"msmt17-{version}").parts
    assert [(part.images, part.pids) for part in parts.values()] == [
        (32621, 1041),
        (11659, 3060),
        (82161, 3060),
    ]
