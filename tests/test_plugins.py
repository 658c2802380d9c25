"""Modules of other people by `--plugin`: trained by, remembered, missed."""

import json
import sys

import pytest

from tests.commands import topdb
from tests.conftest import SMALL
from topdb_tf import registry
from topdb_tf.model.backbones import BACKBONES
from topdb_tf.model.layers import DROP_BLOCKS
from topdb_tf.model.network import STREAMS
from topdb_tf.runs.folder import open_run
from topdb_tf.training.losses import TRIPLETS

pytestmark = pytest.mark.usefixtures("step_by_step")

PLUGIN = """
import keras

import topdb_tf
from topdb_tf.model.backbones import convolution


@topdb_tf.register_backbone("plain")
def plain(image_size):
    images = keras.Input((*image_size, 3), name="images")
    x = convolution(images, 8, 3, strides=4, name="plain1")
    return keras.Model(images, x, name="backbone")


@topdb_tf.register_stream("half")
def half(maps):
    return keras.layers.GlobalAveragePooling2D(dtype="float32", name="half")(
        maps.backbone
    )


@topdb_tf.register_loss("distance")
@keras.saving.register_keras_serializable(package="mine")
class Distance(keras.losses.Loss):
    def __init__(self, margin=0.3, name="distance", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        return keras.ops.sum(keras.ops.square(y_pred), axis=1)


@keras.saving.register_keras_serializable(package="mine")
class MyBlock(topdb_tf.TopDropBlock):
    pass


@topdb_tf.register_drop_block("mine")
def my_block(*, height_ratio, relevance, seed):
    return MyBlock(height_ratio, relevance, name="my_block")
"""
NAMES = {"backbone=plain", "streams=[half,top_drop]", "drop=mine"}


def forget():
    """Leaves nothing of the plugin, as in another process."""
    sys.modules.pop("my_parts", None)
    parts = {"plain": BACKBONES, "mine": DROP_BLOCKS, "half": STREAMS}
    for name, table in {**parts, "distance": TRIPLETS}.items():
        table.pop(name, None)
    for added in [key for key in registry._ADDED if key[1] in {*parts, "distance"}]:
        del registry._ADDED[added]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a plugin in it."""
    (tmp_path / "my_parts.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    forget()


def test_parts_of_a_plugin_are_trained_resumed_and_scored(folder, small_data_root):
    settings = [f"model.{one}" for one in NAMES] + ["train.triplet=distance", *SMALL]
    sets = [word for one in settings for word in ("--set", one)]
    command = ["fit", "--recipe", "demo", "--plugin", "my_parts", *sets]
    data = ["--data-root", small_data_root]
    trained = topdb(*command, *data, "--epochs", 1, "--run-dir", "run")
    assert trained.exit_code == 0, trained.output
    told = [line for line in trained.stderr.splitlines() if line.startswith("epoch")]
    # A bar of the steps is for terminals alone.
    assert [line[:10] for line in told] == ["epoch 1/2:", "epoch 2/2:"]
    assert "\x1b" not in trained.stderr
    run = open_run(folder / "run")
    assert run.config.plugins == ("my_parts",)
    assert "half_triplet" in run.folder.log.read_text().splitlines()[0]

    forget()
    more = ["--force", "--set", "train.epochs=3"]
    resumed = topdb("fit", "--resume", "run", *data, *more)
    assert resumed.exit_code == 0, resumed.output
    assert len(run.folder.log.read_text().splitlines()) == 1 + 3

    forget()
    scored = topdb("evaluate", "run", "--json")
    assert scored.exit_code == 0, scored.output
    weights = ["--weights", "run/embedder.keras", "--dataset", "synthetic", "--json"]
    weights += ["--plugin", "my_parts", "--set", "data.check_counts=false"]
    forget()
    again = topdb("evaluate", *weights, *data)
    assert again.exit_code == 0, again.output
    mean_ap = json.loads(scored.stdout)["mean_ap"]
    assert json.loads(again.stdout)["mean_ap"] == pytest.approx(mean_ap)

    forget()
    (folder / "my_parts.py").unlink()
    missing = topdb("evaluate", "run")
    assert missing.exit_code == 1
    assert "No module named 'my_parts'" in missing.stderr
    assert "config.yaml" in missing.stderr


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import nothing_here", "No module named 'nothing_here'"),
        ("1 +", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        (
            "import topdb_tf\ntopdb_tf.register_backbone('resnet50', print)",
            "There is a backbone 'resnet50' already. Choose another name",
        ),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named(source, words, folder):
    (folder / "bad_parts.py").write_text(source)
    answer = topdb("fit", "--plugin", "bad_parts", "--dataset", "synthetic")
    assert answer.exit_code == 1
    assert words in answer.stderr
    assert "The plugin 'bad_parts' must be a Python module" in answer.stderr
    sys.modules.pop("bad_parts", None)
    embedded = topdb("embed", "people", "--out", "x.npz", "--plugin", "bad_parts")
    assert words in embedded.stderr


def test_a_plugin_joins_those_of_the_recipe(folder):
    for name in ("one_part", "two_part"):
        (folder / f"{name}.py").touch()
    (folder / "mine.yaml").write_text("plugins: [one_part]\ndata: {dataset: nowhere}")
    answer = topdb("-v", "fit", "--recipe", "mine.yaml", "--plugin", "two_part")
    assert "plugins:\n- one_part\n- two_part\n" in answer.stderr
    beside = topdb("evaluate", "run", "--plugin", "two_part")
    assert "--plugin goes with --weights" in beside.stderr
    file = topdb("fit", "--plugin", "two_part.py")
    assert "Name it 'two_part'" in file.stderr
