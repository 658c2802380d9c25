import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.harness import check_saving, to_numpy
from topdb_tf.model.backbones import (
    BACKBONES,
    build_backbone,
    convolution,
    mobilenet_v2,
    mobilenet_v2_source,
    resnet50,
    resnet50_source,
    tiny,
)
from topdb_tf.model.normalization import FusedBatchNormalization


def num_parameters(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def images(image_size, batch=2):
    rng = np.random.default_rng(0)
    return rng.standard_normal((batch, *image_size, 3)).astype("float32")


def normalizations(model):
    kind = keras.layers.BatchNormalization
    return [layer for layer in model.layers if isinstance(layer, kind)]


@pytest.mark.parametrize(
    ("name", "image_size", "shape", "count"),
    [
        # torchvision's 25,557,032 less the classifier's 2048 * 1000 + 1000.
        ("resnet50", (384, 128), (24, 8, 2048), 23_508_032),
        ("mobilenet_v2", (256, 128), (16, 8, 1280), 2_223_872),
        ("tiny", (128, 64), (16, 8, 256), 322_080),
    ],
)
def test_shape_and_number_of_parameters(name, image_size, shape, count):
    backbone = build_backbone(name, image_size)
    assert backbone.name == "backbone"
    assert backbone.output_shape == (None, *shape)
    assert num_parameters(backbone) == count
    for layer in normalizations(backbone):
        assert isinstance(layer, FusedBatchNormalization)
        assert layer.momentum == 0.9
        assert layer.epsilon == (1e-3 if name == "mobilenet_v2" else 1e-5)


@pytest.mark.parametrize(
    ("name", "build", "build_source", "part"),
    [
        ("resnet50", resnet50, resnet50_source, "stack2_block5_out"),
        ("mobilenet_v2", mobilenet_v2, mobilenet_v2_source, "block_12_add"),
    ],
)
def test_a_backbone_is_its_source_up_to_the_changed_stride(
    name, build, build_source, part
):
    ours, source = build((64, 32)), build_source((64, 32))
    names = [
        [layer.name for layer in m.layers if layer.weights] for m in (ours, source)
    ]
    assert names[0] == names[1]
    ours.set_weights(source.get_weights())
    maps = []
    for model in (ours, source):
        start = keras.Model(model.inputs[0], model.get_layer(part).output)
        maps.append(start(images((64, 32))).numpy())
    np.testing.assert_allclose(*maps, rtol=1e-4, atol=1e-5 * np.abs(maps[1]).max())
    assert ours.output_shape[1:3] == (4, 2)
    assert source.output_shape[1:3] == (2, 1)


@pytest.mark.parametrize("strides", [1, 2])
def test_convolution_pads_as_pytorch_does(strides):
    # A 3x3 kernel of ones on a map of ones counts the places inside: 4 in the first
    # corner, where TensorFlow's "same" has 9 for a stride of 2.
    x = keras.Input((8, 8, 1))
    model = keras.Model(x, convolution(x, 1, 3, strides=strides, name="c"))
    model.get_layer("c_conv").set_weights([np.ones((3, 3, 1, 1))])
    counts = model(np.ones((1, 8, 8, 1), "float32")).numpy()
    assert counts.shape == (1, 8 // strides, 8 // strides, 1)
    np.testing.assert_allclose(counts[0, :2, 0, 0], [4, 6], rtol=1e-4)


def test_tiny_survives_a_file():
    check_saving(tiny((64, 32)), images((64, 32)))


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_tiny_runs_in_half_precision(precision):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{precision}")
    try:
        backbone = tiny((64, 32))
    finally:
        keras.config.set_dtype_policy(policy)
    outputs = backbone(images((64, 32)), training=True)
    assert outputs.dtype == precision
    assert np.isfinite(to_numpy(outputs)).all()
    assert all(v.dtype == "float32" for v in backbone.trainable_variables)


@pytest.mark.parametrize("gpus", [[], ["gpu:0"]])
def test_mobilenet_v2_convolves_by_channel_in_float32_on_the_cpu(monkeypatch, gpus):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: gpus)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        backbone = mobilenet_v2((64, 32))
    finally:
        keras.config.set_dtype_policy(policy)
    by_channel, dense = set(), set()
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            by_channel.add(layer.compute_dtype)
        elif isinstance(layer, keras.layers.Conv2D):
            dense.add(layer.compute_dtype)
    assert by_channel == {"bfloat16" if gpus else "float32"}
    assert dense == {"bfloat16"}
    full = mobilenet_v2((64, 32))
    full.set_weights(backbone.get_weights())
    ours, theirs = (to_numpy(m(images((64, 32)))) for m in (backbone, full))
    assert np.abs(ours - theirs).max() < 0.05 * np.abs(theirs).max()


def test_every_layer_of_tiny_learns():
    backbone = tiny((64, 32))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.square(backbone(images((64, 32)), training=True)))
    gradients = tape.gradient(total, [v.value for v in backbone.trainable_variables])
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)


def test_an_unknown_backbone_is_refused():
    with pytest.raises(ValueError, match="resnet50, mobilenet_v2, tiny.*'vgg'"):
        build_backbone("vgg", (384, 128))
    assert set(BACKBONES) == {"resnet50", "mobilenet_v2", "tiny"}
