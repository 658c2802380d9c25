"""Presets: published, found by name, loaded to the bit, and refused when not whole."""

import json
import shutil
import zipfile
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import topdb_tf
from topdb_tf.cli import main
from topdb_tf.data.decoding import resize_pixels
from topdb_tf.export.presets.publish import publish
from topdb_tf.export.serving import find_source
from topdb_tf.files import sha256_of
from topdb_tf.model.extraction import load_embedder
from topdb_tf.model.keras_files import of_any_keras
from topdb_tf.model.preset_files import check_preset, preset_folder, write_record
from topdb_tf.runs.folder import open_run
from topdb_tf.runs.models import find_model, metric_of
from topdb_tf.runs.recipes import read_config

FILES = {
    "README.md",
    "config.json",
    "image_converter.json",
    "metadata.json",
    "model.weights.h5",
    "preprocessor.json",
    "recipe.yaml",
    "scores.json",
    "topdb.json",
}


def run_command(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None, result.output
    return result


@pytest.fixture(scope="module")
def preset(small_run, tmp_path_factory):
    """The run as a preset that the command wrote; not to be changed."""
    folder = tmp_path_factory.mktemp("presets") / "people"
    result = run_command("publish", small_run, "--to", folder)
    assert f"embed with it: topdb-tf embed photos --model {folder}" in result.stdout
    return folder


@pytest.fixture
def copy(preset, tmp_path):
    """A copy of the preset, to be changed."""
    return Path(shutil.copytree(preset, tmp_path / "copy"))


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(1)
    return rng.uniform(0, 255, (5, 32, 16, 3)).astype("float32")


@pytest.fixture(scope="module")
def expected(small_run, pixels):
    """What the run's own model makes of the pixels."""
    return topdb_tf.load_embedder(small_run / "embedder.keras")(pixels).numpy()


@pytest.fixture(scope="module")
def photos(small_data_root):
    return sorted((small_data_root / "synthetic" / "query").glob("*.jpg"))


def test_a_preset_gives_the_bits_of_its_run(preset, pixels, expected):
    embedder = topdb_tf.TopDBImageEmbedder.from_preset(str(preset))
    np.testing.assert_array_equal(embedder(pixels), expected)
    np.testing.assert_array_equal(topdb_tf.load_embedder(preset)(pixels), expected)
    backbone = keras_hub.models.Backbone.from_preset(str(preset))
    np.testing.assert_array_equal(backbone(pixels), expected)


def test_global_settings_of_keras_change_no_bit(preset, pixels, expected):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        embedder = topdb_tf.TopDBImageEmbedder.from_preset(preset)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_array_equal(embedder(pixels), expected)


def test_it_is_saved_again_as_it_is(preset, tmp_path, pixels, expected):
    embedder = topdb_tf.TopDBImageEmbedder.from_preset(preset)
    embedder.save_to_preset(tmp_path / "again")
    again = topdb_tf.TopDBImageEmbedder.from_preset(tmp_path / "again")
    np.testing.assert_array_equal(again(pixels), expected)
    random = topdb_tf.TopDBImageEmbedder.from_preset(preset, load_weights=False)
    # Other weights; how far away depends on the draw.
    assert np.abs(random(pixels) - expected).max() > 0.1 * np.abs(expected).max()


def test_maps_are_computed_in_another_precision(preset, pixels, expected):
    embedder = topdb_tf.TopDBImageEmbedder.from_preset(preset, dtype="bfloat16")
    found = embedder(pixels).numpy()
    assert 0 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
    with pytest.raises(ValueError, match="`dtype` must be one of"):
        topdb_tf.TopDBImageEmbedder.from_preset(preset, dtype="mixed_bfloat16")


def test_prediction_resizes_as_an_evaluation_does(preset, photos):
    images = np.stack([np.asarray(Image.open(path)) for path in photos])
    assert images.shape[1:] != (32, 16, 3)
    embedder = topdb_tf.TopDBImageEmbedder.from_preset(preset)
    found = embedder.predict(images, verbose=0)
    expected = topdb_tf.load_embedder(preset)(resize_pixels(images, (32, 16)))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    sizes = [images[0], images[1][:40]]
    converted = embedder.preprocessor.image_converter(sizes)
    assert tuple(converted.shape) == (2, 32, 16, 3)
    converter = keras_hub.layers.ImageConverter.from_preset(str(preset))
    np.testing.assert_array_equal(converter(images[:1])[0], converted[0])


def test_the_programs_take_a_preset_as_a_run(preset, small_run, photos, tmp_path):
    features = {}
    for name, model in (("run", small_run), ("preset", preset)):
        out = tmp_path / f"{name}.npz"
        run_command("embed", *photos, "--model", model, "--out", out)
        features[name] = np.load(out)["features"]
    np.testing.assert_array_equal(features["preset"], features["run"])
    found = topdb_tf.Embedder(preset)(photos)
    np.testing.assert_array_equal(found, features["run"])
    index = tmp_path / "people.index"
    run_command("index", "build", *photos, "--model", preset, "--out", index)
    found = run_command("index", "query", index, photos[0], "--top", 1, "--json")
    (query,) = json.loads(found.stdout)["queries"]
    assert query["found"][0]["path"] == str(photos[0])
    assert find_source(preset) == (preset, None, None)
    assert find_source(preset).beside(".onnx") == preset.with_name("people.onnx")


def test_a_preset_tells_what_it_is(preset, small_run):
    assert {path.name for path in preset.iterdir()} == FILES
    listed = json.loads((preset / "topdb.json").read_text())["files"]
    assert set(listed) == FILES - {"topdb.json"}
    assert listed["recipe.yaml"] == sha256_of(preset / "recipe.yaml")
    scores = json.loads((preset / "scores.json").read_text())
    of_run = json.loads((small_run / "scores.json").read_text())
    assert scores["mean_ap"] == of_run["mean_ap"]
    assert scores["protocol"]["split_sha256"] == of_run["protocol"]["split_sha256"]
    card = (preset / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: keras-hub\n")
    assert f'TopDBImageEmbedder.from_preset("{preset}")' in card
    assert "Images are resized to 32 x\n16 pixels" in card
    assert metric_of(preset) == "sqeuclidean"


def test_no_place_of_this_machine_is_published(preset, small_run, small_data_root):
    assert str(small_data_root) in (small_run / "config.yaml").read_text()
    for name in FILES - {"model.weights.h5", "README.md"}:
        assert str(small_data_root) not in (preset / name).read_text(), name
    assert str(small_data_root) not in (preset / "README.md").read_text()
    assert read_config(preset / "recipe.yaml").data.root is None


def test_nothing_is_overwritten(small_run, tmp_path):
    (tmp_path / "there").mkdir()
    result = CliRunner().invoke(
        main, ["publish", str(small_run), "--to", str(tmp_path / "there")]
    )
    assert result.exit_code == 1
    assert "already exists" in result.output
    with pytest.raises(ValueError, match="go to a folder, hf://USER/NAME"):
        publish(open_run(small_run), "gs://bucket/people", say=print)


def edit(folder, name, change):
    """Changes the JSON in a file."""
    record = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(change(record)))


def with_sums(folder, name, change):
    edit(folder, name, change)
    write_record(folder)


def swap_weights(folder):
    path = folder / "model.weights.h5"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def as_resnet(record):
    return record | {"registered_name": "keras_hub>ResNetBackbone"}


def with_lambda(record):
    layers = record["config"]["network"]["config"]["layers"]
    layers[1] = {"module": "keras.layers", "class_name": "Lambda", "config": {}}
    return record


def listing(record, *names):
    return record | {"files": {name: "0" * 64 for name in names}}


HOSTILE = {
    "a wrong sum": (swap_weights, "model.weights.h5 is another"),
    "a missing file": (
        lambda folder: (folder / "recipe.yaml").unlink(),
        "recipe.yaml is missing",
    ),
    "no list": (
        lambda folder: (folder / "topdb.json").unlink(),
        "has a topdb.json.*of the class topdb_tf>TopDBBackbone",
    ),
    "a newer version": (
        lambda folder: edit(folder, "topdb.json", lambda r: r | {"format": 2}),
        "format 2, which topdb-tf .* pip install -U topdb-tf",
    ),
    "no format": (
        lambda folder: edit(folder, "topdb.json", lambda r: {"files": {}}),
        "`format` must be a whole number",
    ),
    "a short list": (
        lambda folder: edit(folder, "topdb.json", lambda r: listing(r, "config.json")),
        "without image_converter.json, model.weights.h5, preprocessor.json",
    ),
    "a list of other places": (
        lambda folder: edit(folder, "topdb.json", lambda r: listing(r, "../passwd")),
        "must name files beside it, not '../passwd'",
    ),
    "another class": (
        lambda folder: with_sums(folder, "config.json", as_resnet),
        "must be a preset of an embedder.*of the class keras_hub>ResNetBackbone",
    ),
    "code": (
        lambda folder: with_sums(folder, "config.json", with_lambda),
        "only compute.*config.json.*asks for keras.layers.Lambda",
    ),
    "a task": (
        lambda folder: (folder / "task.json").write_text("{}"),
        "task.json is not listed",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_whole_preset_is_refused(copy, kind):
    change, message = HOSTILE[kind]
    change(copy)
    with pytest.raises(ValueError, match=f"(?s){message}") as refusal:
        topdb_tf.TopDBImageEmbedder.from_preset(copy)
    assert str(copy) in str(refusal.value)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        topdb_tf.Embedder(copy)


def test_a_converter_of_other_code_is_refused(copy):
    asked = {"module": "builtins", "class_name": "eval", "config": {}}
    with_sums(copy, "image_converter.json", lambda record: record | asked)
    edit(copy, "image_converter.json", lambda r: r | {"registered_name": None})
    write_record(copy)
    with pytest.raises(ValueError, match=r"image_converter.json, of which it asks for"):
        topdb_tf.TopDBImageEmbedder.from_preset(copy)


def test_an_edited_card_is_let_pass(copy, pixels, expected):
    (copy / "README.md").write_text("Mended on the page of the hub.")
    np.testing.assert_array_equal(topdb_tf.load_embedder(copy)(pixels), expected)


def test_no_preset_is_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no preset at .*missing"):
        topdb_tf.TopDBImageEmbedder.from_preset(tmp_path / "missing")
    assert preset_folder(tmp_path) is None


def test_the_demo_answers_and_says_what_it_is_for(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="it is for trying things"):
        embedder = topdb_tf.Embedder("demo")
    expected = embedder(photos)
    assert expected.shape == (len(photos), 192)
    result = run_command("embed", *photos, "--model", "demo", "--out", "a.npz")
    assert "it is for trying things" in result.stderr
    np.testing.assert_array_equal(np.load("a.npz")["features"], expected)
    assert find_source(Path("demo")).beside("_x") == Path("demo_x")
    run_command("index", "build", *photos, "--model", "demo", "--out", "index")
    assert json.loads(Path("index/index.json").read_text())["model"]["path"] == "demo"


def test_the_demo_is_small_and_whole():
    folder = preset_folder("demo")
    check_preset(folder)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2.6e6
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["mean_ap"] > 0.6


def test_a_name_that_is_a_path_is_the_path(tmp_path, monkeypatch, small_run):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small_run, "demo")
    assert find_model("demo") == Path("demo/embedder.keras")


def test_a_preset_asks_for_nothing_that_only_newer_versions_of_keras_have():
    newer = {"kernel": {"scale": 2.0, "input_axes": None}, "renorm": True}
    assert of_any_keras([newer, {"renorm": False, "units": 3}]) == [
        {"kernel": {"scale": 2.0}, "renorm": True},  # what it does is kept
        {"units": 3},
    ]
    config = (preset_folder("demo") / "config.json").read_text()
    assert '"Conv2D"' in config
    assert not any(name in config for name in ("input_axes", "renorm", "quantization"))


def test_a_file_of_a_newer_keras_says_so(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    model.save(tmp_path / "own.keras")
    with (
        zipfile.ZipFile(tmp_path / "own.keras") as own,
        zipfile.ZipFile(tmp_path / "newer.keras", "w") as newer,
    ):
        for name in own.namelist():
            text = own.read(name)
            if name == "metadata.json":
                text = json.dumps({"keras_version": "99.1.0"})
            if name == "config.json":
                text = text.replace(b'"trainable"', b'"unheard_of"')
            newer.writestr(name, text)
    with pytest.raises(ValueError, match=r"Keras 99\.1\.0.*pip install 'keras>=99"):
        load_embedder(tmp_path / "newer.keras")
