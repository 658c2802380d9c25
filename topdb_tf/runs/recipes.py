"""Recipes: YAML files of differences from the defaults, and `--set` overrides."""

import dataclasses
import difflib
import shlex
import types
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from topdb_tf.runs.settings import RENAMED, Config

_SCALARS = {int: "a whole number", float: "a number", str: "a text", bool: "true/false"}


def recipes() -> tuple[str, ...]:
    """Returns the names of the recipes that come with the package."""
    return tuple(sorted(path.stem for path in _recipe_folder().glob("*.yaml")))


def read_recipe(
    name_or_path: str,
    overrides: Iterable[str] = (),
    *,
    say: Callable[[str], None] | None = None,
) -> Config:
    """Returns the defaults with a recipe's differences and then the overrides.

    Args:
        name_or_path: A recipe's name, or a YAML file.
        overrides: Texts `section.key=value`, the value in YAML.
        say: Function that shows a line, here about settings by an old name. Defaults
            to silence.

    Raises:
        ValueError: If the recipe, a key or a value is not known.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        if name_or_path not in recipes():
            raise ValueError(
                f"`recipe` must be one of {', '.join(recipes())}, or a YAML file."
                f"{_nearest(name_or_path, recipes())} Received: recipe={name_or_path!r}"
            )
        path = _recipe_folder() / f"{name_or_path}.yaml"
    return read_config(path, overrides, say=say)


def read_config(
    path: Path,
    overrides: Iterable[str] = (),
    *,
    say: Callable[[str], None] | None = None,
) -> Config:
    """Returns the defaults with a YAML file's differences and then the overrides.

    Args:
        path: The YAML file.
        overrides: Texts `section.key=value`, the value in YAML.
        say: Function that shows a line, here about settings by an old name. Defaults
            to silence.

    Raises:
        ValueError: If the file is no YAML mapping, if a key or value is not known, or
            if a setting stands there by its old name and its new one.
        FileNotFoundError: If there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration file {path}.")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not a YAML file: {error}") from error
    say = say or (lambda line: None)
    settings = _by_new_names(settings, str(path), say)
    config = _updated(Config(), settings, where=str(path))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ValueError(
                "An override must read `section.key=value`. "
                f"Received: --set {override!r}"
            )
        settings = _yaml_value(text)
        for part in reversed(key.strip().split(".")):
            settings = {part: settings}
        settings = _by_new_names(settings, f"--set {override}", say)
        config = _updated(config, settings, where=f"--set {override}")
    _check(config)
    return config


def _recipe_folder():
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def _yaml_value(text):
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _by_new_names(settings, where, say):
    """Returns the settings of a mapping with new names in place of the old ones."""
    for old, new in RENAMED.items():
        section, _, old_key = old.partition(".")
        new_key = new.partition(".")[2]
        values = settings.get(section) if isinstance(settings, dict) else None
        if not isinstance(values, dict) or old_key not in values:
            continue
        if new_key in values:
            raise ValueError(
                f"`{new}` must be given once: `{old}` is its old name. Remove that. "
                f"Received: both ({where})"
            )
        say(f"{where}: the setting `{old}` is now called `{new}`; it is read as that.")
        values = {new_key if k == old_key else k: v for k, v in values.items()}
        settings = {**settings, section: values}
    return settings


def _updated(section, settings, *, where, prefix=""):
    """Returns a copy of a (nested) dataclass with the settings of a mapping."""
    if not isinstance(settings, dict):
        raise ValueError(
            f"{prefix.rstrip('.') or 'A configuration'} must hold keys and values. "
            f"Received: {settings!r} ({where})"
        )
    hints = typing.get_type_hints(type(section))
    changes = {}
    for key, value in settings.items():
        if key not in hints:
            names = _all_keys() if not prefix else [f"{prefix}{name}" for name in hints]
            raise ValueError(
                f"There is no setting `{prefix}{key}`."
                f"{_nearest(f'{prefix}{key}', names)} Received: {where}"
            )
        current = getattr(section, key)
        if dataclasses.is_dataclass(current):
            value = _updated(current, value, where=where, prefix=f"{prefix}{key}.")
        else:
            value = _converted(value, hints[key], f"{prefix}{key}", where)
        changes[key] = value
    return dataclasses.replace(section, **changes)


def _converted(value: Any, hint: Any, key: str, where: str) -> Any:
    """Returns the value as the type of a field, or says what it must be."""
    if isinstance(hint, types.UnionType):
        for option in typing.get_args(hint):
            if option is type(None) and value is None:
                return None
            try:
                return _converted(value, option, key, where)
            except (ValueError, TypeError):
                continue
    if typing.get_origin(hint) is tuple:
        values = value if isinstance(value, list | tuple) else [value]
        return tuple(
            _converted(item, typing.get_args(hint)[0], key, where) for item in values
        )
    if hint is float and isinstance(value, str):
        value = _number(value)  # YAML reads 1e-3 as a text
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if hint is str and key == "model.weights" and value is None:
        value = "none"  # YAML reads none, null and ~ alike
    if type(value) is not hint:
        expected = _SCALARS.get(hint, str(hint))
        raise ValueError(f"`{key}` must be {expected}. Received: {value!r} ({where})")
    return value


