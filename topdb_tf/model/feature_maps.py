"""The maps inside an embedder, and what its drop block would take from them."""

from collections.abc import Iterable
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from topdb_tf.model.layers import BatchDropBlock, DropsRankedRows
from topdb_tf.model.variants import MAPS
from topdb_tf.texts import check_one_of, natural_order


class Dropped(NamedTuple):
    """What ranks the rows of each image, and what a drop block would take.

    They are of the shapes `(num_images, rows)` and `(num_images, rows, columns)`; there
    is one column where whole rows go.
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


def dropped_parts(embedder, batches: Iterable) -> list[Dropped]:
    """Returns what each of the model's drop blocks takes of every image in training.

    Args:
        embedder: Model of `topdb_tf.model.network.embedder`, or loaded from its file.
        batches: Pixels, float32 in [0, 255] of shape `(batch, height, width, 3)`.

    Raises:
        ValueError: If the model has no drop block that ranks rows.
    """
    blocks = row_drop_blocks(embedder)
    # The map that positions are ranked on is the last argument of the layer.
    model = keras.Model(embedder.input, [block.input[-1] for block in blocks])
    parts = [([], []) for _ in blocks]
    for pixels in batches:
        activations = keras.tree.flatten(model(pixels, training=False))
        for block, activation, part in zip(blocks, activations, parts, strict=True):
            part[0].append(ops.convert_to_numpy(block.row_relevance(activation)))
            part[1].append(ops.convert_to_numpy(_position_mask(block, activation)) == 0)
    return [Dropped(*map(np.concatenate, part)) for part in parts]


def _position_mask(block, activation):
    if hasattr(block, "position_mask"):
        return block.position_mask(activation)
    return block.row_mask(activation)[:, :, None]


def random_block(embedder, *, seed: int) -> np.ndarray:
    """Returns the cells that a `BatchDropBlock` of the same size drops at a draw.

    Args:
        embedder: Model of `topdb_tf.model.network.embedder`, or loaded from its file.
            Of several drop blocks, the first one's size is taken.
        seed: Seed of the draw.

    Returns:
        bool array of shape `(rows, columns)`.

    Raises:
        ValueError: If the model has no drop block that ranks rows.
    """
    block = row_drop_blocks(embedder)[0]
    ones = np.ones((1, *block.output.shape[1:3], 1), np.float32)
    ratios = block.height_ratio, getattr(block, "width_ratio", 1.0)
    drop = BatchDropBlock(*ratios, seed=seed, dtype="float32")
    return ops.convert_to_numpy(drop(ones, training=True))[0, :, :, 0] == 0


def drops_ranked_rows(embedder) -> bool:
    """Returns whether a model has a drop block that ranks rows."""
    return any(isinstance(layer, DropsRankedRows) for layer in embedder.layers)


def row_drop_blocks(embedder) -> list[DropsRankedRows]:
    """Returns the drop blocks of a model that rank rows.

    Raises:
        ValueError: If it has none.
    """
    blocks = [one for one in embedder.layers if isinstance(one, DropsRankedRows)]
    if blocks:
        return sorted(blocks, key=lambda block: natural_order(block.name))
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
