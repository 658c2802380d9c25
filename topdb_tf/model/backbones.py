"""Backbones: from normalised images to the feature map that the streams share.

A backbone is a function of the image size in `BACKBONES`. Its layers keep the names
that they have where its pretrained weights come from.
"""

from collections.abc import Callable

import keras
from keras import layers

from topdb_tf.model.keras_defaults import keras_defaults
from topdb_tf.model.normalization import FusedBatchNormalization
from topdb_tf.registry import register

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of red, green and blue on ImageNet, for pixels in [0, 1]."""

IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of red, green and blue on ImageNet, for pixels in [0, 1]."""


def resnet50(image_size):
    """Returns ResNet-50 with a last stride of 1: a map of 2048 channels, stride 16.

    It is the version 1.5 of torchvision, which strides in the 3x3 convolution of a
    block (Keras Applications strides in the first 1x1). An image of 384 x 128 gives
    a map of 24 x 8.

    Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016
    (https://arxiv.org/abs/1512.03385).

    Args:
        image_size: Height and width of the images, in pixels.

    Returns:
        `keras.Model` named "backbone", from ImageNet-normalised images of shape
        `(batch, height, width, 3)` to `(batch, height / 16, width / 16, 2048)`.
    """
    source = resnet50_source(image_size, stackwise_num_strides=[1, 2, 2, 1])
    return _with_fused_normalization(source)


def mobilenet_v2(image_size):
    """Returns MobileNetV2 with a last stride of 1: 1280 channels, stride 16.

    The stride is removed from block 13. The first layer brings ImageNet-normalised
    images to the range [-1, 1] for which Keras's weights were trained. The batch
    normalisations keep their epsilon, 1e-3, and take the momentum of this network,
    0.9: Keras's 0.999 needs thousands of steps.

    On the CPU the depthwise convolutions, their normalisations and activations compute
    in float32 under every dtype policy: TensorFlow has no fast kernels for them there,
    and all the rest gains by bfloat16.

    Source: Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks,
    CVPR 2018 (https://arxiv.org/abs/1801.04381).

    Args:
        image_size: Height and width of the images, in pixels.

    Returns:
        `keras.Model` named "backbone", from ImageNet-normalised images of shape
        `(batch, height, width, 3)` to `(batch, height / 16, width / 16, 1280)`.
    """
    source = mobilenet_v2_source(image_size)
    changes = {"block_13_pad": {"padding": 1}, "block_13_depthwise": {"strides": 1}}
    if not keras.distribution.list_devices("gpu"):
        for layer in source.layers:
            if "depthwise" in layer.name:
                changes.setdefault(layer.name, {}).update(dtype="float32")
    return _with_fused_normalization(source, changes)


def tiny(image_size):
    """Returns a small residual network for tests and the demo: 256 channels, stride 8.

    A 3x3 convolution of stride 2, two residual blocks of stride 2 and a 1x1
    convolution; 322,080 trainable parameters. There are no pretrained weights for it.

    Args:
        image_size: Height and width of the images, in pixels.

    Returns:
        `keras.Model` named "backbone", from normalised images of shape
        `(batch, height, width, 3)` to `(batch, height / 8, width / 8, 256)`.
    """
    images = keras.Input((*image_size, 3), dtype="float32", name="images")
    x = convolution(images, 32, 3, strides=2, name="stem")
    for index, filters in enumerate((64, 128), start=1):
        name = f"block{index}"
        shortcut = convolution(x, filters, 1, strides=2, relu=False, name=f"{name}_0")
        x = convolution(x, filters, 3, strides=2, name=f"{name}_1")
        x = convolution(x, filters, 3, relu=False, name=f"{name}_2")
        x = layers.Add(name=f"{name}_add")([shortcut, x])
        x = layers.ReLU(name=f"{name}_out")(x)
    x = convolution(x, 256, 1, name="last")
    return keras.Model(images, x, name="backbone")


BACKBONES = {"resnet50": resnet50, "mobilenet_v2": mobilenet_v2, "tiny": tiny}
"""The backbones by name: functions from the image size to a `keras.Model`."""


