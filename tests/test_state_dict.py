import keras
import numpy as np
import pytest

from tests.checkpoint_files import (
    BDB_NAMES,
    TORCHVISION_NAMES,
    golden_weights,
    renamed,
    small_backbone,
    state_dict_of,
)
from topdb_tf.model.layers import TopDropBlock
from topdb_tf.model.network import build_network
from topdb_tf.model.state_dict import describe_state_dict, load_state_dict

NORMALIZATION = ("weight", "bias", "running_mean", "running_var")


def small_network(**options):
    """A network whose backbone is the first convolution of ResNet-50 alone."""
    options = {"neck": "shift", "drop_block": TopDropBlock(0.3), **options}
    return build_network(small_backbone((16, 8)), num_pids=7, **options)


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
    with pytest.raises(ValueError, match="Missing: classifier_db.bias and 0"):
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


def test_the_names_of_the_authors_of_bdb_lead_to_the_same_places():
    options = {"streams": ("global", "top_drop"), "num_bottlenecks": 1, "neck": "none"}
    ours, theirs = small_network(**options), small_network(**options)
    state_dict = state_dict_of(ours, "bdb")
    load_state_dict(ours, state_dict)
    load_state_dict(theirs, renamed(state_dict, BDB_NAMES))
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_missing_key_is_named_as_the_file_would_name_it():
    network = small_network(
        streams=("global", "top_drop"), num_bottlenecks=1, neck="none"
    )
    state_dict = renamed(state_dict_of(network, "bdb"), BDB_NAMES)
    del state_dict["res_part2.bn2.running_mean"]
    with pytest.raises(
        ValueError, match=r"Missing: res_part2\.bn2\.running_mean and 0"
    ):
        load_state_dict(network, state_dict)


def test_two_keys_for_one_place_are_refused(network):
    state_dict = state_dict_of(network)
    state_dict["module.base.0.weight"] = state_dict["base.0.weight"]
    with pytest.raises(ValueError, match="Received: module.base.0.weight beside"):
        load_state_dict(network, state_dict)


def test_a_backbone_takes_the_names_of_torchvision():
    backbone, weight = small_backbone((16, 8)), np.ones((64, 3, 7, 7), "float32")
    vectors = {key: np.full(64, value) for value, key in enumerate(NORMALIZATION)}
    state_dict = {"conv1.weight": weight, **{f"bn1.{k}": v for k, v in vectors.items()}}
    load_state_dict(backbone, state_dict)
    statistics = [weights[0] for weights in backbone.get_layer("conv1_bn").weights]
    np.testing.assert_array_equal(statistics, [0, 1, 2, 3])
    del state_dict["bn1.running_var"]
    with pytest.raises(ValueError, match=r"Missing: bn1\.running_var and 0"):
        load_state_dict(backbone, state_dict)


@pytest.mark.parametrize("variant", ["topdb", "no_reg", "no_drop", "bdb"])
def test_the_keys_tell_the_variant_and_the_identities(variant):
    weights = golden_weights(variant)
    assert describe_state_dict(weights) == (variant, 7)
    prefixed = {f"module.{key}": value for key, value in weights.items()}
    assert describe_state_dict(prefixed) == (variant, 7)
    if variant == "bdb":
        assert describe_state_dict(renamed(weights, BDB_NAMES)) == ("bdb", 7)


def test_keys_of_another_network_are_named():
    base = {k: v for k, v in golden_weights("bdb").items() if k.startswith("base.")}
    with pytest.raises(ValueError, match=r"Missing: classifier_global.* conv1\.weight"):
        describe_state_dict(renamed(base, TORCHVISION_NAMES))
