"""What happens around the steps: rate, retrieval score, log, stop at NaN."""

import csv
import math
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from topdb_tf.texts import duration_text
from topdb_tf.training.averaging import unscaled
from topdb_tf.training.checkpoint_files import START, BestEpoch, explained
from topdb_tf.training.errors import HOW_TO_STAY_FINITE, NonFiniteLossError
from topdb_tf.training.schedules import Phase, is_plateau, pixels_until

_LEAST_SPREAD = 0.01  # of random weights it is 0.1 and more


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
        logs["learning_rate"] = float(np.asarray(self.model.optimizer.learning_rate))


class TimeLeft(keras.callbacks.Callback):
    """Says how far the training is, what came of it, and how long the rest will take.

    A first step, in which the others are compiled, counts for nothing in this.

    Args:
        say: Function that shows a line.
        num_epochs: The last epoch, counted from 1.
        every: Seconds between lines within an epoch, for logs without a progress bar;
            `None` says something after each epoch alone.
        draw: Function of a title, the steps done, all of an epoch and a text, that
            draws a bar of them; none is drawn without.
        batch_size: Images of a step.
        start: Where the training begins.
        prefix: What the names of the scores in the log begin with: `val_` if they are
            those of validation.
        phases: The phases of the training; each is compiled, and takes the time of its
            pixels.
    """

    def __init__(
        self,
        say,
        *,
        num_epochs,
        every=None,
        draw=None,
        batch_size=1,
        start=START,
        prefix="",
        phases=(),
    ):
        super().__init__()
        self.say = say
        self.num_epochs = num_epochs
        self.every = math.inf if every is None else every
        self.draw = draw
        self.batch_size = batch_size
        self.start = start
        self.prefix = prefix
        self.phases = phases or (Phase(1, num_epochs, (1, 1)),)
        self._begun = None

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._first_step = self.start.first_step(epoch)
        self._num_steps = self._first_step + (self.params.get("steps") or 0)
        self._steps_begun, self._steps = time.monotonic(), 0
        is_first = epoch + 1 in {phase.first_epoch for phase in self.phases}
        self._compiles = self._begun is None or is_first
        if self._compiles and self._num_steps:
            self.say("compiling the first step, which takes longer than the others")
            self._show(self._first_step, "compiling")

    def on_train_batch_end(self, batch, logs=None):
        now, steps = time.monotonic(), self._num_steps
        step = self._first_step + batch + 1
        if self._compiles:
            self._compiles = False
            if self._begun is None:
                self._begun, self._done_before = now, self._work(step)
            else:  # as if this step had taken no time, and done nothing
                self._begun += now - self._steps_begun
                self._done_before += self._work(step) - self._work(step - 1)
            self._said = self._steps_begun = now
        else:
            self._steps += 1
        if not steps:
            return
        is_said = now - self._said >= self.every
        if not (is_said or self.draw):
            return
        text = self._text(now, logs)
        left = self._time_left(self._work(step))
        self._show(step, f"{text}; {left} left")
        if is_said:
            self._said = now
            self.say(
                f"epoch {self._epoch + 1}/{self.num_epochs}, step {step}/{steps}: "
                f"{text}; {left} left"
            )

    def _show(self, step, text):
        if self.draw:
            title = f"epoch {self._epoch + 1}/{self.num_epochs}"
            self.draw(title, step, self._num_steps, text)

    def _text(self, now, logs):
        """Returns loss, accuracy and speed of the epoch so far."""
        figures = [f"loss {float(logs['loss']):.3f}"]
        if "accuracy" in logs:
            figures.append(f"accuracy {float(logs['accuracy']):.3f}")
        if self._steps and now > self._steps_begun:
            speed = self._steps * self.batch_size / (now - self._steps_begun)
            figures.append(f"{speed:.3g} images/s")
        return ", ".join(figures)

    def on_epoch_end(self, epoch, logs=None):
        self._said = time.monotonic()
        figures = [f"loss {logs['loss']:.3f}", f"accuracy {logs['accuracy']:.3f}"]
        names = (f"{self.prefix}mean_ap", f"{self.prefix}rank_1")
        mean_ap, rank_1 = (logs.get(name, math.nan) for name in names)
        if math.isfinite(mean_ap):
            part = "validation " if self.prefix else ""
            figures.append(f"{part}mAP {mean_ap:.1%}, rank-1 {rank_1:.1%}")
        left = self._time_left(self._work(epochs=epoch + 1))
        self.say(
            f"epoch {epoch + 1}/{self.num_epochs}: {', '.join(figures)}; {left} left"
        )

    def _work(self, step=0, *, epochs=None):
        """Returns the work of the training up to a step of this epoch, in pixels."""
        if epochs is None:
            epochs = self._epoch + step / max(self._num_steps, 1)
        return pixels_until(self.phases, epochs)

    def _time_left(self, done):
        left = self._work(epochs=self.num_epochs) - done
        if left <= 0:
            return duration_text(0)
        done = 0 if self._begun is None else done - self._done_before
        if done <= 0:  # nothing but the first step, or the end of an epoch
            return "an unknown time"
        return duration_text((time.monotonic() - self._begun) / done * left)


