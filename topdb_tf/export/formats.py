"""The embedder in a single file for other runtimes: ONNX and LiteRT."""

import importlib.util
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from topdb_tf.files import check_new_file, plain
from topdb_tf.texts import install_command

_HEAD = "# How to run the ONNX file of this name; written by topdb-tf export.\n"


class Format(NamedTuple):
    """A file format of models, with the packages that must be installed for it."""

    suffix: str
    precisions: tuple[str, ...]
    packages: tuple[str, ...]


FORMATS = {
    "onnx": Format(".onnx", ("float32", "float16"), ("tf2onnx", "onnx", "onnxruntime")),
    "litert": Format(".tflite", ("float32", "float16", "int8"), ("ai_edge_litert",)),
}
"""The formats by name; an extra of the package has the name too."""


def check_format(format: str, precision: str) -> Format:
    """Returns a format after a look at whether it can be written here."""
    if format not in FORMATS:
        raise ValueError(
            f"The format must be one of {', '.join(FORMATS)}. "
            f"Received: format={format!r}"
        )
    file_format = FORMATS[format]
    if precision not in file_format.precisions:
        possible = "; ".join(
            f"{name}: {', '.join(other.precisions)}" for name, other in FORMATS.items()
        )
        raise ValueError(
            f"The precisions are, by format, {possible}. "
            f"Received: format={format!r}, precision={precision!r}"
        )
    packages = file_format.packages
    missing = [name for name in packages if not importlib.util.find_spec(name)]
    if missing:
        raise ValueError(
            f"Writing and checking the format {format} needs "
            f"{', '.join(name.replace('_', '-') for name in missing)}: "
            f"{install_command(format)}"
        )
    return file_format


def file_bytes(
    embedder,
    format: str,
    *,
    precision: str = "float32",
    metadata: dict[str, str],
    calibration: Iterable[np.ndarray] | None = None,
) -> bytes:
    """Returns the contents of the file of an embedder.

    The model in it goes from `pixels`, float32 RGB in [0, 255] of shape `(batch,
    height, width, 3)`, to `embedding`, float32 `(batch, dim)`, for any batch.
    Normalisation is in the graph, batch normalisation is folded into the convolutions.
    The pixels are float32, as the embedder takes them, because resizing gives float32
    and the same arrays then fit every format and precision.

    Args:
        embedder: `keras.Model` of `load_embedder`.
        format: Name in `FORMATS`.
        precision: "float32"; "float16", where ONNX computes feature maps in it and
            LiteRT keeps weights in it; or "int8", weights and activations.
        metadata: Texts by name, kept in the file.
        calibration: For "int8": single images, float32 in [0, 255] of shape `(1,
            height, width, 3)`, from which the ranges of the activations are taken.
    """
    check_format(format, precision)
    from topdb_tf.model.folding import folded

    if format == "onnx":
        from topdb_tf.export.onnx_file import onnx_bytes

        return onnx_bytes(_of_pixels(folded(embedder, dtype=precision)), metadata)
    from topdb_tf.export.litert_file import litert_bytes

    if precision == "int8" and calibration is None:
        raise ValueError(
            "int8 needs training images, which tell the range of every activation: "
            "pass `calibration`. Received: calibration=None"
        )
    model = _of_pixels(folded(embedder))
    return litert_bytes(model, metadata, precision, calibration)


def load_file(
    path: Path, *, num_threads: int | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the model of a file as a function, by the runtime of its format.

    Args:
        path: File that `file_bytes` made, with the suffix of its format.
        num_threads: Threads of the runtime. Defaults to the number of cores.

    Returns:
        Function from pixels `(batch, height, width, 3)` to embeddings `(batch, dim)`,
        both float32. Its attribute `metadata` has the texts that the file keeps.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the suffix is of no format.
    """
    path, num_threads = Path(path), num_threads or os.cpu_count()
    if not path.is_file():
        raise FileNotFoundError(f"There is no model at {path}.")
    names = {format.suffix: name for name, format in FORMATS.items()}
    if path.suffix not in names:
        raise ValueError(
            f"The file must end in one of {', '.join(names)}. Received: {path}"
        )
    if names[path.suffix] == "onnx":
        from topdb_tf.export.onnx_file import OnnxModel

        return OnnxModel(path, num_threads)
    from topdb_tf.export.litert_file import LiteRtModel

    return LiteRtModel(path, num_threads)


@dataclass(frozen=True)
class InputContract:
    """What goes in: `(pixels - mean) / deviation` of resized images, as an array."""

    height: int
    width: int
    name: str = "pixels"
    dtype: str = "float32"
    layout: str = "NHWC"
    dynamic_batch: bool = True
    channel_order: str = "RGB"
    value_range: tuple[int, int] = (0, 255)
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    deviation: tuple[float, ...] = (1.0, 1.0, 1.0)
    resize: str = "bilinear, antialiased, the aspect ratio not kept"


@dataclass(frozen=True)
class OutputContract:
    """What comes out, and how two of them are compared."""

    dim: int
    metric: str
    name: str = "embedding"
    dtype: str = "float32"
    l2_normalized: bool = False


@dataclass(frozen=True)
class Contract:
    """What a program must know to run an ONNX file.

    Mean and deviation are what is left to the caller: nothing, as the graph itself
    normalises.
    """

    file: str
    sha256: str
    precision: str
    input: InputContract
    output: OutputContract

    def to_yaml(self) -> str:
        """Returns the contents of the file."""
        text = yaml.safe_dump(plain(self), sort_keys=False, default_flow_style=None)
        return _HEAD + text


def contract_file(out: Path) -> Path:
    """Returns the file of the contract of an ONNX file, beside it."""
    return out.with_suffix(".yaml")


def check_contract_file(out: Path, format: str, *, force: bool) -> None:
    """Raises if the contract of an ONNX file cannot be written; others have none."""
    path = contract_file(out)
    if format != "onnx":
        return
    is_contract = path.is_file() and path.read_bytes().startswith(_HEAD.encode())
    if path.exists() and not is_contract:
        raise FileExistsError(
            f"{path} is in the way: the contract of {out.name} goes there. Take "
            "another name for the ONNX file."
        )
    check_new_file(path, suffix=".yaml", force=force)


def _of_pixels(model):
    """Returns the function from pixels to embeddings, its weights constants."""
    import tensorflow as tf

    from topdb_tf.export.frozen import frozen

    def embed(pixels):
        return tf.identity(model(pixels, training=False))

    return frozen(embed, model.input_shape[1:3])
