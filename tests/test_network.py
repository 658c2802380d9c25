import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.harness import check_saving
from tests.reference import generalized_mean_reference
from topdb_tf.model.backbones import tiny
from topdb_tf.model.layers import BatchDropBlock, TopDropBlock
from topdb_tf.model.network import STREAMS, build_network, embedder

IMAGE_SIZE = (64, 32)
VARIANTS = {
    "topdb": {},
    "no_reg": {"streams": ("global", "top_drop")},
    "no_drop": {"streams": ("global", "regularization")},
    "strong": {"pool": "gem", "bottleneck_channels": 64},
    "bdb": {
        "streams": ("global", "top_drop"),
        "drop_block": "batch",
        "num_bottlenecks": 1,
        "neck": "none",
    },
}


def network_of(variant="topdb", **changes):
    options = {"drop_block": "top", **VARIANTS[variant], **changes}
    blocks = {"top": TopDropBlock(0.3, name="drop"), "batch": BatchDropBlock(0.3)}
    if not isinstance(options["drop_block"], list):
        options["drop_block"] = blocks.get(options["drop_block"])
    return build_network(tiny(IMAGE_SIZE), num_pids=5, **options)


@functools.cache
def usual(variant="topdb"):
    """Returns a network that tests share: not to be changed."""
    return network_of(variant)


def pixels(batch=4):
    rng = np.random.default_rng(0)
    return rng.uniform(0, 255, (batch, *IMAGE_SIZE, 3)).astype("float32")


