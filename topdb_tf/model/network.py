"""The network: a backbone, the streams on its feature map, and the embedder."""

import numbers
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

import keras
from keras import layers

from topdb_tf.model.backbones import (
    BACKBONES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    build_backbone,
    convolution,
    kaiming_normal,
)
from topdb_tf.model.keras_defaults import keras_defaults
from topdb_tf.model.layers import DROP_BLOCKS, GeneralizedMeanPooling, TopDropBlock
from topdb_tf.model.normalization import FusedBatchNormalization
from topdb_tf.model.variants import MAPS, NECKS, POOLS, check_bottlenecks
from topdb_tf.registry import register
from topdb_tf.texts import check_one_of, natural_order

HEAD_DTYPE = "float32"
"""The precision behind the pooling: losses and embeddings are never half-precision."""


class FeatureMaps(NamedTuple):
    """The maps that a stream may start from, `(batch, height, width, channels)`.

    In the paper the backbone's is F and that of the bottlenecks G; `dropped` is G
    behind the drop block, the first of several. `pool` is how the global stream pools,
    a name in `topdb_tf.model.variants.POOLS`.
    """

    backbone: keras.KerasTensor
    bottlenecks: keras.KerasTensor
    dropped: keras.KerasTensor
    pool: str = "average"


class Stream(NamedTuple):
    """A stream: from `FeatureMaps` to float32 features, and if embeddings have them."""

    features: Callable
    at_inference: bool


@keras_defaults()
def build_network(
    backbone: keras.Model | str,
    *,
    num_pids: int,
    image_size: Sequence[int] = (384, 128),
    drop_block: keras.layers.Layer | Sequence | str | None = "top",
    streams: Iterable[str] = ("global", "top_drop", "regularization"),
    mask_from: str = "backbone",
    num_bottlenecks: int = 2,
    bottleneck_channels: int = 0,
    pool: str = "average",
    neck: str = "no_shift",
) -> keras.Model:
    """Returns Top-DB-Net, or one of its variants, for training.

    The arguments make the variants: the network without regularization or without
    dropping by `streams`, the BDB baseline by a `BatchDropBlock`, one bottleneck and
    no neck. Pixels are normalised by the first layer. Everything behind the pooling
    is float32 under every dtype policy. With ResNet-50, 751 persons and the neck
    "shift" the network has 38,284,557 trainable parameters, as the authors' has;
    "no_shift" leaves out 512 + 1024 + 2048 of them: 38,280,973.

    Source: Quispe and Pedrini, Top-DB-Net: Top DropBlock for Activation Enhancement
    in Person Re-Identification, ICPR 2020 (https://arxiv.org/abs/2010.05435).

    Args:
        backbone: `keras.Model` from normalised images to a feature map, or a name in
            `topdb_tf.model.backbones.BACKBONES`: one of random weights.
        num_pids: Number of training identities.
        image_size: Height and width of the images, for a backbone by name.
        drop_block: A layer, or a name in `topdb_tf.model.layers.DROP_BLOCKS`: one that
            drops 0.3 of the rows, as the paper's; `None`: nothing is dropped. Of
            several layers, each has a stream: "top_drop_1", "top_drop_2", ….
        streams: Names in `STREAMS`.
        mask_from: Where a `TopDropBlock` ranks the rows: on the map of the "backbone"
            (the paper) or of the "bottlenecks" (the authors' code).
        num_bottlenecks: Number of bottlenecks between the two maps.
        bottleneck_channels: Channels of their map, to which a 1x1 convolution brings
            the backbone's; 0: as many. Embeddings are as long for any number.
        pool: How the global stream pools: "average" (the paper) or "gem", a
            `GeneralizedMeanPooling`.
        neck: "none": features are embeddings; "no_shift": a batch normalisation
            without shift, as in the paper; "shift": with one, as in the authors'
            code, which trains it.

    Returns:
        `keras.Model` from RGB pixels, float32 in [0, 255] of shape
        `(batch, height, width, 3)`, to `{stream: {"features": (batch, dim),
        "logits": (batch, num_pids)}}`, float32.
    """
    _check(num_pids, streams, mask_from, pool, neck)
    check_bottlenecks(num_bottlenecks, bottleneck_channels)
    backbone, blocks = _made(backbone, image_size, drop_block)
    pixels = keras.Input(backbone.input_shape[1:], dtype="float32", name="pixels")
    feature_map = _feature_map(pixels, backbone)
    bottlenecks = _bottlenecks(feature_map, num_bottlenecks, bottleneck_channels)
    maps = FeatureMaps(feature_map, bottlenecks, dropped=bottlenecks, pool=pool)
    _refuse_twins(blocks, bottlenecks.shape)
    activation, outputs = getattr(maps, mask_from), {}
    dropped = [block(bottlenecks, activation=activation) for block in blocks]
    for name, features in _features(streams, maps, dropped or [bottlenecks]):
        logits = _classifier(features, num_pids, neck, name)
        outputs[name] = {"features": features, "logits": logits}
    return keras.Model(pixels, outputs, name="topdb")


