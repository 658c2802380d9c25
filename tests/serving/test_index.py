"""`topdb-tf index`, from image files to what is found for them."""

import json
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.calibrations import point, write_calibration
from tests.serving.test_embed import (
    GALLERY,
    PEOPLE,
    QUERY,
    refused,
    topdb,
    write_images,
)
from topdb_tf.embed.model_probes import recorded_model
from topdb_tf.embed.source import Source
from topdb_tf.search.changes import create_index
from topdb_tf.search.picture import rank_lists
from topdb_tf.search.query import query_index


@pytest.fixture
def images(tmp_path):
    """Folders of queries and of a gallery; the options that name the model."""
    query = write_images(tmp_path / "query", QUERY)
    return query, write_images(tmp_path / "gallery", GALLERY)


@pytest.fixture
def index(images, model_folder, tmp_path):
    out = tmp_path / "people.index"
    answer = topdb(
        "index", "build", images[1], "--model", model_folder / "1", "--out", out
    )
    assert answer.exit_code == 0, answer.output
    assert "4 images, 3 persons, 2 cameras" in answer.stdout
    return out


def asked(*arguments):
    answer = topdb("index", *arguments, "--json")
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


def test_what_is_nearest_is_found_by_image_and_by_feature(images, index, tmp_path):
    # Person 1's query is (100, 0, 0): 10² from the distractor, 30² from its match.
    result = asked("query", index, images[0] / "0001_c1s1_01_00.png", "--top", 2)
    (query,) = result["queries"]
    assert (query["pid"], query["camid"]) == (1, 1)
    found = [(image["distance"], image["pid"]) for image in query["found"]]
    assert found == [(100.0, 0), (900.0, 1)]
    features = tmp_path / "q.npz"
    np.savez(features, features=np.array([[100, 0, 0, 0]], "float32"))
    (query,) = asked("query", index, features, "--max-distance", 500)["queries"]
    assert [image["is_same_person"] for image in query["found"]] == [True]
    assert query["found"][0]["path"].endswith("0000_c2s1_04_00.png")
    for query in asked("query", index, images[0], "--camera", 1)["queries"]:
        assert [image["pid"] for image in query["found"]] == [-1]


def test_images_are_added_replaced_and_removed(images, index):
    facts = asked("add", index, *images)
    assert (facts["num_added"], facts["num_replaced"]) == (6, 4)
    assert (facts["num_images"], facts["num_removed"]) == (6, 4)
    assert asked("add", index, *images, "--skip-known")["num_added"] == 0
    facts = asked("remove", index, "--pid", 1, "--prefix", f"{images[1]}/0000")
    assert len(facts["removed"]) == 3
    refused(topdb("index", "remove", index, "--pid", 1), "nothing was removed", "pid 1")
    refused(topdb("index", "remove", index), "--prefix")
    assert asked("compact", index)["num_dropped"] == 7
    assert asked("info", index, "--check")["num_images"] == 3


def test_persons_and_cameras_are_called_as_they_were_written(model_folder, tmp_path):
    people = write_images(tmp_path, PEOPLE) / "people"
    model = ("--model", model_folder / "1")
    index, features = tmp_path / "people.index", tmp_path / "people.npz"
    facts = asked("build", people, *model, "--out", index)
    assert (facts["num_pids"], facts["num_camids"]) == (4, 2)
    anna = people / "anna" / "door" / "1.png"
    # Nobody says who is on it: its name tells no person, and it lies in no data set.
    asked_for = "query", index, anna, "--top", 2, "--camera", "yard"
    (query,) = asked(*asked_for)["queries"]
    assert (query["person"], query["camera"]) == (None, None)
    found = [(image["person"], image["camera"]) for image in query["found"]]
    assert found == [("anna", "yard")] * 2
    assert "anna    yard" in topdb("index", *asked_for).stdout
    refused(topdb("index", *asked_for[:-1], "attic"), "door, yard", "attic")
    # The same persons, numbered otherwise, are those of the index.
    table = tmp_path / "queries.csv"
    lines = [f"people/{name}/door/1.png,{name},door" for name in ("dora", "zoe", "bob")]
    lines[1] = lines[1].replace("people/zoe", "people/carl")
    table.write_text("\n".join(["path,pid,camid", *lines]))
    queries = asked("query", index, table, "--top", 1)["queries"]
    assert [query["person"] for query in queries] == ["dora", "zoe", "bob"]
    pairs = [(query["pid"], query["found"][0]["pid"]) for query in queries]
    assert pairs == [(4, 4), (5, 3), (2, 2)]
    # By way of a file of features, and added to an index that knows some of them.
    assert topdb("embed", table, *model, "--out", features).exit_code == 0
    assert asked("add", index, features)["num_pids"] == 5
    (query,) = asked(*asked_for[:3], "--top", 20)["queries"]
    persons = {image["person"]: image["pid"] for image in query["found"]}
    assert persons == {"anna": 1, "bob": 2, "carl": 3, "dora": 4, "zoe": 5}
    assert len(asked("remove", index, "--pid", "zoe")["removed"]) == 1
    refused(topdb("index", "remove", index, "--pid", "zoe"), "pid zoe")


