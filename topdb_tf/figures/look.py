"""Where the models of runs look in images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.drawing.activations import activation_figure
from topdb_tf.drawing.heat import heat
from topdb_tf.figures.images import (
    ImageChoice,
    activation_of,
    aspect_of,
    loaded_model,
    shown_images,
)
from topdb_tf.figures.view import View
from topdb_tf.runs.folder import Run, open_run
from topdb_tf.texts import Say, silent


class KeptShares(NamedTuple):
    """The shares of an image that reach the threshold, one a run."""

    path: Path
    kept: list[float]


@dataclass(frozen=True)
class Activations:
    """What part of some images the models of runs look at."""

    runs: tuple[Path, ...]
    map: str
    threshold: float
    images: tuple[KeptShares, ...]


def activations(
    run: Run,
    choice: ImageChoice,
    *,
    beside: Sequence[Path] = (),
    best: bool = False,
    map_name: str = "backbone",
    threshold: float = 0.5,
    say: Say = silent,
) -> View:
    """Returns the activation of the models of a run, and of others beside, over images.

    The map is one of `topdb_tf.model.variants.MAPS`. Pixels are kept that reach the
    threshold, a share of the heat in (0, 1).
    """
    runs = [run, *(open_run(path, say=say) for path in beside)]
    models = [loaded_model(one, best=best) for one in runs]
    shown = shown_images(run, choice, say=say)
    config, images = run.config, shown.images
    maps = [activation_of(model, config, images, map_name) for model in models]
    names = [_label(one, runs) for one in runs]
    aspect = aspect_of(models[0])

    def picture(width):
        return activation_figure(
            images,
            dict(zip(names, maps, strict=True)),
            threshold=threshold,
            labels=shown.labels,
            aspect=aspect,
            width=width,
        )

    shares = tuple(
        KeptShares(path, [_kept(one[place], image, threshold) for one in maps])
        for place, (path, image) in enumerate(zip(shown.paths, images, strict=True))
    )
    paths = tuple(one.path for one in runs)
    return View(Activations(paths, map_name, threshold, shares), picture)


def _label(run, runs) -> str:
    """Returns the name of a run's folder, or its path where another has that name."""
    names = [one.name for one in runs]
    return run.name if names.count(run.name) == 1 else str(run.path)


def _kept(activation_map, image, threshold):
    shares = heat(activation_map, image.shape[:2])
    return float(np.mean(shares >= threshold))
