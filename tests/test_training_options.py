import json
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.test_resume import (
    SMALL,
    check_same,
    fit_in_process,
    resumed,
    topdb_fit,
)
from tests.test_trainer import batch, small_trainer
from topdb_tf.data.drawn.synthetic import write_synthetic
from topdb_tf.evaluate.scores import score_set
from topdb_tf.fit import loop
from topdb_tf.fit.fit import build_trainer
from topdb_tf.fit.info import info_lines, run_info
from topdb_tf.fit.loop import option_lines
from topdb_tf.fit.memory import (
    explained_memory,
    scoring_memory,
    smaller_batches,
    training_memory,
)
from topdb_tf.fit.resume import has_stopped
from topdb_tf.runs.folder import RunFolder, open_run
from topdb_tf.runs.machine import Precision
from topdb_tf.runs.network import peak_rate, rate_of_epoch
from topdb_tf.runs.recipes import read_recipe
from topdb_tf.training.averaging import as_used, moving_statistics
from topdb_tf.training.callbacks import FreezeBackbone
from topdb_tf.training.checkpoint_files import BestEpoch, positions, read_checkpoint
from topdb_tf.training.errors import BatchTooLargeError
from topdb_tf.training.optimizer import AdamWithL2
from topdb_tf.training.trainer import ReidTrainer