def test_another_model_is_refused(images, index, model_folder, tmp_path):
    other = "--model", model_folder / "2"  # ten times the embedding
    for command in ("query", "add"):
        answer = topdb("index", command, index, images[0], *other)
        refused(answer, "by the model that made the index", "differ")
    features = tmp_path / "other.npz"
    assert topdb("embed", images[0], *other, "--out", features).exit_code == 0
    refused(topdb("index", "query", index, features), "two models")
    assert asked("info", index)["num_images"] == 4


def test_files_of_other_programs_need_no_names(images, index, tmp_path):
    features, out = tmp_path / "plain.npz", tmp_path / "plain.index"
    np.savez(features, gallery_features=np.eye(4, 3, dtype="float32"))
    assert asked("build", features, "--out", out)["model"] is None
    np.savez(features, query_features=np.eye(1, 3, dtype="float32"))
    (query,) = asked("query", out, features, "--top", 1)["queries"]
    assert query["found"][0]["path"] == "plain.npz#0"
    assert query["found"][0]["pid"] is None
    refused(topdb("index", "query", index, features), "(num_images, 4)")
    refused(topdb("index", "query", out, images[0]), "--model")
    texts = {"pids": ["bob", "unknown", "anna", "bob"], "camids": ["2", "9", "", "2"]}
    np.savez(features, features=np.eye(4, 3, dtype="float32"), **texts)
    (query,) = asked("query", out, features, "--top", 1)["queries"][2:3]
    assert (query["person"], query["camera"]) == ("anna", None)
    assert asked("build", features, "--out", tmp_path / "named.index")["num_pids"] == 2
    np.savez(features, other=np.eye(2))
    refused(topdb("index", "build", features, "--out", tmp_path / "x"), "other")
    rate = "--false-match-rate", 0.001
    np.savez(features, features=np.eye(1, 3, dtype="float32"))
    refused(topdb("index", "query", out, features, *rate), "topdb-tf calibrate")


def test_a_picture_shows_what_was_found(images, index, tmp_path):
    picture = tmp_path / "found.png"
    options = "--top", 3, "--picture", picture
    assert topdb("index", "query", index, images[0], *options).exit_code == 0
    with Image.open(picture) as opened:
        assert opened.size[0] > 300


def test_unknown_persons_are_marked_by_the_threshold(tmp_path):
    colours = {"a.png": (90, 0, 0), "b.png": (70, 0, 0), "q.png": (100, 0, 0)}
    photos = write_images(tmp_path / "photos", colours)
    paths = [str(photos / name) for name in colours]
    features = np.array(list(colours.values()), "float32")
    index, queries = tmp_path / "people.index", tmp_path / "queries.npz"
    create_index(index, features[:2], paths[:2])
    np.savez(queries, features=features[2:], paths=paths[2:])
    (query,) = query_index(index, [queries], Source()).queries
    judged = {None: "unknown", True: "right", False: "wrong"}
    for is_same_person, mark in judged.items():
        images = [replace(i, is_same_person=is_same_person) for i in query.found]
        (marked,) = rank_lists([replace(query, found=tuple(images))])
        assert [image.kind for image in marked.listed] == [mark, mark]


