"""Images by track: told by a column or a level of folders, pooled, and scored."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tests.commands import refused, topdb
from topdb_tf.data.benchmarks import read_split
from topdb_tf.data.own_images import read_own_images
from topdb_tf.data.records import ImageRecord, Split
from topdb_tf.data.table import table_text
from topdb_tf.evaluate.evaluate import check_pooling, pool_split
from topdb_tf.model.backbones import tiny
from topdb_tf.model.network import build_network, embedder
from topdb_tf.retrieval.features import open_arrays
from topdb_tf.retrieval.postprocessing import pool


def draw(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(shade).integers(0, 256, (32, 16, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A CSV file of four persons by two cameras, a track of two images of each."""
    folder = tmp_path_factory.mktemp("people")
    rows = [["path", "pid", "camid", "split", "tracklet"]]
    for place in range(16):
        pid, camid = place // 4, place // 2 % 2
        draw(folder / f"{place}.png", place)
        part = "train" if pid < 2 else ("query", "gallery")[camid]
        rows.append([f"{place}.png", pid + 1, camid + 1, part, f"t{place // 2}"])
    with (folder / "people.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "people.csv"


def test_a_column_tells_tracks_and_is_written_again(people):
    split = read_own_images(people, name="people")
    assert [one.tracklet for one in split.query] == ["t4", "t4", "t6", "t6"]
    text = table_text(split)
    assert text.splitlines()[0] == "path,pid,camid,split,tracklet"
    again = people.with_name("again.csv")
    again.write_text(text)
    assert read_own_images(again, name="people").records == split.records


def test_a_level_of_folders_tells_tracks(tmp_path):
    for person in ("anna", "ben", "cem", "dora"):
        for track in ("1", "2"):
            for image in range(2):
                name = f"c{track}_{image}.png"
                draw(tmp_path / person / track / name)
    split = read_own_images(tmp_path, name="people", layout="person/tracklet")
    tracks = {one.tracklet for one in split.records}
    assert {"anna/1", "anna/2", "dora/1", "dora/2"} < tracks
    parts = [{one.tracklet for one in part} for part in (split.query, split.gallery)]
    assert not parts[0] & parts[1]  # a track that is drawn is a query as a whole
    assert len(split.query) == 2 * len(parts[0])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ((2, 2, "3"), ["tracklet 't0' of two cameras", "line 2", "line 3"]),
        ((2, 1, "9"), ["tracklet 't0' of two persons", "line 2", "line 3"]),
    ],
)
def test_a_track_is_of_one_person_and_camera(people, changed, words):
    rows = list(csv.reader(people.read_text().splitlines()))
    row, column, value = changed
    rows[row][column] = value
    other = people.with_name("other.csv")
    with other.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(ValueError, match=words[0]) as caught:
        read_own_images(other, name="people")
    assert all(word in str(caught.value) for word in words)


def records(*rows):
    """Returns the records of rows: path, pid, camid and perhaps tracklet."""
    return tuple(
        ImageRecord(Path(row[0]), *row[1:3], tracklet=(*row, None)[3]) for row in rows
    )


def test_queries_alone_are_pooled_where_the_gallery_has_no_tracks():
    query = records(("a", 1, 1, "x"), ("b", 1, 1, "x"), ("c", 2, 1, None))
    gallery = records(("d", 1, 2, None), ("e", 2, 2, None))
    features = np.eye(5, dtype=np.float32)
    found = pool_split(features, Split("people", (), query, gallery), "mean")
    assert found.protocol == "multi-query, mean"
    np.testing.assert_allclose(
        found.features[0], [0.5**0.5, 0.5**0.5, 0, 0, 0], rtol=1e-6
    )
    assert [one.pid for one in found.split.query] == [1, 2]
    np.testing.assert_array_equal(found.features[2:], features[3:])


def test_what_cannot_be_pooled_is_said_before_anything_is_embedded():
    alone = Split("people", (), records(("a", 1, 1)), records(("b", 1, 2)))
    with pytest.raises(ValueError, match="2 images of no track"):
        check_pooling(alone, "mean")
    twice = records(("a", 1, 1, "x")), records(("b", 1, 1, "x"))
    with pytest.raises(ValueError, match="find itself. Received in both: x"):
        check_pooling(Split("people", (), *twice, has_cameras=False), "mean")
    check_pooling(Split("people", (), *twice), "mean")
    other = records(("a", 1, 1, "x")), records(("b", 2, 1, "x"))
    with pytest.raises(ValueError, match=r"two persons: 1 \(a\) and 2 \(b\)"):
        check_pooling(Split("people", (), *other), "mean")


