"""`topdb-tf embed`, by servers and by models here, up to the score."""

import json
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from tests import commands
from tests.commands import topdb
from tests.image_zoo import BAD, GOOD
from tests.serving.stand_in import Code
from tests.serving.tiny_model import embedding_of, image_bytes, write_tiny_model
from tests.test_extraction import small_embedder
from topdb_tf.data.own_images import read_own_images
from topdb_tf.data.pipeline import evaluation_dataset
from topdb_tf.embed.errors import RefusedError
from topdb_tf.embed.local import EmbedderConnection
from topdb_tf.evaluate.feature_files import embed_file
from topdb_tf.model.extraction import extract_embeddings
from topdb_tf.runs.settings import EvaluationConfig

PHOTOS = {"a.jpg": (200, 0, 0), "b.PNG": (0, 150, 0), "deep/c.jpeg": (10, 20, 30)}
# Name and colour of the images of two people, seen by two cameras, and of a distractor
# and a detection that is junk.
QUERY = {"0001_c1s1_01_00.png": (100, 0, 0), "0002_c1s1_02_00.png": (0, 100, 0)}
GALLERY = {
    "-1_c1s1_03_00.png": (0, 0, 0),
    "0000_c2s1_04_00.png": (90, 0, 0),
    "0001_c2s1_05_00.png": (70, 0, 0),
    "0002_c2s1_06_00.png": (0, 90, 0),
}


refused = partial(commands.refused, status=1)


def write_images(folder, colours):
    for name, colour in colours.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes(colour))
    return folder


@pytest.fixture
def photos(tmp_path):
    folder = write_images(tmp_path / "photos", PHOTOS)
    for name in ("Thumbs.db", ".hidden.jpg", "deep/notes.txt"):
        (folder / name).write_bytes(b"no image")
    return folder


@pytest.fixture
def parts(tmp_path):
    """The options that name query and gallery."""
    query = write_images(tmp_path / "query", QUERY)
    gallery = write_images(tmp_path / "gallery", GALLERY)
    return "--query", query, "--gallery", gallery


@pytest.fixture
def out(tmp_path):
    return tmp_path / "features.npz"


@pytest.fixture(params=["rest", "grpc", "model"])
def where(request, stand_in, model_folder):
    """The options that name the model, in each way; version 2 in all of them."""
    if request.param == "model":
        return "--model", model_folder
    scheme = {"rest": "http", "grpc": "grpc"}[request.param]
    return "--server", f"{scheme}://{getattr(stand_in, request.param)}"


def test_images_in_files_and_folders_become_features(where, photos, out):
    answer = topdb("embed", photos / "b.PNG", photos, *where, "--out", out)
    assert answer.exit_code == 0, answer.output
    *lines, last = answer.stdout.splitlines()
    assert lines == ["skipped, as no images: .hidden.jpg, Thumbs.db, notes.txt"]
    for word in ("3 images, 4 numbers each", "model version 2", "images/s, 0 left out"):
        assert word in last
    with np.load(out) as arrays:
        assert set(arrays) == {"features", "paths", "probe_features"}
        names = ["b.PNG", "a.jpg", "deep/c.jpeg"]  # as given, each once
        assert arrays["paths"].tolist() == [str(photos / name) for name in names]
        assert arrays["features"].dtype == np.float32
        expected = [embedding_of(PHOTOS[name], 10.0) for name in names]
        np.testing.assert_allclose(arrays["features"], expected, rtol=1e-6)


def test_query_and_gallery_become_what_score_reads(where, parts, out):
    answer = topdb("embed", *parts, *where, "--out", out, "--batch-size", 4, "--json")
    result = json.loads(answer.stdout)
    assert result["num_images"] == 5
    assert result["failures"] == []
    with np.load(out) as arrays:
        assert arrays["query_pids"].tolist() == [1, 2]
        assert arrays["gallery_pids"].tolist() == [0, 1, 2]
        assert arrays["query_camids"].tolist() == [1, 1]
        assert arrays["gallery_camids"].tolist() == [2, 2, 2]
        colours = list(QUERY.values())
        expected = [embedding_of(colour, 10.0) for colour in colours]
        np.testing.assert_allclose(arrays["query_features"], expected, rtol=1e-6)
    # Person 1's distractor, 10 off, comes before its match, 30 off; person 2's match
    # comes first. AP 1/2 and 1, so mAP 3/4 and rank-1 1/2.
    scores = json.loads(topdb("score", out, "--json").stdout)
    assert scores["mean_ap"] == 0.75
    assert scores["cmc"]["1"] == 0.5


