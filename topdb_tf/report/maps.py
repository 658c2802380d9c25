"""Where the network looks in some images, and which rows its training would drop."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from topdb_tf.data.records import ImageRecord
from topdb_tf.drawing.heat import activation_maps, heat, overlay
from topdb_tf.evaluate.measured import Measured
from topdb_tf.figures.epochs import epoch_maps, evenly, kept_epochs
from topdb_tf.figures.images import batches_of
from topdb_tf.report.thumbnails import encoded_image
from topdb_tf.runs.settings import Config

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
    maps, drops = _maps_and_drops(embedder, measured.config, records)
    lists = measured.plain.lists
    items = []
    for place, (index, record) in enumerate(zip(indices, records, strict=True)):
        is_dropped = None if drops is None else drops[place]
        person = measured.split.pid_names.get(record.pid, record.pid)
        items.append(
            {
                "caption": f"{record.path.name}: person {person}, first match at rank "
                f"{lists.first_match_rank[index]:,}",
                "pictures": _pictures(record, maps[place], is_dropped),
            }
        )
    return {"lead": _lead(drops), "shown": items}


def _lead(drops):
    lead = (
        "The image, and where the backbone responds (eq. 1 of the paper): bright is "
        "the most and dark the least within this image."
    )
    if drops is None:
        return f"{lead} This network has no Top DropBlock, so no rows are marked."
    rows = round(drops.sum(axis=1).mean())
    return (
        f"{lead} Third: the {rows} of {drops.shape[1]} rows of the feature map that "
        "Top DropBlock would zero in training. Nothing is dropped when images are "
        "ranked."
    )


def _maps_and_drops(embedder, config: Config, records: Sequence[ImageRecord]):
    """Returns maps `(num_images, rows, columns)` and which rows would be dropped."""
    from topdb_tf.data.decoding import decode_images
    from topdb_tf.model.feature_maps import (
        dropped_rows,
        drops_ranked_rows,
        feature_maps,
    )

    images = decode_images([record.path for record in records])
    batches = batches_of(embedder, config, images)
    maps = activation_maps(feature_maps(embedder, batches))
    if not drops_ranked_rows(embedder):
        return maps, None
    return maps, dropped_rows(embedder, batches).is_dropped


def epochs_pictures(measured: Measured, indices: Sequence[int]) -> dict:
    """Returns pictures of some queries with the activation through the training.

    Args:
        measured: What was measured.
        indices: Places of the queries.

    Returns:
        `lead`, and `shown` with `caption` and `pictures`; no `shown` where the run
        keeps too few checkpoints, which `lead` then says.
    """
    try:
        chosen = evenly(kept_epochs(measured.run))
    except ValueError as error:
        return {"lead": str(error), "shown": []}
    records = [measured.split.query[index] for index in indices]
    images = [_resized(record) for record in records]
    maps = epoch_maps(measured.run, measured.config, images, chosen)
    items = []
    for place, (record, image) in enumerate(zip(records, images, strict=True)):
        heats = [heat(own[place], image.shape[:2]) for own in maps]
        shown = {"the image": image}
        shown |= {
            f"epoch {n}": overlay(image, own)
            for n, own in zip(chosen, heats, strict=True)
        }
        items.append({"caption": record.path.name, "pictures": _encoded(record, shown)})
    lead = (
        "Through the training, by the checkpoints that the run keeps: where the "
        "backbone responds, from the least to the most within each picture."
    )
    return {"lead": lead, "shown": items}


def _pictures(record, activation_map, is_dropped):
    pixels = _resized(record)
    shown = {
        "query": pixels,
        "activation": overlay(pixels, heat(activation_map, pixels.shape[:2])),
    }
    if is_dropped is not None:
        shown["rows that would be dropped"] = _with_rows(pixels, is_dropped)
    return _encoded(record, shown)


def _resized(record):
    with Image.open(record.path) as image:
        original = image.convert("RGB")
    width = max(1, round(original.width * _HEIGHT / original.height))
    return np.asarray(original.resize((width, _HEIGHT), Image.Resampling.BICUBIC))


def _encoded(record, shown):
    return [
        {
            "data": encoded_image(Image.fromarray(own)),
            "name": name,
            "alt": f"{name}: {record.path.name}",
            "width": own.shape[1],
            "height": own.shape[0],
        }
        for name, own in shown.items()
    ]


def _with_rows(pixels, is_dropped):
    """Returns the image with colour over the parts that dropped rows stand for."""
    rows = np.arange(len(pixels)) * len(is_dropped) // len(pixels)
    dropped = is_dropped[rows][:, None, None]
    shaded = (1 - _SHADE) * pixels + _SHADE * np.array(_DROPPED)
    return np.uint8(np.round(np.where(dropped, shaded, pixels)))
