import h5py
import keras
import numpy as np
import pytest

from tests.checkpoint_files import (
    TORCHVISION_NAMES,
    golden_weights,
    renamed,
    small_backbone,
    write_safetensors,
    write_torch,
)
from topdb_tf.model import checkpoints
from topdb_tf.model.backbones import mobilenet_v2, resnet50, resnet50_source, tiny
from topdb_tf.model.checkpoints import load_backbone_weights
from topdb_tf.model.network import build_network
from topdb_tf.model.state_dict import load_state_dict

NAME = "mobilenet_v2"
IMAGE_SIZE = (64, 32)


@pytest.fixture(scope="module")
def source():
    """Keras's MobileNetV2 with weights that no other model has."""
    model = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), include_top=True, classes=5, weights=None
    )
    rng = np.random.default_rng(0)
    for layer in model.layers:
        layer.set_weights([rng.uniform(0.5, 1, w.shape) for w in layer.weights])
    return model


@pytest.fixture(scope="module")
def shared_backbone():
    model = mobilenet_v2(IMAGE_SIZE)
    return model, model.get_weights()


@pytest.fixture
def backbone(shared_backbone):
    """The backbone with the weights that it was made with."""
    model, weights = shared_backbone
    model.set_weights(weights)
    return model


def weighted_layers(model):
    return [layer for layer in model.layers if layer.weights]


def write_older_file(path, model, new_name=str, group_name=None):
    """Writes weights as Keras did before its version 3."""
    with h5py.File(path, "w") as file:
        group = file.create_group(group_name) if group_name else file
        names = []
        for layer in weighted_layers(model):
            names.append(new_name(layer.name))
            saved, keys = group.create_group(names[-1]), []
            for weight in layer.weights:
                keys.append(f"{names[-1]}/{weight.name}:0")
                saved[keys[-1]] = weight.numpy()
            saved.attrs["weight_names"] = keys
        group.attrs["layer_names"] = names


