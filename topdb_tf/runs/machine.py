"""The machine of a run: backend, device, precision, versions."""

import contextlib
import dataclasses
import gc
import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from topdb_tf import __version__
from topdb_tf.data.records import DataCounts
from topdb_tf.files import temporary_folder
from topdb_tf.json_files import read_json, record_of
from topdb_tf.progress import Verbosity, in_command, verbosity

_WORTHWHILE = 1.2  # a half precision must be this much faster to be chosen
_PACKAGES = ("tensorflow", "keras", "keras-hub", "numpy", "numba", "h5py", "pillow")
_OPTIONAL = ("matplotlib", "pandas", "scipy", "sklearn")


def load_tensorflow() -> None:
    """Imports TensorFlow and Keras, and checks that they work together.

    What other projects left in Keras's environment variables and `keras.json` does not
    count: its global settings are at their defaults afterwards.

    What TensorFlow writes about libraries and drivers while it starts is kept back,
    unless `TF_CPP_MIN_LOG_LEVEL` is set or the command is verbose: `describe_device`
    says what came of it.

    Raises:
        ValueError: If this process imported Keras on another backend before.
    """
    with without_notes():
        if "keras" not in sys.modules:
            with _quick_imports():
                _import_keras()
        import keras

        backend = keras.backend.backend()
        if backend == "tensorflow":
            import tensorflow as tf

            from topdb_tf.model.keras_defaults import set_keras_defaults

            set_keras_defaults("float32")
            tf.config.list_physical_devices()
            if verbosity() == Verbosity.QUIET:
                tf.get_logger().setLevel("ERROR")
    if backend != "tensorflow":
        raise ValueError(
            "topdb-tf computes on TensorFlow, but Keras runs on another backend in "
            "this process. Set KERAS_BACKEND=tensorflow before Keras is imported. "
            f"Received: backend={backend!r}"
        )


class Precision(NamedTuple):
    """The precision that a network computes in, and why; its text tells both.

    Example:
        >>> from topdb_tf.runs.machine import Precision
        >>> str(Precision("float32", "as asked"))
        'float32 (as asked)'
        >>> Precision.read("float32 (as asked)")
        Precision(name='float32', reason='as asked')
    """

    name: str
    reason: str = ""

    @classmethod
    def read(cls, text: str) -> "Precision":
        """Returns the precision whose text stands in a file of a run."""
        name, _, reason = text.partition(" (")
        return cls(name, reason.removesuffix(")"))

    def __str__(self):
        return f"{self.name} ({self.reason})" if self.reason else self.name


def set_precision(requested: str) -> Precision:
    """Sets Keras's precision for the network and returns it.

    `auto` times a convolution, forward and backward, in float32 and in the half
    precisions of the device, and takes the fastest if it is at least 1.2 times as
    fast as float32.
    """
    import keras

    precision = Precision(requested, "as asked")
    if requested == "auto":
        precision = _fastest_precision()
    name = precision.name
    keras.config.set_dtype_policy(name if name == "float32" else f"mixed_{name}")
    return precision