def test_evaluate_ranks_tracks(people, tmp_path):
    (tmp_path / "config.yaml").write_text(f"data: {{dataset: {people}}}")
    network = build_network(tiny((32, 16)), num_pids=2)
    embedder(network).save(tmp_path / "embedder.keras")
    plain = json.loads(topdb("evaluate", tmp_path, "--json").stdout)
    assert "tracklets" not in plain["protocol"]
    answer = topdb("evaluate", tmp_path, "--tracklets", "mean", "--json")
    scores = json.loads(answer.stdout)["protocol"]
    assert (scores["num_queries"], scores["num_gallery"]) == (2, 2)
    assert scores["tracklets"] == "tracks, mean"
    line = topdb("evaluate", tmp_path, "--tracklets", "first").stdout
    assert line.startswith("tracks, first: mAP ")
    assert (tmp_path / "scores-people-tracks-mean.json").is_file()
    answer = topdb("evaluate", tmp_path, "--tracklets", "max")
    refused(answer, "max")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    file = tmp_path_factory.mktemp("model") / "tiny.keras"
    embedder(build_network(tiny((32, 16)), num_pids=2)).save(file)
    return file


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_embeddings_by_track_are_indexed_and_asked(people, model, tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    single, tracks = (tmp_path / f"{name}.{suffix}" for name in ("single", "tracks"))
    assert topdb("embed", people, "--model", model, "--out", single).exit_code == 0
    how = ("--pool", "tracklet:median")
    answer = topdb("embed", people, "--model", model, *how, "--out", tracks)
    assert "16 images in 8 tracks, 4 persons, 2 cameras" in answer.stdout
    with open_arrays(single) as arrays, open_arrays(tracks) as pooled:
        wanted = pool(arrays["features"], arrays["tracklets"], how="median")
        np.testing.assert_allclose(pooled["features"], wanted.features, rtol=1e-5)
        assert pooled["tracklets"].tolist() == [f"t{n}" for n in range(8)]
        assert pooled["paths"].tolist() == arrays["paths"][::2].tolist()
        assert pooled["pids"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
        assert pooled["camids"].tolist() == [1, 2] * 4
        assert str(pooled["pool"]) == "tracks, median"
    index = tmp_path / "tracks.index"
    build = ("index", "build", tracks, "--out", index)
    refused(topdb(*build), "--metric cosine", "tracks, median", status=1)
    assert topdb(*build, "--metric", "cosine").exit_code == 0
    found = json.loads(topdb("index", "query", index, single, "--json").stdout)
    nearest = [query["found"][0]["path"] for query in found["queries"]]
    assert nearest == [str(people.with_name(f"{n // 2 * 2}.png")) for n in range(16)]
    plain = tmp_path / "plain.index"
    assert topdb("index", "build", single, "--out", plain).exit_code == 0
    refused(topdb("index", "query", plain, tracks), "--metric cosine", status=1)


def test_a_data_set_by_track_is_scored_as_evaluate_does(people, model, tmp_path):
    out = tmp_path / "test.npz"
    embed = ("embed", "--dataset", people, "--model", model, "--out", out)
    assert topdb(*embed, "--pool", "tracklet").exit_code == 0
    by_file = json.loads(topdb("score", out, "--json").stdout)
    (tmp_path / "config.yaml").write_text(f"data: {{dataset: {people}}}")
    (tmp_path / "embedder.keras").write_bytes(model.read_bytes())
    answer = topdb("evaluate", tmp_path, "--tracklets", "mean", "--json")
    by_run = json.loads(answer.stdout)
    for name in ("mean_ap", "cmc", "protocol"):
        assert by_file[name] == by_run[name] or name == "protocol", name
    assert by_file["protocol"]["tracklets"] == "tracks, mean"


def test_what_has_no_tracks_is_not_pooled(people, model, tmp_path):
    out = tmp_path / "tracks.npz"
    options = ("--model", model, "--pool", "tracklet", "--out", out)
    image = people.with_name("0.png")
    refused(topdb("embed", image, *options), "1 image of no track", status=1)
    answer = topdb("embed", people, *options, "--workers", "ray")
    refused(answer, "--pool is for IMAGES", status=1)
    rows = list(csv.reader(people.read_text().splitlines()))
    for column, words in ((1, "two persons: '1'"), (2, "two cameras: '1'")):
        changed = [list(row) for row in rows]
        changed[2][column] = "3"
        other = people.with_name("changed.csv")
        with other.open("w", newline="") as file:
            csv.writer(file).writerows(changed)
        answer = topdb("embed", other, *options)
        refused(answer, f"tracklet 't0' of {words} (line 2)", status=1)
    assert not out.exists()


# Of each track first and last image, person and camera; the first of the test is junk.
TRAIN = [[1, 2, 1, 1], [3, 3, 1, 2]]
TEST = [[1, 1, -1, 1], [2, 2, 0, 3], [3, 4, 2, 1], [5, 5, 2, 2]]


def write_mars(root, *, queries=(3,), lists="mars/info"):
    names = {
        "train": ["0001C1T0001F001.jpg", "0001C1T0001F002.jpg", "0001C2T0001F001.jpg"],
        "test": ["00-1C1T0001F001.jpg", "0000C3T0001F001.jpg", "0002C1T0001F001.jpg"],
    }
    names["test"] += ["0002C1T0001F002.jpg", "0002C2T0001F001.jpg"]
    info = root / lists
    info.mkdir(parents=True)
    for part, rows in (("train", TRAIN), ("test", TEST)):
        for name in names[part]:
            image = root / "mars" / f"bbox_{part}" / name[:4] / name
            image.parent.mkdir(parents=True, exist_ok=True)
            image.touch()
        (info / f"{part}_name.txt").write_text("\n".join(names[part]))
        savemat(info / f"tracks_{part}_info.mat", {f"track_{part}_info": rows})
    savemat(info / "query_IDX.mat", {"query_IDX": list(queries)})
    return info


@pytest.mark.parametrize("lists", ["mars/info", "mars/MARS-evaluation-master/info"])
def test_mars_is_read_by_its_lists(tmp_path, lists):
    write_mars(tmp_path, lists=lists)
    split = read_split("mars", tmp_path, check_counts=False)
    told = [
        [(one.pid, one.camid, one.tracklet) for one in split.part(part)]
        for part in ("train", "query", "gallery")
    ]
    assert told[0] == [(1, 1, "train-1"), (1, 1, "train-1"), (1, 2, "train-2")]
    assert told[1] == [(2, 1, "test-3"), (2, 1, "test-3")]
    assert told[2] == [(0, 3, "test-2"), *told[1], (2, 2, "test-4")]
    image = tmp_path / "mars" / "bbox_test" / "0002" / "0002C1T0001F001.jpg"
    assert split.query[0].path == image
    check_pooling(split, "mean")


def test_what_mars_lacks_is_named(tmp_path):
    def refusal(kind=ValueError):
        with pytest.raises(kind) as caught:
            read_split("mars", tmp_path, check_counts=False)
        return str(caught.value)

    assert "bbox_train" in refusal(FileNotFoundError)
    info = write_mars(tmp_path, queries=(3, 9))
    assert "from one place. Received: 3 to 9" in refusal()
    (info / "query_IDX.mat").write_bytes(b"no matlab file")
    assert "query_IDX.mat must be a whole MATLAB file" in refusal()
    savemat(info / "tracks_test_info.mat", {"x": [[1, 99, 1, 1]]})
    assert "tracks_test_info.mat must have a row for each track" in refusal()
    (tmp_path / "mars" / "bbox_train" / "0001" / "0001C2T0001F001.jpg").unlink()
    assert "1 image of 3 missing: 0001C2T0001F001.jpg" in refusal(FileNotFoundError)
    (info / "query_IDX.mat").unlink()
    assert "The lists of MARS must lie in" in refusal(FileNotFoundError)


def test_a_query_of_market_has_all_its_boxes(tmp_path):
    names = {
        "bounding_box_train": ["0001_c1s1_000001_01.jpg"],
        "query": ["0002_c1s1_000001_00.jpg", "0003_c1s1_000001_00.jpg"],
        "bounding_box_test": ["0002_c2s1_000001_01.jpg", "0003_c2s1_000001_01.jpg"],
        "gt_bbox": ["0002_c1s1_000001_00.jpg", "0002_c1s2_000009_00.jpg"],
    }
    names["gt_bbox"] += ["0002_c2s1_000001_00.jpg", "0001_c1s1_000001_00.jpg"]
    for folder, files in names.items():
        (tmp_path / "market1501" / folder).mkdir(parents=True)
        for name in files:
            (tmp_path / "market1501" / folder / name).touch()
    with pytest.raises(ValueError, match="None for 1 of 2, such as 0003_c1s1_000001"):
        read_split("market1501-multi", tmp_path, check_counts=False)
    (tmp_path / "market1501" / "gt_bbox" / "0003_c1s3_000001_00.jpg").touch()
    split = read_split("market1501-multi", tmp_path, check_counts=False)
    tracks = [(one.path.name, one.tracklet) for one in split.query]
    assert tracks == [
        ("0002_c1s1_000001_00.jpg", "2-c1"),
        ("0002_c1s2_000009_00.jpg", "2-c1"),
        ("0003_c1s3_000001_00.jpg", "3-c1"),
    ]
    found = pool_split(np.eye(5, dtype=np.float32), split, "mean")
    assert found.protocol == "multi-query, mean"
    assert len(found.split.query) == 2