class StopAtNonFinite(keras.callbacks.Callback):
    """Stops the training with an error when a loss or a gradient is NaN or infinite.

    At the end of an epoch it does for the state too, before anything is made of it.

    Args:
        gradient: Function without arguments to the name of the weight whose gradient
            was not finite in the last step, or `None`.
        check_state: Function that raises the error for a state that is not finite;
            its argument tells of which epoch that is.
        start: Where the training begins.

    Raises:
        NonFiniteLossError: Names the epoch, the step, and the losses or the weight
            concerned.
    """

    def __init__(
        self, gradient=lambda: None, *, check_state=lambda when: None, start=START
    ):
        super().__init__()
        self.gradient = gradient
        self.check_state = check_state
        self.start = start

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._first_step = self.start.first_step(epoch)

    def on_train_batch_end(self, batch, logs=None):
        if math.isfinite(logs["loss"]):
            return
        step = f"step {self._first_step + batch + 1} of epoch {self._epoch + 1}"
        bad = [name for name, value in logs.items() if not math.isfinite(value)]
        losses = [name for name in bad if name != "loss"]
        if losses or not self.gradient():
            what = f"The loss is not finite at {step} ({', '.join(losses)})"
        else:
            what = f"The gradient of {self.gradient()} is not finite at {step}"
        raise NonFiniteLossError(f"{what}. {HOW_TO_STAY_FINITE}")

    def on_epoch_end(self, epoch, logs=None):
        self.check_state(f"after epoch {epoch + 1}")


class WarnOfCollapse(keras.callbacks.Callback):
    """Warns after an epoch in which all images had nearly the same features.

    Args:
        say: Function that shows a line.
    """

    def __init__(self, say: Callable[[str], None]):
        super().__init__()
        self.say = say

    def on_epoch_end(self, epoch, logs=None):
        if logs["spread"] < _LEAST_SPREAD:
            self.say(
                f"warning: the features have collapsed in epoch {epoch + 1}: in a "
                f"batch they are within {logs['spread']:.2g} of their length of one "
                "another. Try a lower `train.learning_rate` or a longer warm-up."
            )


class RetrievalScore(keras.callbacks.Callback):
    """Adds the retrieval scores to the log after the epochs that are scored.

    Args:
        score: Function without arguments to a result with `mean_ap` and `rank_1`. In
            epochs without a score both are NaN in the log, so that all its rows have
            the same columns.
        scored: Function from the epoch, counted from 1, to whether it is scored.
        prefix: What the names in the log begin with.

    Attributes:
        last: The result of the newest epoch, `None` if that is not scored.
    """

    def __init__(self, score, *, scored, prefix=""):
        super().__init__()
        self.score = score
        self.prefix = prefix
        self.scored = scored
        self.last = None

    def on_epoch_end(self, epoch, logs=None):
        mean_ap = rank_1 = math.nan
        self.last = self.score() if self.scored(epoch + 1) else None
        if self.last is not None:
            mean_ap, rank_1 = self.last.mean_ap, self.last.rank_1
        logs[f"{self.prefix}mean_ap"] = mean_ap
        logs[f"{self.prefix}rank_1"] = rank_1


