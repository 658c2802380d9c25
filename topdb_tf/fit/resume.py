"""What must hold when a run is gone on with."""

import contextlib
from collections.abc import Callable, Iterator

from topdb_tf.files import write_whole
from topdb_tf.runs.folder import RunFolder
from topdb_tf.runs.machine import Environment
from topdb_tf.runs.settings import Config
from topdb_tf.texts import Say
from topdb_tf.training.checkpoint_files import (
    BestEpoch,
    Checkpoint,
    Position,
    positions,
    read_record,
)
from topdb_tf.training.errors import CheckpointError, NonFiniteLossError
from topdb_tf.training.schedules import is_plateau, is_scored

_SAME_TO_THE_BIT = ("topdb_tf", "python", "platform", "device", "packages")


def how_it_ended(run: RunFolder, config: Config) -> str | None:
    """Returns for people how a run ended, `None` if it goes on.

    It has ended when it is scored, and its epochs are done or it stopped early.
    """
    done, epochs = positions(run.checkpoints), config.train.epochs
    if not done or not run.scores.is_file():
        return None
    if ended_early(run, config):
        return f"it stopped early after {done[0].epoch} of {epochs} epochs"
    return f"all {epochs} epochs are done" if done[0].epoch >= epochs else None


def ended_early(run: RunFolder, config: Config) -> bool:
    """Returns whether the newest checkpoint of a run is where it stopped early."""
    done = positions(run.checkpoints)
    if not config.train.stop_after or not done or done[0].step:
        return False
    best = read_record(run.checkpoints, done[0]).best
    return has_stopped(config, done[0].epoch, best)


def fitting(
    checkpoint: Checkpoint, training_images: str, *, num_steps: int, force: bool
) -> Checkpoint:
    """Returns a checkpoint at one of the `num_steps` that the epochs have.

    Raises:
        ValueError: If the training images are not those of the checkpoint, unless
            `force` is set.
    """
    if checkpoint.record.training_images != training_images and not force:
        raise ValueError(
            "The training images are not those that the run began with (names, "
            "identities or cameras differ). Restore them, or pass --force."
        )
    epoch, step = checkpoint.position
    return checkpoint._replace(position=Position(epoch, min(step, num_steps)))


@contextlib.contextmanager
def telling_the_way_on(run: RunFolder) -> Iterator[None]:
    """Says of an error that ends a training what there is to go on from.

    Raises:
        CheckpointError: For itself, with a longer text.
        NonFiniteLossError: For itself, with a longer text.
    """
    try:
        yield
    except (CheckpointError, NonFiniteLossError) as error:
        way = (
            "There is no checkpoint before it, so nothing of the run is kept: mend "
            "that, and start the same command again."
        )
        if done := positions(run.checkpoints):
            force = " --force" if isinstance(error, NonFiniteLossError) else ""
            way = (
                f"The checkpoint {done[0].name} before it is kept: go on from there "
                f"with `topdb-tf fit --resume {run.path}{force}`."
            )
        raise type(error)(f"{error} {way}") from error


def restore_log(run: RunFolder, checkpoint: Checkpoint) -> None:
    """Writes the log as it was at the checkpoint: later rows will come again."""
    text = checkpoint.record.log
    if text is None:
        run.log.unlink(missing_ok=True)
    else:
        write_whole(run.log, text)


def warn_of_another_machine(run: RunFolder, now: Environment, say: Say) -> None:
    """Says where the rest of a run may not be what it would have been, to the bit."""
    if not run.environment.is_file():
        return
    began = Environment.read(run.environment)
    changed = [
        name for name in _SAME_TO_THE_BIT if getattr(began, name) != getattr(now, name)
    ]
    if changed:
        say(
            f"warning: the run began elsewhere ({', '.join(changed)} differ: see "
            f"{run.environment}), so rounding may differ from here on"
        )


def warn_of_other_replicas(checkpoint: Checkpoint, num_replicas: int, say: Say) -> None:
    """Says that the rest of a run is divided among another number of devices."""
    before = checkpoint.record.num_replicas
    if before != num_replicas:
        say(
            f"warning: the run began on {before} replicas and goes on on "
            f"{num_replicas}, so rounding differs from here on, and, with "
            "train.mining=replica or train.statistics=replica, hard examples and batch "
            "statistics too"
        )


def scored_epochs(config: Config) -> Callable[[int], bool]:
    """Returns the function from an epoch, counted from 1, to whether it is scored."""
    every, num_epochs = config.train.evaluate_every, config.train.epochs
    return lambda epoch: is_scored(epoch, every=every, num_epochs=num_epochs)


def has_stopped(config: Config, epoch: int, best: BestEpoch | None) -> bool:
    """Returns whether a run that has done some epochs ended early."""
    return epoch < config.train.epochs and is_plateau(
        epoch,
        best.epochs_done if best else 0,
        stop_after=config.train.stop_after,
        scored=scored_epochs(config),
    )
