"""Pretrained weights for the backbones, from files and from the hubs."""

import contextlib
import sys
from collections.abc import Callable
from typing import NamedTuple

import h5py
import keras
import numpy as np

from topdb_tf.damage import told_as_damage
from topdb_tf.files import user_path
from topdb_tf.model.backbones import (
    build_backbone,
    mobilenet_v2_source,
    resnet50_source,
)
from topdb_tf.model.keras_defaults import keras_defaults
from topdb_tf.model.keras_files import check_weights_file, load_keras_file
from topdb_tf.model.state_dict import load_state_dict
from topdb_tf.model.torch_files import SUFFIXES, read_torch_file
from topdb_tf.texts import first_line


class Source(NamedTuple):
    """Where the weights of a backbone come from.

    `build` makes the model that they are for from the image size, `fetch` that model
    with them from their name. `files` are what people can fetch, and `destination`
    where they put it.
    """

    build: Callable
    fetch: Callable
    files: str
    destination: str


@keras_defaults()
def load_backbone_weights(model, name, weights):
    """Sets the weights of a backbone to pretrained ones.

    "imagenet" are torchvision's first weights for `resnet50`, from which the authors
    start (`hf://timm/resnet50.tv_in1k`, by KerasHub), and Keras's for `mobilenet_v2`.
    A file is one of Keras: `.keras`, `.weights.h5` or the older `.h5`, of the
    backbone here or of the model that it is made from, with or without its head. For
    `resnet50` a folder is a KerasHub preset, or timm's `config.json` and
    `model.safetensors`; and a file may be a state dict by the names of torchvision and
    timm, `.safetensors`, `.pth`, `.pt` or `.tar`, whose classifier `fc` is left out.
    Nothing is set unless every layer of the backbone fits.

    Args:
        model: The backbone, or a network made of it.
        name: Name of the backbone, in `topdb_tf.model.backbones.BACKBONES`.
        weights: "imagenet", "none" (leaves the model as it is), a path or, for
            `resnet50`, a preset of KerasHub such as "resnet_50_imagenet".

    Raises:
        FileNotFoundError: If there is no such file or the weights cannot be fetched.
        ValueError: If there are no such weights, or they do not fit the backbone.
    """
    if weights == "none":
        return
    if name not in SOURCES:
        raise ValueError(
            f"There are no pretrained weights for the backbone {name}. Go on without, "
            f"by `--set model.weights=none`. Received: weights={weights!r}"
        )
    backbone = _backbone_of(model)
    path = user_path(weights)
    if weights != "imagenet" and path.exists():
        if path.is_file() and path.suffix in SUFFIXES:
            _load_torch_file(backbone, name, path)
            return
        saved = _read(path, backbone, name)
    elif path.suffix in (".keras", ".h5", *SUFFIXES):
        raise FileNotFoundError(
            f"The file of weights does not exist. {_advice(name)} "
            f"Received: weights={weights!r}"
        )
    else:
        saved = _fetched(name, weights)
    _assign(backbone, saved, weights)


def _fetch_resnet50(weights):
    import keras_hub

    preset = "hf://timm/resnet50.tv_in1k" if weights == "imagenet" else weights
    return keras_hub.models.ResNetBackbone.from_preset(preset)


def _fetch_mobilenet_v2(weights):
    return keras.applications.MobileNetV2(
        input_shape=(224, 224, 3), include_top=False, weights=weights
    )


SOURCES = {
    "resnet50": Source(
        resnet50_source,
        _fetch_resnet50,
        "`config.json` and `model.safetensors` from "
        "https://huggingface.co/timm/resnet50.tv_in1k",
        "into one folder",
    ),
    "mobilenet_v2": Source(
        mobilenet_v2_source,
        _fetch_mobilenet_v2,
        "`mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5` from "
        "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/",
        "into ~/.keras/models, or anywhere",
    ),
}
"""Where the weights of each backbone come from, by its name."""


def _advice(name):
    source = SOURCES[name]
    return (
        f"Fetch {source.files}, put it {source.destination}, and pass its path with "
        "`--set model.weights=PATH`; or go on without pretrained weights, by "
        "`--set model.weights=none`."
    )