def test_a_table_is_scored_and_indexed_as_an_array_file(model_folder, parts, tmp_path):
    pytest.importorskip("pyarrow")
    model, answers = ("--model", model_folder), []
    for name, codes in (("a.npz", "float32"), ("a.parquet", "int8")):
        out = tmp_path / name
        answer = topdb("embed", *parts, *model, "--out", out, "--codes", codes)
        assert answer.exit_code == 0, answer.output
        scores = json.loads(topdb("score", out, "--json").stdout)
        answers.append((scores["mean_ap"], scores["cmc"]))
        index = tmp_path / f"{name}.index"
        assert topdb("index", "build", out, "--out", index).exit_code == 0
        found = topdb("index", "query", index, out, "--json", "--top", 1)
        first = [query["found"][0] for query in json.loads(found.stdout)["queries"]]
        answers[-1] += ([(image["path"], image["pid"]) for image in first],)
    assert answers[0] == answers[1]


def test_names_that_tell_person_and_camera_are_read(where, parts, out):
    assert topdb("embed", parts[1], *where, "--out", out).exit_code == 0
    with np.load(out) as arrays:
        assert arrays["pids"].tolist() == [1, 2]
        assert arrays["camids"].tolist() == [1, 1]


PEOPLE = {
    f"people/{person}/{camera}/{number}.png": colour
    for person, colours in {
        "anna": {"door": (200, 0, 0), "yard": (190, 0, 0)},
        "bob": {"door": (0, 200, 0), "yard": (0, 180, 0)},
        "carl": {"door": (0, 0, 200), "yard": (0, 0, 170)},
        "dora": {"door": (90, 90, 0), "yard": (80, 80, 0)},
    }.items()
    for camera, colour in colours.items()
    for number in (1, 2)
}


