"""What to try where a batch does not fit into memory."""

import contextlib
from collections.abc import Callable, Iterator

from topdb_tf.runs.machine import Precision
from topdb_tf.runs.settings import Config
from topdb_tf.training.errors import BatchTooLargeError

_MOST_SUGGESTIONS = 3


@contextlib.contextmanager
def explained_memory(explanation: Callable[[], str]) -> Iterator[None]:
    """Says what did not fit into memory, and what to try.

    Nothing is probed: after such an error the allocator of a GPU is in no state to
    tell.

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


def training_memory(config: Config, precision: Precision) -> str:
    """Returns what is said where a step of the training does not fit into memory."""
    data, train = config.data, config.train
    tries = [
        f"--set data.batch_size={size} --set train.accumulate_steps={steps}"
        for size, steps in smaller_batches(config)
    ]
    ways = [f"{' or '.join(tries)} (the same effective batch)"] if tries else []
    if precision.name == "float32":
        ways.append("--set train.precision=bfloat16")
    ways.append("smaller images (data.image_height, data.image_width)")
    steps = train.accumulate_steps
    return (
        f"A training step with {data.batch_size} images of {data.image_height} x "
        f"{data.image_width} in {precision.name} does not fit into memory"
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
