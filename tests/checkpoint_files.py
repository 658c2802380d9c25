"""Checkpoints as other programs write them, of the authors' network or a small one."""

import keras
import numpy as np
from keras import layers
from safetensors.numpy import save_file

from tests.golden_rules import golden_figures, golden_state_dict, golden_value
from topdb_tf.model.normalization import FusedBatchNormalization
from topdb_tf.model.state_dict import _full_name, _variables_by_name

# The same modules: first as the authors of Top-DB-Net name them in their BDB, then as
# the authors of BDB do.
BDB_NAMES = {
    "base.7.": "res_part.",
    "base.": "backbone.",
    "batch_drop.drop_batch_bottleneck.": "res_part2.",
    "reduction_global.": "global_reduction.",
    "reduction_db.": "reduction.",
    "classifier_global.": "global_softmax.",
    "classifier_db.": "softmax.",
}
TORCHVISION_NAMES = {
    "base.0.": "conv1.",
    "base.1.": "bn1.",
    **{f"base.{stage + 3}.": f"layer{stage}." for stage in (1, 2, 3, 4)},
}


def small_backbone(image_size):
    """The first convolution of ResNet-50 alone: 64 channels, stride 2."""
    images = keras.Input((*image_size, 3))
    x = layers.Conv2D(64, 7, strides=2, use_bias=False, name="conv1_conv")(
        layers.ZeroPadding2D(3)(images)
    )
    x = FusedBatchNormalization(name="conv1_bn")(x)
    return keras.Model(images, x, name="backbone")


def variable_of(network, key):
    """The variable of a network for a key of the authors, or `None`."""
    return _variables_by_name(network).get(_full_name(key))


def state_dict_of(network, variant="topdb"):
    """The authors' keys that have a place, with values in the authors' layout."""
    state_dict = {}
    for line in golden_figures(variant)["keys"]:
        key = str(line).split(" ")[0]
        variable = variable_of(network, key)
        if variable is not None:
            shape = tuple(variable.shape)
            order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[len(shape)]
            shape = tuple(shape[axis] for axis in order)
            if key == "reduction_global.0.weight":
                shape = (*shape, 1, 1)
            state_dict[key] = golden_value(key, shape)
    return state_dict


def golden_weights(variant):
    """The weights of the authors' whole network of that variant."""
    return golden_state_dict(golden_figures(variant)["keys"])


def renamed(state_dict, names):
    """The state dict with other beginnings of its keys; each key must have one."""
    result = {}
    for key, value in state_dict.items():
        beginning = next(name for name in names if key.startswith(name))
        result[names[beginning] + key.removeprefix(beginning)] = value
    return result


def write_safetensors(path, state_dict):
    save_file(
        {key: np.ascontiguousarray(value) for key, value in state_dict.items()}, path
    )


def write_torch(torch, path, state_dict, *, prefix="", is_zip=True, **others):
    """Writes what `torch.save` does of a state dict and other things beside it."""
    tensors = {
        f"{prefix}{key}": torch.tensor(np.asarray(value))
        for key, value in state_dict.items()
    }
    content = {"state_dict": tensors, **others}
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
