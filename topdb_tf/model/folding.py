"""The embedder for inference: batch normalisation folded into what stands before it."""

import keras
import numpy as np
from keras import layers

from topdb_tf.model.keras_defaults import keras_defaults
from topdb_tf.texts import check_one_of

DTYPES = ("float32", "bfloat16", "float16")
"""The precisions of an embedder for inference."""

_PRODUCTS = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)
_OF_PIXELS = (layers.Normalization, layers.Rescaling)


def folded(embedder, *, dtype: str = "float32"):
    """Returns a copy of a model whose batch normalisations are folded away.

    The scale and shift of a batch normalisation that follows a convolution or a dense
    layer become part of that layer's kernel and bias. Others, such as the BNNecks
    behind a ReLU, are kept.

    Args:
        embedder: Functional `keras.Model`, with functional models inside it or not.
        dtype: As for `in_precision`.

    Returns:
        `keras.Model` with the names, inputs and outputs of the original; it shares no
        weights with it and is for inference alone.

    Raises:
        ValueError: If `dtype` is unknown.
    """
    return _copy(embedder, dtype, _normalized_products(embedder))


def in_precision(model, dtype: str):
    """Returns a copy of a model that computes its feature maps in another precision.

    Layers that give maps, `(batch, height, width, channels)`, compute in `dtype` and
    keep their weights in it. Those that scale the pixels, and all that give vectors,
    are float32: pooling, reductions, necks.

    Args:
        model: Functional `keras.Model`, with functional models inside it or not.
        dtype: One of `DTYPES`.

    Returns:
        `keras.Model` that shares no weights with the original.

    Raises:
        ValueError: If `dtype` is unknown.
    """
    return _copy(model, dtype, {})


@keras_defaults("float32")
def _copy(model, dtype, pairs):
    check_one_of("dtype", dtype, DTYPES)
    folded_away, copies = set(pairs.values()), []

    def clone(layer):
        layer_dtype = dtype if _gives_maps(layer) else "float32"
        if layer in folded_away:
            return layers.Identity(name=layer.name, dtype=layer_dtype)
        config = {**layer.get_config(), "dtype": layer_dtype}
        if layer in pairs:
            config["use_bias"] = True
        copies.append((layer, type(layer).from_config(config)))
        return copies[-1][1]

    def call(layer, *args, mask=None, **kwargs):
        # Graphs made for batch normalisation pass a mask that nothing else takes.
        return layer(*args, **kwargs)

    copy_of_model = keras.models.clone_model(
        model, clone_function=clone, call_function=call, recursive=True
    )
    for layer, copy in copies:
        weights = [np.asarray(w.value, "float32") for w in layer.weights]
        if layer in pairs:
            weights = _folded_weights(layer, weights, pairs[layer])
        copy.set_weights(weights)
    return copy_of_model


def _normalized_products(model):
    """Returns the batch normalisation that alone follows a product, by that layer."""
    pairs = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            pairs.update(_normalized_products(layer))
        elif isinstance(layer, layers.BatchNormalization):
            product = layer.input._keras_history.operation
            if isinstance(product, _PRODUCTS):
                followers = [node.operation for node in product._outbound_nodes]
                is_linear = product.activation is keras.activations.linear
                if is_linear and followers == [layer]:
                    pairs[product] = layer
    return pairs


def _gives_maps(layer):
    return len(layer.output.shape) == 4 and not isinstance(layer, _OF_PIXELS)


def _folded_weights(product, weights, normalization):
    """Returns the kernel and the bias with scale and shift of the normalisation."""
    mean = np.asarray(normalization.moving_mean.value, "float64")
    variance = np.asarray(normalization.moving_variance.value, "float64")
    scale = 1 / np.sqrt(variance + normalization.epsilon)
    if normalization.scale:
        scale *= np.asarray(normalization.gamma.value, "float64")
    bias = ((weights[1] if product.use_bias else 0) - mean) * scale
    if normalization.center:
        bias += np.asarray(normalization.beta.value, "float64")
    kernel = weights[0]
    if isinstance(product, layers.DepthwiseConv2D):
        scale = scale.reshape(kernel.shape[-2:])  # (channels, multiplier)
    return [(kernel * scale).astype("float32"), bias.astype("float32")]
