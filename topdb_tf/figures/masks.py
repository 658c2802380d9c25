"""The rows of images that a run's training drops."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.drawing.drop_masks import drop_mask_figure
from topdb_tf.figures.images import (
    ImageChoice,
    aspect_of,
    batches_of,
    loaded_model,
    shown_images,
)
from topdb_tf.figures.view import View
from topdb_tf.runs.folder import Run
from topdb_tf.texts import Say, silent


class ImageRows(NamedTuple):
    """The rows of the feature map of an image, counted from 0 at the top."""

    path: Path
    row_relevance: list[float]
    dropped_rows: list[int]


@dataclass(frozen=True)
class DropMasks:
    """The rows that a run's training drops, and those of a random block."""

    run: Path
    num_rows: int
    random_block: list[int]
    images: tuple[ImageRows, ...]


def masks(
    run: Run, choice: ImageChoice, *, best: bool = False, say: Say = silent
) -> View:
    """Returns the rows that a run's training drops of images, and a random block.

    Images are shown as they are: not flipped, zoomed or erased. The seed of their
    choice is that of the random block, too.
    """
    model = loaded_model(run, best=best)
    shown = shown_images(run, choice, say=say)
    from topdb_tf.model.feature_maps import dropped_rows, random_block

    rows = dropped_rows(model, batches_of(model, run.config, shown.images))
    block = random_block(model, seed=choice.seed)
    aspect = aspect_of(model)

    def picture(width):
        return drop_mask_figure(
            shown.images,
            rows.row_relevance,
            top_dropped=rows.is_dropped,
            block_dropped=block,
            labels=shown.labels,
            aspect=aspect,
            width=width,
        )

    images = tuple(
        ImageRows(path, relevance.tolist(), np.flatnonzero(is_dropped).tolist())
        for path, relevance, is_dropped in zip(shown.paths, *rows, strict=True)
    )
    places = np.flatnonzero(block.any(axis=1)).tolist()
    return View(DropMasks(run.path, len(block), places, images), picture)
