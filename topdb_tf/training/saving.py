"""Callbacks that keep the state of a training, and end it cleanly when asked."""

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import keras

from topdb_tf.files import whole_file
from topdb_tf.training.checkpoint_files import (
    START,
    BestEpoch,
    Checkpoint,
    Position,
    TrainingRecord,
    explained,
    prune,
    write_checkpoint,
)
from topdb_tf.training.errors import TrainingInterrupted
from topdb_tf.training.state import finite, restore_figures, state_arrays

_NOTED = b"\nending after this step; once more ends at once, without saving\n"


class Interruption:
    """Turns Ctrl-C and SIGTERM into a wish, within its `with` block.

    The first signal is noted, for the end of the step; while `stop_at_once` is set it
    raises instead. A second signal ends the process, as if this were not here. Outside
    the main thread, where Python takes no signals, it does nothing.

    While the state is saved already, `stop_at_once` is set; `how_to_resume` ends what
    `TrainingInterrupted` says.
    """

    def __init__(self, how_to_resume: str):
        self.how_to_resume = how_to_resume
        self.signal_number = None
        self.stop_at_once = False
        self._handlers = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def end(self):
        """Raises the error that ends the training.

        Raises:
            TrainingInterrupted: Always.
        """
        name = signal.Signals(self.signal_number).name
        message = f"Stopped by {name}, the state is saved: {self.how_to_resume}"
        raise TrainingInterrupted(message, self.signal_number)

    def _note(self, number, frame):
        self.signal_number = number
        for other in self._handlers:
            signal.signal(other, signal.SIG_DFL)
        if self.stop_at_once:
            self.end()
        os.write(2, _NOTED)  # `sys.stderr` may be in the midst of another line


class KeepModels(keras.callbacks.Callback):
    """Writes the embedder after every epoch, and the best-scored one beside it.

    Each file appears whole or not at all.

    `best` is the best epoch so far, at first that of an earlier part of this run; the
    metric is the name of the mAP in the log. The embedder shares the trained weights,
    and has those that are saved in `as_used`.
    """

    def __init__(
        self,
        newest: Path,
        best_file: Path,
        embedder,
        *,
        metric: str = "mean_ap",
        best: BestEpoch | None = None,
        as_used: Callable = contextlib.nullcontext,
    ):
        super().__init__()
        self.newest = newest
        self.best_file = best_file
        self.embedder = embedder
        self.metric = metric
        self.best = best
        self.as_used = as_used

    def on_epoch_end(self, epoch, logs=None):
        mean_ap = float(logs.get(self.metric, math.nan))
        with self.as_used():
            _save_whole(self.embedder, self.newest)
            if mean_ap > (self.best.mean_ap if self.best else -math.inf):
                self.best = BestEpoch(epoch + 1, mean_ap)
                _save_whole(self.embedder, self.best_file)


class Checkpoints(keras.callbacks.Callback):
    """Saves the state after every epoch, every few minutes, and before it is ended.

    It must come after those that stop at a bad state, score and log, because what it
    saves says that they are done. Before the scores of an epoch it saves too, as they
    may take long.

    Args:
        folder: Where the checkpoints are kept.
        record: Function without arguments to what is told beside the arrays; the
            checkpoint of its best epoch, if any, is kept.
        num_steps: Number of steps of a whole epoch.
        interruption: Tells of a signal.
        scored: Function from the epoch, counted from 1, to whether it is scored.
        minutes: Time between checkpoints within an epoch; 0 for none.
        keep: How many of the newest stay.
        resumed: The checkpoint that the training goes on from.

    Raises:
        CheckpointError: If a checkpoint cannot be written.
        NonFiniteLossError: If the state is not finite.
        TrainingInterrupted: If there was a signal, when the state is saved.
    """

    def __init__(
        self,
        folder: Path,
        record: Callable[[], TrainingRecord],
        *,
        num_steps: int,
        interruption: Interruption,
        scored: Callable[[int], bool] = lambda epoch: False,
        minutes: float = 15,
        keep: int = 2,
        resumed: Checkpoint | None = None,
    ):
        super().__init__()
        self.folder = folder
        self.record = record
        self.num_steps = num_steps
        self.interruption = interruption
        self.scored = scored
        self.seconds = minutes * 60 or math.inf
        self.keep = keep
        self.resumed = resumed or Checkpoint(START, TrainingRecord(), {})

    def on_train_begin(self, logs=None):
        self._saved = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._first_step = self.resumed.position.first_step(epoch)
        if self._first_step:
            restore_figures(self.model, self.resumed.arrays)

    def on_train_batch_end(self, batch, logs=None):
        position = Position(self._epoch, self._first_step + batch + 1)
        to_score = position.step == self.num_steps and self.scored(self._epoch + 1)
        is_due = time.monotonic() - self._saved >= self.seconds
        if is_due or to_score or self.interruption.signal_number:
            self._save(position)
        self.interruption.stop_at_once = to_score
        if to_score and self.interruption.signal_number:  # came since the save
            self.interruption.end()

    def on_epoch_end(self, epoch, logs=None):
        self.interruption.stop_at_once = False
        self._save(Position(epoch + 1))

    def _save(self, position):
        epoch, step = position
        of_step = f"step {step} of epoch {epoch + 1}"
        after = of_step if step else f"epoch {epoch}"
        record = self.record()
        arrays = finite(state_arrays(self.model), f"after {after}")
        write_checkpoint(self.folder, position, record, arrays)
        also = [Position(record.best.epochs_done)] if record.best else []
        prune(self.folder, keep=self.keep, also=also)
        self._saved = time.monotonic()
        if self.interruption.signal_number:
            self.interruption.end()


def _save_whole(model, path):
    with explained(path), whole_file(path) as partial:
        model.save(partial)
