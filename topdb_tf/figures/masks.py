"""What a run's training drops of images."""

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


class Part(NamedTuple):
    """The rows and columns whose crossings are dropped, counted from the upper left."""

    rows: list[int]
    columns: list[int]

    @classmethod
    def of(cls, is_dropped: np.ndarray) -> "Part":
        """Returns the part of a mask `(rows, columns)`."""
        return cls(*(np.flatnonzero(is_dropped.any(axis=a)).tolist() for a in (1, 0)))


class ImageRows(NamedTuple):
    """The rows of the feature map of an image, counted from 0 at the top.

    `dropped_rows` are those of which a drop block takes something; `parts` is what
    each drop block takes.
    """

    path: Path
    row_relevance: list[float]
    dropped_rows: list[int]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class DropMasks:
    """What a run's training drops, and the rows and columns of a random block."""

    run: Path
    num_rows: int
    num_columns: int
    random_block: list[int]
    random_columns: list[int]
    images: list[ImageRows]


def masks(
    run: Run, choice: ImageChoice, *, best: bool = False, say: Say = silent
) -> View:
    """Returns what a run's training drops of images, and a random block.

    Images are shown as they are: not flipped, zoomed or erased. The seed of their
    choice is that of the random block, too.
    """
    model = loaded_model(run, best=best)
    shown = shown_images(run, choice, say=say)
    from topdb_tf.model.feature_maps import dropped_parts, random_block

    dropped = dropped_parts(model, batches_of(model, run.config, shown.images))
    block = random_block(model, seed=choice.seed)
    aspect = aspect_of(model)
    relevance = dropped[0].row_relevance  # by one map and rule for all of them

    def picture(width):
        return drop_mask_figure(
            shown.images,
            relevance,
            top_dropped=[one.is_dropped for one in dropped],
            block_dropped=block,
            labels=shown.labels,
            aspect=aspect,
            width=width,
        )

    images = []
    for place, path in enumerate(shown.paths):
        parts = tuple(
            Part.of(np.broadcast_to(one.is_dropped[place], block.shape))
            for one in dropped
        )
        rows = sorted({row for part in parts for row in part.rows})
        images.append(ImageRows(path, relevance[place].tolist(), rows, parts))
    facts = DropMasks(run.path, *block.shape, *Part.of(block), images)
    return View(facts, picture)
