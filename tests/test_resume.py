import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from tests.conftest import draw_people
from topdb_tf.cli import main
from topdb_tf.figures.run_curves import read_log
from topdb_tf.files import sha256_of
from topdb_tf.fit.fit import fit, resume
from topdb_tf.fit.resume import warn_of_other_replicas
from topdb_tf.runs.folder import RunFolder, held, open_run
from topdb_tf.runs.network import as_begun
from topdb_tf.runs.recipes import read_recipe
from topdb_tf.training import schedules
from topdb_tf.training.callbacks import StopAtNonFinite
from topdb_tf.training.checkpoint_files import (
    START,
    Checkpoint,
    TrainingRecord,
    newest_checkpoint,
    positions,
)
from topdb_tf.training.errors import NonFiniteLossError
from topdb_tf.training.saving import Checkpoints

# Two epochs of four steps, each with a checkpoint of its own. One stream, as tracing is
# what takes time; one random block a batch, so that a seed generator's state counts.
SMALL = [
    "data.check_counts=false",
    "data.image_height=32",
    "data.image_width=16",
    "data.batch_size=8",
    "data.images_per_pid=2",
    "model.drop=batch",
    "model.streams=[top_drop]",
    "model.num_bottlenecks=0",
    "train.epochs=2",
    "train.warmup_epochs=1",
    "train.checkpoint_minutes=1e-9",
    "train.evaluate_every=1",
]
# Kills its process, as `kill -9` does, before a call of a function.
KILLED = """
import importlib, os, signal, sys
from pathlib import Path
from topdb_tf.fit.fit import fit, resume
from topdb_tf.runs.network import as_begun
from topdb_tf.runs.recipes import read_recipe

run, module, name, number, *sets = sys.argv[1:]
owner, calls = importlib.import_module(module), []
*parts, name = name.split(".")
for part in parts:
    owner = getattr(owner, part)
function = getattr(owner, name)

def killing(*args, **options):
    calls.append(args)
    if len(calls) == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*args, **options)

setattr(owner, name, killing)
if Path(run).exists():
    resume(Path(run), say=print)
else:
    fit(read_recipe("demo", sets), Path(run), say=print)
"""
BEFORE_CHECKPOINT = ("topdb_tf.training.saving", "Checkpoints.on_train_batch_end")
IN_CHECKPOINT = ("numpy.lib.format", "write_array")
BEFORE_RENAME = ("pathlib", "Path.rename")
AFTER_LOG = ("topdb_tf.training.callbacks", "LogFile.on_epoch_end")
IN_SCORES = ("topdb_tf.fit.loop", "score_set")
BEFORE_SCORES_FILE = ("topdb_tf.fit.loop", "write_scores")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    draw_people(root, train=9, test=3)
    return [*SMALL, f"data.root={root}"]


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """The run that nothing interrupts."""
    return fit_in_process(settings, tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def stopped(settings, tmp_path_factory):
    """A run that SIGTERM ended after the second step of the second epoch."""
    run_dir = tmp_path_factory.mktemp("stopped") / "run"
    answer = with_signal_at(6, lambda: topdb_fit(settings, "--run-dir", run_dir))
    assert answer.exit_code == 143, answer.output
    assert f"--resume {run_dir}" in answer.stderr
    return run_dir


@pytest.fixture
def interrupted(stopped, tmp_path):
    """A copy of it, for one test."""
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def fit_in_process(settings, run_dir, say=lambda line: None):
    return fit(read_recipe("demo", settings), run_dir, say=say).path


def topdb_fit(settings, *arguments):
    sets = [part for setting in settings for part in ("--set", setting)]
    recipe = () if "--resume" in arguments else ("--recipe", "demo")
    arguments = ["fit", *recipe, *sets, *map(str, arguments)]
    return CliRunner().invoke(main, arguments)


def with_signal_at(step, train):
    """Sends this process SIGTERM in a step, counted over the epochs from 1."""
    save, steps = Checkpoints.on_train_batch_end, []

    def on_train_batch_end(self, batch, logs=None):
        steps.append(batch)
        if len(steps) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        save(self, batch, logs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "on_train_batch_end", on_train_batch_end)
        return train()


def kill(run_dir, place, number, settings=()):
    answer = subprocess.run(
        [sys.executable, "-c", KILLED, run_dir, *place, str(number), *settings],
        capture_output=True,
        text=True,
    )
    assert answer.returncode == -signal.SIGKILL, answer.stderr


def resumed(run_dir, **options):
    lines = []
    resume(run_dir, say=lines.append, **options)
    return lines


def log_without_seconds(run):
    """Returns the fields of each row but the last: no two epochs take as long."""
    header, *rows = (line.split(",") for line in run.log.read_text().splitlines())
    assert header[-1] == "seconds"
    assert all(float(row[-1]) > 0 for row in rows)
    return [row[:-1] for row in (header, *rows)]


def check_same(run_dir, whole):
    """Checks weights, optimizer, figures, log and scores, to the bit."""
    run, other = RunFolder(run_dir), RunFolder(whole)
    ours, theirs = (
        newest_checkpoint(folder.checkpoints, say=pytest.fail)
        for folder in (run, other)
    )
    assert ours.position == theirs.position
    assert ours.arrays.keys() == theirs.arrays.keys()
    for name, array in theirs.arrays.items():
        np.testing.assert_array_equal(ours.arrays[name], array, err_msg=name)
    assert log_without_seconds(run) == log_without_seconds(other)
    for file in ("embedder.keras", "embedder_best.keras"):
        weights = [
            keras.models.load_model(p / file).get_weights() for p in (run_dir, whole)
        ]
        for mine, its in zip(*weights, strict=True):
            np.testing.assert_array_equal(mine, its)
    scores = [json.loads(folder.scores.read_text()) for folder in (run, other)]
    for result, folder in zip(scores, (run, other), strict=True):
        # The file tells when it was written; its weights are compared above.
        assert result.pop("model_sha256") == sha256_of(folder.embedder)
        for one in (result, *result.get("data_sets", [])):
            for key in [key for key in one if "seconds" in key]:
                del one[key]
    assert scores[0] == scores[1]


def test_a_run_killed_while_it_wrote_goes_on_to_the_same_end(settings, whole, tmp_path):
    run_dir = tmp_path / "run"
    num_arrays = len(np.load(whole / "checkpoints/00002-0000000/arrays.npz").files)
    # In the middle of the eighth checkpoint: epoch 1 has five (four steps, its end).
    kill(run_dir, IN_CHECKPOINT, 7 * num_arrays + num_arrays // 2, settings)
    assert list((run_dir / "checkpoints").glob(".partial-*"))
    lines = resumed(run_dir)
    assert "resumed after 1 epochs and 2 of 4 steps" in lines
    check_same(run_dir, whole)
    assert not list(run_dir.rglob(".partial-*"))


def test_a_run_that_a_signal_ended_goes_on_to_the_same_end(interrupted, whole):
    log = (interrupted / "log.csv").read_text()
    (interrupted / "log.csv").write_text(log + "2,of a later state\n")
    answer = topdb_fit(["data.threads=1"], "--resume", interrupted)
    assert answer.exit_code == 0, answer.output
    assert answer.stdout == f"{interrupted}\n"
    assert "resumed after 1 epochs and 2 of 4 steps" in answer.stderr
    assert (interrupted / "log.csv").read_text().startswith(log)
    check_same(interrupted, whole)


def test_a_run_whose_log_has_no_seconds_is_gone_on_with(interrupted):
    facts = interrupted / "checkpoints" / "00001-0000002" / "facts.json"
    record = json.loads(facts.read_text())
    lines = record["log"].splitlines()
    old = "".join(f"{line.rpartition(',')[0]}\n" for line in lines)
    facts.write_text(json.dumps({**record, "log": old}))
    manifest = facts.with_name("manifest.json")
    sums = json.loads(manifest.read_text())
    sums["facts.json"] = {
        "bytes": facts.stat().st_size,
        "sha256": sha256_of(facts),
    }
    manifest.write_text(json.dumps(sums))
    resumed(interrupted)
    log = (interrupted / "log.csv").read_text()
    assert log.startswith(old)
    assert len({line.count(",") for line in log.splitlines()}) == 1
    assert read_log(open_run(interrupted)).total_seconds is None


def test_after_damage_elsewhere_the_checkpoint_before_leads_to_the_same_end(
    interrupted, whole
):
    path = interrupted / "checkpoints" / "00001-0000002" / "arrays.npz"
    path.write_bytes(path.read_bytes()[:-1])
    facts = json.loads((interrupted / "environment.json").read_text())
    facts["device"] = "a GPU"
    (interrupted / "environment.json").write_text(json.dumps(facts))
    lines = resumed(interrupted)
    assert any("began elsewhere (device differ" in line for line in lines)
    assert any("00001-0000002 is damaged" in line for line in lines)
    assert "resumed after 1 epochs and 1 of 4 steps" in lines
    check_same(interrupted, whole)


def test_a_finished_run_is_left_as_it_is(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert resumed(whole) == [f"{whole} is finished: all 2 epochs are done."]
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_other_settings_are_all_named_and_taken_by_force(interrupted):
    changes = ["train.epochs=1", "train.l2=0.5", "train.keep_checkpoints=5"]
    answer = topdb_fit(changes, "--resume", interrupted)
    assert answer.exit_code != 0
    line = answer.stderr.strip().splitlines()[-1]
    assert "train.epochs (the run's 2, now 1), train.l2 (the run's 0.0005, now" in line
    assert "keep_checkpoints" not in line
    assert "--force" in line
    answer = topdb_fit(["train.l2=0.5"], "--resume", interrupted, "--force")
    assert answer.exit_code == 0, answer.output
    assert "l2: 0.5" in (interrupted / "config.yaml").read_text()
    assert positions(interrupted / "checkpoints")[0] == (2, 0)


def test_other_training_images_are_refused(interrupted, settings, tmp_path):
    root = Path(settings[-1].partition("=")[2])
    shutil.copytree(root, tmp_path / "data")
    train = tmp_path / "data" / "synthetic" / "bounding_box_train"
    path = sorted(train.iterdir())[0]
    path.rename(path.with_name(path.name.replace("_c1", "_c2")))
    with pytest.raises(ValueError, match="training images are not those"):
        resumed(interrupted, overrides=[f"data.root={tmp_path / 'data'}"])


def test_the_precision_that_auto_chose_is_kept_and_no_weights_are_fetched():
    own = read_recipe("paper", ["train.precision=auto"])
    checkpoint = Checkpoint(START, TrainingRecord("bfloat16 (it was faster)"), {})
    config = as_begun(own, own, checkpoint)
    assert config.train.precision == "bfloat16"
    assert config.model.weights == "none"
    other = read_recipe("paper", ["train.precision=float32"])
    assert as_begun(other, own, checkpoint).train.precision == "float32"


def test_a_run_without_checkpoint_is_explained(interrupted, tmp_path):
    shutil.rmtree(interrupted / "checkpoints")
    with pytest.raises(FileNotFoundError, match="no checkpoint.*topdb-tf fit"):
        resumed(interrupted)
    with pytest.raises(FileNotFoundError, match="not the folder of a run"):
        resumed(tmp_path / "none")


@pytest.mark.parametrize(
    "option", [("--run-dir", "x"), ("--recipe", "demo"), ("--seeds", 2)]
)
def test_options_of_a_new_run_are_refused(option, interrupted):
    answer = topdb_fit([], "--resume", interrupted, *option)
    assert answer.exit_code == 2
    assert option[0] in answer.stderr


def test_two_processes_do_not_train_in_one_folder(interrupted):
    with held(RunFolder(interrupted)):
        with pytest.raises(ValueError, match="Another process is training"):
            resumed(interrupted)


def test_weights_that_are_not_finite_are_never_saved(interrupted, whole, monkeypatch):
    end_step = StopAtNonFinite.on_train_batch_end
    broken = []

    def on_train_batch_end(self, batch, logs=None):
        end_step(self, batch, logs)
        if self._epoch == 1 and batch == 1:  # the last, whose loss was finite
            weights = self.model.network.trainable_variables[0]
            weights.assign(weights * math.nan)
            broken.append(batch)

    own = ["train.checkpoint_minutes=0"]
    with monkeypatch.context() as patch:
        patch.setattr(StopAtNonFinite, "on_train_batch_end", on_train_batch_end)
        answer = topdb_fit(own, "--resume", interrupted)
    assert broken
    error = answer.stderr.splitlines()[-1]
    assert answer.exit_code == 1, answer.output
    assert "The state after step 4 of epoch 2 is not finite" in error
    assert "00001-0000002 before it is kept" in error
    assert f"--resume {interrupted} --force" in error
    kept = interrupted / "checkpoints" / "00001-0000002" / "facts.json"
    assert json.loads(kept.read_text())["best"]["epochs_done"] == 1
    resumed(interrupted)
    check_same(interrupted, whole)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_leaves_the_checkpoints(interrupted, monkeypatch):
    before = positions(interrupted / "checkpoints")
    monkeypatch.setattr(schedules, "scaled_learning_rate", lambda rate, **_: 1e30)
    with pytest.raises(NonFiniteLossError, match="at step 4 of epoch 2"):
        resumed(interrupted)
    assert positions(interrupted / "checkpoints")[0] == (1, 3)
    assert before[0] == (1, 2)
    newest = newest_checkpoint(interrupted / "checkpoints", say=pytest.fail)
    assert all(np.isfinite(array).all() for array in newest.arrays.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "drop"),
    [("float16", "top"), ("float32", "batch"), ("bfloat16", "top")],
)
def test_a_run_killed_again_and_again_goes_on_to_the_same_end(
    precision, drop, settings, tmp_path
):
    network = ["model.streams=[global,top_drop,regularization]", f"model.drop={drop}"]
    network += ["model.num_bottlenecks=2", f"train.precision={precision}"]
    own = [*settings, *network]
    whole = fit_in_process(own, tmp_path / "whole")
    run_dir = tmp_path / "run"
    rng = np.random.default_rng([len(precision), len(drop)])
    kill(run_dir, BEFORE_CHECKPOINT, rng.integers(2, 5), own)
    kill(run_dir, IN_CHECKPOINT, rng.integers(1, 500))
    kill(run_dir, BEFORE_CHECKPOINT, 2)
    kill(run_dir, BEFORE_RENAME, rng.integers(1, 4))
    resumed(run_dir)
    check_same(run_dir, whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "number"),
    [(AFTER_LOG, 2), (IN_SCORES, 1), (IN_SCORES, 2), (BEFORE_SCORES_FILE, 1)],
)
def test_a_run_killed_at_the_end_of_an_epoch_goes_on_to_the_same_end(
    place, number, settings, whole, tmp_path
):
    kill(tmp_path / "run", place, number, settings)
    resumed(tmp_path / "run")
    check_same(tmp_path / "run", whole)


@pytest.mark.slow
def test_deterministic_kernels_train_and_resume_too(settings, tmp_path):
    own = [*settings, "train.deterministic=true"]
    for name, place in (("whole", (*BEFORE_CHECKPOINT, "99")), ("run", None)):
        run_dir = tmp_path / name
        if place is None:
            kill(run_dir, BEFORE_CHECKPOINT, 6, own)
        arguments = [run_dir, *(place or (*BEFORE_CHECKPOINT, "99")), *own]
        answer = subprocess.run(
            [sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True
        )
        assert answer.returncode == 0, answer.stderr
    check_same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(settings, tmp_path):
    # The first one comes in step 2, which then hangs.
    hang = "print(file=sys.__stdout__, flush=True); time.sleep(99)"
    hanging = KILLED.replace("SIGKILL)", f"SIGINT); {hang}")
    arguments = [tmp_path / "run", *BEFORE_CHECKPOINT, "2", *settings]
    with subprocess.Popen(
        [sys.executable, "-c", f"import time\n{hanging}", *arguments],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        while process.stdout.readline().strip():
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == -signal.SIGINT


@pytest.mark.parametrize(("before", "now", "warned"), [(2, 2, 0), (2, 4, 1), (1, 2, 1)])
def test_another_number_of_replicas_is_warned_of(before, now, warned):
    lines = []
    checkpoint = Checkpoint(START, TrainingRecord(num_replicas=before), {})
    warn_of_other_replicas(checkpoint, now, lines.append)
    assert [f"{before} replicas and goes on on {now}" in line for line in lines] == (
        [True] * warned
    )


def test_a_checkpoint_of_before_replicas_were_counted_has_one():
    lines = []
    checkpoint = Checkpoint(START, TrainingRecord(), {})
    warn_of_other_replicas(checkpoint, 1, lines.append)
    assert not lines