def describe_device() -> str:
    """Returns the devices that TensorFlow computes on, for people."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return f"CPU, {os.cpu_count()} cores"
    names = [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in gpus
    ]
    return ", ".join(names)


@dataclass(frozen=True)
class Environment:
    """Where a run was trained: what its `environment.json` holds.

    Whatever nobody knows is `None`: older versions wrote less.

    The device is for people; packages are versions by name, `None` where one is
    missing; there is no commit of an installed package. The counts of its data are of
    each data set.
    """

    topdb_tf: str | None = None
    python: str | None = None
    platform: str | None = None
    device: str | None = None
    packages: dict[str, str | None] = dataclasses.field(default_factory=dict)
    git_commit: str | None = None
    seed: int | None = None
    precision: Precision | None = None
    trainable_parameters: int | None = None
    embedding_dim: int | None = None
    data: tuple[DataCounts, ...] = ()

    @classmethod
    def read(cls, path: Path) -> "Environment":
        """Returns the environment in a file, an empty one where there is no file.

        Raises:
            ValueError: If the file is not one of a run.
        """
        if not path.is_file():
            return cls()
        return read_json(
            path, cls._from_dict, "must be what `topdb-tf fit` wrote there."
        )

    @classmethod
    def _from_dict(cls, saved):
        precision = record_of(str | None, saved.pop("precision", None), "precision")
        environment = record_of(cls, saved)
        if precision is None:
            return environment
        return dataclasses.replace(environment, precision=Precision.read(precision))

    def to_dict(self) -> dict:
        """Returns what `environment.json` holds."""
        precision = None if self.precision is None else str(self.precision)
        return {**dataclasses.asdict(self), "precision": precision}

    def to_json(self) -> str:
        """Returns the text of `environment.json`."""
        return json.dumps(self.to_dict(), indent=2) + "\n"


def current_environment(**network) -> Environment:
    """Returns the versions, the device and the source of this process.

    What else is known of a training are fields of `Environment` from `seed` on.
    """
    return Environment(
        topdb_tf=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        device=describe_device(),
        packages={name: _version(name) for name in _PACKAGES},
        git_commit=_git_commit(),
        **network,
    )


def _import_keras():
    """Imports Keras on TensorFlow, whatever its environment and `keras.json` say."""
    for name in [name for name in os.environ if name.startswith("KERAS_")]:
        if name != "KERAS_HOME":  # its weights are there, too
            del os.environ[name]
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        importlib.import_module("keras")
    except (ValueError, AttributeError, TypeError, OSError):  # at its keras.json
        home = os.environ.get("KERAS_HOME")
        with temporary_folder() as folder:
            os.environ["KERAS_HOME"] = str(folder)
            importlib.import_module("keras")
        del os.environ["KERAS_HOME"]
        if home is not None:
            os.environ["KERAS_HOME"] = home


@contextlib.contextmanager
def _quick_imports():
    """Spares a command a third of what the import of Keras and TensorFlow takes.

    They do without the packages of `_OPTIONAL`, and the garbage collector then passes
    over all that the import brings. Programs of other people may need either, so
    nothing changes for them.
    """
    if not in_command():
        yield
        return
    hidden = [name for name in _OPTIONAL if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # None: an import finds nothing
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def without_notes():
    """Keeps back what native code writes to standard error, unless it fails.

    It is not kept back where `TF_CPP_MIN_LOG_LEVEL` is set, nor for a verbose command.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ or verbosity() == Verbosity.VERBOSE:
        yield
        return
    sys.stderr.flush()
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            yield
        except BaseException:
            notes.seek(0)
            os.write(standard_error, notes.read())
            raise
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)


def _fastest_precision():
    import tensorflow as tf

    dtypes = ["float32", "bfloat16"]
    if tf.config.list_physical_devices("GPU"):
        dtypes.append("float16")
    seconds = {dtype: _seconds_of_convolution(dtype) for dtype in dtypes}
    best = min(seconds, key=seconds.get)
    speedup = seconds["float32"] / seconds[best]
    if speedup >= _WORTHWHILE:
        reason = f"a convolution takes {speedup:.1f} x less time than in float32"
        return Precision(best, reason)
    reason = "no half precision is worth its rounding on this device"
    return Precision("float32", reason)


def _seconds_of_convolution(dtype, repeats=5):
    import tensorflow as tf

    images = tf.ones((4, 24, 8, 512), dtype)
    kernel = tf.ones((3, 3, 512, 512), dtype)

    @tf.function(autograph=False)
    def forward_and_backward():
        with tf.GradientTape() as tape:
            tape.watch((images, kernel))
            total = tf.reduce_sum(tf.nn.conv2d(images, kernel, 1, "SAME"))
        return [tf.reduce_sum(part) for part in tape.gradient(total, (images, kernel))]

    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        [part.numpy() for part in forward_and_backward()]
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[repeats // 2]  # without the first, which compiles


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit():
    """Returns the commit of the source tree, or nothing for an installed package."""
    source = Path(__file__).parents[2]
    if not (source / ".git").exists():
        return None
    command = ["git", "-C", str(source), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