def _number(text):
    try:
        return float(text)
    except ValueError:
        return text


def _all_keys():
    return [
        f"{section.name}.{setting.name}"
        for section in dataclasses.fields(Config)
        for setting in dataclasses.fields(section.default_factory)
    ]


def _nearest(name, names):
    by_leaf = {option.rpartition(".")[2]: option for option in names}
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not close and name.rpartition(".")[2] in by_leaf:
        close = [by_leaf[name.rpartition(".")[2]]]
    return f" Did you mean `{close[0]}`?" if close else ""


def _check(config):
    for section in dataclasses.fields(config):
        settings = getattr(config, section.name)
        for setting in dataclasses.fields(settings):
            key, value = (
                f"{section.name}.{setting.name}",
                getattr(settings, setting.name),
            )
            _check_setting(key, value, setting.metadata)
    data = config.data
    if data.batch_size % data.images_per_pid or data.pids_per_batch < 2:
        raise ValueError(
            "`data.batch_size` must be a multiple of `data.images_per_pid`, and hold "
            "at least two identities. Received: "
            f"batch_size={data.batch_size}, images_per_pid={data.images_per_pid}"
        )
    _check_training(config.train)


def _check_training(train):
    if train.ema == 1:
        raise ValueError("`train.ema` must be below 1: nothing new would be averaged.")
    if train.stop_after and not train.evaluate_every:
        raise ValueError(
            "`train.stop_after` needs scores while training: set "
            "`train.evaluate_every`. Received: "
            f"stop_after={train.stop_after}, evaluate_every=0"
        )
    if train.freeze_epochs >= train.epochs:
        raise ValueError(
            "`train.freeze_epochs` must be fewer than `train.epochs`. Received: "
            f"freeze_epochs={train.freeze_epochs}, epochs={train.epochs}"
        )
    if train.schedule == "cosine" and train.warmup_epochs >= train.epochs:
        raise ValueError(
            "With `train.schedule=cosine`, `train.warmup_epochs` must be fewer than "
            f"`train.epochs`. Received: warmup_epochs={train.warmup_epochs}, "
            f"epochs={train.epochs}"
        )


def _check_setting(key, value, limits):
    choices = limits.get("choices")
    if choices and value not in choices:
        raise ValueError(
            f"`{key}` must be one of {', '.join(choices)}.{_nearest(value, choices)} "
            f"Received: {value!r}"
        )
    if value is None or "least" not in limits:
        return
    if "most" in limits and not limits["least"] <= value <= limits["most"]:
        span = f"[{limits['least']}, {limits['most']}]"
        raise ValueError(f"`{key}` must be in {span}. Received: {value}")
    if value < limits["least"]:
        raise ValueError(
            f"`{key}` must be at least {limits['least']}. Received: {value}"
        )


# Settings that do not change the result.
FREE_SETTINGS = (
    "data.root",
    "data.threads",
    "train.checkpoint_minutes",
    "train.keep_checkpoints",
)


def flat_settings(config: Config) -> dict:
    """Returns all settings by `section.name`."""
    return {
        f"{section}.{key}": value
        for section, settings in dataclasses.asdict(config).items()
        for key, value in settings.items()
    }


def check_same_settings(own: Config, config: Config, *, force: bool) -> None:
    """Checks that a run goes on with its own settings, but for free ones.

    Args:
        own: Settings of the run.
        config: Those to go on with.
        force: Whether others are accepted.

    Raises:
        ValueError: If settings that change the result differ; all are named.
    """
    before, now = flat_settings(own), flat_settings(config)
    changed = [
        f"{key} (the run's {before[key]!r}, now {now[key]!r})"
        for key in before
        if before[key] != now[key] and key not in FREE_SETTINGS
    ]
    if changed and not force:
        raise ValueError(
            "A run is resumed with its own settings. Leave out those that differ, or "
            f"pass --force to go on with them. Received: {', '.join(changed)}"
        )


# Settings that leave the scores of a recipe as they are, or are data set and seed.
_NEUTRAL = {
    *FREE_SETTINGS,
    "data.dataset",
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
        >>> from topdb_tf.runs.recipes import settings_text
        >>> settings_text({"train.epochs": 7, "train.decay_epochs": (5, 7)})
        'train.epochs=7, train.decay_epochs=[5, 7]'
    """
    return ", ".join(f"{key}={yaml_text(value)}" for key, value in settings.items())


def fit_command(config: Config, run: Path) -> str:
    """Returns the command that trains with these settings into a folder.

    The data root is left out: it is the machine's, and `$TOPDB_DATA` names it.
    """
    near = nearest_recipe(config)
    words = ["topdb-tf", "fit", "--recipe", near.name]
    words += ["--dataset", config.data.dataset, "--run-dir", str(run)]
    for key, value in near.changes.items():
        if key not in ("data.dataset", "data.root"):
            words += ["--set", f"{key}={yaml_text(value)}"]
    return shlex.join(words)
