"""Presets on a hub: published by HTTP, fetched, kept, and refused in words."""

import json
import re
import shutil
import time

import numpy as np
import pytest

import topdb_tf
from tests import fake_hub
from tests.calibrations import write_calibration
from tests.commands import refused, topdb
from topdb_tf.export.presets import publish as publishing
from topdb_tf.runs.folder import open_run

ADDRESS = "hf://user/people"


@pytest.fixture(scope="module")
def preset(small_run, tmp_path_factory):
    """The run as a preset in a folder, calibrated before; not to be changed."""
    run = shutil.copytree(small_run, tmp_path_factory.mktemp("runs") / "run")
    write_calibration(run, camera_names={"1": "back door"})
    folder = tmp_path_factory.mktemp("presets") / "people"
    answer = topdb("publish", run, "--to", folder)
    assert answer.exit_code == 0, answer.output
    return folder


@pytest.fixture(scope="module")
def photos(small_data_root):
    return sorted((small_data_root / "synthetic" / "query").glob("*.jpg"))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub that answers, and an empty cache for what it gives."""
    with fake_hub.served() as hub:
        fake_hub.use(monkeypatch, hub.address, tmp_path / "cache")
        yield hub


@pytest.fixture
def files(hub, preset):
    """The files of the preset as they are on the hub."""
    files = {path.name: path.read_bytes() for path in preset.iterdir()}
    return hub.repositories.setdefault("user/people", files)


def fetched_anew(hub, tmp_path, monkeypatch, token=fake_hub.TOKEN):
    """Fetches the preset as one who has not got it, and returns the refusal."""
    fake_hub.use(monkeypatch, hub.address, tmp_path / "empty", token)
    with pytest.raises((FileNotFoundError, ValueError)) as refusal:
        topdb_tf.Embedder(ADDRESS)
    return str(refusal.value)


# Hugging Face's client sends large files as its own client of HTTP no longer likes.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_to_a_hub_and_back(hub, small_run, preset, photos, tmp_path):
    answer = topdb("publish", small_run, "--to", ADDRESS)
    assert answer.exit_code == 0, answer.output
    assert f"embed with it: topdb-tf embed photos --model {ADDRESS}" in answer.stdout
    files = hub.repositories["user/people"]
    assert set(files) == {path.name for path in preset.iterdir()} - {"calibration.json"}
    assert len(files["model.weights.h5"]) > 1e6  # sent apart, as large files are
    assert f'Embedder("{ADDRESS}")'.encode() in files["README.md"]
    embedder = topdb_tf.Embedder(ADDRESS)
    assert repr(embedder) == f"Embedder({ADDRESS!r})"
    expected = topdb_tf.Embedder(small_run)(photos)
    np.testing.assert_array_equal(embedder(photos), expected)
    pixels = np.random.default_rng(1).uniform(0, 255, (5, 32, 16, 3)).astype("float32")
    task = topdb_tf.TopDBImageEmbedder.from_preset(ADDRESS)
    of_run = topdb_tf.load_embedder(small_run / "embedder.keras")
    np.testing.assert_array_equal(task(pixels), of_run(pixels))
    index = tmp_path / "index"
    topdb("index", "build", *photos, "--model", ADDRESS, "--out", index)
    model = json.loads((index / "index.json").read_text())["model"]
    assert (model["name"], model["path"]) == (ADDRESS, ADDRESS)


@pytest.mark.usefixtures("files")
def test_what_was_fetched_answers_without_the_hub(hub, photos, tmp_path, monkeypatch):
    expected = topdb_tf.Embedder(ADDRESS)(photos)
    hub.shutdown()
    hub.server_close()
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between new tries
    np.testing.assert_array_equal(topdb_tf.Embedder(ADDRESS)(photos), expected)
    message = fetched_anew(hub, tmp_path, monkeypatch)
    assert re.fullmatch(
        r"The preset hf://user/people could not be fetched \(.*refused.*\)\. If the "
        r"name is right and the hub is out of reach, download all files of "
        r"https://huggingface\.co/user/people into one folder on another machine, and "
        r"name that folder instead\.",
        message,
    )
    photo = photos[0]
    refused(topdb("embed", photo, "--model", ADDRESS), "download all files")


def test_a_name_that_is_not_there_or_not_for_all(hub, files, tmp_path, monkeypatch):
    assert files
    with pytest.raises(FileNotFoundError, match=r"401 .*There is none of this name"):
        topdb_tf.Embedder("hf://user/missing")
    hub.private.add("user/people")
    message = fetched_anew(hub, tmp_path, monkeypatch, token="hf_of_another")
    assert "not for everybody: look at the name" in message
    assert "`hf auth login`" in message
    with pytest.raises(FileNotFoundError, match="namespace/repo_name"):
        topdb_tf.Embedder("hf://a/b/c")


def test_a_repository_of_something_else(hub):
    hub.repositories["user/other"] = {"config.json": b"{}"}
    with pytest.raises(FileNotFoundError, match=r"404 .*whether topdb\.json is among"):
        topdb_tf.Embedder("hf://user/other")


def test_files_that_are_not_those_of_the_list(hub, files, tmp_path, monkeypatch):
    files["model.weights.h5"] += b"1"
    message = fetched_anew(hub, tmp_path, monkeypatch)
    assert "models--user--people" in message
    assert "remove it there first" in message
    assert "Received: model.weights.h5 is another" in message
    record = json.loads(files["topdb.json"]) | {"format": 2}
    files["topdb.json"] = json.dumps(record).encode()
    message = fetched_anew(hub, tmp_path, monkeypatch)
    assert "pip install -U topdb-tf" in message


@pytest.fixture
def ready(preset, monkeypatch):
    """Lets what is published be there at once."""

    def write(run, model, folder, *_):
        shutil.copytree(preset, folder, dirs_exist_ok=True)

    monkeypatch.setattr(publishing, "_write", write)


@pytest.mark.usefixtures("ready")
def test_a_hub_that_refuses_says_why(hub, small_run, tmp_path, monkeypatch):
    answer = topdb("publish", small_run, "--to", "hf://another/people")
    refused(answer, "403 Forbidden", "Look whether the address is yours")
    fake_hub.use(monkeypatch, hub.address, tmp_path / "cache", token="hf_wrong")
    answer = topdb("publish", small_run, "--to", ADDRESS)
    refused(answer, "401 Unauthorized", "`hf auth login`", "--to FOLDER")
    assert hub.repositories == {}


@pytest.mark.parametrize(
    "address", ["hf://people", "hf://a/b/c", "kaggle://user/people", "gs://bucket/a"]
)
def test_an_address_of_no_preset_is_told_at_once(small_run, address):
    answer = topdb("publish", small_run, "--to", address)
    refused(answer, "hf://USER/NAME or kaggle://USER/MODEL/keras/VARIANT", address)


def test_thresholds_travel(preset, small_run, photos, tmp_path):
    calibration = json.loads((preset / "calibration.json").read_text())
    assert calibration["model"] == "model.weights.h5"
    assert calibration["camera_names"] == {}
    answer = topdb("match", photos[0], photos[0], "--run", preset)
    assert answer.exit_code == 0, answer.output
    assert "threshold 1e+09" in answer.stdout
    index = tmp_path / "index"
    topdb("index", "build", *photos, "--model", preset, "--out", index)
    rate = "--false-match-rate", "0.001"  # at 1e-4 only the image itself is as near
    found = topdb("index", "query", index, photos[0], *rate, "--json")
    (query,) = json.loads(found.stdout)["queries"]
    assert [image["path"] for image in query["found"]] == [str(photos[0])]
    refused(topdb("match", *photos[:2], "--run", "demo"), "no calibration.json")


def test_a_calibration_of_another_model_stays_at_home(small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")
    changes = [{"model_sha256": "0" * 64}, {"model": "embedder_best.keras"}]
    lines = []
    for change in changes:
        write_calibration(run, **change)
        model = run / "embedder.keras"
        publishing._write_thresholds(open_run(run), model, tmp_path, lines.append)
    assert [line.split(": ")[0] for line in lines] == [
        "the preset has no thresholds"
    ] * 2
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


@pytest.mark.parametrize("command", ["report", "figure cmc", "compare", "calibrate"])
def test_what_asks_for_a_run_says_what_takes_a_preset(preset, command):
    for name in (preset, "demo", ADDRESS):
        refused(
            topdb(*command.split(), name),
            f"evaluate --weights {name} --dataset NAME",
            f"--model {name}",
        )
