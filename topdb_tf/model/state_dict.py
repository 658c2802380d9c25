"""Weights of PyTorch networks, brought into ours by their names."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import keras
import numpy as np

_MODULE_OF_LAYER = {
    "conv1_conv": "base.0",
    "conv1_bn": "base.1",
    "global_reduction": "reduction_global.0",
    "global_bn": "reduction_global.1",
    "global_neck": "bottleneck_global",
    "global_classifier": "classifier_global",
    "top_drop_reduction": "reduction_db.0",
    "top_drop_bn": "reduction_db.1",
    "top_drop_neck": "bottleneck_db",
    "top_drop_classifier": "classifier_db",
    "regularization_neck": "bottleneck_drop_bottleneck_features",
    "regularization_classifier": "classifier_drop_bottleneck",
}
_BACKBONE_LAYER = re.compile(r"stack(\d)_block(\d+)_(\d)_(conv|bn)")
_BOTTLENECK_LAYER = re.compile(r"bottleneck(\d+)_(\d)_(conv|bn)")

_BOTTLENECKS = "batch_drop.drop_batch_bottleneck."
_REGULARIZATION_NECK = "bottleneck_drop_bottleneck_features."
_OTHER_NAMES = {
    "no_drop": {
        "reduction_regularization.": _BOTTLENECKS,
        "bottleneck_regularization.": _REGULARIZATION_NECK,
        "classifier_regularization.": "classifier_drop_bottleneck.",
    },
    "bdb": {
        f"{_BOTTLENECKS}conv": f"{_BOTTLENECKS}0.conv",
        f"{_BOTTLENECKS}bn": f"{_BOTTLENECKS}0.bn",
    },
    "bdb of its own authors": {
        "backbone.": "base.",
        "res_part.": "base.7.",
        "res_part2.": f"{_BOTTLENECKS}0.",
        "global_reduction.": "reduction_global.",
        "global_softmax.": "classifier_global.",
        "reduction.": "reduction_db.",
        "softmax.": "classifier_db.",
    },
    "torchvision and timm": {
        "conv1.": "base.0.",
        "bn1.": "base.1.",
        **{f"layer{stage}.": f"base.{stage + 3}." for stage in range(1, 5)},
    },
}
"""Beginnings of keys, by whose names they are, and what the full network has there."""

_NORMALIZATION = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_OTHERS = {"kernel": "weight", "bias": "bias", "exponent": "p"}


class Checkpoint(NamedTuple):
    """What the keys of a state dict tell about its network.

    The variant is "topdb" (the full network), "no_reg", "no_drop" or "bdb". Without
    classifiers nobody knows the number of identities.
    """

    variant: str
    num_pids: int | None


def describe_state_dict(state_dict: Mapping) -> Checkpoint:
    """Returns the variant whose streams and necks the keys name, and its identities.

    Raises:
        ValueError: If the keys are those of no variant; it names what is missing.
    """
    values = {_full_name(key): value for key, value in state_dict.items()}
    if not any(name.startswith("classifier_") for name in values):
        if variant := _variant_without_classifiers(values):
            return Checkpoint(variant, None)
    classifier = "classifier_global.weight"
    shape = np.shape(values.get(classifier))
    drops = "classifier_db.weight" in values
    regularizes = "classifier_drop_bottleneck.weight" in values
    if len(shape) != 2 or not (drops or regularizes):
        missing = "classifier_db.weight" if len(shape) == 2 else classifier
        raise ValueError(
            "The keys must be those of Top-DB-Net, of one of its variants or of BDB. "
            f"Missing: {missing} among {len(values)} keys such as "
            f"{next(iter(state_dict), None)}"
        )
    if drops and regularizes:
        return Checkpoint("topdb", shape[0])
    if regularizes:
        return Checkpoint("no_drop", shape[0])
    has_neck = "bottleneck_global.weight" in values
    return Checkpoint("no_reg" if has_neck else "bdb", shape[0])


def _variant_without_classifiers(names) -> str | None:
    """Returns a variant whose embedding the keys make; two of them have the same."""
    regularizes = any(name.startswith(_REGULARIZATION_NECK) for name in names)
    if "reduction_global.0.weight" not in names:
        return None
    if "reduction_db.0.weight" not in names:
        return "no_drop" if regularizes else None
    if "bottleneck_global.weight" not in names:
        return "bdb"
    return "topdb" if regularizes else "no_reg"


def load_state_dict(network, state_dict, *, needed=None):
    """Sets the weights of a network, or of a backbone, to those of a PyTorch network.

    The keys are those of the authors' networks, of BDB's authors or, for a backbone,
    of torchvision and timm. Every key must have its place and every weight its key, or
    nothing is set. A prefix `module.`, which parallel training leaves, is taken off.
    Two kinds of keys have no place here and are left out: `num_batches_tracked`, and
    the neck of the regularization stream where that stream has no classifier (the
    authors' network without regularization carries one, unused). A shift of a neck
    must be zero to fit a network built with the neck "no_shift".

    Args:
        network: `keras.Model` made by `build_network` on the backbone `resnet50`, or
            that backbone.
        state_dict: Arrays by key.
        needed: The part of the network, such as its embedder, whose weights must have
            keys. Defaults to all of it.

    Raises:
        ValueError: If a key or a shape does not fit, or a weight has no key; it names
            the first.
    """
    variables = _variables_by_name(network)
    values = {}
    for key, value in _used(state_dict, variables).items():
        name = _full_name(key)
        if name in values:
            raise ValueError(
                "Every weight of the checkpoint must have a place of its own. "
                f"Received: {key} beside another key for {name}"
            )
        if name in variables:
            values[name] = _converted(key, np.asarray(value), variables[name])
        elif not _is_absent_shift(key, value, variables):
            raise ValueError(
                "Every weight of the checkpoint must have a place in the network. "
                "Build the variant that the checkpoint was trained as. "
                f"Received: {key} of shape {np.shape(value)}"
            )
    names = variables if needed is None else _variables_by_name(needed)
    missing = [name for name in names if name not in values]
    if missing:
        raise ValueError(
            "The checkpoint must hold every weight of the network. Build the variant "
            f"that it was trained as. Missing: {_name_in(state_dict, missing[0])} and "
            f"{len(missing) - 1} more"
        )
    for name, value in values.items():
        variables[name].assign(value)


def _full_name(key):
    """Returns the name that the authors' full network has for a key of any network."""
    key = key.removeprefix("module.")
    for names in _OTHER_NAMES.values():
        for beginning, full_beginning in names.items():
            if key.startswith(beginning):
                return full_beginning + key.removeprefix(beginning)
    return key


def _name_in(state_dict, name):
    """Returns a name of the full network as the other keys of a state dict have it."""
    keys = [key.removeprefix("module.") for key in state_dict]
    for names in _OTHER_NAMES.values():
        if not any(key.startswith(tuple(names)) for key in keys):
            continue
        for beginning, full_beginning in reversed(names.items()):
            if name.startswith(full_beginning):
                return beginning + name.removeprefix(full_beginning)
    return name


def _used(state_dict, variables):
    """Returns the keys and values that a network can have a place for."""
    names = {_full_name(key) for key in [*state_dict, *variables]}
    regularizes = "classifier_drop_bottleneck.weight" in names
    return {
        key: value
        for key, value in state_dict.items()
        if not key.endswith(".num_batches_tracked")
        and (regularizes or not _full_name(key).startswith(_REGULARIZATION_NECK))
    }


def _variables_by_name(model):
    """Returns the variables of a model, nested ones included, by the full name."""
    variables = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            variables.update(_variables_by_name(layer))
            continue
        if isinstance(layer, keras.layers.BatchNormalization):
            leaves = _NORMALIZATION
        else:
            leaves = _OTHERS if layer.trainable_weights else {}
        for name, leaf in leaves.items():
            if (variable := getattr(layer, name, None)) is not None:
                variables[f"{_module_of(layer.name)}.{leaf}"] = variable
    return variables


def _module_of(layer):
    """Returns the authors' name for a layer of ours, or its own if they have none."""
    if match := _BACKBONE_LAYER.fullmatch(layer):
        stage, block, number, kind = match.groups()
        part = f"{kind}{number}"
        if number == "0":
            part = "downsample.0" if kind == "conv" else "downsample.1"
        return f"base.{int(stage) + 4}.{block}.{part}"
    if match := _BOTTLENECK_LAYER.fullmatch(layer):
        index, number, kind = match.groups()
        return f"{_BOTTLENECKS}{int(index) - 1}.{kind}{number}"
    return _MODULE_OF_LAYER.get(layer, layer)


def _converted(key, value, variable):
    """Returns a value in the layout of its variable: outputs on the last axis."""
    converted = value
    if value.ndim == 4:
        converted = value.transpose(2, 3, 1, 0)  # (height, width, in, out)
        if len(variable.shape) == 2 and converted.shape[:2] == (1, 1):
            converted = converted[0, 0]
    elif value.ndim == 2:
        converted = value.T
    if converted.shape != tuple(variable.shape):
        raise ValueError(
            "Every weight of the checkpoint must have the shape of its place. Build "
            "the variant and the number of identities that it was trained with. "
            f"Received: {key} of shape {value.shape} for {variable.path} of shape "
            f"{tuple(variable.shape)}"
        )
    if not np.isfinite(converted).all():
        raise ValueError(
            "Every weight of the checkpoint must be finite. Fetch or train it anew. "
            f"Received: {key} with NaN or infinity"
        )
    return converted


def _is_absent_shift(key, value, variables):
    module, _, leaf = _full_name(key).rpartition(".")
    scale = variables.get(f"{module}.weight")
    if leaf != "bias" or scale is None or scale.name != "gamma":
        return False
    if np.any(value):
        raise ValueError(
            'The shifts of the necks must be zero for the neck "no_shift". Build the '
            f'network with the neck "shift". Received: {key} other than zero'
        )
    return True
