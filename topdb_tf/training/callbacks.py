"""What happens around the steps: rate, retrieval score, checkpoints, stop at NaN."""

import json
import math
from pathlib import Path

import keras

from topdb_tf.run_folder import write_whole


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


class EpochProgress(keras.callbacks.ProgbarLogger):
    """Keras's progress bar with the number of steps of each epoch.

    Args:
        num_batches: Function from the epoch, counted from 0, to its number of steps.
    """

    def __init__(self, num_batches):
        super().__init__()
        self.num_batches = num_batches

    def on_epoch_begin(self, epoch, logs=None):
        self.target = self.num_batches(epoch)
        super().on_epoch_begin(epoch, logs)


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


class KeepLastAndBest(keras.callbacks.Callback):
    """Writes the state after every epoch and keeps the best-scored one beside it.

    `last.weights.h5` holds the weights and the optimizer, `last.json` the number of
    epochs done and the log's figures; `best.*` are the same for the highest
    `mean_ap`. Each file appears whole or not at all, so that an interrupted write
    leaves the one before.

    Args:
        folder: Where the files are written; it is made if missing.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = Path(folder)
        self.best_mean_ap = -math.inf

    def on_train_begin(self, logs=None):
        self.folder.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, epoch, logs=None):
        self._write("last", epoch, logs)
        mean_ap = logs.get("mean_ap", math.nan)
        if mean_ap > self.best_mean_ap:
            self.best_mean_ap = mean_ap
            self._write("best", epoch, logs)

    def _write(self, name, epoch, logs):
        # Keras refuses names that do not end in .weights.h5.
        partial = self.folder / f"partial-{name}.weights.h5"
        self.model.save_weights(partial)
        partial.replace(self.folder / f"{name}.weights.h5")
        write_whole(
            self.folder / f"{name}.json",
            json.dumps({"epochs_done": epoch + 1, "log": _as_floats(logs)}, indent=2),
        )


def _as_floats(logs):
    return {
        name: float(value) if math.isfinite(value) else None
        for name, value in logs.items()
    }
