"""What happens around the steps: rate, retrieval score, checkpoints, stop at NaN."""

import csv
import json
import math
import time
from pathlib import Path

import keras

from topdb_tf.progress import duration_text
from topdb_tf.run_folder import RunFolder, write_whole


class NonFiniteLossError(ArithmeticError):
    """A loss became NaN or infinite; the training was stopped there."""


class LearningRateByEpoch(keras.callbacks.Callback):
    """Sets the learning rate, and the epoch of the batches, when an epoch begins.

    Args:
        rate_of_epoch: Function from the epoch, counted from 1, to the learning rate.
        batches: Object whose `epoch` attribute, counted from 0, selects the plan of
            the next pass over the training images.
    """

    def __init__(self, rate_of_epoch, batches):
        super().__init__()
        self.rate_of_epoch = rate_of_epoch
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.epoch = epoch
        self.model.optimizer.learning_rate = self.rate_of_epoch(epoch + 1)

    def on_epoch_end(self, epoch, logs=None):
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)


class TimeLeft(keras.callbacks.Callback):
    """Says how far the training is, what came of it, and how long the rest will take.

    Args:
        say: Function that shows a line.
        num_epochs: The last epoch, counted from 1.
        every: Seconds between lines within an epoch, for logs without a progress bar;
            `None` says something after each epoch alone.
    """

    def __init__(self, say, *, num_epochs, every=None):
        super().__init__()
        self.say = say
        self.num_epochs = num_epochs
        self.every = math.inf if every is None else every

    def on_train_begin(self, logs=None):
        self._start = self._said = time.monotonic()
        self._first_epoch = None

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        if self._first_epoch is None:
            self._first_epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        now, steps = time.monotonic(), self.params["steps"]
        if now - self._said < self.every or not steps:
            return
        self._said = now
        left = self._time_left(self._epoch + (batch + 1) / steps)
        self.say(
            f"epoch {self._epoch + 1}/{self.num_epochs}, step {batch + 1}/{steps}: "
            f"loss {float(logs['loss']):.3f}; {left} left"
        )

    def on_epoch_end(self, epoch, logs=None):
        self._said = time.monotonic()
        figures = [f"loss {logs['loss']:.3f}", f"accuracy {logs['accuracy']:.3f}"]
        if math.isfinite(logs.get("mean_ap", math.nan)):
            figures.append(f"mAP {logs['mean_ap']:.1%}, rank-1 {logs['rank_1']:.1%}")
        left = self._time_left(epoch + 1)
        self.say(
            f"epoch {epoch + 1}/{self.num_epochs}: {', '.join(figures)}; {left} left"
        )

    def _time_left(self, epochs_done):
        seconds = time.monotonic() - self._start
        share = seconds / (epochs_done - self._first_epoch)
        return duration_text(share * (self.num_epochs - epochs_done))


class StopAtNonFinite(keras.callbacks.Callback):
    """Stops the training with an error as soon as a loss is NaN or infinite.

    The checkpoints of the epochs before are left as they are.

    Raises:
        NonFiniteLossError: Names the epoch, the step and the losses concerned.
    """

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if math.isfinite(logs["loss"]):
            return
        names = [name for name, value in logs.items() if not math.isfinite(value)]
        raise NonFiniteLossError(
            f"The loss is not finite at step {batch + 1} of epoch {self._epoch + 1} "
            f"({', '.join(name for name in names if name != 'loss')}). The checkpoints "
            "of the epochs before are kept. Try a lower `train.learning_rate`, a "
            "longer warm-up, or `train.precision=float32`. "
            f"Received: loss={float(logs['loss'])}"
        )


class RetrievalScore(keras.callbacks.Callback):
    """Adds the retrieval scores to the log every few epochs and after the last.

    Args:
        score: Function without arguments to a dictionary of scores by name.
        every: Number of epochs between scores; 0 scores after the last epoch alone.
        num_epochs: The last epoch, counted from 1.
        names: Keys of the scores; in epochs without a score they are NaN, so that
            every row of a log has the same columns.
    """

    def __init__(self, score, *, every, num_epochs, names=("mean_ap", "rank_1")):
        super().__init__()
        self.score = score
        self.every = every
        self.num_epochs = num_epochs
        self.names = names

    def on_epoch_end(self, epoch, logs=None):
        done = epoch + 1
        due = done == self.num_epochs or (self.every and done % self.every == 0)
        scores = self.score() if due else {}
        logs.update({name: scores.get(name, math.nan) for name in self.names})


class LogFile(keras.callbacks.Callback):
    """Appends the figures of every epoch to a CSV file; NaN leaves a field empty.

    The file is closed between epochs, so that whatever stops the training leaves it
    whole. (Keras's `CSVLogger` keeps it open.)

    Args:
        path: The file; its first line names the figures, `epoch` counted from 1.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, **_as_floats(logs)}
        is_new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, row)
            if is_new:
                writer.writeheader()
            writer.writerow(row)


class KeepLastAndBest(keras.callbacks.Callback):
    """Writes the state after every epoch and keeps the best-scored one beside it.

    `checkpoints/last.weights.h5` holds the weights and the optimizer,
    `checkpoints/last.json` the number of epochs done and the log's figures, and
    `embedder.keras` what they are trained for. `checkpoints/best.*` and
    `embedder_best.keras` are the same for the highest `mean_ap`. Each file appears
    whole or not at all, so that an interrupted write leaves the one before.

    Args:
        run: The run's folder.
        embedder: Model that shares the trained weights.
    """

    def __init__(self, run: RunFolder, embedder):
        super().__init__()
        self.run = run
        self.embedder = embedder
        self.best_mean_ap = -math.inf

    def on_train_begin(self, logs=None):
        self.run.checkpoints.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, epoch, logs=None):
        self._write("last", self.run.embedder, epoch, logs)
        mean_ap = logs.get("mean_ap", math.nan)
        if mean_ap > self.best_mean_ap:
            self.best_mean_ap = mean_ap
            self._write("best", self.run.best_embedder, epoch, logs)

    def _write(self, name, embedder_path, epoch, logs):
        _save_whole(
            self.model.save_weights, self.run.checkpoints / f"{name}.weights.h5"
        )
        _save_whole(self.embedder.save, embedder_path)
        write_whole(
            self.run.checkpoints / f"{name}.json",
            json.dumps({"epochs_done": epoch + 1, "log": _as_floats(logs)}, indent=2),
        )


def _save_whole(save, path):
    partial = path.with_name(f"partial-{path.name}")  # Keras looks at the suffix
    save(partial)
    partial.replace(path)


def _as_floats(logs):
    return {
        name: float(value) if math.isfinite(value) else None
        for name, value in logs.items()
    }