def test_a_damaged_or_odd_file_of_features_is_explained(images, index, tmp_path):
    path, whole = tmp_path / "q.npz", np.eye(2, 4, dtype="float32")
    np.savez(path, features=whole, pids=np.array([1, 2]))
    contents = bytearray(path.read_bytes())
    contents[contents.index(b"NUMPY") + 130] ^= 1  # in the features
    path.write_bytes(contents)
    refused(topdb("index", "query", index, path), "NPZ file, whole", "q.npz")
    for odd in (
        {"paths": ["one"]},
        {"paths": [1, 2]},
        {"pids": [1, 2, 3]},
        {"pids": [[1, 2]]},
        {"camids": np.array([1, 2**63], np.uint64)},
    ):
        np.savez(path, features=whole, **odd)
        refused(topdb("index", "query", index, path), *odd)
        refused(topdb("index", "add", index, path), *odd)


HOSTILE = "a\x1b]0;owned\x07\x9b2J\u202egnp.exe\nError: all is lost"


def test_names_cannot_steer_the_terminal(tmp_path):
    index, features = tmp_path / "people.index", tmp_path / "q.npz"
    model = recorded_model(np.eye(4, dtype="f4"), model=None, server=HOSTILE)
    create_index(
        index, np.eye(3, 4, dtype="f4"), [HOSTILE, "顔　写真.png", "é"], model=model
    )
    np.savez(features, features=np.eye(1, 4, dtype="f4"), paths=[HOSTILE])
    named = "--path", HOSTILE + "?"
    for answer in (
        topdb("index", "info", index),
        topdb("index", "query", index, features),
        topdb("index", "remove", index, *named),
        topdb("--verbose", "index", "build", tmp_path / HOSTILE, "--out", "x"),
        topdb("index", HOSTILE),
    ):
        assert r"a\x1b]0;owned\x07\x9b2J\u202egnp.exe" in answer.output
        steering = {"Cc", "Cf"}
        lines = answer.output.splitlines()
        assert not any(unicodedata.category(c) in steering for c in "".join(lines))
        assert not any(line.startswith("Error: all is lost") for line in lines)
    assert "顔　写真.png" in topdb("index", "query", index, features).stdout
    (query,) = asked("query", index, features)["queries"]
    assert query["path"] == query["found"][0]["path"] == HOSTILE


def test_the_false_matches_to_expect_are_those_of_this_index(tmp_path):
    # 40 images on a line, two of them removed, and a rate of 1 in 100 for each pair:
    # 0.38 false matches a query. Camera 2 has 20 of the images, of which one is gone.
    run, index, queries = tmp_path / "run", tmp_path / "x.index", tmp_path / "q.npz"
    run.mkdir()
    (run / "config.yaml").write_text("data: {dataset: synthetic}")
    (run / "embedder.keras").write_bytes(b"is not opened for features")
    write_calibration(run, operating_points=[point(0.01, 9.0), point(0.001, 1.0)])
    line = np.arange(40, dtype="float32")[:, None]
    names = [f"{number}.jpg" for number in range(40)]
    create_index(index, line, names, camids=np.arange(40) % 2 + 1)
    gone = "--path", "38.jpg", "--path", "39.jpg"
    assert len(asked("remove", index, *gone)["removed"]) == 2
    np.savez(queries, features=np.array([[10.0]], "float32"))
    rate = "--model", run, "--false-match-rate", 0.01
    result = asked("query", index, queries, *rate, "--top", 40)
    (query,) = result["queries"]
    # Squared distances of at most 9: 7 to 13.
    assert sorted(int(image["id"]) for image in query["found"]) == [*range(7, 14)]
    assert result["threshold"]["num_images"] == 38
    assert result["threshold"]["expected_false_matches"] == pytest.approx(0.38)
    said = topdb("index", "query", index, queries, *rate, "--camera", 2).stdout
    assert (
        "same person: at most 9 apart, for a false-match rate of 1%, which is about "
        "0.19 false matches a query among 19 images\n"
    ) in said
