import keras
import numpy as np
import pytest
from keras import layers

from tests.golden_rules import golden_figures, golden_value
from topdb_tf.model.layers import TopDropBlock
from topdb_tf.model.network import build_network
from topdb_tf.model.normalization import FusedBatchNormalization
from topdb_tf.model.state_dict import load_state_dict, variable_of


def small_network(**options):
    """A network whose backbone is the first convolution of ResNet-50 alone."""
    images = keras.Input((16, 8, 3))
    x = layers.Conv2D(64, 7, strides=2, use_bias=False, name="conv1_conv")(
        layers.ZeroPadding2D(3)(images)
    )
    backbone = keras.Model(images, FusedBatchNormalization(name="conv1_bn")(x))
    backbone.name = "backbone"
    options = {"neck": "shift", "drop_block": TopDropBlock(0.3), **options}
    return build_network(backbone, num_pids=7, **options)


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


@pytest.fixture(scope="module")
def network():
    return small_network()


def test_every_weight_finds_its_place(network):
    state_dict = state_dict_of(network)
    assert len(state_dict) == sum(
        1
        for layer in [*network.layers, *network.get_layer("backbone").layers]
        if not isinstance(layer, keras.Model)
        for _ in layer.weights
    )
    load_state_dict(network, state_dict)
    np.testing.assert_array_equal(
        network.get_layer("top_drop_reduction").kernel,
        state_dict["reduction_db.0.weight"].T,
    )
    np.testing.assert_array_equal(
        network.get_layer("global_reduction").kernel,
        state_dict["reduction_global.0.weight"][:, :, 0, 0].T,
    )
    key = "batch_drop.drop_batch_bottleneck.1.conv2.weight"
    np.testing.assert_array_equal(
        network.get_layer("bottleneck2_2_conv").kernel[1, 2],
        state_dict[key][:, :, 1, 2].T,
    )
    np.testing.assert_array_equal(
        network.get_layer("regularization_neck").moving_variance,
        state_dict["bottleneck_drop_bottleneck_features.running_var"],
    )


def test_the_prefix_of_parallel_training_and_counters_are_left_out(network):
    state_dict = state_dict_of(network)
    prefixed = {f"module.{key}": value for key, value in state_dict.items()}
    prefixed["module.base.1.num_batches_tracked"] = np.int64(3)
    for layer in network.layers:
        if layer.name != "backbone":
            layer.set_weights([np.zeros(w.shape) for w in layer.weights])
    load_state_dict(network, prefixed)
    np.testing.assert_array_equal(
        network.get_layer("global_neck").gamma, state_dict["bottleneck_global.weight"]
    )


def test_a_key_without_a_place_is_named_and_nothing_is_set(network):
    state_dict = {key: value + 1 for key, value in state_dict_of(network).items()}
    state_dict["stranger.weight"] = np.zeros(3)
    before = network.get_weights()
    with pytest.raises(ValueError, match=r"Received: stranger.weight of shape \(3,\)"):
        load_state_dict(network, state_dict)
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_weight_without_a_key_is_named(network):
    state_dict = state_dict_of(network)
    del state_dict["classifier_db.bias"]
    with pytest.raises(ValueError, match="Missing: top_drop_classifier/bias and 0"):
        load_state_dict(network, state_dict)


def test_another_number_of_identities_is_named(network):
    state_dict = state_dict_of(network)
    state_dict["classifier_global.weight"] = np.zeros((751, 16), "float32")
    with pytest.raises(ValueError, match=r"classifier_global.weight of shape \(751"):
        load_state_dict(network, state_dict)


def test_another_variant_is_named(network):
    smaller = small_network(streams=("global", "top_drop"))
    with pytest.raises(ValueError, match="Received: bottleneck_drop"):
        load_state_dict(smaller, state_dict_of(network))


def test_the_unused_neck_of_the_network_without_regularization_is_left_out(network):
    smaller = small_network(streams=("global", "top_drop"))
    state_dict = state_dict_of(network, "no_reg")
    assert "bottleneck_drop_bottleneck_features.weight" in state_dict
    load_state_dict(smaller, state_dict)


def test_a_trained_shift_needs_a_neck_with_a_shift(network):
    unshifted, state_dict = small_network(neck="no_shift"), state_dict_of(network)
    with pytest.raises(ValueError, match="no_shift.*bottleneck_global.bias"):
        load_state_dict(unshifted, state_dict)
    for name in ("global", "db", "drop_bottleneck_features"):
        state_dict[f"bottleneck_{name}.bias"] *= 0
    load_state_dict(unshifted, state_dict)


def test_the_index_of_a_single_bottleneck_is_left_out_by_the_authors():
    network = small_network(
        streams=("global", "top_drop"), num_bottlenecks=1, neck="none"
    )
    load_state_dict(network, state_dict_of(network, "bdb"))
