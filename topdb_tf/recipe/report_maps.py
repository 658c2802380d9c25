"""Where the network looks in some images, and which rows its training would drop."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from topdb_tf.config import Config
from topdb_tf.data.records import ImageRecord
from topdb_tf.figures.heat import activation_maps, heat, overlay
from topdb_tf.pages.thumbnails import encoded_image
from topdb_tf.recipe.measured import Measured

_HEIGHT = 192  # pixels of the pictures
_DROPPED = (213, 94, 0)  # vermilion
_SHADE = 0.6


def activation_pictures(
    measured: Measured, embedder, indices: Sequence[int]
) -> dict | None:
    """Returns pictures of some queries with the activation and the dropped rows.

    Args:
        measured: What was measured.
        embedder: Its model.
        indices: Places of the queries.

    Returns:
        `lead` and `shown` with `caption` and `pictures`; nothing if there is no query.
    """
    if not len(indices):
        return None
    records = [measured.split.query[index] for index in indices]
    maps, masks = _maps_and_masks(embedder, measured.config, records)
    lists = measured.plain.lists
    items = []
    for place, (index, record) in enumerate(zip(indices, records, strict=True)):
        mask = None if masks is None else masks[place]
        person = measured.split.pid_names.get(record.pid, record.pid)
        items.append(
            {
                "caption": f"{record.path.name}: person {person}, first match at rank "
                f"{lists.first_match_rank[index]:,}",
                "pictures": _pictures(record, maps[place], mask),
            }
        )
    return {"lead": _lead(masks), "shown": items}


def _lead(masks):
    lead = (
        "The image, and where the backbone responds (eq. 1 of the paper): bright is "
        "the most and dark the least within this image."
    )
    if masks is None:
        return f"{lead} This network has no Top DropBlock, so no rows are marked."
    rows = int(np.round((1 - masks).sum(axis=1).mean()))
    return (
        f"{lead} Third: the {rows} of {masks.shape[1]} rows of the feature map that "
        "Top DropBlock would zero in training. Nothing is dropped when images are "
        "ranked."
    )


def _maps_and_masks(embedder, config: Config, records: Sequence[ImageRecord]):
    """Returns maps `(num_images, rows, columns)` and which rows would be kept."""
    import keras

    from topdb_tf.data.decoding import decode_images
    from topdb_tf.data.pipeline import evaluation_dataset
    from topdb_tf.model.layers import TopDropBlock

    blocks = [layer for layer in embedder.layers if isinstance(layer, TopDropBlock)]
    layers = {"shown": "feature_map", "ranked": "feature_map"}
    if config.model.mask_from == "bottlenecks" and config.model.num_bottlenecks:
        layers["ranked"] = f"bottleneck{config.model.num_bottlenecks}_out"
    outputs = {key: embedder.get_layer(name).output for key, name in layers.items()}
    model = keras.Model(embedder.input, outputs)
    batches = evaluation_dataset(
        decode_images([record.path for record in records]),
        image_size=tuple(embedder.input_shape[1:3]),
        batch_size=config.evaluation.batch_size,
    )
    maps, masks = [], []
    for batch in batches:
        found = model(batch, training=False)
        maps.append(activation_maps(keras.ops.convert_to_numpy(found["shown"])))
        if blocks:
            mask = blocks[0].row_mask(found["ranked"])
            masks.append(keras.ops.convert_to_numpy(mask))
    return np.concatenate(maps), np.concatenate(masks) if blocks else None


def _pictures(record, activation_map, mask):
    with Image.open(record.path) as image:
        original = image.convert("RGB")
    width = max(1, round(original.width * _HEIGHT / original.height))
    original = original.resize((width, _HEIGHT), Image.Resampling.BICUBIC)
    pixels = np.asarray(original)
    shown = {
        "query": pixels,
        "activation": overlay(pixels, heat(activation_map, pixels.shape[:2])),
    }
    if mask is not None:
        shown["rows that would be dropped"] = _with_rows(pixels, mask)
    return [
        {
            "data": encoded_image(Image.fromarray(own)),
            "alt": f"{name}: {record.path.name}",
            "width": width,
            "height": _HEIGHT,
        }
        for name, own in shown.items()
    ]


def _with_rows(pixels, mask):
    """Returns the image with colour over the parts that dropped rows stand for."""
    rows = np.arange(len(pixels)) * len(mask) // len(pixels)
    dropped = (mask[rows] < 0.5)[:, None, None]
    shaded = (1 - _SHADE) * pixels + _SHADE * np.array(_DROPPED)
    return np.uint8(np.round(np.where(dropped, shaded, pixels)))