def num_parameters(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_are_features_and_logits_by_stream(variant):
    outputs = usual(variant)(pixels())
    dims = {"global": 64, "top_drop": 128, "regularization": 256}
    if "bottleneck_channels" in VARIANTS[variant]:
        dims["regularization"] = VARIANTS[variant]["bottleneck_channels"]
    assert list(outputs) == list(VARIANTS[variant].get("streams", STREAMS))
    for stream, output in outputs.items():
        assert set(output) == {"features", "logits"}
        assert tuple(output["features"].shape) == (4, dims[stream])
        assert tuple(output["logits"].shape) == (4, 5)


@pytest.mark.parametrize(
    ("variant", "dim"),
    [("topdb", 192), ("no_reg", 192), ("no_drop", 320), ("bdb", 192), ("strong", 192)],
)
def test_embeddings_are_what_the_classifiers_see(variant, dim):
    network = usual(variant)
    embeddings = embedder(network)(pixels()).numpy()
    assert embeddings.shape == (4, dim)
    parts, outputs = [], network(pixels())
    for stream in STREAMS if dim != 192 else ("global", "top_drop"):
        if stream in outputs:
            features = outputs[stream]["features"]
            if variant != "bdb":
                features = network.get_layer(f"{stream}_neck")(features)
            parts.append(features)
    np.testing.assert_allclose(embeddings, tf.concat(parts, axis=1), rtol=1e-5)


def test_each_of_several_blocks_has_a_stream_of_its_own():
    ratios = (0.25, 0.5)
    blocks = [TopDropBlock(r, name=f"drop_{i}") for i, r in enumerate(ratios)]
    network = network_of(drop_block=blocks)
    streams = ["global", "top_drop_1", "top_drop_2", "regularization"]
    assert list(network.output) == streams
    assert embedder(network).output_shape == (None, 64 + 2 * 128)
    names = [f"top_drop_{number}_pool" for number in (1, 2)]
    pooled = [network.get_layer(name).input for name in names]
    maps = keras.Model(network.input, pooled)(pixels(), training=True)
    for dropped, ratio in zip(maps, ratios, strict=True):
        zero = (dropped.numpy() == 0).all(axis=(2, 3))
        assert (zero.sum(axis=1) == ratio * 8).all()
    loaded = embedder(check_saving(network, pixels()))
    np.testing.assert_array_equal(loaded(pixels()), embedder(network)(pixels()))


def test_embeddings_take_streams_by_their_numbers():
    blocks = [BatchDropBlock(0.3, name=f"drop_{i}") for i in range(11)]
    without_global = {"streams": ("regularization", "top_drop"), "num_bottlenecks": 0}
    network = network_of(drop_block=blocks, **without_global)
    (concatenate,) = embedder(network).layers[-1:]
    names = [part._keras_history.operation.name for part in concatenate.input]
    numbered = [f"top_drop_{number}_neck" for number in range(1, 12)]
    assert names == [*numbered, "regularization_neck"]  # one kind: all its streams


def test_narrow_bottlenecks_leave_the_embedding_as_long_as_it_is():
    network, wide = network_of(bottleneck_channels=32), usual()
    assert embedder(network).output_shape == embedder(wide).output_shape == (None, 192)
    assert network.get_layer("bottleneck2_out").output.shape[-1] == 32
    dims = {name: part["features"].shape[-1] for name, part in network.output.items()}
    assert dims == {"global": 64, "top_drop": 128, "regularization": 32}
    shapes = {
        name: tuple(network.get_layer(f"{name}_conv").kernel.shape)
        for name in ("bottlenecks_reduction", "bottleneck1_2", "bottleneck2_3")
    }
    assert shapes == {
        "bottlenecks_reduction": (1, 1, 256, 32),
        "bottleneck1_2": (3, 3, 8, 8),
        "bottleneck2_3": (1, 1, 8, 32),
    }


def test_the_global_stream_pools_as_it_is_told():
    network = network_of(pool="gem")
    layer = network.get_layer("global_pool")
    layer.exponent.assign(5.0)
    inner = keras.Model(network.input, [layer.input, layer.output])
    maps, pooled = inner(pixels())
    expected = generalized_mean_reference(maps.numpy(), 5.0)
    np.testing.assert_allclose(pooled, expected, rtol=1e-4, atol=1e-9)
    assert num_parameters(network) == num_parameters(usual()) + 1
    copies = [w for w in embedder(network).weights if w.path == layer.exponent.path]
    assert copies == [layer.exponent]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_network_survives_a_file(variant):
    network = network_of(variant)
    network(pixels(), training=True)  # moves the moving statistics
    loaded = check_saving(network, pixels())
    np.testing.assert_array_equal(
        embedder(loaded)(pixels()), embedder(network)(pixels())
    )


def test_an_embedder_survives_a_file():
    check_saving(embedder(usual()), pixels())


def test_the_embedder_follows_the_training_of_the_network():
    network = network_of()
    model = embedder(network)
    before = model(pixels()).numpy()
    network(pixels(), training=True)
    assert np.abs(model(pixels()).numpy() - before).max() > 1e-3


def test_the_embedder_holds_nothing_that_only_trains():
    names = {layer.name for layer in embedder(usual()).layers}
    assert not any("classifier" in name or "regularization" in name for name in names)


def test_a_single_stream_is_an_embedding():
    network = network_of(streams=("global",))
    assert embedder(network).output_shape == (None, 64)
    assert not any("bottleneck" in layer.name for layer in network.layers)


def test_nothing_is_dropped_at_inference():
    network, plain = usual(), network_of(drop_block=None)
    plain.set_weights(network.get_weights())
    np.testing.assert_array_equal(
        embedder(network)(pixels()), embedder(plain)(pixels())
    )


@pytest.mark.parametrize("mask_from", ["backbone", "bottlenecks"])
def test_rows_are_ranked_on_the_chosen_map(mask_from):
    keras.utils.set_random_seed(1)  # of few weights both maps may rank rows alike
    network = network_of(mask_from=mask_from)
    names = {"backbone": "feature_map", "bottlenecks": "bottleneck2_out"}
    tensors = [network.get_layer(name).output for name in names.values()]
    drop = network.get_layer("drop")
    maps = keras.Model(network.input, [*tensors, drop.output])(pixels(), training=True)
    *candidates, dropped = maps
    zero = (dropped.numpy() == 0).all(axis=(2, 3))
    masks = [drop.row_mask(candidate).numpy() == 0 for candidate in candidates]
    assert (masks[0] != masks[1]).any()
    np.testing.assert_array_equal(zero, masks[list(names).index(mask_from)])


def test_the_first_layer_normalises_by_imagenet():
    # (255 * 0.485 - 255 * 0.485) / (255 * 0.229) = 0, and one deviation above it 1.
    normalize = usual().get_layer("normalize")
    mean = 255 * np.array([0.485, 0.456, 0.406])
    std = 255 * np.array([0.229, 0.224, 0.225])
    images = np.stack([mean, mean + std]).reshape(1, 2, 1, 3).astype("float32")
    np.testing.assert_allclose(
        normalize(images).numpy()[0, :, 0], [[0, 0, 0], [1, 1, 1]], atol=1e-5
    )


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_losses_and_embeddings_are_float32_in_half_precision(precision):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{precision}")
    try:
        network = network_of()
    finally:
        keras.config.set_dtype_policy(policy)
    assert network.get_layer("bottleneck2_out").compute_dtype == precision
    assert network.get_layer("normalize").compute_dtype == "float32"
    for output in network(pixels(), training=True).values():
        assert output["features"].dtype == output["logits"].dtype == "float32"
        assert np.isfinite(output["features"].numpy()).all()
    assert embedder(network)(pixels()).dtype == "float32"
    check_saving(embedder(network), pixels())


def test_half_precision_gives_nearly_the_same_embeddings():
    network = usual()
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = network_of()
    finally:
        keras.config.set_dtype_policy(policy)
    half.set_weights(network.get_weights())
    full = embedder(network)(pixels()).numpy()
    error = np.linalg.norm(embedder(half)(pixels()) - full) / np.linalg.norm(full)
    assert error < 0.03


def test_the_neck_decides_about_the_shift():
    counts = {neck: num_parameters(network_of(neck=neck)) for neck in ("none", "shift")}
    counts["no_shift"] = num_parameters(usual())  # the default
    dims = 64 + 128 + 256
    assert counts["no_shift"] == counts["none"] + dims
    assert counts["shift"] == counts["no_shift"] + dims


def test_every_weight_learns():
    network = network_of(neck="shift", pool="gem", bottleneck_channels=64)
    with tf.GradientTape() as tape:
        outputs = network(pixels(), training=True)
        parts = keras.tree.flatten(outputs)
        weights = [
            np.random.default_rng(i).normal(size=p.shape) for i, p in enumerate(parts)
        ]
        total = tf.add_n(
            [
                tf.reduce_sum(p * w.astype("float32"))
                for p, w in zip(parts, weights, strict=True)
            ]
        )
    gradients = tape.gradient(total, [v.value for v in network.trainable_variables])
    for variable, gradient in zip(network.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path


def test_initial_heads_are_those_of_the_authors():
    # 1x1 convolution to 64: deviation sqrt(2 / 64) = 0.177; other products 0.01.
    network = usual()
    std = {
        name: network.get_layer(name).kernel.numpy().std()
        for name in ("global_reduction", "top_drop_reduction", "global_classifier")
    }
    np.testing.assert_allclose(std["global_reduction"], 0.177, rtol=0.05)
    np.testing.assert_allclose(std["top_drop_reduction"], 0.01, rtol=0.05)
    np.testing.assert_allclose(std["global_classifier"], 0.01, rtol=0.2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"streams": ("global", "local")}, "streams.*'local'"),
        ({"streams": ()}, "streams"),
        ({"streams": ("global", "global")}, "each once"),
        ({"mask_from": "dropped"}, "mask_from='dropped'"),
        ({"num_bottlenecks": -1}, "num_bottlenecks=-1"),
        ({"bottleneck_channels": 3}, "at least 4.*bottleneck_channels=3"),
        (
            {"bottleneck_channels": 8, "num_bottlenecks": 0},
            "one bottleneck or more. Received: num_bottlenecks=0",
        ),
        ({"pool": "max"}, "average, gem.*pool='max'"),
        ({"neck": "long"}, "no_shift, shift, none.*neck='long'"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        network_of(**changes)


def test_a_network_without_persons_is_refused():
    with pytest.raises(ValueError, match="num_pids=0"):
        build_network(tiny(IMAGE_SIZE), num_pids=0)


def test_an_image_too_low_for_a_row_to_drop_is_refused():
    with pytest.raises(ValueError, match="larger image height.*0.3 of 1 rows"):
        build_network(tiny((8, 8)), num_pids=5, drop_block=TopDropBlock(0.3))
