"""The rows that a run's training drops, drawn."""

import numpy as np
from matplotlib.figure import Figure

from topdb_tf.drawing.drop_masks import drop_mask_figure
from topdb_tf.figures.images import ShownImages, batches_of
from topdb_tf.figures.look import _aspect, _embedder
from topdb_tf.runs.folder import RunFolder
from topdb_tf.runs.settings import Config


def masks(
    run: RunFolder,
    config: Config,
    shown: ShownImages,
    *,
    best: bool = False,
    seed: int = 1,
    width: float,
) -> tuple[Figure, dict]:
    """Returns the rows that a run's training drops of images, and a random block.

    Args:
        run: Folder of the run.
        config: Its settings.
        shown: The images, as they are: not flipped, zoomed or erased.
        best: Whether to take the model of the best epoch instead of the last.
        seed: Of the random block.
        width: Of `topdb_tf.drawing.drop_masks.drop_mask_figure`.

    Returns:
        The figure; and `run`, `num_rows`, `random_block` (its rows) and `images` with
        `path`, `row_relevance` and `dropped_rows`, rows counted from 0 at the top.

    Raises:
        FileNotFoundError: If the run has no model yet.
        ValueError: If its network has no Top DropBlock.
    """
    embedder = _embedder(run, best=best)
    from topdb_tf.model.feature_maps import dropped_rows, random_block

    rows = dropped_rows(embedder, batches_of(embedder, config, shown.images))
    block = random_block(embedder, seed=seed)
    drawn = drop_mask_figure(
        shown.images,
        rows.row_relevance,
        top_dropped=rows.is_dropped,
        block_dropped=block,
        labels=shown.labels,
        aspect=_aspect(embedder),
        width=width,
    )
    images = [
        {
            "path": str(path),
            "row_relevance": relevance.tolist(),
            "dropped_rows": np.flatnonzero(is_dropped).tolist(),
        }
        for path, relevance, is_dropped in zip(shown.paths, *rows, strict=True)
    ]
    places = np.flatnonzero(block.any(axis=1)).tolist()
    facts = {"run": str(run.path), "num_rows": len(block), "random_block": places}
    return drawn, {**facts, "images": images}
