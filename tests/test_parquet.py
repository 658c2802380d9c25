"""Embeddings in Parquet files: written, read by `score` and `index`, and refused."""

import json
import re

import numpy as np
import pytest

from tests.commands import refused, topdb
from topdb_tf.evaluate.feature_files import load_features
from topdb_tf.parquet_files import read_arrays, write_arrays
from topdb_tf.search.items import items_of

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def features():
    return np.random.default_rng(3).normal(size=(6, 4)).astype("float32")


def test_a_table_holds_what_an_array_file_does(features, tmp_path):
    arrays = {
        "features": features,
        "paths": np.array([f"{n}.jpg" for n in range(6)]),
        "pids": np.array([7, 7, -1, 8, -(2**63), 9]),
        "camids": np.array([1, -1, 2, 2, 1, 1]),
        "tracklets": np.array(["a", "a", "b", "", "c", "c"]),
        "probe_features": features[:4],
        "pool": np.array("tracks, mean"),
    }
    write_arrays(tmp_path / "a.parquet", arrays)
    table = parquet.read_table(tmp_path / "a.parquet")
    names = ["path", "pid", "camid", "tracklet", "embedding"]
    assert table.column_names == names
    assert table["tracklet"].to_pylist() == ["a", "a", "b", None, "c", "c"]
    assert table["pid"].to_pylist() == [7, 7, -1, 8, None, 9]
    assert table["camid"].to_pylist() == [1, None, 2, 2, 1, 1]
    again = read_arrays(tmp_path / "a.parquet")
    np.testing.assert_array_equal(again["features"], features)
    np.testing.assert_array_equal(again["probe_features"], features[:4])
    assert again["pids"].tolist() == [7, 7, -1, 8, None, 9]
    for name in ("paths", "tracklets", "pool"):
        assert again[name].tolist() == arrays[name].tolist()


def test_codes_are_whole_numbers_times_a_scale(tmp_path):
    # The largest of the first is 2.54: steps of 0.02, so 1.0 is 50 and -0.31 is -16
    # of them, as -15.5 is rounded to an even number. Zeros stay zeros.
    features = np.array([[2.54, 1.0, -0.31], [0, 0, 0]], dtype="float32")
    write_arrays(tmp_path / "a.parquet", {"features": features}, codes="int8")
    table = parquet.read_table(tmp_path / "a.parquet")
    assert table["embedding"].to_pylist() == [[127, 50, -16], [0, 0, 0]]
    read = read_arrays(tmp_path / "a.parquet")["features"]
    np.testing.assert_allclose(read, [[2.54, 1.0, -0.32], [0, 0, 0]], rtol=1e-6)
    write_arrays(tmp_path / "b.parquet", {"features": features}, codes="float16")
    assert read_arrays(tmp_path / "b.parquet")["features"].dtype == np.float16


@pytest.fixture
def arrays(features):
    return {
        "query_features": features[:2],
        "gallery_features": features[2:],
        "query_pids": np.array([1, 2]),
        "gallery_pids": np.array([1, 2, 2, -1]),
        "query_camids": np.array([1, 1]),
        "gallery_camids": np.array([2, 2, 1, 2]),
    }


