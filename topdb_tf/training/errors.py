"""Why a training ended before its last epoch."""

import signal

HOW_TO_STAY_FINITE = (
    "Try a lower `train.learning_rate`, a longer `train.warmup_epochs` or "
    "`train.precision=float32`."
)


class NonFiniteLossError(ArithmeticError):
    """A loss, gradient or weight became NaN or infinite; the training stopped there."""


class CheckpointError(OSError):
    """A file of the run could not be written or read; those before it are whole."""


class DamagedCheckpointError(ValueError):
    """A checkpoint is not what was written, or no state that can be gone on with."""


class BatchTooLargeError(MemoryError):
    """A batch does not fit into the memory of the device; others may."""


class WorkerLostError(RuntimeError):
    """Another worker of the training does not answer; the checkpoints are kept."""


class TrainingInterrupted(Exception):  # noqa: N818 - asked for, and no error
    """A signal ended the training, after its state was saved.

    The message tells what was saved and how to go on.
    """

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.signal_number = signal.Signals(signal_number)
