"""What the workers of a run share: who writes, what must be the same."""

import contextlib
import hashlib
import shutil
from collections.abc import Iterator

import numpy as np

from topdb_tf.files import temporary_folder
from topdb_tf.runs.folder import RunFolder, held, new_folder
from topdb_tf.runs.machine import Precision, load_tensorflow, set_precision
from topdb_tf.runs.settings import PRECISIONS, Config
from topdb_tf.texts import Say
from topdb_tf.training.checkpoint_files import (
    Checkpoint,
    Position,
    newest_checkpoint,
    read_checkpoint,
)
from topdb_tf.training.distribution import (
    Cluster,
    Distribution,
    of_chief,
    start,
    sum_of_workers,
)
from topdb_tf.training.errors import TrainingInterrupted

_WITHOUT_STRATEGY = {"xla": False, "ema": 0.0, "accumulate_steps": 1}


def begin(config: Config, cluster: Cluster, say: Say) -> Distribution:
    """Returns the devices of a run; waits for the other workers.

    Raises:
        ValueError: If there are too few devices, a batch does not divide by them, or a
            setting does not go with the strategy.
    """
    train, name = config.train, config.train.strategy
    odd = [
        f"train.{setting}={off}"
        for setting, off in _WITHOUT_STRATEGY.items()
        if getattr(train, setting) != off
    ]
    if name != "none" and odd:
        raise ValueError(
            f"The strategy {name} does not go with all settings yet. Set "
            f"{' and '.join(odd)}, or train.strategy=none."
        )
    if cluster.num_workers > 1:
        workers = ", ".join(cluster.addresses)
        say(f"worker {cluster.index} of {cluster.num_workers}: waiting for {workers}")
    load_tensorflow()
    distribution = start(name, cluster)
    count, data = distribution.num_replicas, config.data
    if data.pids_per_batch % count or data.pids_per_batch < count:
        raise ValueError(
            "Every replica must have whole identities: `data.batch_size` must be a "
            f"multiple of {count} replicas x {data.images_per_pid} images. Received: "
            f"batch_size={data.batch_size}"
        )
    return distribution


@contextlib.contextmanager
def own_folder(
    run: RunFolder, cluster: Cluster, *, is_new: bool = False
) -> Iterator[RunFolder]:
    """Gives the folder that this worker writes to.

    It is the run's, held, for the chief, and one that is thrown away for the others,
    which do all that the chief does so that each waits for the same. Of a new one
    nothing is left after an error before its first checkpoint.

    Raises:
        TrainingInterrupted: At a signal; its text names the run's folder.
        ValueError: If another process is training in the run's folder.
    """
    if cluster.is_chief:
        with new_folder(run) if is_new else held(run):
            yield run
        return
    with temporary_folder() as folder:
        own = RunFolder(folder)
        if run.best_embedder.is_file():  # of the run that is gone on with
            shutil.copyfile(run.best_embedder, own.best_embedder)
        try:
            yield own
        except TrainingInterrupted as stop:
            number = stop.signal_number
            message = f"Worker {cluster.index} was stopped by {number.name}. "
            raise TrainingInterrupted(message + how_to_restart(run), number) from stop


def how_to_restart(run: RunFolder) -> str:
    """Returns how a training is gone on with that has lost a worker."""
    return (
        "Checkpoints are kept: start all workers again, with `topdb-tf fit --resume "
        f"{run.path}`, or, if there was none yet, with the same command."
    )


def checkpoint_of_run(
    run: RunFolder, distribution: Distribution, say: Say
) -> Checkpoint:
    """Returns the newest whole checkpoint, the chief's choice on every worker.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If this worker does not see the chief's checkpoint.
    """
    checkpoint, position = None, Position()
    if distribution.cluster.is_chief:
        checkpoint = newest_checkpoint(run.checkpoints, say=say)
        position = checkpoint.position
    position = Position(*map(int, of_chief(distribution, np.array(position))))
    return checkpoint or read_checkpoint(run.checkpoints, position)


def same_precision(distribution: Distribution, precision: Precision) -> Precision:
    """Returns the chief's precision, which is then set on every worker."""
    here = PRECISIONS.index(precision.name)
    chief = int(of_chief(distribution, np.array([here]))[0])
    return precision if chief == here else set_precision(PRECISIONS[chief])


def check_same(distribution: Distribution, *facts) -> None:
    """Checks that all workers have the same facts: settings, images.

    Raises:
        ValueError: If they differ.
    """
    digest = hashlib.sha256(repr(facts).encode()).digest()
    own = np.frombuffer(digest, np.uint8).astype(np.int64)
    workers = distribution.cluster.num_workers
    table = np.zeros((workers, len(own)), np.int64)
    table[distribution.cluster.index] = own
    table = sum_of_workers(distribution, table)
    others = [i for i in range(workers) if (table[i] != table[0]).any()]
    if others:
        raise ValueError(
            "All workers must have the same settings and training images; start them "
            f"with the same command. Received: others than worker 0 on workers {others}"
        )


def replica_lines(config: Config, distribution: Distribution) -> list[str]:
    """Returns what is said about the parts of a batch, none for one device."""
    count, data, train = distribution.num_replicas, config.data, config.train
    if count == 1:
        return []
    mining = {"global": "the whole batch", "replica": "the part of a replica"}
    statistics = {"synchronized": "the whole batch", "replica": "the part of a replica"}
    return [
        f"batches of {data.batch_size} = {count} replicas x "
        f"{data.pids_per_batch // count} identities x {data.images_per_pid} images; "
        f"hard examples of {mining[train.mining]}, batch statistics of "
        f"{statistics[train.statistics]}; the learning rate is that of the whole batch "
        f"(in proportion to it, given for {train.reference_batch_size})"
    ]
