"""Where the network looks in some images, and what its training would drop."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from topdb_tf.data.records import ImageRecord
from topdb_tf.drawing.heat import heat, overlay
from topdb_tf.evaluate.measured import Measured
from topdb_tf.figures.epochs import epoch_maps, evenly, kept_epochs
from topdb_tf.figures.images import activation_of, batches_of
from topdb_tf.report.thumbnails import encoded_image

_HEIGHT = 192  # pixels of the pictures
_DROPPED = (213, 94, 0)  # vermilion
_SHADE = 0.6


class Picture(NamedTuple):
    """A picture inside a page, WebP in Base64, and what is said of it."""

    data: str
    name: str
    alt: str
    width: int
    height: int


class PicturesOfQuery(NamedTuple):
    """The pictures of one query, and what is said below them."""

    caption: str
    pictures: Sequence[Picture]


class Maps(NamedTuple):
    """Pictures of several queries, and what is said above them."""

    lead: str
    queries: Sequence[PicturesOfQuery]


def some_of_each_reason(reasons: Mapping[int, str], number: int) -> list[int]:
    """Returns places of queries, one of each reason after the other.

    There are at most `number` of them; reasons are by the place of the query.
    """
    by_reason = {}
    for query, reason in reasons.items():
        by_reason.setdefault(reason, []).append(query)
    rounds = itertools.zip_longest(*by_reason.values())
    taken = [query for one in rounds for query in one if query is not None]
    return taken[:number]


def activation_pictures(measured: Measured, embedder, queries: Sequence[int]) -> Maps:
    """Returns pictures of some queries with the activation and what is dropped.

    The embedder is the model that was measured, and queries are told by their places.
    """
    split, lists = measured.split, measured.plain.lists
    records = [split.query[query] for query in queries]
    maps, masks = _maps_and_drops(embedder, measured, records)
    shown = []
    for place, (query, record) in enumerate(zip(queries, records, strict=True)):
        image = _resized(record)
        pictures = {
            "query": image,
            "activation": overlay(image, heat(maps[place], image.shape[:2])),
        }
        for number, mask in enumerate(masks, 1):
            name = f" by block {number}" if len(masks) > 1 else ""
            shaded = _shaded(image, mask[place])
            pictures[f"what would be dropped{name}"] = shaded
        caption = (
            f"{record.path.name}: person {split.pid_name(record.pid)}, first match "
            f"at rank {lists.first_match_rank[query]:,}"
        )
        shown.append(PicturesOfQuery(caption, _encoded(record, pictures)))
    return Maps(_lead(masks), shown)


def epochs_pictures(measured: Measured, queries: Sequence[int]) -> Maps:
    """Returns pictures of some queries with the activation through the training.

    Where the run keeps too few checkpoints, there is none, and `lead` says so.
    """
    try:
        epochs = evenly(kept_epochs(measured.run))
    except ValueError as error:
        return Maps(str(error), ())
    records = [measured.split.query[query] for query in queries]
    images = [_resized(record) for record in records]
    maps = epoch_maps(measured.run, images, epochs)
    shown = []
    for place, (record, image) in enumerate(zip(records, images, strict=True)):
        pictures = {"the image": image}
        for epoch, maps_of_epoch in zip(epochs, maps, strict=True):
            shares = heat(maps_of_epoch[place], image.shape[:2])
            pictures[f"epoch {epoch}"] = overlay(image, shares)
        shown.append(PicturesOfQuery(record.path.name, _encoded(record, pictures)))
    lead = (
        "Through the training, by the checkpoints that the run keeps: where the "
        "backbone responds, from the least to the most within each picture."
    )
    return Maps(lead, shown)


def _lead(masks):
    lead = (
        "The image, and where the backbone responds (eq. 1 of the paper): bright is "
        "the most and dark the least within this image."
    )
    if not masks:
        return f"{lead} This network has no Top DropBlock, so no rows are marked."
    parts = " or ".join(map(_part_text, masks))
    blocks = "Top DropBlock" if len(masks) == 1 else "the Top DropBlocks"
    return (
        f"{lead} Then the {parts} of the feature map that {blocks} would zero in "
        "training. Nothing is dropped when images are ranked."
    )


def _part_text(mask):
    """Returns how much of each image a mask `(num_images, rows, columns)` takes."""
    rows = round(mask.any(axis=2).sum(axis=1).mean())
    text = f"{rows} of {mask.shape[1]} rows"
    if mask.shape[2] > 1:
        columns = round(mask.any(axis=1).sum(axis=1).mean())
        text += f", in {columns} of {mask.shape[2]} columns,"
    return text


def _maps_and_drops(embedder, measured: Measured, records: Sequence[ImageRecord]):
    """Returns maps `(num_images, rows, columns)`, and a mask for each drop block."""
    from topdb_tf.data.decoding import decode_images
    from topdb_tf.model.feature_maps import dropped_parts, drops_ranked_rows

    images = decode_images([record.path for record in records])
    maps = activation_of(embedder, measured.config, images, "backbone")
    if not drops_ranked_rows(embedder):
        return maps, []
    batches = batches_of(embedder, measured.config, images)
    return maps, [one.is_dropped for one in dropped_parts(embedder, batches)]


def _resized(record):
    with Image.open(record.path) as image:
        original = image.convert("RGB")
    width = max(1, round(original.width * _HEIGHT / original.height))
    return np.asarray(original.resize((width, _HEIGHT), Image.Resampling.BICUBIC))


def _encoded(record, pictures):
    return [
        Picture(
            data=encoded_image(Image.fromarray(pixels)),
            name=name,
            alt=f"{name}: {record.path.name}",
            width=pixels.shape[1],
            height=pixels.shape[0],
        )
        for name, pixels in pictures.items()
    ]


def _shaded(pixels, mask):
    """Returns the image with colour over what dropped positions stand for."""
    rows, columns = (
        np.arange(pixels.shape[axis]) * mask.shape[axis] // pixels.shape[axis]
        for axis in (0, 1)
    )
    dropped = mask[rows[:, None], columns][:, :, None]
    shaded = (1 - _SHADE) * pixels + _SHADE * np.array(_DROPPED)
    return np.uint8(np.round(np.where(dropped, shaded, pixels)))