# Two epochs of four steps, three to an update: both end within a window. The backbone
# joins in the second epoch.
ALL = [
    "train.accumulate_steps=3",
    "train.ema=0.5",
    "train.clip_norm=0.1",
    "train.freeze_epochs=1",
    "train.stop_after=9",
    "train.schedule=cosine",
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    sizes = {"num_train_pids": 9, "num_test_pids": 3, "images_per_pid": 4}
    write_synthetic(root / "synthetic", num_cameras=2, **sizes)
    return [*SMALL, f"data.root={root}"]


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """A run with all options that nothing interrupts; every checkpoint is kept."""
    own = [*settings, *ALL, "train.keep_checkpoints=99"]
    return fit_in_process(own, tmp_path_factory.mktemp("whole") / "run")


def arrays_at(run_dir, position):
    checkpoints = RunFolder(run_dir).checkpoints
    found = {p: p for p in positions(checkpoints)}[position]
    return read_checkpoint(checkpoints, found).arrays


def values(arrays, *parts):
    """Returns the arrays of those names, which must not be none."""
    found = [a for name, a in arrays.items() if all(part in name for part in parts)]
    assert found, parts
    return np.concatenate([array.ravel() for array in found])


def trainer_of(*sets):
    config = read_recipe("demo", [*SMALL, *sets])
    keras.utils.set_random_seed(0)
    trainer, embedder = build_trainer(config, num_pids=4)
    trainer.optimizer.build(trainer.network.trainable_variables)
    return trainer, embedder


def test_two_accumulated_batches_equal_one_step_with_their_mean_gradient():
    keras.utils.set_random_seed(0)
    one, other = small_trainer(), small_trainer()
    other.network.set_weights(one.network.get_weights())
    one.compile(AdamWithL2(1e-3, gradient_accumulation_steps=2), jit_compile=False)
    mine, weights = (each.network.trainable_variables for each in (one, other))
    gradients = []
    for seed in (1, 2):
        before = [weight.numpy() for weight in mine]
        one.train_step(batch(seed))
        with tf.GradientTape() as tape:
            outputs = other.network(batch(seed)[0], training=True)
            figures = other.loss_figures(batch(seed)[1], outputs)
            loss = tf.add_n(list(figures.values()))
        gradients.append(tape.gradient(loss, [w.value for w in weights]))
        if seed == 1:
            for old, weight in zip(before, mine, strict=True):
                np.testing.assert_array_equal(weight, old)
    means = [(first + second) / 2 for first, second in zip(*gradients, strict=True)]
    # Adam's first step is the sign of the gradient times the rate: look at the moments
    # as well, which tell its size.
    other.optimizer.apply(means, weights)
    for weight, expected in zip(mine, weights, strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-5, err_msg=weight.path)
    moments = [
        [v.numpy() for v in t.optimizer.variables if v.name.endswith("momentum")]
        for t in (one, other)
    ]
    for moment, expected in zip(*moments, strict=True):
        np.testing.assert_allclose(moment, expected, rtol=1e-3, atol=1e-6)


def test_what_is_used_has_the_averages_and_training_goes_on_with_its_own():
    trainer, embedder = trainer_of("train.ema=0.9")
    for seed in range(3):
        trainer.train_step(batch(seed))
    network, optimizer = trainer.network, trainer.optimizer
    variables = [variable for variable, _ in optimizer.averages()]
    expected = network.trainable_variables + moving_statistics(network)
    assert [v.path for v in variables] == [v.path for v in expected]
    assert len({id(v) for v in variables}) == len(variables)
    own = network.get_weights()
    averages = [average.numpy() for _, average in optimizer.averages()]
    embeddings = embedder(batch()[0]).numpy()
    with as_used(network, optimizer):
        for variable, average in zip(variables, averages, strict=True):
            np.testing.assert_array_equal(variable, average, err_msg=variable.path)
        assert not np.allclose(embedder(batch()[0]), embeddings)
    for mine, before in zip(network.get_weights(), own, strict=True):
        np.testing.assert_array_equal(mine, before)
    with pytest.raises(KeyError), as_used(network, optimizer):
        raise KeyError
    np.testing.assert_array_equal(embedder(batch()[0]), embeddings)


def test_the_backbone_joins_after_the_first_epochs_with_one_more_trace(monkeypatch):
    trainer, _ = trainer_of("train.freeze_epochs=2", "train.epochs=9")
    backbone, traces, seen, lines = trainer.network.get_layer("backbone"), [], [], []
    step = ReidTrainer.train_step
    monkeypatch.setattr(
        ReidTrainer, "train_step", lambda *args: traces.append(1) or step(*args)
    )

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            head = trainer.network.get_layer("top_drop_classifier").kernel.numpy()
            slots = [
                v.numpy()
                for v in trainer.optimizer.variables
                if v.name.startswith("stem_conv_kernel_")
            ]
            assert len(slots) == 2
            seen.append((backbone.get_weights(), head, slots, len(traces)))

    freeze = FreezeBackbone(backbone, 2, say=lines.append)
    start = backbone.get_weights()
    dataset = tf.data.Dataset.from_tensors(batch()).repeat(2)
    options = {"callbacks": [freeze, Look()], "shuffle": False, "verbose": 0}
    trainer.fit(dataset, epochs=4, **options)
    assert [traced for *_, traced in seen] == [1, 1, 2, 2]
    for weights, _, slots, _ in seen[:2]:
        for weight, old in zip(weights, start, strict=True):
            np.testing.assert_array_equal(weight, old)
        assert not np.any(slots)
    assert (seen[0][1] != seen[1][1]).any()  # the head is trained from the start
    for index, variable in enumerate(backbone.weights):
        assert (seen[2][0][index] != start[index]).any(), variable.path
    assert all(np.any(slot) for slot in seen[2][2])
    assert lines == ["epoch 3: the backbone is trained too from here on"]
    assert int(trainer.optimizer._late_start) == 4


def test_a_frozen_part_is_saved_as_one_that_can_be_trained(tmp_path):
    trainer, embedder = trainer_of("train.freeze_epochs=1", "train.epochs=9")
    backbone = trainer.network.get_layer("backbone")
    backbone.trainable = False
    with as_used(trainer.network, trainer.optimizer):
        embedder.save(tmp_path / "embedder.keras")
    assert not backbone.trainable
    loaded = keras.models.load_model(tmp_path / "embedder.keras")
    assert loaded.get_layer("backbone").trainable_variables


def test_all_options_together_do_what_they_say(whole):
    # After six steps two updates are made and nothing is left over.
    assert not np.any(values(arrays_at(whole, (1, 2)), "gradient_accumulator"))
    last = arrays_at(whole, (2, 0))
    assert np.any(values(last, "gradient_accumulator"))
    frozen = arrays_at(whole, (1, 0))
    assert values(frozen, "late_start") == 1  # one update in four steps
    assert not np.any(values(frozen, "stem_conv_kernel_momentum"))
    assert np.any(values(last, "stem_conv_kernel_momentum"))
    # The model is that of the averages, the checkpoint has the weights as well.
    embedder = keras.models.load_model(whole / "embedder.keras")
    kernel = embedder.get_layer("top_drop_reduction").kernel.numpy()
    names = [name for name in last if "reduction" in name and "average" in name]
    assert any(last[name].shape == kernel.shape for name in names)
    np.testing.assert_array_equal(
        kernel, values(last, "top_drop_reduction_kernel_average").reshape(kernel.shape)
    )
    mean = embedder.get_layer("top_drop_bn").moving_mean.numpy()
    np.testing.assert_array_equal(mean, values(last, "top_drop_bn_moving_mean_average"))


def killed_at(position, whole, run_dir):
    """Makes of a whole run one that was killed after a checkpoint.

    (Its best model may be of a later epoch, which is then written once more.)
    """
    shutil.copytree(whole, run_dir)
    run = RunFolder(run_dir)
    run.scores.unlink()
    run.embedder.unlink()
    for later in positions(run.checkpoints):
        if later > position:
            shutil.rmtree(run.checkpoints / later.name)
    assert positions(run.checkpoints)[0] == position


def test_a_run_with_all_options_goes_on_to_the_same_end(whole, tmp_path):
    # Killed where the backbone has just joined, within a window.
    killed_at((1, 1), whole, tmp_path / "run")
    assert "resumed after 1 epochs and 1 of 4 steps" in resumed(tmp_path / "run")
    check_same(tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_it_does_wherever_it_is_killed(precision, settings, tmp_path):
    own = [*settings, *ALL, f"train.precision={precision}"]
    whole = fit_in_process([*own, "train.keep_checkpoints=99"], tmp_path / "whole")
    # Frozen; before the end of that epoch; after it; all is trained.
    for position in ((0, 2), (0, 4), (1, 0), (1, 2)):
        run_dir = tmp_path / f"{position}"
        killed_at(position, whole, run_dir)
        resumed(run_dir)
        check_same(run_dir, whole)


def with_scores(monkeypatch, mean_aps):
    """Has the epochs score what is given, whatever the network does."""
    left = iter(mean_aps)

    def scores(*args, **options):
        result = score_set(*args, **options)
        return result._replace(scores=result.scores._replace(mean_ap=next(left)))

    monkeypatch.setattr(loop, "score_set", scores)


@pytest.mark.usefixtures("step_by_step")
def test_a_run_without_progress_ends_early_and_is_finished(
    settings, tmp_path, monkeypatch
):
    own = [*settings, "train.epochs=9", "train.stop_after=2"]
    run, lines = RunFolder(tmp_path / "run"), []
    with_scores(monkeypatch, [0.2, 0.6, 0.6, 0.4])
    fit_in_process(own, run.path, say=lines.append)
    assert "training ends after 2 scored epochs without a better mAP" in lines
    (line,) = [line for line in lines if line.startswith("stopped")]
    assert "after epoch 4: 2 scored epochs without a better mAP than the 60.0%" in line
    assert "of epoch 2" in line
    assert positions(run.checkpoints)[0] == (4, 0)
    assert json.loads(run.scores.read_text())["mean_ap"] == 0.4
    assert "epochs      4 of 9 done, stopped early" in info_lines(
        run_info(open_run(run.path))
    )
    assert resumed(run.path) == [
        f"{run.path} is finished: it stopped early after 4 of 9 epochs."
    ]
    # Killed before the scores were written: they are all that is made up for.
    run.scores.unlink()
    with_scores(monkeypatch, [0.4])
    resumed(run.path)
    assert json.loads(run.scores.read_text())["mean_ap"] == 0.4
    # Killed while the last epoch was scored: it is scored again, and then ends.
    run.scores.unlink()
    shutil.rmtree(run.checkpoints / "00004-0000000")
    assert positions(run.checkpoints)[0] == (3, 4)
    with_scores(monkeypatch, [0.4])
    assert any(line.startswith("stopped after epoch 4") for line in resumed(run.path))
    assert positions(run.checkpoints)[0] == (4, 0)
    assert len(run.log.read_text().splitlines()) == 5


def test_a_run_that_did_all_its_epochs_did_not_end_early():
    config = read_recipe("demo", ["train.epochs=4", "train.evaluate_every=1"])
    assert not has_stopped(config, 4, BestEpoch(1, 0.5))
    config = read_recipe("demo", ["train.evaluate_every=1", "train.stop_after=2"])
    assert not has_stopped(config, 2, BestEpoch(1, 0.5))
    assert has_stopped(config, 3, BestEpoch(1, 0.5))
    assert has_stopped(config, 2, None)


def test_the_rate_is_scaled_to_the_images_of_an_update():
    rate = "train.learning_rate=0.001"
    config = read_recipe("paper", [rate, "train.accumulate_steps=4"])
    # 64 x 4 images are twice the 128 that the rate is given for.
    assert peak_rate(config) == pytest.approx(0.002)


def test_the_schedule_is_that_of_the_settings():
    config = read_recipe(
        "paper", ["train.schedule=cosine", "train.epochs=150", "train.warmup_epochs=50"]
    )
    rate = rate_of_epoch(config)
    peak = peak_rate(config)
    assert rate(50) == pytest.approx(peak)
    assert rate(150) < 1e-3 * peak
    assert rate_of_epoch(read_recipe("paper"))(250) == pytest.approx(peak / 10)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            ["train.epochs=30", "train.warmup_epochs=50"],
            "warm-up is longer .*_epochs=50, train.epochs=30",
        ),
        (
            ["train.epochs=120", "train.decay_epochs=[200, 300]"],
            r"never falls: train.decay_epochs=\[200, 300\] come",
        ),
        (["train.epochs=50", "train.decay_epochs=[]"], None),
        (["train.epochs=300"], None),
    ],
)
def test_a_schedule_that_the_training_does_not_reach_is_warned_of(settings, words):
    lines = option_lines(read_recipe("paper", settings), num_batches=9)
    assert len(lines) == (words is not None)
    assert all(re.search(f"^warning: .*{words}", line) for line in lines)