def register_backbone(name: str, function: Callable | None = None) -> Callable:
    """Adds a backbone, for `model.backbone=NAME`; without a function a decorator.

    It is trained with `model.weights=none`: pretrained weights are those that the
    function's model has already.

    Args:
        name: Name of the backbone.
        function: Function from `(height, width)` in pixels to a `keras.Model` named
            "backbone", from normalised images `(batch, height, width, 3)` to a feature
            map of four dimensions.

    Raises:
        ValueError: If the name is taken, or is none.
    """
    return register(BACKBONES, name, function, what="backbone")


@keras_defaults()
def build_backbone(name, image_size):
    """Returns the backbone of that name, with random weights.

    Args:
        name: Name in `BACKBONES`.
        image_size: Height and width of the images, in pixels.

    Raises:
        ValueError: If there is no backbone of that name.
    """
    if name not in BACKBONES:
        raise ValueError(
            f"The backbone must be one of {', '.join(BACKBONES)}. Received: {name!r}"
        )
    return BACKBONES[name](tuple(image_size))


def resnet50_source(image_size, stackwise_num_strides=(1, 2, 2, 2)):
    """Returns KerasHub's ResNet-50 with random weights, by default strided as usual.

    Args:
        image_size: Height and width of the images, in pixels.
        stackwise_num_strides: Stride of each of the four stacks.
    """
    import keras_hub  # slow to import, and not needed to load a saved network

    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=list(stackwise_num_strides),
        block_type="bottleneck_block",
        image_shape=(*image_size, 3),
    )


def mobilenet_v2_source(image_size):
    """Returns Keras's MobileNetV2 with random weights and its usual strides.

    Args:
        image_size: Height and width of the images, in pixels.
    """
    images = keras.Input((*image_size, 3), dtype="float32", name="images")
    unit_range = layers.Rescaling(
        scale=[2 * std for std in IMAGENET_STD],
        offset=[2 * mean - 1 for mean in IMAGENET_MEAN],
        dtype="float32",
        name="unit_range",
    )
    return keras.applications.MobileNetV2(
        input_tensor=unit_range(images), include_top=False, weights=None
    )


def convolution(x, filters, kernel_size, *, strides=1, relu=True, name):
    """Returns a convolution without bias, its batch normalisation and its ReLU.

    The map is padded evenly on both sides, as PyTorch pads and unlike "same" in
    TensorFlow. The kernel is drawn as He et al. draw it, by the outputs.

    Args:
        x: Feature map of shape `(batch, height, width, channels)`.
        filters: Number of channels that come out.
        kernel_size: Height and width of the kernel, an odd number.
        strides: Stride along both axes.
        relu: Whether a ReLU follows.
        name: Prefix of the names of the layers.

    Returns:
        Feature map of shape `(batch, height / strides, width / strides, filters)`.
    """
    if kernel_size > 1 and strides > 1:
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same" if strides == 1 else "valid",
        use_bias=False,
        kernel_initializer=kaiming_normal(),
        name=f"{name}_conv",
    )(x)
    x = FusedBatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def kaiming_normal():
    """Returns the initialiser N(0, 2 / fan_out), for weights before a ReLU.

    Source: He et al., Delving Deep into Rectifiers, ICCV 2015
    (https://arxiv.org/abs/1502.01852).
    """
    return keras.initializers.VarianceScaling(
        scale=2.0, mode="fan_out", distribution="untruncated_normal"
    )


def _with_fused_normalization(source, changes=None):
    """Returns a copy named "backbone", with other arguments of some layers."""
    changes = changes or {}

    def clone(layer):
        config = {**layer.get_config(), **changes.get(layer.name, {})}
        if isinstance(layer, layers.BatchNormalization):
            return FusedBatchNormalization.from_config({**config, "momentum": 0.9})
        return type(layer).from_config(config)

    copy = keras.models.clone_model(source, clone_function=clone)
    return keras.Model(copy.inputs[0], copy.outputs[0], name="backbone")
