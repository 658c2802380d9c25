"""State dicts in files of PyTorch and of safetensors; nothing in them is ever run."""

import math
import pickle
import re
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.files import check_unpacked, may_pass
from topdb_tf.texts import install_command

SUFFIXES = (".safetensors", ".pth", ".pt", ".tar")
"""How the names of such files end; PyTorch's own may end in anything."""

_PICKLED_FUNCTION = re.compile(r"GLOBAL (\S+)")


class TorchFile(NamedTuple):
    """What a file of weights holds.

    The arrays are float32 or integers, in the order of the file. Some files say after
    which epoch they were written, and what the weights score, in [0, 1].
    """

    state_dict: dict[str, np.ndarray]
    epoch: int | None
    rank_1: float | None


def read_torch_file(path: Path | str) -> TorchFile:
    """Returns the weights in a `.safetensors` file or in one of `torch.save`.

    A file of `torch.save`, of the current or the older format, holds a state dict, or
    a dictionary with one under "state_dict"; whatever else is there is left out, the
    state of the optimizer too. It may hold tensors, numbers and texts alone: PyTorch's
    restricted unpickler reads it, which calls no function that the file names.

    Args:
        path: The file; any that does not end in `.safetensors` is read by PyTorch.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file, if it is cut short, if it asks for a
            function, or if PyTorch is needed and missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of weights at {path}.")
    is_safetensors = path.suffix == ".safetensors"
    content = _read_safetensors(path) if is_safetensors else _read_pickled(path)
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} must hold a state dict, or a dictionary with one under "
            f'"state_dict". Received: {type(content).__name__}'
        )
    state_dict = content.get("state_dict", content)
    if not isinstance(state_dict, dict) or not state_dict:
        raise ValueError(f"{path} must hold the weights of a network; it has none.")
    sizes = [math.prod(np.shape(value)) for value in state_dict.values()]
    check_unpacked(path, 4 * sum(sizes))  # a view may repeat a few numbers
    return TorchFile(
        {key: _array(path, key, value) for key, value in state_dict.items()},
        _number(content.get("epoch"), int),
        _number(content.get("rank1"), float),
    )


def _read_safetensors(path):
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ValueError(
            f"{path} must be a whole .safetensors file. Received: {error}"
        ) from error


def _read_pickled(path):
    torch = _torch(path)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                check_unpacked(path, sum(part.file_size for part in archive.infolist()))
        with torch.serialization.safe_globals(_numpy_scalars()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format and each kind of damage has its own
        if may_pass(error):
            raise
        if asked := _PICKLED_FUNCTION.search(str(error)):
            raise ValueError(
                f"{path} must hold tensors, numbers and texts alone; nothing else is "
                f"loaded, as it could run any code. Received: {asked[1].rstrip('.')}"
            ) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, pickle.UnpicklingError):
            reason = "another content"  # PyTorch would advise to run what is there
        raise ValueError(
            f"{path} must be a whole file of `torch.save` or end in .safetensors. "
            f"Received: {reason}"
        ) from error


def _torch(path):
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ValueError(
            f"Reading {path} needs PyTorch: {install_command('torch')}. A file that "
            "ends in .safetensors needs none."
        ) from error
    return torch


def _numpy_scalars():
    """Returns what a pickled NumPy number is made of, as NumPy 1 and 2 call it."""
    scalar = np.float32(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    numbers = [type(np.dtype(name)) for name in ("float32", "float64")]
    return [*((scalar, name) for name in names), np.dtype, *numbers]


def _array(path, key, value):
    """Returns a tensor of either library as an array."""
    is_tensor = isinstance(value, np.ndarray) or hasattr(value, "is_floating_point")
    if not is_tensor or not isinstance(key, str):
        raise ValueError(
            f"{path} must hold nothing but tensors by their names in its state dict. "
            f"Received: {key!r} of the type {type(value).__name__}"
        )
    try:
        if not isinstance(value, np.ndarray):
            value = value.detach()
            value = (value.float() if value.is_floating_point() else value).numpy()
        is_integer = np.issubdtype(value.dtype, np.integer)
        if not is_integer:
            value = value.astype("float32", casting="same_kind", copy=False)
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"{path} must hold dense tensors of real numbers. Received: {key} of "
            f"{value.dtype}"
        ) from error
    if not np.isfinite(value).all():
        raise ValueError(
            f"{path} must hold finite weights. Received: NaN or infinity in {key}"
        )
    return value


def _number(value, kind):
    is_number = isinstance(value, int | float | np.integer | np.floating)
    if not is_number or isinstance(value, bool) or not math.isfinite(value):
        return None
    return kind(value)
