"""Figures of what a run's model looks at, and of what its training drops."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from topdb_tf.drawing.activations import activation_figure
from topdb_tf.drawing.heat import activation_maps, heat
from topdb_tf.figures.images import ShownImages, batches_of
from topdb_tf.runs.folder import RunFolder, model_file, open_run
from topdb_tf.runs.settings import Config


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
        name: The map, of `topdb_tf.model.variants.MAPS`.
        threshold: Of `topdb_tf.drawing.activations.activation_figure`.
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