def assert_loaded(backbone, source):
    for layer in weighted_layers(backbone):
        expected = source.get_layer(layer.name).get_weights()
        for ours, theirs in zip(layer.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_weights_of_the_current_format_are_loaded(tmp_path, source, backbone):
    path = tmp_path / "source.weights.h5"
    source.save_weights(path)
    load_backbone_weights(backbone, NAME, str(path))
    assert_loaded(backbone, source)


def test_a_whole_saved_model_is_loaded(tmp_path, source, backbone):
    path = tmp_path / "source.keras"
    source.save(path)
    load_backbone_weights(backbone, NAME, path)
    assert_loaded(backbone, source)


@pytest.mark.parametrize("group_name", [None, "model_weights"])
@pytest.mark.parametrize("new_name", [str, "older_{}".format])
def test_weights_of_the_older_format_are_loaded(
    tmp_path, source, backbone, group_name, new_name
):
    path = tmp_path / "source.h5"
    write_older_file(path, source, new_name, group_name)
    load_backbone_weights(backbone, NAME, path)
    assert_loaded(backbone, source)


def test_weights_of_our_own_backbone_are_loaded(tmp_path, backbone):
    path, expected = tmp_path / "ours.weights.h5", backbone.get_weights()
    backbone.save_weights(path)
    backbone.set_weights([np.zeros_like(array) for array in expected])
    load_backbone_weights(backbone, NAME, path)
    for old, new in zip(expected, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_backbone_within_a_network_is_loaded(tmp_path, source, backbone):
    path = tmp_path / "source.h5"
    write_older_file(path, source)
    load_backbone_weights(build_network(backbone, num_pids=3), NAME, path)
    assert_loaded(backbone, source)


def test_features_are_those_of_keras_up_to_the_changed_stride(source, backbone):
    for layer in weighted_layers(backbone):
        layer.set_weights(source.get_layer(layer.name).get_weights())
    same_size = keras.applications.MobileNetV2(
        input_shape=(*IMAGE_SIZE, 3), include_top=False, weights=None
    )
    for layer in weighted_layers(same_size):
        layer.set_weights(source.get_layer(layer.name).get_weights())
    pixels = np.random.default_rng(1).uniform(0, 255, (2, *IMAGE_SIZE, 3))
    normalised = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    maps = []
    for model, images in ((backbone, normalised), (same_size, pixels / 127.5 - 1)):
        part = keras.Model(model.inputs[0], model.get_layer("block_12_add").output)
        maps.append(part(images.astype("float32")).numpy())
    np.testing.assert_allclose(*maps, rtol=1e-3, atol=1e-4 * np.abs(maps[1]).max())


def test_none_leaves_the_weights_alone(backbone):
    before = backbone.get_weights()
    load_backbone_weights(backbone, NAME, "none")
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_missing_file_is_named(backbone):
    with pytest.raises(FileNotFoundError, match="nowhere.h5") as error:
        load_backbone_weights(backbone, NAME, "nowhere.h5")
    assert "--set model.weights=none" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no weights at all"])
@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras"])
def test_a_damaged_file_is_named(tmp_path, backbone, content, suffix):
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        load_backbone_weights(backbone, NAME, path)


def test_a_truncated_file_is_named(tmp_path, source, backbone):
    path = tmp_path / "truncated.h5"
    write_older_file(path, source)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(ValueError, match="truncated"):
        load_backbone_weights(backbone, NAME, path)


def test_weights_of_another_network_change_nothing(tmp_path, backbone):
    path, before = tmp_path / "other.h5", backbone.get_weights()
    write_older_file(path, tiny(IMAGE_SIZE))
    with pytest.raises(ValueError, match="layer .* has the shapes"):
        load_backbone_weights(backbone, NAME, path)
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_layer_that_does_not_fit_at_the_end_changes_nothing(tmp_path, backbone):
    path, before = tmp_path / "other.h5", backbone.get_weights()
    write_older_file(path, backbone)
    backbone.set_weights([array + 1 for array in before])
    before = backbone.get_weights()
    for values in (np.zeros(7), np.full(1280, np.inf)):
        with h5py.File(path, "a") as file:
            del file["Conv_1_bn/Conv_1_bn/gamma:0"]
            file["Conv_1_bn/Conv_1_bn/gamma:0"] = values
        with pytest.raises(ValueError, match="layer Conv_1_bn"):
            load_backbone_weights(backbone, NAME, path)
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_without_a_network_the_error_says_what_to_fetch(backbone, monkeypatch):
    def fails(weights):
        raise ConnectionError("no route to host")

    failing = checkpoints.SOURCES[NAME]._replace(fetch=fails)
    monkeypatch.setitem(checkpoints.SOURCES, NAME, failing)
    with pytest.raises(FileNotFoundError) as error:
        load_backbone_weights(backbone, NAME, "imagenet")
    for part in (
        "no route",
        "_1.0_224_no_top.h5",
        "storage.googleapis",
        "weights=none",
    ):
        assert part in str(error.value)


def test_a_preset_needs_a_backbone_of_kerashub(backbone):
    with pytest.raises(ValueError, match="Received: weights='resnet_50_imagenet'"):
        load_backbone_weights(backbone, NAME, "resnet_50_imagenet")


def test_tiny_has_no_pretrained_weights():
    with pytest.raises(ValueError, match="no pretrained weights for the backbone tiny"):
        load_backbone_weights(tiny(IMAGE_SIZE), "tiny", "imagenet")


@pytest.fixture(scope="module")
def base_weights():
    """The backbone of the authors' network, by their names."""
    weights = golden_weights("topdb").items()
    return {key: value for key, value in weights if key.startswith("base.")}


def torchvision_weights(base_weights):
    """The same by the names of torchvision, with a classifier."""
    head = {
        "fc.weight": np.ones((9, 2048), "float32"),
        "fc.bias": np.ones(9, "float32"),
    }
    return {**renamed(base_weights, TORCHVISION_NAMES), **head}


def test_the_names_of_torchvision_give_the_same_feature_map(tmp_path, base_weights):
    path, backbone = tmp_path / "resnet50.safetensors", resnet50(IMAGE_SIZE)
    images = np.random.default_rng(0).standard_normal((2, *IMAGE_SIZE, 3), "float32")
    load_state_dict(backbone, base_weights)
    expected = backbone(images).numpy()
    backbone.set_weights([np.full_like(w, 0.5) for w in backbone.get_weights()])
    write_safetensors(path, torchvision_weights(base_weights))
    load_backbone_weights(build_network(backbone, num_pids=3), "resnet50", path)
    np.testing.assert_array_equal(backbone(images).numpy(), expected)


def small_weights():
    norms = {f"bn1.{leaf}": np.full(64, 2.0) for leaf in ("weight", "bias")}
    norms |= {f"bn1.running_{leaf}": np.full(64, 2.0) for leaf in ("mean", "var")}
    return {"conv1.weight": np.full((64, 3, 7, 7), 2.0), **norms}


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_checkpoint_of_pytorch_is_loaded(tmp_path, is_zip):
    torch = pytest.importorskip("torch")
    path, backbone = tmp_path / "model.pth.tar", small_backbone(IMAGE_SIZE)
    weights = {**small_weights(), "fc.bias": np.ones(9)}
    write_torch(torch, path, weights, prefix="module.", is_zip=is_zip, epoch=90)
    load_backbone_weights(backbone, "resnet50", str(path))
    for array in backbone.get_weights():
        np.testing.assert_array_equal(array, np.full_like(array, 2))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layer9.0.weight": np.zeros(2)}, "Received: layer9.0.weight of shape"),
        (
            {"conv1.weight": np.zeros((64, 3, 3, 3))},
            r"conv1\.weight of shape \(64, 3, 3",
        ),
        (
            {"bn1.running_var": np.full(64, np.nan)},
            "Received: NaN or infinity in bn1.running_var",
        ),
    ],
)
def test_a_state_dict_that_does_not_fit_changes_nothing(tmp_path, change, words):
    path, backbone = tmp_path / "other.safetensors", small_backbone(IMAGE_SIZE)
    before = backbone.get_weights()
    write_safetensors(path, {**small_weights(), **change})
    with pytest.raises(ValueError, match=f"other.safetensors must hold .* {words}"):
        load_backbone_weights(backbone, "resnet50", path)
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_state_dict_is_for_resnet50_alone(tmp_path, backbone):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, small_weights())
    with pytest.raises(ValueError, match="read for resnet50 alone"):
        load_backbone_weights(backbone, NAME, path)


