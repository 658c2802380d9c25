"""State dicts in files of PyTorch and of safetensors; nothing in them is ever run."""

import math
import pickle
import re
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.damage import check_unpacked, is_zip, may_pass
from topdb_tf.texts import first_line, install_command

SUFFIXES = (".safetensors", ".pth", ".pt", ".tar")
"""How the names of such files end; PyTorch's own may end in anything."""

_NESTS = ("state_dict", "model_state_dict", "model_state", "model", "network", "net")
_STARTS = ("module.", "_orig_mod.", "model.", "network.", "net.")
_PICKLED_FUNCTION = re.compile(r"GLOBAL (\S+)")


class TorchFile(NamedTuple):
    """What a file of weights holds.

    The arrays are float32 or integers, in the order of the file. Some files say after
    which epoch they were written, and what the weights score, in [0, 1]. What programs
    wrap around a state dict is taken off: a dictionary around it, or the beginning of
    all keys.
    """

    state_dict: dict[str, np.ndarray]
    epoch: int | None
    rank_1: float | None
    taken_off: tuple[str, ...] = ()


def read_torch_file(path: Path | str) -> TorchFile:
    """Returns the weights in a `.safetensors` file or in one of `torch.save`.

    A file of `torch.save`, of the current or the older format, holds a state dict, or
    a dictionary with one under "state_dict", "model", "net" and the like; whatever else
    is there is left out, the state of the optimizer too. Beginnings that all keys have,
    as `module.` of parallel training, are taken off. It may hold tensors, numbers and
    texts alone: PyTorch's restricted unpickler reads it, which calls no function that
    the file names.

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
    content = read_torch_content(path)
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} must hold a state dict, or a dictionary with one under "
            f'"state_dict". Received: {type(content).__name__}'
        )
    state_dict, taken_off = content, []
    while name := _nest_in(state_dict):
        state_dict = state_dict[name]
        taken_off.append(name)
    if not isinstance(state_dict, dict) or not state_dict:
        raise ValueError(f"{path} must hold the weights of a network; it has none.")
    sizes = [math.prod(np.shape(value)) for value in state_dict.values()]
    check_unpacked(path, 4 * sum(sizes))  # a view may repeat a few numbers
    arrays = {key: _array(path, key, value) for key, value in state_dict.items()}
    while start := _common_start(arrays):
        arrays = {key.removeprefix(start): array for key, array in arrays.items()}
        taken_off.append(start)
    return TorchFile(
        arrays,
        _number(content.get("epoch"), int),
        _number(content.get("rank1"), float),
        tuple(taken_off),
    )


def _nest_in(content) -> str | None:
    """Returns the name under which the state dict is in a dictionary, if it is."""
    if not isinstance(content, dict):
        return None
    inner = [name for name in _NESTS if isinstance(content.get(name), dict)]
    if "state_dict" in content:
        return "state_dict"
    return inner[0] if inner else None


def _common_start(keys) -> str | None:
    """Returns the beginning of all keys that says nothing of the network, if any."""
    starts = (start for start in _STARTS if all(key.startswith(start) for key in keys))
    return next(starts, None) if keys else None


def read_torch_content(path: Path):
    """Returns what is in a `.safetensors` file or in one of `torch.save`, unchanged.

    Raises:
        ValueError: As `read_torch_file`.
    """
    is_safetensors = path.suffix.lower() == ".safetensors"
    return _read_safetensors(path) if is_safetensors else _read_pickled(path)


def tensor_array(tensor) -> np.ndarray:
    """Returns a tensor of PyTorch, or an array, as an array; bfloat16 as float32."""
    if isinstance(tensor, np.ndarray):
        return tensor
    tensor = tensor.detach()
    is_known = not str(tensor.dtype).startswith("torch.bfloat")
    return (tensor if is_known else tensor.float()).numpy()


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
        if is_zip(path):
            with zipfile.ZipFile(path) as archive:
                check_unpacked(path, sum(part.file_size for part in archive.infolist()))
        with torch.serialization.safe_globals(_numpy_values()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format and each kind of damage has its own
        if may_pass(error):
            raise
        if asked := _PICKLED_FUNCTION.search(str(error)):
            raise ValueError(
                f"{path} must hold tensors, numbers and texts alone; nothing else is "
                f"loaded, as it could run any code. Received: {asked[1].rstrip('.')}"
            ) from error
        reason = first_line(error)
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


def _numpy_values():
    """Returns what NumPy's numbers and arrays of them are pickled as, by 1 and 2."""
    functions = np.float32(0).__reduce__()[0], np.zeros(1).__reduce__()[0]
    names = [
        (function, f"numpy.{core}.multiarray.{function.__name__}")
        for function in functions
        for core in ("core", "_core")
    ]
    kinds = "float16", "float32", "float64", "int32", "int64", "uint8", "U1"
    return [*names, np.dtype, np.ndarray, *(type(np.dtype(kind)) for kind in kinds)]


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
