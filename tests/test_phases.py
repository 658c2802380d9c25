"""Images that grow and dropping that starts late: the phases of a training."""

import keras
import numpy as np
import pytest

from tests.conftest import draw_people
from tests.test_resume import SMALL, check_same, fit_in_process, resumed
from tests.test_training_options import killed_at
from topdb_tf.data.pipeline import PixelOptions, TrainingBatches
from topdb_tf.fit.loop import option_lines
from topdb_tf.model.backbones import build_backbone
from topdb_tf.model.layers import BatchDropBlock, TopDropBlock
from topdb_tf.model.network import adapted, build_network
from topdb_tf.runs.network import build_trainer, networks_of_phases, phases_of
from topdb_tf.runs.recipes import read_recipe
from topdb_tf.training import callbacks
from topdb_tf.training.callbacks import TimeLeft
from topdb_tf.training.schedules import Phase, phases, pixels_until
from topdb_tf.training.trainer import ReidTrainer

# The first epoch at 24 x 16, dropping from the second of three.
GROWING = [
    "train.epochs=3",
    "data.sizes=[[1, 24, 16]]",
    "model.drop_from_epoch=2",
    "train.keep_checkpoints=99",
]


def reference_kind(epoch, image_size, sizes, drop_from_epoch):
    """Returns the size and whether an epoch drops, counting the epochs off."""
    left = epoch
    for epochs, height, width in sizes:
        if left <= epochs:
            return (height, width), epoch >= drop_from_epoch
        left -= epochs
    return image_size, epoch >= drop_from_epoch


@pytest.mark.parametrize("drop_from_epoch", [1, 2, 3, 6, 9])
@pytest.mark.parametrize("sizes", [(), ((2, 8, 4),), ((1, 8, 4), (4, 16, 8))])
def test_each_epoch_is_of_the_phase_that_counting_gives(sizes, drop_from_epoch):
    parts = phases(9, image_size=(24, 12), sizes=sizes, drop_from_epoch=drop_from_epoch)
    assert parts[0].first_epoch == 1
    assert parts[-1].last_epoch == 9
    for phase, later in zip(parts, parts[1:], strict=False):
        assert later.first_epoch == phase.last_epoch + 1
        assert later[2:] != phase[2:]
    for phase in parts:
        for epoch in range(phase.first_epoch, phase.last_epoch + 1):
            expected = reference_kind(epoch, (24, 12), sizes, drop_from_epoch)
            assert phase[2:] == expected
    work = sum(np.prod(reference_kind(e, (24, 12), sizes, 1)[0]) for e in range(1, 8))
    assert pixels_until(parts, 7) == work


