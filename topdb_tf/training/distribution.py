"""Training on several devices and machines by TensorFlow's own distribution."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from topdb_tf.json_files import record_of
from topdb_tf.training.errors import WorkerLostError

_EXAMPLE = (
    '{"cluster": {"worker": ["10.0.0.1:12345", "10.0.0.2:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
# A process that has ended is noticed within seconds; this is for one that hangs.
_COLLECTIVE_TIMEOUT = 1800
_PROBE_TIMEOUT = 3


class Cluster(NamedTuple):
    """The processes that train together, by `host:port`, and which of them this is.

    One alone needs no address; worker 0 is the chief.
    """

    addresses: tuple[str, ...] = ("",)
    index: int = 0

    @property
    def num_workers(self) -> int:
        """Number of processes."""
        return len(self.addresses)

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run's files."""
        return self.index == 0


class _Workers(NamedTuple):
    """The addresses of the processes of each role, as `TF_CONFIG` has them."""

    worker: tuple[str, ...]
    chief: tuple[str, ...] = ()


class _Task(NamedTuple):
    """Which of them a process is."""

    type: str
    index: int


class _TFConfig(NamedTuple):
    """What `TF_CONFIG` holds; a cluster may have roles that have no place here."""

    cluster: dict
    task: _Task


class Distribution(NamedTuple):
    """The devices that train together by a `tf.distribute` strategy; one without."""

    strategy: Any = None
    cluster: Cluster = Cluster()

    @property
    def num_replicas(self) -> int:
        """Number of devices, over all workers."""
        return self.strategy.num_replicas_in_sync if self.strategy else 1

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of this worker's devices; none where TensorFlow chooses its own."""
        return tuple(self.strategy.extended.worker_devices) if self.strategy else ()

    def scope(self):
        """Returns the context in which variables are made."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def own_part(self, count: int) -> slice:
        """Returns which of some things this worker does, nearly equal parts."""
        index, workers = self.cluster.index, self.cluster.num_workers
        return slice(count * index // workers, count * (index + 1) // workers)


def read_cluster(strategy: str) -> Cluster:
    """Returns the processes of a strategy, those of `TF_CONFIG` for `multiworker`.

    No TensorFlow is needed.
    """
    if strategy != "multiworker":
        return Cluster()
    text = os.environ.get("TF_CONFIG", "")
    try:
        cluster, task = record_of(_TFConfig, json.loads(text))
        workers = record_of(_Workers, cluster)
        addresses = workers.chief + workers.worker
        index = task.index + (0 if task.type == "chief" else len(workers.chief))
        own = getattr(workers, task.type)[task.index]
        is_valid = task.index >= 0 and addresses[index] == own
        is_valid &= set(cluster) <= set(_Workers._fields)
        is_valid &= all(":" in address for address in addresses)
    except (ValueError, TypeError, IndexError, AttributeError):
        is_valid = False
    if not is_valid or len(addresses) < 2:
        raise ValueError(
            "The strategy multiworker needs the environment variable TF_CONFIG: the "
            "addresses of at least two workers, and which of them this process is, as "
            f"in {_EXAMPLE}. On one machine use the strategy mirrored. Received: "
            f"TF_CONFIG={text!r}"
        )
    return Cluster(addresses, index)


def start(strategy: str, cluster: Cluster) -> Distribution:
    """Returns the devices of a strategy, connected to those of the other workers.

    It must be called before anything is computed. `mirrored` takes all GPUs, or, where
    there is none, logical CPUs, if more than one was configured.
    """
    import tensorflow as tf

    if strategy == "none":
        return Distribution()
    if strategy == "mirrored":
        gpus = tf.config.list_logical_devices("GPU")
        devices = gpus or tf.config.list_logical_devices("CPU")
        if len(devices) < 2:
            raise ValueError(
                "The strategy mirrored needs two GPUs or more. Use the strategy none "
                f"on one device. Received: {len(gpus)} GPUs"
            )
        names = [device.name for device in devices]
        return Distribution(tf.distribute.MirroredStrategy(names))
    options = tf.distribute.experimental.CommunicationOptions(
        timeout_seconds=_COLLECTIVE_TIMEOUT
    )
    try:
        found = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except tf.errors.OpError as error:
        raise ValueError(
            f"Worker {cluster.index} could not join the others at "
            f"{', '.join(cluster.addresses)}. Check that they run, that TF_CONFIG is "
            "right and that no port is taken. "
            f"Received: {str(error).splitlines()[0]}"
        ) from error
    return Distribution(found, cluster)


def sum_of_workers(distribution: Distribution, values: np.ndarray) -> np.ndarray:
    """Returns the sum of the arrays of all workers, which must all call it."""
    if distribution.cluster.num_workers == 1:
        return values
    import tensorflow as tf

    strategy, num_devices = distribution.strategy, len(distribution.devices)

    @tf.function(autograph=False)
    def total(own):
        def of_replica():
            replica = tf.distribute.get_replica_context()
            is_first = replica.replica_id_in_sync_group % num_devices == 0
            return replica.all_reduce("SUM", own * tf.cast(is_first, own.dtype))

        return strategy.experimental_local_results(strategy.run(of_replica))[0]

    return total(tf.convert_to_tensor(values)).numpy()


def of_chief(distribution: Distribution, values: np.ndarray) -> np.ndarray:
    """Returns the chief's array on every worker; all must call it."""
    is_chief = distribution.cluster.is_chief
    return sum_of_workers(distribution, values if is_chief else np.zeros_like(values))


@contextlib.contextmanager
def explained_losses(cluster: Cluster, how_to_resume: str) -> Iterator[None]:
    """Says which worker was lost, where TensorFlow says that an operation failed.

    Raises:
        WorkerLostError: If a worker does not answer any more.
    """
    if cluster.num_workers == 1:
        yield
        return
    import tensorflow as tf

    lost = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.DeadlineExceededError,
        tf.errors.CancelledError,
        tf.errors.InternalError,
        tf.errors.FailedPreconditionError,
    )
    try:
        yield
    except lost as error:
        silent = [
            f"worker {index} ({address})"
            for index, address in enumerate(cluster.addresses)
            if index != cluster.index and not _answers(address)
        ]
        if not silent and not isinstance(error, lost[:3]):
            raise
        who = " and ".join(silent) or "Another worker"
        who = who[0].upper() + who[1:]
        verb = "do" if len(silent) > 1 else "does"
        raise WorkerLostError(
            f"{who} {verb} not answer any more. {how_to_resume}"
        ) from error


def _answers(address):
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _PROBE_TIMEOUT):
            return True
    except OSError:
        return False
