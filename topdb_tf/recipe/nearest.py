"""The recipe that a run follows, or comes nearest to, and how to repeat the run."""

import shlex
from pathlib import Path
from typing import NamedTuple

import yaml

from topdb_tf.config import Config
from topdb_tf.recipe.resume import FREE_SETTINGS, flat_settings
from topdb_tf.recipe_files import read_recipe, recipes

# Settings that leave the scores of a recipe as they are, or are data set and seed.
_NEUTRAL = {
    *FREE_SETTINGS,
    "data.split",
    "train.seed",
    "train.evaluate_every",
    "evaluation.batch_size",
    "evaluation.rerank",
}


class NearestRecipe(NamedTuple):
    """A recipe, and what a run does otherwise.

    Args:
        name: Name of the recipe.
        changes: Values of the run by `section.name`, of every setting that is not the
            recipe's.
    """

    name: str
    changes: dict

    @property
    def departures(self) -> dict:
        """The changes that make it another training than the recipe's."""
        return {k: value for k, value in self.changes.items() if not is_neutral(k)}


def is_neutral(setting: str) -> bool:
    """Returns whether runs of one recipe may differ in a setting `section.name`."""
    return setting in _NEUTRAL


def nearest_recipe(config: Config) -> NearestRecipe:
    """Returns the recipe with the fewest departures; of equal ones the nearest."""
    own = flat_settings(config)
    candidates = []
    for name in recipes():
        recipe = flat_settings(read_recipe(name))
        changes = {key: own[key] for key in own if own[key] != recipe[key]}
        candidates.append(NearestRecipe(name, changes))
    return min(candidates, key=lambda near: (len(near.departures), len(near.changes)))


def yaml_text(value) -> str:
    """Returns a setting as `--set` takes it."""
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def settings_text(settings: dict) -> str:
    """Returns settings for people.

    Example:
        >>> from topdb_tf.recipe.nearest import settings_text
        >>> settings_text({"train.epochs": 7, "train.drop_epochs": (5, 7)})
        'train.epochs=7, train.drop_epochs=[5, 7]'
    """
    return ", ".join(f"{key}={yaml_text(value)}" for key, value in settings.items())


def fit_command(config: Config, run: Path) -> str:
    """Returns the command that trains with these settings into a folder.

    The data root is left out: it is the machine's, and `$TOPDB_DATA` names it.
    """
    near = nearest_recipe(config)
    words = ["topdb-tf", "fit", "--recipe", near.name]
    words += ["--dataset", config.data.split, "--run-dir", str(run)]
    for key, value in near.changes.items():
        if key not in ("data.split", "data.root"):
            words += ["--set", f"{key}={yaml_text(value)}"]
    return shlex.join(words)
