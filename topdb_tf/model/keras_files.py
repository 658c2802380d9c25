"""Files of Keras, checked before anything in them is made: classes, sizes, places."""

import contextlib
import json
import sys
import threading
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
from packaging.version import Version

from topdb_tf.damage import check_unpacked, told_as_damage
from topdb_tf.texts import first_line

_PARTS = {"metadata.json", "config.json", "model.weights.h5"}
_MODULES = (
    "activations",
    "constraints",
    "dtype_policies",
    "initializers",
    "layers",
    "models",
    "ops",
    "regularizers",
)
_REFUSED = ("keras.src.layers.preprocessing.", "keras.src.layers.core.lambda_layer")
_HARMLESS = {"Normalization", "Rescaling"}
_NEWER = {
    "input_axes": None,
    "output_axes": None,
    "quantization_config": None,
    "renorm": False,
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
}
_VALUES = {"__keras_tensor__", "__tensor__", "__numpy__", "__slice__", "__ellipsis__"}


def load_keras_file(path: Path):
    """Returns the model in a `.keras` file, which can run no code and read no file.

    Its config may name layers, initialisers and the like of Keras that only compute,
    and classes that are registered by now; its weights stand in the file itself, and
    are as many as its layers need, which is found before these are made.

    Raises:
        ValueError: If it is no such file.
    """
    note = ""

    def explained(error):
        return first_line(error) + note

    with told_as_damage(explained):
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            names = [part.filename for part in parts]
            if sorted(names) != sorted(_PARTS):
                raise ValueError(f"its parts are {', '.join(names)}")
            check_unpacked(path, sum(part.file_size for part in parts))
            config = json.loads(archive.read("config.json"))
            config["compile_config"] = None  # is not read
            note = note_on_newer_keras(archive.read("metadata.json"))
            _check_classes(config)
            with archive.open("model.weights.h5") as weights:
                declared = _declared_in(weights)
        check_unpacked(path, declared)
        _check_size(config, declared)
        return keras.models.load_model(path, compile=False)


def check_config_file(path: Path, weights: Path | None = None) -> None:
    """Checks that a config asks for nothing that a `.keras` file may not ask for.

    Args:
        path: The JSON file.
        weights: The HDF5 file of the weights that its layers need, if they need any.

    Raises:
        ValueError: If it does.
    """

    metadata = path.with_name("metadata.json")
    note = note_on_newer_keras(metadata.read_bytes() if metadata.is_file() else b"")

    def explained(error):
        return (
            f"{path.parent} must be a preset that `topdb-tf publish` wrote, and only "
            f"compute. Received: {path.name}, of which {first_line(error)}{note}"
        )

    with told_as_damage(explained):
        config = json.loads(path.read_text(encoding="utf-8"))
        _check_classes(config)
        if weights is not None:
            check_weights_file(weights)
            with weights.open("rb") as file:
                _check_size(config, _declared_in(file))


def check_weights_file(path: Path) -> None:
    """Checks that an HDF5 file holds its arrays itself, and no more than it can.

    Raises:
        ValueError: If it does not.
        OSError: If it is no such file.
    """
    with path.open("rb") as file:
        check_unpacked(path, _declared_in(file))


def of_any_keras(config):
    """Returns a config without what only newer versions of Keras know.

    These are arguments that older ones lack, where they say what the older ones do.
    """
    if isinstance(config, list):
        return [of_any_keras(part) for part in config]
    if not isinstance(config, dict):
        return config
    return {
        name: of_any_keras(part)
        for name, part in config.items()
        if name not in _NEWER or part != _NEWER[name]
    }


def note_on_newer_keras(metadata: bytes) -> str:
    """Returns what to do if a file's `metadata.json` tells of a newer Keras."""
    with contextlib.suppress(ValueError, LookupError, TypeError):
        version = json.loads(metadata)["keras_version"]
        if Version(version) > Version(keras.__version__):
            return (
                f" It was written by Keras {version}, this is {keras.__version__}: "
                f"pip install 'keras>={version}', or `topdb-tf publish` its run there; "
                "presets are read by older versions too."
            )
    return ""


def _declared_in(file):
    """Returns the bytes of all arrays of an HDF5 file, whose links stay in it."""
    declared = 0

    def visit(group):
        nonlocal declared
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ValueError(f"its array {name} is a link to another place")
            part = group[name]
            if isinstance(part, h5py.Group):
                visit(part)
            elif part.external or part.is_virtual:
                raise ValueError(f"its array {name} lies in another file")
            else:
                declared += part.size * part.dtype.itemsize

    with h5py.File(file, "r") as opened:
        visit(opened)
    return declared


def _check_classes(value):
    """Checks all classes that a config names, at every depth."""
    if isinstance(value, list):
        for part in value:
            _check_classes(part)
    elif isinstance(value, dict):
        if "class_name" in value and not _is_known(value):
            names = value.get("module"), value["class_name"]
            raise ValueError(f"it asks for {'.'.join(map(str, names))}")
        for part in value.values():
            _check_classes(part)


def _is_known(value):
    module, name = value.get("module"), value["class_name"]
    registered = value.get("registered_name")
    if name == "function":  # such as an activation
        registered = name = value.get("config")
    if not all(isinstance(one, str | None) for one in (module, name, registered)):
        return False
    known = registered and keras.saving.get_registered_object(registered)
    if known:
        return not known.__module__.startswith(("keras.", "keras_hub."))
    if module is None or module == "builtins":
        return name in _VALUES
    known = getattr(sys.modules.get(module), name, None)
    place = getattr(known, "__module__", "")
    allowed = tuple(f"keras.src.{one}." for one in _MODULES)
    return (
        module.split(".")[0] == "keras"
        and (isinstance(known, type) or place.startswith("keras.src.activations."))
        and place.startswith(allowed)
        and (not place.startswith(_REFUSED) or name in _HARMLESS)
    )


def _check_size(config, declared):
    """Checks that the layers of a config need no more than the weights of its file.

    They are made without their weights in a thread: what Keras would then make of
    them is noted for the thread alone.
    """
    needed, errors = [], []

    def measure():
        try:
            with keras.StatelessScope(initialize_variables=False):
                model = keras.saving.deserialize_keras_object(config)
            for weight in model.weights:
                needed.append(int(np.prod(weight.shape, dtype=object)))
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=measure)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    # A weight of half precision takes two bytes.
    if 2 * sum(needed) > declared + 4096:
        raise ValueError(
            f"its layers have {sum(needed):,} weights, its file {declared:,} bytes"
        )