def test_options_are_off_and_silent_until_asked_for():
    assert option_lines(read_recipe("paper"), num_batches=9) == []
    config = read_recipe("demo", [*ALL, "train.evaluate_every=1"])
    lines = "\n".join(option_lines(config, num_batches=9))
    for text in (
        "gradients of 3 batches make one update: effective batch",
        "cosine",
        "longer than 0.1 are clipped",
        "over about 2 updates",
        "trained from epoch 2 on",
        "ends after 9 scored epochs",
    ):
        assert text in lines
    assert "warning" not in lines
    with pytest.raises(ValueError, match="at most the batches of an epoch.*: 2"):
        option_lines(config, num_batches=2)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (["train.ema=1"], r"`train.ema` must be a number in \[0, 0.999999\]"),
        (
            ["train.stop_after=2", "train.evaluate_every=0"],
            "set `train.evaluate_every`",
        ),
        (["train.freeze_epochs=8", "train.epochs=8"], "fewer than `train.epochs`"),
        (
            ["train.schedule=cosine", "train.epochs=20", "train.warmup_epochs=50"],
            "warmup_epochs=50, epochs=20",
        ),
        (["train.schedule=cosin"], "steps, cosine. Did you mean `cosine`"),
        (["train.clip_norm=-1"], "`train.clip_norm` must be a number in .0, 1e12"),
        (
            ["train.accumulate_steps=0"],
            "`train.accumulate_steps` must be a whole",
        ),
    ],
)
def test_options_that_cannot_work_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        read_recipe("paper", setting)


