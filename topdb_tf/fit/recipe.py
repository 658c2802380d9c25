"""A training from Python: a recipe by its name, and what is to be other in it."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from topdb_tf.data.benchmarks import dataset_name
from topdb_tf.files import remove_empty, user_path
from topdb_tf.fit.fit import fit as fit_config
from topdb_tf.runs.folder import Run, folder_of_new_run
from topdb_tf.runs.recipes import read_recipe, yaml_text
from topdb_tf.texts import Say


def fit(
    dataset: str | PathLike | None = None,
    *,
    recipe: str = "paper",
    run_dir: str | PathLike | None = None,
    settings: Mapping[str, Any] | Iterable[str] = (),
    callbacks: Sequence = (),
    triplet: Any = None,
    cross_entropy: Any = None,
    say: Say = print,
) -> Run:
    """Trains a network and writes all of the run into a folder, as `topdb-tf fit`.

    Args:
        dataset: A benchmark by its name, or one's own images: a CSV file or a folder;
            or several, joined by `+`. Without it, the recipe's.
        recipe: A recipe by its name, or a YAML file.
        run_dir: New folder of the run; `runs/DATASET-RECIPE-TIME` without.
        settings: What is to be other than in the recipe: `{"train.epochs": 60}`, or
            texts "train.epochs=60".
        callbacks: Further callbacks of Keras. They come after those of the run, and
            find the scores of an epoch in its logs: `mean_ap` and `rank_1`, shares
            that are NaN after an epoch that is not scored.
        triplet: A Keras loss of labels `(batch,)` and features `(batch, dim)` instead
            of the triplet loss. The settings of the run hold the name of its class,
            under which it must be registered for a training that is gone on with.
        cross_entropy: Likewise a Keras loss of labels and logits `(batch, num_pids)`.
        say: Function that shows a line.

    Returns:
        The run, which `topdb_tf.evaluate` and `topdb_tf.Embedder` take.

    Raises:
        FileExistsError: If the folder holds something already.
        FileNotFoundError: If data or weights are missing.
        ValueError: If data or settings cannot be used.
    """
    if isinstance(settings, Mapping):
        settings = [f"{key}={yaml_text(value)}" for key, value in settings.items()]
    overrides = [settings] if isinstance(settings, str) else [*settings]
    _check_callbacks(callbacks)
    if dataset is not None:
        overrides.append(f"data.dataset={yaml_text(str(dataset))}")
    for name, loss in (("triplet", triplet), ("cross_entropy", cross_entropy)):
        if loss is not None:
            overrides.append(f"train.{name}={_registered(name, loss)}")
    config = read_recipe(str(recipe), overrides, say=say)
    name = f"{dataset_name(config.data.dataset)}-{Path(recipe).stem}"
    path = folder_of_new_run(name) if run_dir is None else user_path(run_dir)
    try:
        return fit_config(config, path, callbacks=callbacks, say=say)
    finally:
        remove_empty([path, path.parent] if run_dir is None else [])


def _check_callbacks(callbacks):
    if isinstance(callbacks, Sequence) and not callbacks:
        return  # Keras need not be imported yet
    import keras

    kind = keras.callbacks.Callback
    if not isinstance(callbacks, Sequence) or not all(
        isinstance(callback, kind) for callback in callbacks
    ):
        raise ValueError(
            f"`callbacks` must be a list of Keras callbacks. Received: {callbacks!r}"
        )


def _registered(setting, loss):
    """Registers a loss by the name of its class, which is returned."""
    import keras

    from topdb_tf.training.losses import register_loss

    if not isinstance(loss, keras.losses.Loss):
        raise ValueError(f"`{setting}` must be a Keras loss. Received: {loss!r}")
    name = type(loss).__name__
    register_loss(name, loss, on="features" if setting == "triplet" else "logits")
    return name