def test_another_number_of_epochs_changes_sizes_and_late_dropping_in_proportion(
    tmp_path,
):
    recipe, lines = tmp_path / "recipe.yaml", []
    recipe.write_text(
        "data: {image_height: 64, image_width: 32,\n"
        "       sizes: [[20, 32, 16], [20, 48, 24]]}\n"
        "model: {drop_from_epoch: 11}\n"
        "train: {epochs: 60, warmup_epochs: 0, decay_epochs: [50]}\n"
    )
    config = read_recipe(str(recipe), ["train.epochs=9"], say=lines.append)
    # Ends at 20 and 40 of 60 are 3 and 6 of 9; ten epochs of 60 are 1.5, rounded to 2.
    assert config.data.sizes == ((3, 32, 16), (3, 48, 24))
    assert config.model.drop_from_epoch == 3
    assert (
        "data.sizes=[[3, 32, 16], [3, 48, 24]] and model.drop_from_epoch=3"
        in (lines[0])
    )
    config = read_recipe(str(recipe), ["train.epochs=2"])
    assert config.data.sizes == ((1, 32, 16),)  # both end after the first
    assert config.model.drop_from_epoch == 1
    config = read_recipe(
        str(recipe), ["train.epochs=90", "data.sizes=[[1, 32, 16]]", "model.drop=batch"]
    )
    assert config.data.sizes == ((1, 32, 16),)
    assert config.model.drop_from_epoch == 16


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["data.sizes=[40, 128, 64]"], "number of epochs, the height and the width"),
        (["data.sizes=[[40, 128]]"], r"Received: \[\[40, 128\]\]"),
        (["data.sizes=[[0, 128, 64]]"], "number of epochs"),
        (["data.sizes=[[1, 4, 64]]"], "from 8 pixels"),
        (["data.sizes=[[1, 400, 64]]"], "image_height=384"),
        (["data.sizes=[[1, x, 64]]"], "`data.sizes` must be a whole number"),
        (["data.sizes=[[300, 64, 32], [100, 128, 64]]"], "must leave an epoch"),
        (["model.drop_from_epoch=400"], "less than `train.epochs`"),
        (["model.drop_from_epoch=0"], "whole number in"),
    ],
)
def test_phases_that_cannot_be_are_refused_with_the_settings(settings, words):
    with pytest.raises(ValueError, match=words):
        read_recipe("paper", settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["data.sizes=[[1, 8, 8]]"], "`data.sizes` .* 8 x 8. At least one row"),
        (
            ["model.drop_from_epoch=2", "model.streams=[global]"],
            "`model.drop_from_epoch` .* must have a drop block",
        ),
    ],
)
def test_phases_that_the_network_cannot_take_are_refused(settings, words):
    config = read_recipe("demo", [*SMALL, "train.epochs=3", *settings])
    trainer, _ = build_trainer(config, num_pids=4)
    with pytest.raises(ValueError, match=words):
        networks_of_phases(config, trainer.network)


def test_the_phases_are_told():
    config = read_recipe("demo", [*SMALL, *GROWING])
    assert [*option_lines(config, num_batches=9)][-1] == (
        "images of 24 x 16, nothing dropped, to epoch 1; images of 32 x 16, rows "
        "dropped, to epoch 3"
    )


@pytest.fixture(scope="module")
def two_sizes():
    """A network for images of 64 x 32, and one of the same weights for 48 x 16."""
    networks = []
    for image_size in ((64, 32), (48, 16)):
        keras.utils.set_random_seed(0)
        backbone = build_backbone("tiny", image_size)
        block = TopDropBlock(0.4, name="top_drop_block")
        networks.append(build_network(backbone, num_pids=3, drop_block=block))
    networks[1].set_weights(networks[0].get_weights())
    return networks


@pytest.mark.parametrize("training", [False, True])
def test_an_adapted_network_gives_what_one_built_for_the_size_does(two_sizes, training):
    network, expected = two_sizes
    other = adapted(network, (48, 16))
    assert all(
        mine is own
        for mine, own in zip(other.variables, network.variables, strict=True)
    )
    expected.set_weights(network.get_weights())
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 48, 16, 3)).astype("float32")
    outputs, wanted = (each(pixels, training=training) for each in (other, expected))
    for stream, parts in wanted.items():
        for name, value in parts.items():
            np.testing.assert_array_equal(outputs[stream][name], value, err_msg=stream)


def test_a_network_that_does_not_drop_yet_is_one_without_a_drop_block(two_sizes):
    network, _ = two_sizes
    plain = build_network("tiny", num_pids=3, image_size=(64, 32), drop_block=None)
    kept = adapted(network, (64, 32), drops=False)
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 64, 32, 3)).astype("float32")
    features = []
    for model in (plain, kept, network):
        plain.set_weights(network.get_weights())
        features.append(model(pixels, training=True)["top_drop"]["features"])
    np.testing.assert_array_equal(features[0], features[1])
    assert not np.array_equal(features[0], features[2])


