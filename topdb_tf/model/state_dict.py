"""Weights of the authors' PyTorch networks, brought into ours by their names."""

import re

import keras
import numpy as np

_LAYER_OF_MODULE = {
    "base.0": "conv1_conv",
    "base.1": "conv1_bn",
    "reduction_global.0": "global_reduction",
    "reduction_global.1": "global_bn",
    "bottleneck_global": "global_neck",
    "classifier_global": "global_classifier",
    "reduction_db.0": "top_drop_reduction",
    "reduction_db.1": "top_drop_bn",
    "bottleneck_db": "top_drop_neck",
    "classifier_db": "top_drop_classifier",
    "bottleneck_drop_bottleneck_features": "regularization_neck",
    "classifier_drop_bottleneck": "regularization_classifier",
    "bottleneck_regularization": "regularization_neck",
    "classifier_regularization": "regularization_classifier",
}

_BACKBONE_BLOCK = re.compile(
    r"base\.([4-7])\.(\d+)\.(?:(conv|bn)([123])|downsample\.([01]))"
)
_BOTTLENECK = re.compile(
    r"(?:batch_drop\.drop_batch_bottleneck|reduction_regularization)"
    r"(?:\.(\d+))?\.(conv|bn)([123])"
)

_VARIABLES_OF_NORMALIZATION = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_VARIABLES_OF_PRODUCT = {"weight": "kernel", "bias": "bias"}


def load_state_dict(network, state_dict):
    """Sets the weights of a network to those of the authors' PyTorch network.

    Every key must have its place and every weight its key, or nothing is set. A
    prefix `module.`, which parallel training leaves, is taken off. Two kinds of keys
    have no place here and are left out: `num_batches_tracked`, and the neck of the
    regularization stream where that stream has no classifier (the authors' network
    without regularization carries one, unused). A shift of a neck must be zero to fit
    a network built with the neck "no_shift".

    Args:
        network: `keras.Model` made by `build_network` on the backbone `resnet50`.
        state_dict: Arrays by the authors' key.

    Raises:
        ValueError: If a key or a shape does not fit, or a weight has no key; it names
            the first.
    """
    variables = _variables_by_key(network)
    state_dict = {
        key.removeprefix("module."): value for key, value in _used(state_dict)
    }
    values = {}
    for key, value in state_dict.items():
        variable = variables.get(_place(key))
        if variable is not None:
            values[variable.path] = _converted(key, np.asarray(value), variable)
        elif not _is_absent_shift(key, value, variables):
            raise ValueError(
                "Every weight of the checkpoint must have a place in the network. "
                "Build the variant that the checkpoint was trained as. "
                f"Received: {key} of shape {np.shape(value)}"
            )
    missing = [v.path for v in variables.values() if v.path not in values]
    if missing:
        raise ValueError(
            "The checkpoint must hold every weight of the network. Build the variant "
            f"that it was trained as. Missing: {missing[0]} and {len(missing) - 1} more"
        )
    for variable in variables.values():
        variable.assign(values[variable.path])


def variable_of(network, key):
    """Returns the variable of a network for a key of the authors.

    Args:
        network: `keras.Model` made by `build_network` on the backbone `resnet50`.
        key: Key of the authors' state dict, such as "reduction_db.0.weight".

    Returns:
        `keras.Variable`, or `None` if the network has none for that key.
    """
    return _variables_by_key(network).get(_place(key))


def _used(state_dict):
    """Returns the keys and values that a network can have a place for."""
    items = {key.removeprefix("module."): value for key, value in state_dict.items()}
    unused = ["num_batches_tracked"]
    if "classifier_drop_bottleneck.weight" not in items:
        unused.append("bottleneck_drop_bottleneck_features.")
    return [
        (key, value)
        for key, value in items.items()
        if not any(part in key for part in unused)
    ]


def _variables_by_key(model):
    """Returns the variables of a model, nested ones included, by layer and name."""
    variables = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            variables.update(_variables_by_key(layer))
        elif isinstance(layer, keras.layers.BatchNormalization):
            for name in _VARIABLES_OF_NORMALIZATION.values():
                variables[layer.name, name] = getattr(layer, name)
        elif layer.trainable_weights:
            for name in _VARIABLES_OF_PRODUCT.values():
                variables[layer.name, name] = getattr(layer, name)
    return {key: value for key, value in variables.items() if value is not None}


def _place(key):
    """Returns our layer and variable for a key of the authors, or `None`."""
    module, _, leaf = key.rpartition(".")
    layer = _layer_of(module)
    if layer is None:
        return None
    is_normalization = layer.endswith(("_bn", "_neck"))
    names = _VARIABLES_OF_NORMALIZATION if is_normalization else _VARIABLES_OF_PRODUCT
    return layer, names.get(leaf)


def _layer_of(module):
    if match := _BACKBONE_BLOCK.fullmatch(module):
        stage, block, kind, number, downsample = match.groups()
        if downsample is not None:
            kind, number = ("conv", "bn")[int(downsample)], 0
        return f"stack{int(stage) - 4}_block{block}_{number}_{kind}"
    if match := _BOTTLENECK.fullmatch(module):
        index, kind, number = match.groups()
        return f"bottleneck{int(index or 0) + 1}_{number}_{kind}"
    return _LAYER_OF_MODULE.get(module)


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
    return converted


def _is_absent_shift(key, value, variables):
    layer, name = _place(key) or (None, None)
    if name != "beta" or (layer, "gamma") not in variables:
        return False
    if np.any(value):
        raise ValueError(
            'The shifts of the necks must be zero for the neck "no_shift". Build the '
            f'network with the neck "shift". Received: {key} other than zero'
        )
    return True
