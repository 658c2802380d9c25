"""The activation through the epochs of a run, from its checkpoints."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from topdb_tf.drawing.activations import epochs_figure
from topdb_tf.figures.images import ImageChoice, activation_of, shown_images
from topdb_tf.figures.view import View
from topdb_tf.progress import progress_bar
from topdb_tf.runs.data import read_data
from topdb_tf.runs.folder import Run
from topdb_tf.runs.machine import load_tensorflow, set_precision
from topdb_tf.runs.network import as_begun
from topdb_tf.texts import Say, silent
from topdb_tf.training.checkpoint_files import Position, positions, read_checkpoint

_MOST_COLUMNS = 6


@dataclass(frozen=True)
class EpochActivations:
    """The images over which the activation is drawn, at some of the epochs kept."""

    run: Path
    map: str
    epochs: list[int]
    kept: list[int]
    images: tuple[Path, ...]


def epochs(
    run: Run,
    choice: ImageChoice,
    *,
    only: Sequence[int] = (),
    map_name: str = "backbone",
    say: Say = silent,
) -> View:
    """Returns the activation over images at several epochs.

    Weights are those that would be scored: the averages where a run keeps averages.
    Where no epochs are named, up to six of those kept are shown, evenly, with the first
    and last. The map is one of `topdb_tf.model.variants.MAPS`.
    """
    kept = kept_epochs(run)
    drawn = _checked(only, kept, run) or evenly(kept)
    shown = shown_images(run, choice, say=say)
    maps = epoch_maps(run, shown.images, drawn, map_name=map_name)
    data = run.config.data

    def picture(width):
        return epochs_figure(
            shown.images,
            maps,
            epochs=drawn,
            labels=shown.labels,
            aspect=data.image_height / data.image_width,
            width=width,
        )

    facts = EpochActivations(run.path, map_name, drawn, kept, shown.paths)
    return View(facts, picture)


def epoch_maps(
    run: Run,
    images: Sequence[np.ndarray],
    epochs: Sequence[int],
    *,
    map_name: str = "backbone",
) -> np.ndarray:
    """Returns the activation maps of images at several of the epochs that a run kept.

    They are of shape `(num_epochs, num_images, rows, columns)`. The data set of the
    run's settings tells the number of training identities.
    """
    num_pids = read_data(run.config.data.dataset, run.config, run=run).num_pids
    load_tensorflow()
    maps, network = [], None
    with progress_bar("reading epochs") as progress:
        for done, epoch in enumerate(epochs, 1):
            checkpoint = read_checkpoint(run.folder.checkpoints, Position(epoch))
            network = network or _Network(run, checkpoint, num_pids)
            maps.append(network.activation(checkpoint, images, map_name))
            progress(done, len(epochs))
    return np.stack(maps)


def kept_epochs(run: Run) -> list[int]:
    """Returns the epochs, two at least, at whose end a run keeps a checkpoint."""
    places = positions(run.folder.checkpoints)
    kept = sorted(place.epoch for place in places if place.epoch and not place.step)
    if len(kept) < 2:
        keep = run.saved.train.keep_checkpoints
        raise ValueError(
            "A figure of the epochs needs the checkpoints after two or more. To keep "
            "more, train with `--set train.keep_checkpoints=100`, also where a run is "
            f"gone on with by `topdb-tf fit --resume`.{_size_of_one(run)} Received: "
            f"{run.path} with train.keep_checkpoints={keep}, which has {_listed(kept)}"
        )
    return kept


def evenly(kept: Sequence[int]) -> list[int]:
    """Returns up to six of some epochs, with the first and the last."""
    places = np.linspace(0, len(kept) - 1, min(len(kept), _MOST_COLUMNS))
    return [kept[round(place)] for place in places]


class _Network:
    """The network of a run, into which its checkpoints are read after one another."""

    def __init__(self, run, checkpoint, num_pids):
        from topdb_tf.runs.network import build_trainer

        self._config = as_begun(run.config, run.saved, checkpoint)
        with _in_precision(self._config.train.precision):
            self._trainer, self._embedder = build_trainer(
                self._config, num_pids=num_pids
            )
            self._trainer.optimizer.build(self._trainer.network.trainable_variables)

    def activation(self, checkpoint, images, map_name):
        """Returns the activation maps of images at a checkpoint."""
        from topdb_tf.training.averaging import as_used
        from topdb_tf.training.state import restore

        restore(self._trainer, checkpoint.arrays)
        with as_used(self._trainer.network, self._trainer.optimizer):
            return activation_of(self._embedder, self._config, images, map_name)


@contextlib.contextmanager
def _in_precision(precision):
    import keras

    before = keras.config.dtype_policy()
    try:
        set_precision(precision)
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _checked(epochs, kept, run):
    missing = sorted(set(epochs) - set(kept))
    if missing:
        raise ValueError(
            f"An epoch must be one of those kept. {run.path} has {_listed(kept)}. "
            f"Received: {_listed(missing)}"
        )
    if len(set(epochs)) == 1:
        raise ValueError(
            f"Two or more epochs must be chosen. Received: {_listed(epochs)}"
        )
    return sorted(set(epochs))


def _listed(epochs):
    if not epochs:
        return "no epoch"
    word = "epoch" if len(epochs) == 1 else "epochs"
    return f"{word} {', '.join(map(str, epochs))}"


def _size_of_one(run):
    folder = run.folder.checkpoints
    for position in positions(folder):
        files = (folder / position.name).iterdir()
        size = sum(file.stat().st_size for file in files) / 2**20
        return f" Each takes {size:,.0f} MiB."
    return ""