def test_a_block_is_of_the_size_of_each_map():
    block = BatchDropBlock(0.5, 0.5, seed=0)
    for height, width in ((4, 8), (8, 4)):
        ones = np.ones((1, height, width, 1), np.float32)
        kept = np.asarray(block(ones, training=True))[0, :, :, 0]
        assert (kept == 0).sum() == (height // 2) * (width // 2)


def test_batches_of_another_size_are_those_of_its_options():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (40, 20, 3), np.uint8) for _ in range(8)]
    labels = np.repeat(np.arange(4), 2)
    sizes = {"pids_per_batch": 2, "images_per_pid": 2}
    full = TrainingBatches(images, labels, PixelOptions((64, 32)), **sizes)
    small = TrainingBatches(images, labels, PixelOptions((24, 16)), **sizes)
    for ours, expected in (
        (full.dataset(image_size=(24, 16)), small.dataset()),
        (
            full.epoch_dataset(3, first_step=1, image_size=(24, 16)),
            small.epoch_dataset(3, first_step=1),
        ),
    ):
        batches = zip(ours, expected, strict=True)
        assert all(
            np.array_equal(a, b) for one in batches for a, b in zip(*one, strict=False)
        )


def test_a_phase_is_compiled_anew_and_its_pixels_count_as_its_time(monkeypatch):
    clock, lines = iter(range(99)), []
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: next(clock))
    parts = (Phase(1, 1, (2, 2)), Phase(2, 3, (4, 4)))
    left = TimeLeft(lines.append, num_epochs=3, phases=parts)
    left.set_params({"steps": 2})
    figures = {"loss": 1.0, "accuracy": 0.5}
    for epoch in range(3):
        left.on_epoch_begin(epoch)  # one tick each
        for step in range(2):
            left.on_train_batch_end(step, figures)
        left.on_epoch_end(epoch, figures)  # two
    told = [line for line in lines if line.startswith("compiling")]
    assert len(told) == 2
    # 4 pixels, then 16 and 16. The first half epoch, of 2, is left out; until the end
    # of the first epoch 3 ticks make 2 more, so that 32 take 48 seconds.
    assert lines[1].endswith("; 48.0 s left")
    # The first step of the second, 8 pixels in a tick, is left out as well: 7 ticks
    # made 2 + 8, and 16 are left.
    assert lines[3].endswith("; 11.2 s left")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    draw_people(root, train=9, test=3)
    return [*SMALL, *GROWING, f"data.root={root}"]


@pytest.fixture(scope="module")
def grown(settings, tmp_path_factory):
    """A run in two phases, what it said, and what its steps were traced with."""
    lines, traced, step = [], [], ReidTrainer.train_step

    def train_step(self, data):
        traced.append((tuple(data[0].shape), self._trained.network is self.network))
        return step(self, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReidTrainer, "train_step", train_step)
        run = tmp_path_factory.mktemp("grown") / "run"
        return fit_in_process(settings, run, say=lines.append), lines, traced


def test_each_phase_trains_its_own_size_and_is_told(grown):
    run, lines, traced = grown
    assert traced == [((8, 24, 16, 3), False), ((8, 32, 16, 3), True)]
    assert "epoch 2: images of 32 x 16, rows dropped from here on" in lines
    model = keras.models.load_model(run / "embedder.keras")
    assert model.input_shape == (None, 32, 16, 3)


@pytest.mark.parametrize(
    "position",
    [
        (1, 2),  # within the epoch of the change
        pytest.param((1, 0), marks=pytest.mark.slow),
        pytest.param((0, 2), marks=pytest.mark.slow),
    ],
)
def test_a_run_in_phases_goes_on_to_the_same_bits(grown, position, tmp_path):
    whole, _, _ = grown
    killed_at(position, whole, tmp_path / "run")
    resumed(tmp_path / "run")
    check_same(tmp_path / "run", whole)


def test_the_phases_of_a_recipe_without_any_are_one():
    config = read_recipe("paper")
    assert phases_of(config) == (Phase(1, 400, (384, 128), True),)
    (only,) = networks_of_phases(config, network := object())
    assert only == (phases_of(config)[0], network)
