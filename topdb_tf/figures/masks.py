"""The rows of images that a run's training drops."""

from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class DropMasks:
    """The rows of the feature map that are dropped, counted from 0 at the top.

    Args:
        run: Folder of the run.
        paths: The image files.
        row_relevance: What rows are ranked by, shape `(num_images, num_rows)`.
        is_dropped: Which rows Top DropBlock drops, bool of the same shape.
        random_block: Which cells a random block drops, bool `(num_rows, columns)`.
    """

    run: Path
    paths: tuple[Path, ...]
    row_relevance: np.ndarray
    is_dropped: np.ndarray
    random_block: np.ndarray

    def to_dict(self) -> dict:
        """Returns what `--json` prints of it."""
        images = zip(self.paths, self.row_relevance, self.is_dropped, strict=True)
        return {
            "run": str(self.run),
            "num_rows": len(self.random_block),
            "random_block": np.flatnonzero(self.random_block.any(axis=1)).tolist(),
            "images": [
                {
                    "path": str(path),
                    "row_relevance": relevance.tolist(),
                    "dropped_rows": np.flatnonzero(is_dropped).tolist(),
                }
                for path, relevance, is_dropped in images
            ],
        }


def masks(
    run: Run, choice: ImageChoice, *, best: bool = False, say: Say = silent
) -> View:
    """Returns the rows that a run's training drops of images, and a random block.

    Args:
        run: The run.
        choice: Which images, shown as they are: not flipped, zoomed or erased. Its
            seed is that of the random block, too.
        best: Whether to take the model of the best epoch instead of the last.
        say: Function that shows a line to the user.

    Raises:
        FileNotFoundError: If the run has no model yet, or an image is missing.
        ValueError: If its network has no Top DropBlock.
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

    facts = DropMasks(run.path, shown.paths, rows.row_relevance, rows.is_dropped, block)
    return View(facts, picture)
