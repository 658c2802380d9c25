import errno
import math
import os
import signal
import threading

import keras
import numpy as np
import pytest

from tests.test_callbacks import Scored, fit, small_model
from topdb_tf.runs.folder import RunFolder
from topdb_tf.training import saving
from topdb_tf.training.callbacks import (
    NonFiniteLossError,
    RetrievalScore,
    StopAtNonFinite,
)
from topdb_tf.training.checkpoint_files import BestEpoch, TrainingRecord, positions
from topdb_tf.training.errors import CheckpointError, TrainingInterrupted
from topdb_tf.training.saving import Checkpoints, Interruption, KeepModels


@pytest.fixture(autouse=True)
def _arrays_of_any_model(monkeypatch):
    """A Keras model stands for the trainer."""
    monkeypatch.setattr(
        saving,
        "state_arrays",
        lambda model: ((f"{i}", np.asarray(v)) for i, v in enumerate(model.variables)),
    )


def checkpoints(tmp_path, interruption=None, **options):
    return Checkpoints(
        tmp_path / "checkpoints",
        TrainingRecord,
        num_steps=3,
        interruption=interruption or Interruption("resume"),
        **{"minutes": 0, "keep": 9, **options},
    )


def send(number, at_step):
    class Send(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch + 1 == at_step:
                os.kill(os.getpid(), number)

    return Send()


def found(tmp_path):
    return [tuple(p) for p in reversed(positions(tmp_path / "checkpoints"))]


def test_there_is_a_checkpoint_after_every_epoch(tmp_path):
    fit(small_model(), [checkpoints(tmp_path)], epochs=2, targets=(0.0,) * 3)
    assert found(tmp_path) == [(1, 0), (2, 0)]


def test_there_is_one_whenever_the_minutes_have_passed(tmp_path, monkeypatch):
    clock = iter(range(0, 9000, 40))  # every look at it is 40 seconds later
    monkeypatch.setattr(saving.time, "monotonic", lambda: next(clock))
    # Begun at 0; looks at 40, 80 (due, saved at 120), 160: not yet due.
    fit(small_model(), [checkpoints(tmp_path, minutes=1)], targets=(0.0,) * 3)
    assert found(tmp_path) == [(0, 2), (1, 0)]


def test_there_is_one_before_an_epoch_is_scored(tmp_path):
    callback = checkpoints(tmp_path, scored=lambda epoch: epoch == 2)
    fit(small_model(), [callback], epochs=2, targets=(0.0,) * 3)
    assert found(tmp_path) == [(1, 0), (1, 3), (2, 0)]


def test_only_the_newest_are_kept(tmp_path):
    fit(small_model(), [checkpoints(tmp_path, keep=2)], epochs=4, targets=(0.0,) * 3)
    assert found(tmp_path) == [(3, 0), (4, 0)]


def test_a_bad_state_is_never_saved(tmp_path):
    callbacks = [StopAtNonFinite(), checkpoints(tmp_path, minutes=1e-9)]
    with pytest.raises(NonFiniteLossError):
        fit(small_model(), callbacks, targets=(0.0, math.nan, 0.0))
    assert found(tmp_path) == [(0, 1)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_training_after_its_step_is_saved(number, tmp_path, capfd):
    before = signal.getsignal(number)
    with Interruption("resume it") as interruption:
        callbacks = [send(number, at_step=2), checkpoints(tmp_path, interruption)]
        with pytest.raises(TrainingInterrupted, match=f"{number.name}.*resume it"):
            fit(small_model(), callbacks, targets=(0.0,) * 3)
        assert interruption.signal_number == number
        assert signal.getsignal(number) == signal.SIG_DFL  # a second one ends at once
    assert found(tmp_path) == [(0, 2)]
    assert signal.getsignal(number) == before
    assert "ending after this step" in capfd.readouterr().err


def test_a_signal_while_an_epoch_is_scored_ends_at_once(tmp_path):
    def score():
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("went on")

    with Interruption("resume") as interruption:
        callback = checkpoints(tmp_path, interruption, scored=lambda epoch: True)
        scores = RetrievalScore(score, scored=lambda epoch: True)
        with pytest.raises(TrainingInterrupted):
            fit(small_model(), [scores, callback], targets=(0.0,) * 3)
    assert found(tmp_path) == [(0, 3)]


def test_other_threads_train_without_signals():
    results = []

    def enter():
        with Interruption("resume") as interruption:
            results.append(interruption.signal_number)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert results == [None]


def test_the_last_and_the_best_model_are_kept(tmp_path):
    run, model, weights = RunFolder(tmp_path), small_model(), []

    def score():
        weights.append(model.get_weights()[0])
        return Scored([0.1, 0.9, 0.3][len(weights) - 1], 0.0)

    keep = KeepModels(run.embedder, run.best_embedder, model)
    fit(model, [RetrievalScore(score, scored=lambda epoch: True), keep], epochs=3)
    last, best = (
        keras.models.load_model(path).get_weights()[0]
        for path in (run.embedder, run.best_embedder)
    )
    np.testing.assert_array_equal(last, weights[2])
    np.testing.assert_array_equal(best, weights[1])
    assert keep.best == BestEpoch(epochs_done=2, mean_ap=0.9)
    assert not list(tmp_path.rglob("*partial*"))


def test_the_best_of_before_is_only_replaced_by_a_better_one(tmp_path):
    scores = iter([0.5, 0.7])
    keep = KeepModels(
        tmp_path / "embedder.keras",
        tmp_path / "embedder_best.keras",
        small_model(),
        best=BestEpoch(epochs_done=4, mean_ap=0.6),
    )
    score = RetrievalScore(lambda: Scored(next(scores), 0.0), scored=lambda epoch: True)
    fit(small_model(), [score, keep])
    assert keep.best.epochs_done == 4
    assert not RunFolder(tmp_path).best_embedder.exists()
    fit(small_model(), [score, keep])
    assert keep.best == BestEpoch(epochs_done=1, mean_ap=0.7)


def test_a_model_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    run, model = RunFolder(tmp_path), small_model()
    run.embedder.write_bytes(b"before")

    def full(path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(model, "save", full)
    with pytest.raises(CheckpointError, match="embedder.keras.*No space left"):
        fit(model, [KeepModels(run.embedder, run.best_embedder, model)])
    assert run.embedder.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["embedder.keras"]