def test_a_missing_state_dict_is_named():
    with pytest.raises(FileNotFoundError, match="nowhere.pth"):
        load_backbone_weights(small_backbone(IMAGE_SIZE), "resnet50", "nowhere.pth")


@pytest.mark.slow
def test_a_preset_folder_of_kerashub_is_loaded(tmp_path):
    source, backbone = resnet50_source((64, 32)), resnet50((64, 32))
    source.save_to_preset(str(tmp_path / "preset"))
    load_backbone_weights(backbone, "resnet50", tmp_path / "preset")
    assert_loaded(backbone, source)


@pytest.mark.slow
def test_a_folder_of_timm_is_loaded(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    source, backbone = resnet50_source((64, 32)), resnet50((64, 32))
    arrays = timm_arrays(source)
    safetensors.save_file(arrays, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"architecture": "resnet50"}')
    load_backbone_weights(backbone, "resnet50", tmp_path)
    assert_loaded(backbone, source)


def timm_arrays(source):
    """The weights by the names that timm and torchvision give them."""
    leaves = ("weight", "bias", "running_mean", "running_var")
    arrays = {}
    for layer in weighted_layers(source):
        name = layer.name.replace("conv1_conv", "conv1").replace("conv1_bn", "bn1")
        if name.startswith("stack"):
            stack, block, number, kind = name.split("_")
            part = f"{kind}{number}"
            if number == "0":
                part = "downsample.0" if kind == "conv" else "downsample.1"
            name = f"layer{int(stack[5:]) + 1}.{block[5:]}.{part}"
        for leaf, value in zip(leaves, layer.get_weights(), strict=False):
            if value.ndim == 4:
                value = value.transpose(3, 2, 0, 1)
            arrays[f"{name}.{leaf}"] = np.ascontiguousarray(value)
    return arrays
