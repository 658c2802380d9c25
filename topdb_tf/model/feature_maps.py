"""The maps inside an embedder, and what its drop block would take from them."""

from collections.abc import Iterable
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from topdb_tf.model.layers import BatchDropBlock, DropsRankedRows
from topdb_tf.model.variants import MAPS
from topdb_tf.texts import check_one_of


class DroppedRows(NamedTuple):
    """What ranks the rows of each image, and which a drop block would take.

    Both are of shape `(num_images, rows)`.
    """

    row_relevance: np.ndarray
    is_dropped: np.ndarray


def feature_maps(embedder, batches: Iterable, *, name: str = "backbone") -> np.ndarray:
    """Returns a feature map of every image.

    Args:
        embedder: Model of `topdb_tf.model.network.embedder`, or loaded from its file.
        batches: Pixels, float32 in [0, 255] of shape `(batch, height, width, 3)`.
        name: One of `topdb_tf.model.variants.MAPS`.

    Returns:
        float32 array of shape `(num_images, rows, columns, channels)`.

    Raises:
        ValueError: If there is no such map in the model.
    """
    model = keras.Model(embedder.input, _map_of(embedder, name))
    found = [ops.cast(model(pixels, training=False), "float32") for pixels in batches]
    return np.concatenate([ops.convert_to_numpy(part) for part in found])


def dropped_rows(embedder, batches: Iterable) -> DroppedRows:
    """Returns the rows of every image that the model's drop block takes in training.

    Args:
        embedder: Model of `topdb_tf.model.network.embedder`, or loaded from its file.
        batches: Pixels, float32 in [0, 255] of shape `(batch, height, width, 3)`.

    Raises:
        ValueError: If the model has no drop block that ranks rows.
    """
    block = row_drop_block(embedder)
    *_, activation = block.input  # the last argument of the layer
    model = keras.Model(embedder.input, activation)
    relevance, masks = [], []
    for pixels in batches:
        activation = model(pixels, training=False)
        relevance.append(ops.convert_to_numpy(block.row_relevance(activation)))
        masks.append(ops.convert_to_numpy(block.row_mask(activation)))
    return DroppedRows(np.concatenate(relevance), np.concatenate(masks) == 0)


def random_block(embedder, *, seed: int) -> np.ndarray:
    """Returns the cells that a `BatchDropBlock` of the same height drops at a draw.

    Args:
        embedder: Model of `topdb_tf.model.network.embedder`, or loaded from its file.
        seed: Seed of the draw.

    Returns:
        bool array of shape `(rows, columns)`.

    Raises:
        ValueError: If the model has no drop block that ranks rows.
    """
    block = row_drop_block(embedder)
    ones = np.ones((1, *block.output.shape[1:3], 1), np.float32)
    drop = BatchDropBlock(block.height_ratio, seed=seed, dtype="float32")
    return ops.convert_to_numpy(drop(ones, training=True))[0, :, :, 0] == 0


def drops_ranked_rows(embedder) -> bool:
    """Returns whether a model has a drop block that ranks rows."""
    return any(isinstance(layer, DropsRankedRows) for layer in embedder.layers)


def row_drop_block(embedder) -> DropsRankedRows:
    """Returns the drop block of a model that ranks rows.

    Raises:
        ValueError: If it has none.
    """
    for layer in embedder.layers:
        if isinstance(layer, DropsRankedRows):
            return layer
    is_random = any(isinstance(layer, BatchDropBlock) for layer in embedder.layers)
    raise ValueError(
        "The network must have a Top DropBlock, as that of the recipe `paper`, or "
        "another layer that ranks rows. Received: one that drops "
        f"{'random blocks' if is_random else 'nothing'}"
    )


def _map_of(embedder, name):
    check_one_of("name", name, MAPS)
    layers = {layer.name: layer for layer in embedder.layers}
    names = ["feature_map"]
    if name == "bottlenecks":
        names = [own for own in layers if own.startswith("bottleneck")]
        names = [own for own in names if own.endswith("_out")]
    if not names or names[-1] not in layers:
        raise ValueError(
            f"The model must have a map of the {name}. "
            f"Received: layers {', '.join(list(layers)[:10])}"
        )
    return layers[names[-1]].output
