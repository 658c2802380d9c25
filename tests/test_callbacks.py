import math
import time
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from topdb_tf.training.callbacks import (
    LearningRateByEpoch,
    LogFile,
    NonFiniteLossError,
    RetrievalScore,
    StopAtNonFinite,
    TimeLeft,
    WarnOfCollapse,
)
from topdb_tf.training.checkpoint_files import Position


class Scored(NamedTuple):
    mean_ap: float
    rank_1: float


class Batches:
    epoch = None


class Accuracy(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs["accuracy"] = 0.5


def small_model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse", jit_compile=False)
    return model


def fit(model, callbacks, epochs=1, targets=(0.0, 0.0)):
    pixels = np.ones((len(targets), 2), "float32")
    data = tf.data.Dataset.from_tensor_slices((pixels, np.array(targets, "float32")))
    return model.fit(
        data.batch(1), epochs=epochs, callbacks=callbacks, verbose=0, shuffle=False
    )


def test_the_rate_and_the_plan_follow_the_epoch():
    seen, batches, model = [], Batches(), small_model()

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append((batches.epoch, float(self.model.optimizer.learning_rate)))

    callback = LearningRateByEpoch(lambda epoch: epoch / 8, batches)
    history = fit(model, [callback, Watch()], epochs=2)
    assert seen == [(0, 0.125), (0, 0.125), (1, 0.25), (1, 0.25)]
    assert history.history["learning_rate"] == [0.125, 0.25]


def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_step():
    with pytest.raises(NonFiniteLossError, match="step 2 of epoch 1.*learning_rate"):
        fit(small_model(), [StopAtNonFinite()], targets=(0.0, math.nan, 0.0))


def test_a_gradient_that_is_not_finite_is_named():
    stop = StopAtNonFinite(lambda: "conv/kernel")
    with pytest.raises(NonFiniteLossError, match="gradient of conv/kernel.*at step 1"):
        fit(small_model(), [stop], targets=(math.nan,))


def test_a_resumed_training_names_steps_of_the_whole_epoch():
    stop = StopAtNonFinite(start=Position(0, 40))
    with pytest.raises(NonFiniteLossError, match="step 42 of epoch 1"):
        fit(small_model(), [stop], targets=(0.0, math.nan))


@pytest.mark.parametrize(("spread", "num_lines"), [(0.001, 1), (0.2, 0)])
def test_a_collapse_of_the_features_is_warned_of(spread, num_lines):
    lines = []

    class Spread(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["spread"] = spread

    fit(small_model(), [Spread(), WarnOfCollapse(lines.append)])
    assert len(lines) == num_lines
    assert all("warning: the features have collapsed in epoch 1" in s for s in lines)


def test_a_finite_loss_goes_on():
    fit(small_model(), [StopAtNonFinite()], epochs=2)


def test_scores_are_made_every_few_epochs_and_after_the_last():
    scores = iter([0.25, 0.5])
    callback = RetrievalScore(
        lambda: Scored(next(scores), 1.0), scored=lambda epoch: epoch > 1
    )
    history = fit(small_model(), [callback], epochs=3).history
    assert callback.last == Scored(0.5, 1.0)
    np.testing.assert_array_equal(history["mean_ap"], [math.nan, 0.25, 0.5])


def test_no_score_of_an_earlier_epoch_stands_for_the_last():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    scores = RetrievalScore(lambda: Scored(0.5, 1.0), scored=lambda epoch: epoch == 1)
    fit(small_model(), [scores, Stop()], epochs=3)
    assert scores.last is None


def test_the_time_left_is_said_after_every_epoch():
    lines = []
    fit(small_model(), [Accuracy(), TimeLeft(lines.append, num_epochs=2)], epochs=2)
    assert len(lines) == 3
    assert lines[0].startswith("compiling the first step")
    assert lines[1].startswith("epoch 1/2: loss")
    assert lines[2].endswith("; 0.0 s left")


def test_the_first_step_counts_for_nothing_in_the_time_left(monkeypatch):
    # A first step of 60 s, in which all is compiled, then one each second.
    said, drawn = [], []

    def draw(*state):
        drawn.append(state)

    left = TimeLeft(said.append, num_epochs=2, every=0, draw=draw, batch_size=8)
    left.set_params({"steps": 4})
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    left.on_epoch_begin(0)
    monkeypatch.setattr("time.monotonic", lambda: 60.0)
    left.on_train_batch_end(0, {"loss": 3.0, "accuracy": 0.25})
    monkeypatch.setattr("time.monotonic", lambda: 61.0)
    left.on_train_batch_end(1, {"loss": 2.0, "accuracy": 0.5})
    assert said[1:] == [
        "epoch 1/2, step 1/4: loss 3.000, accuracy 0.250; an unknown time left",
        # 6 of 8 steps are to come, of a second each.
        "epoch 1/2, step 2/4: loss 2.000, accuracy 0.500, 8 images/s; 6.0 s left",
    ]
    assert drawn[0] == ("epoch 1/2", 0, 4, "compiling")
    assert drawn[-1][:3] == ("epoch 1/2", 2, 4)


def test_a_log_gets_lines_within_an_epoch():
    lines = []
    fit(
        small_model(),
        [Accuracy(), TimeLeft(lines.append, num_epochs=2, every=0)],
        targets=(0.0, 0.0, 0.0),
    )
    assert [line.split(":")[0] for line in lines[1:]] == [
        "epoch 1/2, step 1/3",
        "epoch 1/2, step 2/3",
        "epoch 1/2, step 3/3",
        "epoch 1/2",
    ]


def test_a_resumed_training_counts_the_steps_of_the_whole_epoch():
    lines = []
    left = TimeLeft(lines.append, num_epochs=1, every=0, start=Position(0, 2))
    fit(small_model(), [Accuracy(), left], targets=(0.0, 0.0))
    assert [line.split(":")[0] for line in lines[1:]] == [
        "epoch 1/1, step 3/4",
        "epoch 1/1, step 4/4",
        "epoch 1/1",
    ]


def test_the_log_file_has_a_row_an_epoch_and_survives_a_stop(tmp_path):
    path = tmp_path / "log.csv"
    scores = RetrievalScore(lambda: Scored(0.5, 1.0), scored=lambda epoch: epoch == 2)
    fit(small_model(), [scores, LogFile(path)], epochs=2)
    with pytest.raises(NonFiniteLossError):
        fit(small_model(), [StopAtNonFinite(), LogFile(path)], targets=(math.nan,))
    header, first, second = path.read_text().splitlines()
    assert header == "epoch,loss,mean_ap,rank_1,seconds"
    assert first.startswith("1,")
    assert first.split(",")[2:4] == ["", ""]  # no score in the first epoch
    assert second.startswith("2,")
    assert second.split(",")[2:4] == ["0.5", "1.0"]
    assert all(0 < float(row.split(",")[-1]) < 60 for row in (first, second))


def test_the_seconds_of_an_epoch_are_those_of_its_scores_too(tmp_path):
    def score():
        time.sleep(0.25)
        return Scored(0.5, 1.0)

    scores = RetrievalScore(score, scored=lambda epoch: epoch == 2)
    fit(small_model(), [scores, LogFile(tmp_path / "log.csv")], epochs=2)
    _, *rows = (tmp_path / "log.csv").read_text().splitlines()
    assert float(rows[1].split(",")[-1]) >= 0.25


def test_a_log_without_seconds_goes_on_without_them(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss\n1,0.5\n")
    fit(small_model(), [LogFile(path)])
    header, first, second = path.read_text().splitlines()
    assert (header, first) == ("epoch,loss", "1,0.5")
    assert len(second.split(",")) == 2
