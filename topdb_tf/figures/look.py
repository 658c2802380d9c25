"""Where the models of runs look in images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from topdb_tf.drawing.activations import activation_figure
from topdb_tf.drawing.heat import activation_maps, heat
from topdb_tf.figures.images import (
    ImageChoice,
    aspect_of,
    batches_of,
    loaded_model,
    shown_images,
)
from topdb_tf.figures.view import View
from topdb_tf.runs.folder import Run, open_run
from topdb_tf.texts import Say, silent


@dataclass(frozen=True)
class Activations:
    """What part of some images the models of runs look at.

    Args:
        runs: Folders of the runs.
        map_name: The map, of `topdb_tf.model.variants.MAPS`.
        threshold: Share of the heat that pixels reach if they are kept.
        paths: The image files.
        kept: The share of each image that is kept by each run's model, shape
            `(num_images, num_runs)`.
    """

    runs: tuple[Path, ...]
    map_name: str
    threshold: float
    paths: tuple[Path, ...]
    kept: np.ndarray

    def to_dict(self) -> dict:
        """Returns what `--json` prints of it."""
        return {
            "runs": [str(run) for run in self.runs],
            "map": self.map_name,
            "threshold": self.threshold,
            "images": [
                {"path": str(path), "kept": shares}
                for path, shares in zip(self.paths, self.kept.tolist(), strict=True)
            ],
        }


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
    """Returns the activation of a run's model over images.

    Args:
        run: The run.
        choice: Which images.
        beside: Folders of other runs, drawn beside it on the same images.
        best: Whether to take the models of the best epochs instead of the last.
        map_name: The map, of `topdb_tf.model.variants.MAPS`.
        threshold: Share of the heat that pixels must reach to be kept, in (0, 1).
        say: Function that shows a line to the user.

    Raises:
        FileNotFoundError: If a run has no model yet, or an image is missing.
        ValueError: If a model has no such map, or the threshold is out of range.
    """
    runs = [run, *(open_run(path, say=say) for path in beside)]
    models = [loaded_model(one, best=best) for one in runs]
    shown = shown_images(run, choice, say=say)
    maps = [_maps(model, run.config, shown.images, map_name) for model in models]
    names = [_label(one, runs) for one in runs]
    aspect = aspect_of(models[0])

    def picture(width):
        return activation_figure(
            shown.images,
            dict(zip(names, maps, strict=True)),
            threshold=threshold,
            labels=shown.labels,
            aspect=aspect,
            width=width,
        )

    kept = [
        [_kept(one[place], image, threshold) for one in maps]
        for place, image in enumerate(shown.images)
    ]
    paths = tuple(one.path for one in runs)
    facts = Activations(paths, map_name, threshold, shown.paths, np.array(kept))
    return View(facts, picture)


def _maps(model, config, images, map_name):
    from topdb_tf.model.feature_maps import feature_maps

    batches = batches_of(model, config, images)
    return activation_maps(feature_maps(model, batches, name=map_name))


def _label(run, runs) -> str:
    """Returns the name of a run's folder, or its path where another has that name."""
    names = [one.name for one in runs]
    return run.name if names.count(run.name) == 1 else str(run.path)


def _kept(activation_map, image, threshold):
    shares = heat(activation_map, image.shape[:2])
    return float(np.mean(shares >= threshold))
