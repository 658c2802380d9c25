"""The activation through the epochs of a run, from its checkpoints."""

import contextlib
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from topdb_tf.drawing.activations import epochs_figure
from topdb_tf.drawing.heat import activation_maps
from topdb_tf.figures.images import ShownImages, batches_of
from topdb_tf.progress import progress_bar
from topdb_tf.runs.data import read_data
from topdb_tf.runs.folder import RunFolder
from topdb_tf.runs.machine import set_precision
from topdb_tf.runs.network import as_begun
from topdb_tf.runs.recipes import read_config
from topdb_tf.runs.settings import Config
from topdb_tf.training.checkpoint_files import Position, positions, read_checkpoint

_MOST_COLUMNS = 6


def epochs(
    run: RunFolder,
    config: Config,
    shown: ShownImages,
    *,
    chosen: Sequence[int] = (),
    name: str = "backbone",
    width: float,
) -> tuple[Figure, dict]:
    """Returns the activation over images at several epochs, and the facts about it.

    Weights are those that would be scored: the averages where a run keeps averages.

    Args:
        run: Folder of the run.
        config: Its settings; the data set tells the number of training identities.
        shown: The images.
        chosen: Epochs; none: up to six of those kept, evenly, with the first and last.
        name: The map, of `topdb_tf.model.variants.MAPS`.
        width: Of `topdb_tf.drawing.activations.epochs_figure`.

    Returns:
        The figure; and `run`, `map`, `epochs`, `kept` (all epochs that could be drawn)
        and `images`.

    Raises:
        FileNotFoundError: If the data is missing.
        ValueError: If fewer than two epochs are kept or chosen, one is not kept, or a
            checkpoint is damaged.
    """
    kept = kept_epochs(run)
    chosen = _checked(chosen, kept, run) or evenly(kept)
    drawn = epochs_figure(
        shown.images,
        epoch_maps(run, config, shown.images, chosen, name=name),
        epochs=chosen,
        labels=shown.labels,
        aspect=config.data.image_height / config.data.image_width,
        width=width,
    )
    images = [str(path) for path in shown.paths]
    facts = {"run": str(run.path), "map": name, "epochs": chosen, "kept": kept}
    return drawn, {**facts, "images": images}


def epoch_maps(
    run: RunFolder,
    config: Config,
    images: Sequence[np.ndarray],
    chosen: Sequence[int],
    *,
    name: str = "backbone",
) -> np.ndarray:
    """Returns the activation maps of images at several epochs of a run.

    Args:
        run: Folder of the run.
        config: Its settings; the data set tells the number of training identities.
        images: RGB, uint8, each of shape `(height, width, 3)`.
        chosen: Epochs of `kept_epochs`.
        name: The map, of `topdb_tf.model.variants.MAPS`.

    Returns:
        float32 array of shape `(num_epochs, num_images, rows, columns)`.

    Raises:
        FileNotFoundError: If the data is missing.
        ValueError: If a checkpoint is damaged.
    """
    num_pids = read_data(config.data.dataset, config, run=run).num_pids
    maps, network = [], None
    with progress_bar("reading epochs") as progress:
        for done, epoch in enumerate(chosen, 1):
            checkpoint = read_checkpoint(run.checkpoints, Position(epoch))
            network = network or _Network(run, config, checkpoint, num_pids)
            maps.append(network.activation(checkpoint, images, name))
            progress(done, len(chosen))
    return np.stack(maps)


def kept_epochs(run: RunFolder) -> list[int]:
    """Returns the epochs at whose end a run keeps a checkpoint, in ascending order.

    Raises:
        ValueError: If there are fewer than two.
    """
    kept = sorted(p.epoch for p in positions(run.checkpoints) if p.epoch and not p.step)
    if len(kept) < 2:
        keep = read_config(run.config).train.keep_checkpoints
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

    def __init__(self, run, config, checkpoint, num_pids):
        from topdb_tf.runs.network import build_trainer

        self._config = as_begun(config, read_config(run.config), checkpoint)
        with _in_precision(self._config.train.precision):
            self._trainer, self._embedder = build_trainer(
                self._config, num_pids=num_pids
            )
            self._trainer.optimizer.build(self._trainer.network.trainable_variables)

    def activation(self, checkpoint, images, name):
        """Returns the activation maps of images at a checkpoint."""
        from topdb_tf.model.feature_maps import feature_maps
        from topdb_tf.training.averaging import as_used
        from topdb_tf.training.state import restore

        restore(self._trainer, checkpoint.arrays)
        batches = batches_of(self._embedder, self._config, images)
        with as_used(self._trainer.network, self._trainer.optimizer):
            return activation_maps(feature_maps(self._embedder, batches, name=name))


@contextlib.contextmanager
def _in_precision(precision):
    import keras

    before = keras.config.dtype_policy()
    try:
        set_precision(precision)
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _checked(chosen, kept, run):
    missing = sorted(set(chosen) - set(kept))
    if missing:
        raise ValueError(
            f"An epoch must be one of those kept. {run.path} has {_listed(kept)}. "
            f"Received: {_listed(missing)}"
        )
    if len(set(chosen)) == 1:
        raise ValueError(
            f"Two or more epochs must be chosen. Received: {_listed(chosen)}"
        )
    return sorted(set(chosen))


def _listed(epochs):
    if not epochs:
        return "no epoch"
    word = "epoch" if len(epochs) == 1 else "epochs"
    return f"{word} {', '.join(map(str, epochs))}"


def _size_of_one(run):
    for position in positions(run.checkpoints):
        files = (run.checkpoints / position.name).iterdir()
        size = sum(file.stat().st_size for file in files) / 2**20
        return f" Each takes {size:,.0f} MiB."
    return ""