def test_smaller_batches_keep_the_effective_batch_and_two_identities():
    config = read_recipe("paper")  # 16 identities x 4 images
    assert smaller_batches(config) == [(32, 2), (16, 4), (8, 8)]
    config = read_recipe("paper", ["data.batch_size=48", "train.accumulate_steps=2"])
    # Multiples of 4 that divide 96: 24, 16, 12.
    assert smaller_batches(config) == [(24, 4), (16, 6), (12, 8)]
    assert smaller_batches(read_recipe("paper", ["data.batch_size=8"])) == []


def exhausted(message="OOM when allocating tensor with shape[64,2048,24,8]"):
    raise tf.errors.ResourceExhaustedError(None, None, message)


def test_a_batch_that_does_not_fit_names_those_to_try():
    config = read_recipe("paper")
    explanation = training_memory(config, Precision("float32", "a CPU"))
    assert "64 images of 384 x 128 in float32 does not fit" in explanation
    assert "data.batch_size=32 --set train.accumulate_steps=2 or --set" in explanation
    assert "train.precision=bfloat16" in explanation
    assert "train.precision" not in training_memory(config, Precision("bfloat16"))
    assert "64 images of 384 x 128 at a time" in scoring_memory(config)
    with pytest.raises(BatchTooLargeError, match="^what to do$"):
        with explained_memory(lambda: "what to do"):
            exhausted()
    # TensorFlow says the same of a full disk.
    with pytest.raises(tf.errors.ResourceExhaustedError, match="space left"):
        with explained_memory(lambda: scoring_memory(config)):
            exhausted("events.out; No space left on device")


def test_the_command_says_in_one_line_that_a_batch_does_not_fit(
    settings, tmp_path, monkeypatch
):
    monkeypatch.setattr(ReidTrainer, "train_step", lambda *args: exhausted())
    answer = topdb_fit([*settings, "data.batch_size=12"], "--run-dir", tmp_path / "run")
    assert answer.exit_code == 1
    line = answer.stderr.strip().splitlines()[-1]
    assert line.startswith(
        "Error: A training step with 12 images of 32 x 16 in float32"
    )
    assert "data.batch_size=6 --set train.accumulate_steps=2" in line


@pytest.mark.slow
def test_embeddings_that_do_not_fit_name_another_setting(
    settings, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop.Embedder, "features", lambda *args: exhausted())
    with pytest.raises(BatchTooLargeError, match="smaller `evaluation.batch_size`"):
        fit_in_process(settings, tmp_path / "run")