def embedder(network):
    """Returns the part of a network that makes embeddings; it shares its weights.

    An embedding is the concatenation, in the order of `STREAMS`, of what the
    classifiers see: the outputs of the necks, or the features where there is no neck.
    The streams marked `at_inference` take part, those of several drop blocks one after
    the other; if the network has only one kind of them, all its streams do, as in the
    paper's network without dropping.

    Args:
        network: `keras.Model` made by `build_network`, or loaded from its file.

    Returns:
        `keras.Model` from RGB pixels, float32 in [0, 255] of shape
        `(batch, height, width, 3)`, to embeddings of shape `(batch, dim)`, float32.
    """
    kinds = {name: _kind(name) for name in sorted(network.output, key=natural_order)}
    names = sorted(kinds, key=lambda name: list(STREAMS).index(kinds[name]))
    at_inference = [name for name in names if STREAMS[kinds[name]].at_inference]
    if len({kinds[name] for name in at_inference}) == 1:
        at_inference = names
    parts = [network.get_layer(f"{name}_classifier").input for name in at_inference]
    concatenate = layers.Concatenate(dtype=HEAD_DTYPE, name="embedding")
    return keras.Model(network.input, concatenate(parts), name="embedder")


def adapted(network, image_size, *, drops=True):
    """Returns a network for images of another size, on the same layers and weights.

    Nothing but how many rows are dropped depends on the size.

    Args:
        network: `keras.Model` made by `build_network`.
        image_size: Height and width of its images, in pixels.
        drops: Whether it has the drop blocks of the network, or none.

    Raises:
        ValueError: If the layers cannot take images of that size, or if there is no
            drop block to do without.
    """
    left_out = []

    def call(layer, *args, **kwargs):
        if "activation" in kwargs and not drops:  # a drop block, and none else
            left_out.append(layer)
            return args[0]
        if isinstance(layer, keras.Model):
            layer = copy(layer, args[0].shape[1:])
        return layer(*args, **kwargs)

    def copy(model, shape):
        inputs = keras.Input(shape, dtype=model.input.dtype, name=model.input.name)
        return keras.models.clone_model(
            model, inputs, clone_function=lambda layer: layer, call_function=call
        )

    other = copy(network, (*image_size, 3))
    if not (drops or left_out):
        raise ValueError(
            "The network must have a drop block to do without. Received: streams "
            f"{', '.join(network.output)}"
        )
    return other


def global_features(maps):
    """Returns the features of the average of the backbone's map, or of another mean.

    Their number is a quarter of the map's channels: 512 of 2048 in the paper. (The
    reduction is a 1x1 convolution there, which on an average is a dense layer.)
    """
    if maps.pool == "gem":
        pool = GeneralizedMeanPooling(dtype=HEAD_DTYPE, name="global_pool")
        pooled = pool(maps.backbone)
    else:
        pooled = _average_pool(maps.backbone, "global_pool")
    dim = pooled.shape[-1] // 4
    return _reduction(pooled, dim, kaiming_normal(), "global")


def top_drop_features(maps, name="top_drop"):
    """Returns the features of the maximum of what the drop block leaves.

    Their number is half of the backbone's channels: 1024 of 2048 in the paper. The
    names of the layers begin with `name`.
    """
    pool = layers.GlobalMaxPooling2D(dtype=HEAD_DTYPE, name=f"{name}_pool")
    pooled = pool(maps.dropped)
    dim = maps.backbone.shape[-1] // 2
    return _reduction(pooled, dim, _small_normal(), name)


def regularization_features(maps):
    """Returns the average of the bottlenecks' map, with nothing dropped."""
    return _average_pool(maps.bottlenecks, "regularization_features")


STREAMS = {
    "global": Stream(global_features, at_inference=True),
    "top_drop": Stream(top_drop_features, at_inference=True),
    "regularization": Stream(regularization_features, at_inference=False),
}
"""The streams by name, in the order in which embeddings concatenate them."""


def register_stream(
    name: str, function: Callable | None = None, *, at_inference: bool = True
) -> Callable:
    """Adds a stream, for `model.streams`; without a function it is a decorator.

    Args:
        name: Name of the stream.
        function: Function from the `FeatureMaps` of the network to features, float32
            of shape `(batch, dim)`; the names of its layers begin with the stream's.
        at_inference: Whether embeddings have its features too; else it only trains.

    Raises:
        ValueError: If the name is taken, or is none.
    """
    return register(
        STREAMS,
        name,
        function,
        what="stream",
        entry=lambda function: Stream(function, at_inference),
    )


