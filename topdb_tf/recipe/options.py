"""Options of a training by the settings of its run."""

import contextlib
from collections.abc import Callable, Iterator

from topdb_tf.config import Config
from topdb_tf.training.errors import BatchTooLargeError
from topdb_tf.training.schedules import is_plateau, is_scored

_MOST_SUGGESTIONS = 3


def build_optimizer(config: Config, network, *, rate: float):
    """Returns the optimizer of a run, for a network that is not yet frozen.

    Args:
        config: Settings of the run.
        network: The network that it will train.
        rate: The learning rate to begin with.
    """
    from topdb_tf.training.optimizer import AdamWithL2
    from topdb_tf.training.options import moving_statistics

    train = config.train
    optimizer = AdamWithL2(
        rate,
        l2=train.l2,
        global_clipnorm=train.clip_norm or None,
        use_ema=train.ema > 0,
        ema_momentum=train.ema,
        gradient_accumulation_steps=(
            train.accumulate_steps if train.accumulate_steps > 1 else None
        ),
    )
    if train.ema:
        optimizer.average_too(moving_statistics(network))
    if train.freeze_epochs:
        backbone = network.get_layer("backbone")
        optimizer.let_start_late(backbone.trainable_variables)
    return optimizer


def option_lines(config: Config, *, num_batches: int) -> list[str]:
    """Returns what is said at the start of the options that are on.

    Args:
        config: Settings of the run.
        num_batches: Batches of an epoch.

    Raises:
        ValueError: If an epoch is too short for one update.
    """
    train, size, lines = config.train, config.data.batch_size, []
    if train.accumulate_steps > 1:
        if train.accumulate_steps > num_batches:
            raise ValueError(
                "`train.accumulate_steps` must be at most the batches of an epoch. "
                f"Received: accumulate_steps={train.accumulate_steps}, batches of an "
                f"epoch: {num_batches}"
            )
        lines.append(
            f"gradients of {train.accumulate_steps} batches make one update: effective "
            f"batch {size * train.accumulate_steps}, to which the learning rate is "
            "scaled; hard examples and batch statistics are those of each batch"
        )
    if train.schedule == "cosine":
        lines.append("after the warm-up the learning rate follows a cosine to zero")
    if train.clip_norm:
        lines.append(f"gradients longer than {train.clip_norm:g} are clipped to that")
    if train.ema:
        lines.append(
            f"scored and saved are moving averages of weights and batch statistics, "
            f"over about {1 / (1 - train.ema):,.0f} updates"
        )
    if train.freeze_epochs:
        lines.append(f"the backbone is trained from epoch {train.freeze_epochs + 1} on")
    if train.stop_after:
        lines.append(
            f"training ends after {train.stop_after} scored epochs without a better mAP"
        )
    return lines


def scored(config: Config) -> Callable[[int], bool]:
    """Returns the function from an epoch, counted from 1, to whether it is scored."""
    every, num_epochs = config.train.evaluate_every, config.train.epochs
    return lambda epoch: is_scored(epoch, every=every, num_epochs=num_epochs)


def has_stopped(config: Config, epoch: int, best: dict | None) -> bool:
    """Returns whether a run that has done some epochs ended early.

    Args:
        config: Settings of the run.
        epoch: Number of epochs done.
        best: `epochs_done` of the best one, or `None`.
    """
    return epoch < config.train.epochs and is_plateau(
        epoch,
        best["epochs_done"] if best else 0,
        stop_after=config.train.stop_after,
        scored=scored(config),
    )


@contextlib.contextmanager
def explained_memory(explanation: Callable[[], str]) -> Iterator[None]:
    """Says what did not fit into memory, and what to try.

    Nothing is probed: after such an error the allocator of a GPU is in no state to
    tell.

    Args:
        explanation: Function without arguments to what is said.

    Raises:
        BatchTooLargeError: For TensorFlow's `ResourceExhaustedError`, unless it is
            about a disk.
    """
    import tensorflow as tf

    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        if "space left" in str(error):
            raise
        raise BatchTooLargeError(explanation()) from error


def training_memory(config: Config, precision: str) -> str:
    """Returns what is said where a step of the training does not fit into memory.

    Args:
        config: Settings of the run.
        precision: The precision in use, and perhaps why.
    """
    data, train, precision = config.data, config.train, precision.split()[0]
    tries = [
        f"--set data.batch_size={size} --set train.accumulate_steps={steps}"
        for size, steps in smaller_batches(config)
    ]
    ways = [f"{' or '.join(tries)} (the same effective batch)"] if tries else []
    if precision == "float32":
        ways.append("--set train.precision=bfloat16")
    ways.append("smaller images (data.image_height, data.image_width)")
    steps = train.accumulate_steps
    return (
        f"A training step with {data.batch_size} images of {data.image_height} x "
        f"{data.image_width} in {precision} does not fit into memory"
        f"{f' ({steps} such batches to an update)' if steps > 1 else ''}. Try "
        f"{'; or '.join(ways)}. What fits was not tried out. Hard examples and batch "
        "statistics will be those of the smaller batch."
    )


def scoring_memory(config: Config) -> str:
    """Returns what is said where embeddings cannot be made or ranked in memory."""
    return (
        f"Embedding {config.evaluation.batch_size} images of {config.data.image_height}"
        f" x {config.data.image_width} at a time does not fit into memory. Go on with "
        "`topdb-tf fit --resume RUN --force` and a smaller `evaluation.batch_size`; "
        "the steps before are saved."
    )


def smaller_batches(config: Config) -> list[tuple[int, int]]:
    """Returns the next smaller batch sizes, and the steps to the same effective batch.

    Every one holds at least two identities, each with all of its images.
    """
    data = config.data
    effective = data.batch_size * config.train.accumulate_steps
    sizes = [
        size
        for size in range(data.batch_size // 2, 2 * data.images_per_pid - 1, -1)
        if size % data.images_per_pid == 0 and effective % size == 0
    ]
    return [(size, effective // size) for size in sizes[:_MOST_SUGGESTIONS]]
