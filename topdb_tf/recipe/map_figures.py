"""Figures of what a run's model looks at, and of what its training drops."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from topdb_tf.config import Config
from topdb_tf.figures.activations import activation_figure
from topdb_tf.figures.drop_masks import drop_mask_figure
from topdb_tf.figures.heat import activation_maps, heat
from topdb_tf.recipe.shown_images import ShownImages
from topdb_tf.run_folder import RunFolder, model_file, open_run


def activations(
    run: RunFolder,
    config: Config,
    shown: ShownImages,
    *,
    beside: Sequence[Path] = (),
    best: bool = False,
    name: str = "backbone",
    threshold: float = 0.5,
    width: float,
) -> tuple[Figure, dict]:
    """Returns the activation of a run's model over images, and the facts about it.

    Args:
        run: Folder of the run.
        config: Its settings.
        shown: The images.
        beside: Folders of other runs, drawn beside it on the same images.
        best: Whether to take the models of the best epochs instead of the last.
        name: The map, of `topdb_tf.model.feature_maps.MAPS`.
        threshold: Of `topdb_tf.figures.activations.activation_figure`.
        width: The same.

    Returns:
        The figure; and `runs`, `map`, `threshold` and `images` with `path` and `kept`,
        the share of the image that reaches the threshold, one a run.

    Raises:
        FileNotFoundError: If a run has no model yet.
        ValueError: If the model has no such map, or the threshold is out of range.
    """
    runs = [run, *(open_run(path) for path in beside)]
    maps, aspect = {}, None
    for own in runs:
        embedder = _embedder(own, best=best)
        aspect = aspect or _aspect(embedder)
        found = _feature_maps(embedder, config, shown, name)
        maps[_name_of(own, runs)] = activation_maps(found)
    drawn = activation_figure(
        shown.images,
        maps,
        threshold=threshold,
        labels=shown.labels,
        aspect=aspect,
        width=width,
    )
    images = []
    for place, (path, image) in enumerate(zip(shown.paths, shown.images, strict=True)):
        heats = [heat(own[place], image.shape[:2]) for own in maps.values()]
        kept = [float(np.mean(shares >= threshold)) for shares in heats]
        images.append({"path": str(path), "kept": kept})
    facts = {"runs": [str(own.path) for own in runs], "map": name}
    return drawn, {**facts, "threshold": threshold, "images": images}


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
        width: Of `topdb_tf.figures.drop_masks.drop_mask_figure`.

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


def batches_of(embedder, config: Config, images: Sequence[np.ndarray]):
    """Returns the `tf.data.Dataset` of images, of any sizes, for a model."""
    from topdb_tf.data.pipeline import evaluation_dataset

    return evaluation_dataset(
        images,
        image_size=tuple(embedder.input_shape[1:3]),
        batch_size=config.evaluation.batch_size,
    )


def _embedder(run, *, best):
    path = model_file(run, best=best)
    from topdb_tf.model.extraction import load_embedder

    return load_embedder(path)


def _feature_maps(embedder, config, shown, name):
    from topdb_tf.model.feature_maps import feature_maps

    return feature_maps(embedder, batches_of(embedder, config, shown.images), name=name)


def _aspect(embedder) -> float:
    height, width = embedder.input_shape[1:3]
    return height / width


def _name_of(run, runs) -> str:
    """Returns the name of a run's folder, or its path where another has that name."""
    names = [own.path.resolve().name for own in runs]
    name = run.path.resolve().name
    return name if names.count(name) == 1 else str(run.path)
