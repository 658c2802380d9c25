"""Which recipe a run's settings are nearest to, and the command for them."""

import shlex
from pathlib import Path
from typing import NamedTuple

from topdb_tf.runs.recipes import (
    FREE_SETTINGS,
    ChangedSetting,
    changed_settings,
    read_recipe,
    recipes,
    settings_text,
)
from topdb_tf.runs.settings import Config

# Settings in which runs of one recipe may differ: its scores are the same, or vary by
# the seed alone.
NEUTRAL_SETTINGS = (
    *FREE_SETTINGS,
    "data.dataset",
    "train.seed",
    "train.evaluate_every",
    "evaluation.batch_size",
    "evaluation.rerank",
)


class NearestRecipe(NamedTuple):
    """A recipe, and every setting that a run has otherwise."""

    name: str
    changes: tuple[ChangedSetting, ...]

    @property
    def departures(self) -> tuple[ChangedSetting, ...]:
        """The changes that make it another training than the recipe's."""
        return tuple(one for one in self.changes if one.key not in NEUTRAL_SETTINGS)


def nearest_recipe(config: Config) -> NearestRecipe:
    """Returns the recipe with the fewest departures; of equal ones the nearest."""
    epochs, candidates = config.train.epochs, []
    for name in recipes():
        own = read_recipe(name).train.epochs
        changes = changed_settings(
            read_recipe(name, [f"train.epochs={epochs}"]), config
        )
        if own != epochs:  # what follows from it is no change of its own
            changes = (ChangedSetting("train.epochs", own, epochs), *changes)
        candidates.append(NearestRecipe(name, changes))
    return min(candidates, key=lambda near: (len(near.departures), len(near.changes)))


def fit_command(config: Config, run: Path) -> str:
    """Returns the command that trains with these settings into a folder.

    The data root is left out: it is the machine's, and `$TOPDB_DATA` names it.
    """
    near = nearest_recipe(config)
    words = ["topdb-tf", "fit", "--recipe", near.name]
    words += ["--dataset", config.data.dataset, "--run-dir", str(run)]
    for change in near.changes:
        if change.key not in ("data.dataset", "data.root"):
            words += ["--set", settings_text([change])]
    return shlex.join(words)