def bottleneck(x, *, name):
    """Returns a residual bottleneck block with an identity skip.

    A 1x1 convolution to a quarter of the channels, a 3x3 one and a 1x1 one back, each
    with batch normalisation; the input is added before the last ReLU.

    Args:
        x: Feature map of shape `(batch, height, width, channels)`.
        name: Prefix of the names of the layers; the last one is `{name}_out`.

    Returns:
        Feature map of the same shape.
    """
    channels = x.shape[-1]
    y = convolution(x, channels // 4, 1, name=f"{name}_1")
    y = convolution(y, channels // 4, 3, name=f"{name}_2")
    y = convolution(y, channels, 1, relu=False, name=f"{name}_3")
    y = layers.Add(name=f"{name}_add")([x, y])
    return layers.ReLU(name=f"{name}_out")(y)


def _made(backbone, image_size, drop_block):
    """Returns backbone and drop blocks, made where they are given by name."""
    if isinstance(backbone, str):
        backbone = build_backbone(backbone, image_size)
    if not isinstance(backbone, keras.Model):
        raise ValueError(
            "`backbone` must be a `keras.Model`, or one of "
            f"{', '.join(BACKBONES)}. Received: {backbone!r}"
        )
    if isinstance(drop_block, str):
        check_one_of("drop_block", drop_block, DROP_BLOCKS)
        drop_block = DROP_BLOCKS[drop_block](
            height_ratio=0.3, relevance="mean", seed=None
        )
    blocks = [] if drop_block is None else [drop_block]
    if isinstance(drop_block, Sequence):
        blocks = list(drop_block)
    if not all(isinstance(block, keras.layers.Layer) for block in blocks):
        raise ValueError(
            "`drop_block` must be a layer of Keras, several, a name or `None`. "
            f"Received: {drop_block!r}"
        )
    return backbone, blocks


def _refuse_twins(blocks, shape):
    """Raises ValueError if two blocks drop the same of every image."""
    ranked = [block for block in blocks if type(block) is TopDropBlock]
    for one, other in combinations(ranked, 2):
        size = one.dropped_size(shape)
        if size == other.dropped_size(shape) and one.relevance == other.relevance:
            raise ValueError(
                "Two streams would be the same: use a `height_ratio` further from the "
                "other, or a larger image height. Received: height_ratio="
                f"{one.height_ratio} and {other.height_ratio}, width_ratio="
                f"{one.width_ratio} and {other.width_ratio}: "
                f"both drop {size[0]} of {shape[1]} rows"
            )


def _features(streams, maps, dropped):
    """Yields the name and the features of each stream, numbered of several blocks."""
    for stream in streams:
        if stream == "top_drop" and len(dropped) > 1:
            for number, one in enumerate(dropped, 1):
                name = f"top_drop_{number}"
                yield name, top_drop_features(maps._replace(dropped=one), name)
        else:
            yield stream, STREAMS[stream].features(maps._replace(dropped=dropped[0]))


def _kind(name):
    """Returns the name in `STREAMS` of a stream, which may be numbered."""
    return name if name in STREAMS else re.sub(r"_\d+$", "", name)


def _check(num_pids, streams, mask_from, pool, neck):
    if not (isinstance(num_pids, numbers.Integral) and num_pids > 0):
        raise ValueError(
            "`num_pids` must be a whole number above 0. "
            f"Received: num_pids={num_pids!r}"
        )
    unknown = [name for name in streams if name not in STREAMS]
    if unknown or not streams or len(set(streams)) < len(streams):
        raise ValueError(
            f"`streams` must be one or more of {', '.join(STREAMS)}, each once. "
            f"Received: streams={tuple(streams)}"
        )
    check_one_of("mask_from", mask_from, MAPS)
    check_one_of("pool", pool, POOLS)
    check_one_of("neck", neck, NECKS)


def _feature_map(pixels, backbone):
    normalize = layers.Normalization(
        mean=[255 * mean for mean in IMAGENET_MEAN],
        variance=[(255 * std) ** 2 for std in IMAGENET_STD],
        dtype="float32",
        name="normalize",
    )
    return layers.Identity(name="feature_map")(backbone(normalize(pixels)))


def _bottlenecks(x, number, channels):
    if channels:
        x = convolution(x, channels, 1, name="bottlenecks_reduction")
    for index in range(1, number + 1):
        x = bottleneck(x, name=f"bottleneck{index}")
    return x


def _average_pool(feature_map, name):
    return layers.GlobalAveragePooling2D(dtype=HEAD_DTYPE, name=name)(feature_map)


def _reduction(pooled, dim, initializer, stream):
    x = layers.Dense(
        dim,
        kernel_initializer=initializer,
        dtype=HEAD_DTYPE,
        name=f"{stream}_reduction",
    )(pooled)
    x = FusedBatchNormalization(dtype=HEAD_DTYPE, name=f"{stream}_bn")(x)
    return layers.ReLU(dtype=HEAD_DTYPE, name=f"{stream}_features")(x)


def _classifier(features, num_pids, neck, stream):
    """Returns the logits; between them and the features stands the BNNeck, if any."""
    if neck != "none":
        features = FusedBatchNormalization(
            center=neck == "shift", dtype=HEAD_DTYPE, name=f"{stream}_neck"
        )(features)
    return layers.Dense(
        num_pids,
        kernel_initializer=_small_normal(),
        dtype=HEAD_DTYPE,
        name=f"{stream}_classifier",
    )(features)


def _small_normal():
    return keras.initializers.RandomNormal(stddev=0.01)