def test_persons_and_cameras_of_a_list_are_kept_by_name(model_folder, tmp_path, out):
    write_images(tmp_path, PEOPLE)
    lines = [f"{path},{path.split('/')[1]},{path.split('/')[2]}" for path in PEOPLE]
    lines[0] = lines[0].replace(",anna,", ",unknown,")
    table = tmp_path / "crops.csv"
    table.write_text("\n".join(["path,pid,camid", *lines]))
    answer = topdb("embed", table, "--model", model_folder, "--out", out)
    assert "16 images, 4 persons, 2 cameras, 4 numbers each" in answer.stdout
    assert "1 image of nobody known: pid unknown." in answer.stderr
    with np.load(out) as arrays:
        assert arrays["pids"].tolist() == [-1, 1, 1, 1, *(n // 4 for n in range(8, 20))]
        assert arrays["pid_names"][:2].tolist() == ["", "anna"]
        assert arrays["camids"].tolist() == [1, 1, 2, 2] * 4
        assert arrays["camera_names"][:3].tolist() == ["door", "door", "yard"]
        assert arrays["paths"].tolist() == [str(tmp_path / path) for path in PEOPLE]


def test_a_data_set_becomes_what_score_reads_by_the_division_of_fit(
    model_folder, tmp_path, out
):
    people = write_images(tmp_path, PEOPLE) / "people"
    where = ("--model", model_folder, "--out", out)
    answer = topdb("embed", "--dataset", people, *where)
    assert answer.exit_code == 0, answer.output
    assert "8 training images left out" in answer.stderr
    split = read_own_images(people, name="people")
    with np.load(out) as arrays:
        for part in ("query", "gallery"):
            records = split.part(part)
            assert arrays[f"{part}_paths"].tolist() == [str(r.path) for r in records]
            assert arrays[f"{part}_pids"].tolist() == [r.pid for r in records]
            assert arrays[f"{part}_camids"].tolist() == [r.camid for r in records]
            names = [split.pid_name(record.pid) for record in records]
            assert arrays[f"{part}_pid_names"].tolist() == names
    # All images of a person are nearer to each other than to those of others.
    assert json.loads(topdb("score", out, "--json").stdout)["mean_ap"] == 1.0
    named = embed_file(out, EvaluationConfig()).split
    assert named.pid_names == {pid: split.pid_name(pid) for pid in named.pid_names}
    assert named.camera_names == {1: "door", 2: "yard"}
    refused(topdb("embed", people, "--dataset", people, *where), "or --dataset")
    refused(topdb("embed", "--dataset", "nobody", *where), "no file or folder of that")


def test_a_bad_image_ends_it_and_leaves_the_older_file(where, photos, out):
    out.write_bytes(b"older")
    (photos / "deep/c.jpeg").write_bytes(b"no image")
    answer = topdb("embed", photos, *where, "--out", out)
    refused(answer, "deep/c.jpeg", "JPEG or PNG", "--skip-bad")
    assert out.read_bytes() == b"older"
    assert not list(out.parent.glob("*partial*"))


def test_bad_images_are_left_out_on_demand_and_listed(where, parts, out):
    (parts[3] / "0000_c2s1_04_00.png").write_bytes(b"no image")
    answer = topdb("embed", *parts, *where, "--out", out, "--skip-bad")
    assert answer.exit_code == 0, answer.output
    assert "left out: " in answer.stdout
    assert "0000_c2s1_04_00.png: is no JPEG or PNG" in answer.stdout
    assert "1 left out" in answer.stdout
    with np.load(out) as arrays:
        assert arrays["gallery_pids"].tolist() == [1, 2]
    # Without the distractor both matches come first.
    assert json.loads(topdb("score", out, "--json").stdout)["mean_ap"] == 1.0


def test_version_and_label_choose_the_model_of_the_server(stand_in, photos, out):
    for option, factor in (
        (["--version", 1], 1),
        (["--label", "stable"], 1),
        (["--label", "canary"], 10),
    ):
        server = ["--server", stand_in.grpc, "--protocol", "grpc"]
        answer = topdb("embed", photos, *server, *option, "--out", out, "--json")
        assert json.loads(answer.stdout)["version"] == (1 if factor == 1 else 2)
        with np.load(out) as arrays:
            expected = embedding_of(PHOTOS["a.jpg"], factor)
            np.testing.assert_allclose(arrays["features"][0], expected, rtol=1e-6)
    both = ["--version", 1, "--label", "stable"]
    refused(
        topdb("embed", photos, *server, *both, "--out", out), "number or by a label"
    )


def test_the_model_of_a_run_gives_what_evaluation_gives(tmp_path, photos, out):
    run, embedder = tmp_path / "run", small_embedder()
    run.mkdir()
    (run / "config.yaml").write_text("")
    embedder.save(run / "embedder.keras")
    answer = topdb("embed", photos, "--model", run, "--out", out)
    assert answer.exit_code == 0, answer.output
    paths = [photos / name for name in ("a.jpg", "b.PNG", "deep/c.jpeg")]
    batches = evaluation_dataset(paths, image_size=(32, 16), batch_size=2)
    expected = extract_embeddings(embedder, batches, num_images=3)
    with np.load(out) as arrays:
        np.testing.assert_allclose(arrays["features"], expected, rtol=1e-4, atol=1e-5)
    (photos / "b.PNG").write_bytes(image_bytes((1, 2, 3))[:40])
    answer = topdb("embed", photos, "--model", run / "embedder.keras", "--out", out)
    refused(answer, "b.PNG", "is damaged or cut off")


def test_one_version_may_be_named_by_its_folder(model_folder, photos, out):
    answer = topdb("embed", photos, "--model", model_folder / "1", "--out", out)
    assert "model version 1" in answer.stdout
    with np.load(out) as arrays:
        np.testing.assert_allclose(
            arrays["features"][0], embedding_of(PHOTOS["a.jpg"]), rtol=1e-6
        )


def test_embeddings_that_are_not_finite_are_refused(tmp_path, photos, out):
    write_tiny_model(tmp_path / "broken", factor=float("nan"))
    answer = topdb("embed", photos, "--model", tmp_path / "broken", "--out", out)
    refused(answer, "must be finite", "4 that are not", "drawn-0.png")
    assert not out.exists()


def test_a_server_that_fails_is_one_line(stand_in, photos, out):
    stand_in.stand_in.fail(Code.INTERNAL, times=9, message="out of memory")
    answer = topdb("embed", photos, "--server", stand_in.rest, "--out", out)
    refused(answer, stand_in.rest, "out of memory")
    assert not out.exists()


def test_what_cannot_be_done_is_explained_before_it_is_begun(
    stand_in, tmp_path, photos, out
):
    server = ("--server", stand_in.rest, "--out", out)
    parts = ("--query", photos, "--gallery", photos)
    refused(topdb("embed", photos), "--server", "--model")
    refused(topdb("embed", photos, *server, "--model", photos), "either")
    refused(topdb("embed", *server), "--query", "0 images")
    refused(topdb("embed", photos, *parts, *server), "either images or both")
    refused(topdb("embed", *parts[:2], *server), "both --query and --gallery")
    refused(topdb("embed", *parts, *server), "a.jpg", "<pid>_c<camid>")
    refused(topdb("embed", tmp_path / "gone", *server), "gone")
    (tmp_path / "empty").mkdir()
    refused(topdb("embed", tmp_path / "empty", *server), "JPEG or PNG", "empty")
    refused(topdb("embed", photos, *server[:2], "--out", "a.csv"), ".npz", "a.csv")
    gone = tmp_path / "gone" / "features.npz"
    refused(topdb("embed", photos, *server[:2], "--out", gone), "no folder")
    refused(topdb("embed", photos, "--model", tmp_path / "gone"), "no model")
    refused(topdb("embed", photos, "--model", tmp_path / "empty"), "topdb-tf export")
    assert stand_in.stand_in.requests == 0


def test_rest_does_without_tensorflow(stand_in, photos, out):
    arguments = ["embed", str(photos), "--server", stand_in.rest, "--out", str(out)]
    code = (
        "import sys\n"
        "from topdb_tf.cli import main\n"
        f"main({arguments}, standalone_mode=False)\n"
        "sys.exit(str({'tensorflow', 'keras', 'grpc'} & set(sys.modules) or ''))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert "3 images" in answer.stdout
    assert answer.stderr.strip().splitlines()[-1].startswith("embedding"), answer.stderr


def test_a_webp_that_is_called_jpg_is_named_and_can_be_left_out(tmp_path, photos, out):
    small_embedder().save(tmp_path / "e.keras")
    (photos / "deep/c.jpeg").write_bytes(image_bytes((1, 2, 3), kind="WEBP"))
    where = ["--model", tmp_path / "e.keras", "--out", out]
    refused(topdb("embed", photos, *where), "c.jpeg", "neither a JPEG nor a PNG")
    answer = topdb("embed", photos, *where, "--skip-bad")
    assert answer.exit_code == 0, answer.output
    assert "c.jpeg: is neither a JPEG nor a PNG" in answer.stdout
    assert "1 left out" in answer.stdout


def test_a_runs_model_refuses_what_training_refuses(tmp_path):
    small_embedder().save(tmp_path / "e.keras")
    connection = EmbedderConnection(tmp_path / "e.keras")
    for contents, reason in BAD.values():
        with pytest.raises(RefusedError, match=rf"image_bytes\[1\] .*{reason}"):
            connection.predict([GOOD["jpeg"], contents], 1.0)
    assert len(connection.predict(list(GOOD.values()), 1.0)) == len(GOOD)