def _backbone_of(model):
    names = [layer.name for layer in model.layers]
    return model.get_layer("backbone") if "backbone" in names else model


def _fetched(name, weights):
    if weights != "imagenet" and name != "resnet50":
        raise ValueError(
            f'The weights of {name} must be "imagenet", "none" or the path of a file '
            f"that exists. Received: weights={weights!r}"
        )
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras prints its progress
            return _weights_by_layer(SOURCES[name].fetch(weights))
    except Exception as error:  # each hub and each of its clients has its own
        reason = first_line(error).rstrip(".:")
        raise FileNotFoundError(
            f"The weights of {name} could not be fetched ({reason}). {_advice(name)} "
            f"Received: weights={weights!r}"
        ) from error


def _load_torch_file(backbone, name, path):
    if name != "resnet50":
        raise ValueError(
            f"Files of PyTorch are read for resnet50 alone. {_advice(name)} "
            f"Received: {path}"
        )
    weights = {
        key: value
        for key, value in read_torch_file(path).state_dict.items()
        if not key.removeprefix("module.").startswith("fc.")
    }
    try:
        load_state_dict(backbone, weights)
    except ValueError as error:
        raise ValueError(
            f"{path} must hold a ResNet-50 by the names of torchvision. {error}"
        ) from error


def _read(path, backbone, name):
    """Returns the weights of a backbone in a file or folder."""

    def explained(error):
        return (
            f"The file or folder must hold weights of {name}. {_advice(name)} "
            f"Received: {path}, which says: {error}"
        )

    with told_as_damage(explained):
        if path.is_dir():
            return _weights_by_layer(SOURCES[name].fetch(str(path)))
        if path.suffix == ".keras":
            return _weights_by_layer(load_keras_file(path))
        check_weights_file(path)
        with h5py.File(path) as file:
            group = file.get("model_weights", file)
            if "layer_names" in group.attrs:
                return _read_older(group, backbone)
            is_ours = any("fused" in layer for layer in file.get("layers", ()))
        image_size = backbone.input_shape[1:3]
        build = SOURCES[name].build
        model = build_backbone(name, image_size) if is_ours else build(image_size)
        model.load_weights(path)
        return _weights_by_layer(model)


def _read_older(group, backbone):
    """Returns the weights in a file of the format before Keras 3.

    Some files, such as Keras's own of MobileNetV2, were written when its layers had
    other names; then the layers follow each other as they do in the backbone.
    """
    saved = {}
    for name in group.attrs["layer_names"]:
        layer = group[name]
        arrays = [np.asarray(layer[key]) for key in layer.attrs["weight_names"]]
        if arrays:
            saved[name.decode() if isinstance(name, bytes) else name] = arrays
    names = [layer.name for layer in backbone.layers if layer.weights]
    if not set(names) <= set(saved):
        return dict(zip(names, saved.values(), strict=False))
    return saved


def _weights_by_layer(model):
    """Returns the weights of the layers of a model, nested ones included."""
    saved = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            saved.update(_weights_by_layer(layer))
        elif layer.weights:
            saved[layer.name] = [weight.numpy() for weight in layer.weights]
    return saved


def _assign(backbone, saved, weights):
    """Sets all layers of the backbone, or none if one is missing or does not fit."""
    layers = [layer for layer in backbone.layers if layer.weights]
    for layer in layers:
        needed = [tuple(weight.shape) for weight in layer.weights]
        found = [array.shape for array in saved.get(layer.name, [])]
        if needed != found:
            raise ValueError(
                "The weights must fit the backbone. Pass those of the same network. "
                f"Received: weights={str(weights)!r}, where the layer {layer.name} "
                f"has the shapes {found} instead of {needed}"
            )
        if not all(np.isfinite(array).all() for array in saved[layer.name]):
            raise ValueError(
                "The weights must be finite. Fetch or train them anew. Received: "
                f"weights={str(weights)!r}, whose layer {layer.name} is not"
            )
    for layer in layers:
        layer.set_weights(saved[layer.name])