class LogFile(keras.callbacks.Callback):
    """Appends the figures of every epoch to a CSV file; NaN leaves a field empty.

    The file is closed between epochs, so that whatever stops the training leaves it
    whole. (Keras's `CSVLogger` keeps it open.) The last column, `seconds`, is how long
    the epoch took with its scores; of one that was interrupted, how long the part took
    that was made up for.

    Args:
        path: The file; its first line names the figures, `epoch` counted from 1. A log
            that is there goes on with its own columns.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def on_epoch_begin(self, epoch, logs=None):
        self._begun = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        seconds = round(time.monotonic() - self._begun, 3)
        figures = {
            name: float(value) if math.isfinite(value) else None
            for name, value in logs.items()
        }
        row = {"epoch": epoch + 1, **figures, "seconds": seconds}
        with explained(self.path):
            columns = self._columns()
            with self.path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(
                    file, columns or row, extrasaction="ignore", lineterminator="\n"
                )
                if not columns:
                    writer.writeheader()
                writer.writerow(row)

    def _columns(self):
        """Returns the columns of the log that is there, none where there is no log."""
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file), [])


class FreezeBackbone(keras.callbacks.Callback):
    """Trains all but the backbone in the first epochs, then everything.

    The backbone's weights, moments and moving statistics stay as they are; its batch
    normalisations use the moving ones, as in inference, and no penalty is applied.
    The step is traced anew once, when the backbone starts. Its moments then begin as
    in a first step, see `AdamWithL2.let_start_late`.

    Args:
        backbone: Model inside the trained network.
        num_epochs: Number of epochs in which it is frozen.
        say: Function that shows a line.
    """

    def __init__(self, backbone, num_epochs: int, *, say: Callable[[str], None]):
        super().__init__()
        self.backbone = backbone
        self.num_epochs = num_epochs
        self.say = say

    def on_epoch_begin(self, epoch, logs=None):
        is_trained = epoch >= self.num_epochs
        if self.backbone.trainable == is_trained:
            return
        self.backbone.trainable = is_trained
        self.model.make_train_function(force=True)
        if is_trained:
            self.say(f"epoch {epoch + 1}: the backbone is trained too from here on")

    def on_epoch_end(self, epoch, logs=None):
        if epoch < self.num_epochs:
            unscaled(self.model.optimizer).start_late()


class StopAtPlateau(keras.callbacks.Callback):
    """Ends the training when the mAP has not risen for some scored epochs.

    Args:
        say: Function that shows a line.
        stop_after: Number of such epochs.
        scored: Tells whether an epoch, counted from 1, is scored.
        best: Function without arguments to the best epoch so far, or `None`.
        keeps_best: Whether the best epoch's model is what the training leaves.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        stop_after: int,
        scored,
        best,
        keeps_best: bool = False,
    ):
        super().__init__()
        self.keeps_best = keeps_best
        self.say = say
        self.stop_after = stop_after
        self.scored = scored
        self.best = best

    def on_epoch_end(self, epoch, logs=None):
        best = self.best() or BestEpoch(0, math.nan)
        if not is_plateau(
            epoch + 1, best.epochs_done, stop_after=self.stop_after, scored=self.scored
        ):
            return
        self.model.stop_training = True
        models = (
            "The scores and `embedder.keras` are those of the last epoch, "
            "`embedder_best.keras` is that of the best."
        )
        if self.keeps_best:
            models = "`embedder.keras` and its test scores will be those of the best."
        self.say(
            f"stopped after epoch {epoch + 1}: {self.stop_after} scored epochs without "
            f"a better mAP than the {best.mean_ap:.1%} of epoch {best.epochs_done}. "
            f"{models}"
        )
