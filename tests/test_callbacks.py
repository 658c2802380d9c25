import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from topdb_tf.run_folder import RunFolder
from topdb_tf.training.callbacks import (
    KeepLastAndBest,
    LearningRateByEpoch,
    LogFile,
    NonFiniteLossError,
    RetrievalScore,
    StopAtNonFinite,
    TimeLeft,
)


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


def test_a_finite_loss_goes_on():
    fit(small_model(), [StopAtNonFinite()], epochs=2)


def test_scores_are_made_every_few_epochs_and_after_the_last():
    scores = iter([0.25, 0.5])
    callback = RetrievalScore(
        lambda: {"mean_ap": next(scores), "rank_1": 1.0}, every=2, num_epochs=3
    )
    history = fit(small_model(), [callback], epochs=3).history
    np.testing.assert_array_equal(history["mean_ap"], [math.nan, 0.25, 0.5])


def test_the_last_and_the_best_state_are_kept(tmp_path):
    run, model = RunFolder(tmp_path), small_model()
    best_weights = {}

    def score():
        epoch = len(best_weights)
        best_weights[epoch] = model.get_weights()
        return {"mean_ap": [0.1, 0.9, 0.3][epoch], "rank_1": 0.0}

    callbacks = [
        RetrievalScore(score, every=1, num_epochs=3),
        KeepLastAndBest(run, model),
    ]
    fit(model, callbacks, epochs=3)
    best = keras.models.load_model(run.best_embedder).get_weights()
    last = keras.models.load_model(run.embedder).get_weights()
    np.testing.assert_array_equal(best[0], best_weights[1][0])
    np.testing.assert_array_equal(last[0], best_weights[2][0])
    state = json.loads((run.checkpoints / "best.json").read_text())
    assert state["epochs_done"] == 2
    assert state["log"]["mean_ap"] == 0.9
    assert not list(tmp_path.rglob("*partial*"))


def test_a_state_after_a_loss_that_is_not_finite_is_never_written(tmp_path):
    run, model = RunFolder(tmp_path), small_model()
    callbacks = [StopAtNonFinite(), KeepLastAndBest(run, model)]
    fit(model, callbacks)
    good = (run.checkpoints / "last.weights.h5").read_bytes()
    with pytest.raises(NonFiniteLossError):
        fit(model, callbacks, targets=(math.nan,))
    assert (run.checkpoints / "last.weights.h5").read_bytes() == good
    assert np.isfinite(keras.models.load_model(run.embedder).get_weights()[0]).all()


def test_the_time_left_is_said_after_every_epoch():
    lines = []
    fit(small_model(), [Accuracy(), TimeLeft(lines.append, num_epochs=2)], epochs=2)
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1/2: loss")
    assert lines[1].endswith("; 0.0 s left")


def test_a_log_gets_lines_within_an_epoch():
    lines = []
    fit(
        small_model(),
        [Accuracy(), TimeLeft(lines.append, num_epochs=2, every=0)],
        targets=(0.0, 0.0, 0.0),
    )
    assert [line.split(":")[0] for line in lines] == [
        "epoch 1/2, step 1/3",
        "epoch 1/2, step 2/3",
        "epoch 1/2, step 3/3",
        "epoch 1/2",
    ]


def test_the_log_file_has_a_row_an_epoch_and_survives_a_stop(tmp_path):
    path = tmp_path / "log.csv"
    scores = RetrievalScore(
        lambda: {"mean_ap": 0.5, "rank_1": 1.0}, every=2, num_epochs=2
    )
    fit(small_model(), [scores, LogFile(path)], epochs=2)
    with pytest.raises(NonFiniteLossError):
        fit(small_model(), [StopAtNonFinite(), LogFile(path)], targets=(math.nan,))
    header, first, second = path.read_text().splitlines()
    assert header == "epoch,loss,mean_ap,rank_1"
    assert first.startswith("1,")
    assert first.endswith(",,")  # no score in the first epoch
    assert second.startswith("2,")
    assert second.endswith(",0.5,1.0")
