import keras
import numpy as np
import pytest
from keras import layers

from topdb_tf.model.backbones import build_backbone
from topdb_tf.model.folding import folded, in_precision
from topdb_tf.model.layers import TopDropBlock
from topdb_tf.model.network import build_network, embedder
from topdb_tf.model.normalization import FusedBatchNormalization

SIZE = (32, 16)


def trained_embedder(backbone="tiny", neck="shift", **options):
    """An embedder whose statistics are not those of an untrained one."""
    network = build_network(
        build_backbone(backbone, SIZE),
        num_pids=3,
        drop_block=TopDropBlock(0.3),
        neck=neck,
        **options,
    )
    model, rng = embedder(network), np.random.default_rng(1)
    for weight in model.weights:
        if weight.name in ("moving_mean", "beta"):
            weight.assign(0.1 * rng.standard_normal(weight.shape))
        elif weight.name in ("moving_variance", "gamma"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return model


@pytest.fixture(scope="module")
def model():
    return trained_embedder()


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (3, *SIZE, 3)).astype("float32")


def normalizations(model):
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, layers.BatchNormalization)
    ]


def test_a_convolution_takes_scale_and_shift_by_hand():
    # Kernel 2, no bias; mean 3, variance 4 - 1e-5, gamma 6, beta 1: the scale is
    # 6 / 2 = 3, so the kernel is 6 and the bias (0 - 3) * 3 + 1 = -8. 5 gives 22.
    inputs = keras.Input((1, 1, 1))
    outputs = layers.Conv2D(1, 1, use_bias=False, name="conv")(inputs)
    outputs = FusedBatchNormalization(name="bn")(outputs)
    model = keras.Model(inputs, outputs)
    model.get_layer("conv").set_weights([np.full((1, 1, 1, 1), 2.0)])
    model.get_layer("bn").set_weights(list(np.array([[6.0], [1.0], [3.0], [4 - 1e-5]])))
    copy = folded(model)
    kernel, bias = copy.get_layer("conv").get_weights()
    np.testing.assert_allclose([kernel.item(), bias.item()], [6, -8], rtol=1e-6)
    np.testing.assert_allclose(copy(np.full((1, 1, 1, 1), 5.0)), [[[[22.0]]]])


@pytest.mark.parametrize("backbone", ["tiny", "mobilenet_v2"])
def test_embeddings_stay_the_same(backbone, pixels):
    model = trained_embedder(backbone)
    expected = model(pixels, training=False)
    np.testing.assert_allclose(
        folded(model)(pixels, training=False), expected, rtol=1e-4, atol=1e-5
    )


def test_only_the_normalizations_behind_a_relu_are_left(model):
    # 6 in the backbone (stem, two blocks of three, last), 2 x 3 in the bottlenecks and
    # 2 behind the reductions go; the necks of the two streams stay.
    assert len(normalizations(model)) == 8 + 6 + 2 + 2
    kept = [layer.name for layer in normalizations(folded(model))]
    assert sorted(kept) == ["global_neck", "top_drop_neck"]


def test_a_product_that_others_see_before_its_normalization_keeps_it(pixels):
    inputs = keras.Input((*SIZE, 3))
    product = layers.Conv2D(2, 1, name="conv")(inputs)
    outputs = layers.Add()([product, FusedBatchNormalization(name="bn")(product)])
    model = keras.Model(inputs, outputs)
    copy = folded(model)
    assert [layer.name for layer in normalizations(copy)] == ["bn"]
    np.testing.assert_allclose(copy(pixels), model(pixels), rtol=1e-5)


def test_a_product_with_an_activation_keeps_its_normalization(pixels):
    inputs = keras.Input((*SIZE, 3))
    outputs = layers.Conv2D(2, 1, activation="relu")(inputs)
    model = keras.Model(inputs, FusedBatchNormalization()(outputs))
    assert len(normalizations(folded(model))) == 1


def test_a_generalised_mean_pools_in_float32_whatever_the_maps_are(pixels):
    copy = folded(trained_embedder(pool="gem"), dtype="float16")
    pool = copy.get_layer("global_pool")
    assert pool.compute_dtype == pool.exponent.dtype == "float32"
    assert copy.get_layer("feature_map").compute_dtype == "float16"
    assert np.isfinite(copy(pixels, training=False)).all()


def test_the_original_is_left_as_it_was(model, pixels):
    before = model(pixels, training=False)
    for weight in folded(model).weights:
        weight.assign(weight * 0)
    np.testing.assert_array_equal(model(pixels, training=False), before)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_maps_are_in_the_asked_precision_and_vectors_in_float32(dtype, model, pixels):
    copy = folded(model, dtype=dtype)
    assert copy.get_layer("backbone").get_layer("stem_conv").kernel.dtype == dtype
    assert copy.get_layer("feature_map").compute_dtype == dtype
    assert copy.get_layer("normalize").compute_dtype == "float32"
    assert copy.get_layer("global_reduction").kernel.dtype == "float32"
    embeddings = keras.ops.convert_to_numpy(copy(pixels, training=False))
    assert embeddings.dtype == "float32"
    expected = keras.ops.convert_to_numpy(model(pixels, training=False))
    cosines = np.sum(embeddings * expected, axis=1) / (
        np.linalg.norm(embeddings, axis=1) * np.linalg.norm(expected, axis=1)
    )
    assert cosines.min() > 0.999
    assert np.abs(embeddings - expected).max() > 0


def test_a_model_trained_in_half_precision_comes_back_to_float32(model, pixels):
    half = in_precision(model, "bfloat16")
    copy = in_precision(half, "float32")
    assert {layer.compute_dtype for layer in copy._flatten_layers()} == {"float32"}
    weights = [weight for weight in half.weights if "global_reduction" in weight.path]
    others = [weight for weight in copy.weights if "global_reduction" in weight.path]
    for weight, other in zip(weights, others, strict=True):
        np.testing.assert_array_equal(weight, other)


def test_an_unknown_precision_is_refused(model):
    with pytest.raises(ValueError, match="must be one of float32.*int8"):
        folded(model, dtype="int8")