def test_score_is_that_of_the_arrays(arrays, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    write_arrays(tmp_path / "a.parquet", arrays)
    names = {"query_pid_names": ["anna", "bob"]}
    names["gallery_pid_names"] = ["anna", "bob", "bob", ""]
    write_arrays(tmp_path / "named.parquet", arrays | names)
    for part in ("query", "gallery"):
        keys = ("features", "pids", "camids")
        own = {key: arrays[f"{part}_{key}"] for key in keys}
        write_arrays(tmp_path / f"{part}.parquet", own)
    pair = [tmp_path / "query.parquet", tmp_path / "gallery.parquet"]
    places = [["a.npz"], ["a.parquet"], ["named.parquet"], pair]
    answers = []
    for names in places:
        paths = [tmp_path / name for name in names]
        answers.append(json.loads(topdb("score", *paths, "--json").stdout))
        answers[-1] = {k: v for k, v in answers[-1].items() if "second" not in k}
    assert answers[1:] == answers[:1] * 3
    assert load_features(tmp_path / "named.parquet").query_pids.tolist() == [1, 2]


def test_parts_in_a_folder_are_one_table(features, tmp_path):
    folder = tmp_path / "all.parquet"
    folder.mkdir()
    for start in (4, 0, 2):  # read in the order of their names
        part = {"features": features[start : start + 2]}
        part["paths"] = np.array([f"{start}.jpg", f"{start + 1}.jpg"])
        part["errors"] = np.array(["cut off" if start == 2 else ""] * 2)
        write_arrays(folder / f"part-{start:05d}.parquet", part, codes="int8")
    (folder / "_job.json").write_text("{}")
    items = items_of([folder], None)
    assert items.paths == ["0.jpg", "1.jpg", "4.jpg", "5.jpg"]  # not the bad
    np.testing.assert_allclose(items.features, features[[0, 1, 4, 5]], atol=0.02)
    write_arrays(folder / "part-9.parquet", {"features": features[:, :3]})
    with pytest.raises(ValueError, match="same columns. Received: paths .*part-9"):
        items_of([folder], None)
    (tmp_path / "empty.parquet").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no Parquet file in .*empty"):
        items_of([tmp_path / "empty.parquet"], None)


def test_an_index_takes_names_and_gaps_of_a_table(features, tmp_path):
    embedding = pyarrow.array(features[:3].tolist(), pyarrow.list_(pyarrow.float64()))
    people = pyarrow.array(["anna", None, "anna"]).dictionary_encode()
    columns = {"path": list("abc"), "embedding": embedding, "pid": people}
    columns["camid"] = pyarrow.array([2.0, None, 5.0])  # as pandas has gaps
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    items = items_of([tmp_path / "a.parquet"], None)
    assert [items.names.persons.get(n) for n in items.pids.tolist()] == [
        "anna",
        None,
        "anna",
    ]
    assert items.camids[[0, 2]].tolist() == [2, 5]
    assert items.camids[1] < -1
    out = tmp_path / "a.index"
    assert topdb("index", "build", tmp_path / "a.parquet", "--out", out).exit_code == 0
    answer = topdb("index", "query", out, tmp_path / "a.parquet", "--json").stdout
    found = json.loads(answer)["queries"][0]["found"]
    assert (found[0]["path"], found[0]["person"], found[0]["distance"]) == (
        "a",
        "anna",
        pytest.approx(0, abs=1e-5),
    )


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"vector": [[1.0, 2.0]]}, "column `embedding`, .* Received: the columns vec"),
        ({"embedding": [[1.0, 2.0], [1.0]]}, "`embedding` .* one length.*lengths 2, 1"),
        ({"embedding": [[1.0], None]}, "`embedding` .* null. Received: 1 that"),
        ({"embedding": [[1.0, None]]}, "`embedding` .* null. Received: 1 that"),
        ({"embedding": [[1.0], [float("nan")]]}, "`embedding`.*finite.*first row 1"),
        ({"embedding": [[1, 2]]}, "`embedding` .* lists of floats.*list<.*int64"),
        ({"embedding": [1.0, 2.0]}, "`embedding` .* lists of floats.*double"),
        ({"embedding": [[1.0]], "path": [None]}, "`path` .* must hold texts.*null"),
        ({"embedding": [[1.0]], "pid": [True]}, "`pid` .* whole numbers or t.*bool"),
        ({"embedding": [[1.0]], "part": ["train"]}, "`part` .* query or g.*train"),
    ],
)
def test_a_column_that_is_none_is_told(columns, words, tmp_path):
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    for command in (["score"], ["index", "build", "--out", tmp_path / "i"]):
        answer = topdb(*command, tmp_path / "a.parquet")
        refused(answer, "a.parquet")
        assert re.search(words, answer.stderr), answer.stderr


def test_what_is_no_table_or_tells_no_part_is_told(features, tmp_path):
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    refused(topdb("score", tmp_path / "cut.parquet"), "must be a Parquet file, whole")
    write_arrays(tmp_path / "a.parquet", {"features": features})
    refused(topdb("score", tmp_path / "a.parquet"), "column `part`")


def test_codes_need_a_table(tmp_path):
    (tmp_path / "a.jpg").touch()
    words = "embed", tmp_path / "a.jpg", "--model", "demo"
    refused(topdb(*words, "--codes", "int8"), "--out NAME.parquet")
    refused(topdb(*words, "--out", tmp_path / "a.csv"), "end in .npz or .parquet")
