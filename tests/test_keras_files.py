"""Hostile `.keras` files: nothing of them runs, reads a file or takes the memory."""

import io
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest

from topdb_tf.model import layers, normalization  # noqa: F401
from topdb_tf.model.keras_files import check_weights_file, load_keras_file


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The parts of an honest file by their names."""
    pixels = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(2, 3, activation="relu")(pixels)
    x = normalization.FusedBatchNormalization()(x) * 2
    x = keras.layers.Dense(3, name="dense")(keras.layers.Flatten()(x))
    path = tmp_path_factory.mktemp("honest") / "a.keras"
    keras.Model(pixels, x).save(path)
    assert load_keras_file(path).output_shape == (None, 3)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def refused(tmp_path, parts, compression=zipfile.ZIP_STORED):
    path = tmp_path / "hostile.keras"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        load_keras_file(path)
    return str(refusal.value)


def with_layer(parts, **named):
    config = json.loads(parts["config.json"])
    layer = {"name": "evil", "inbound_nodes": [], "config": {"name": "evil"}, **named}
    config["config"]["layers"].insert(1, layer)
    return {**parts, "config.json": json.dumps(config)}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("keras.layers", "Lambda"),
        ("keras.layers", "StringLookup"),
        ("keras.layers", "TextVectorization"),
        ("keras.layers", "TFSMLayer"),
        ("keras.layers", "TorchModuleWrapper"),
        ("keras.config", "enable_unsafe_deserialization"),
        ("keras.utils", "get_file"),
        ("subprocess", "Popen"),
        (None, "Lambda"),
        (None, "__lambda__"),
        ("tensorflow", "__typespec__"),
        (["a"], {"a": 1}),
    ],
)
def test_only_classes_that_compute_are_made(module, name, parts, tmp_path):
    layer = {"module": module, "class_name": name, "registered_name": None}
    assert "it asks for" in refused(tmp_path, with_layer(parts, **layer))


@pytest.mark.parametrize("place", ["config", "compile_config", "build_config"])
def test_a_class_is_found_wherever_it_stands(place, parts, tmp_path):
    dense = {"module": "keras.layers", "class_name": "Dense", "registered_name": None}
    hidden = {"loss": [{"module": "os", "class_name": "function", "config": "system"}]}
    assert "asks for os" in refused(
        tmp_path, with_layer(parts, **dense, **{place: hidden})
    )


def test_layers_that_the_file_has_no_weights_for_are_not_made(parts, tmp_path):
    text = parts["config.json"].decode().replace('"units": 3', '"units": 2000000000')
    message = refused(tmp_path, {**parts, "config.json": text})
    assert "its layers have 18,000,000,064 weights" in message


def test_other_parts_depth_and_unpacked_sizes_are_refused(parts, tmp_path):
    assert "its parts are" in refused(tmp_path, {**parts, "../evil": b""})
    assert "recursion" in refused(tmp_path, {**parts, "config.json": '{"a":' * 50_000})
    bomb = {**parts, "model.weights.h5": bytes(100_000_000)}
    assert "says to hold" in refused(tmp_path, bomb, zipfile.ZIP_DEFLATED)


@pytest.mark.parametrize("kind", ["chunks", "external", "link", "soft"])
def test_arrays_stand_in_the_file_itself(kind, parts, tmp_path):
    contents = io.BytesIO(parts["model.weights.h5"])
    with h5py.File(contents, "r+") as file:
        if kind == "chunks":
            file.create_dataset("x", (10**12,), "f4", chunks=(10**6,))
        elif kind == "external":
            places = [("/etc/hostname", 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("x", (4,), "u1", external=places)
        elif kind == "link":
            file["x"] = h5py.ExternalLink("/etc/hostname", "/x")
        else:
            file["x"] = h5py.SoftLink("/layers")
    message = refused(tmp_path, {**parts, "model.weights.h5": contents.getvalue()})
    assert {"chunks": "says to hold", "external": "another file"}.get(
        kind, "link to another place"
    ) in message
    path = tmp_path / "a.weights.h5"
    path.write_bytes(contents.getvalue())
    with pytest.raises(ValueError, match="its array x|says to hold"):
        check_weights_file(path)


def test_honest_weights_that_compress_well_are_taken(tmp_path):
    path = tmp_path / "a.weights.h5"
    with h5py.File(path, "w") as file:
        zeros = np.zeros((1000, 1000), "f4")
        file.create_dataset("kernel", data=zeros, compression="gzip")
    check_weights_file(path)
