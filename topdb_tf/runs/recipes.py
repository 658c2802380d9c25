"""Recipes: YAML files of differences from the defaults, and `--set` overrides."""

import dataclasses
import itertools
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from topdb_tf.files import plain, user_path
from topdb_tf.runs.fields import KINDS, nearest_name
from topdb_tf.runs.plugins import load_plugins
from topdb_tf.runs.settings import (
    EPOCHS,
    RENAMED,
    Config,
)
from topdb_tf.texts import Say, silent
from topdb_tf.training.schedules import Milestones
from topdb_tf.yaml_files import read_yaml, yaml_value


def recipes() -> tuple[str, ...]:
    """Returns the names of the recipes that come with the package."""
    return tuple(sorted(path.stem for path in _recipe_folder().glob("*.yaml")))


class RecipeHeader(NamedTuple):
    """A recipe, and the comment at the top of its file: title, command, scores."""

    name: str
    title: str
    text: str


def recipe_headers() -> tuple[RecipeHeader, ...]:
    """Returns what the files of the recipes say of themselves."""
    headers = []
    for name in recipes():
        lines = recipe_file(name).read_text(encoding="utf-8").splitlines()
        comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
        text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in comment)
        headers.append(RecipeHeader(name, text.partition("\n")[0], text))
    return tuple(headers)


def read_recipe(
    name_or_path: str,
    overrides: Iterable[str] = (),
    *,
    plugins: Iterable[str] = (),
    say: Say = silent,
) -> Config:
    """Returns the defaults with a recipe's differences and then the overrides.

    Where `train.epochs` is another number, warm-up, decay, the epochs of the sizes, the
    first one that drops and the frozen ones change in proportion, unless they are given
    beside it (`Milestones.in_proportion`); so do those of the defaults in a recipe.

    Args:
        name_or_path: A recipe's name, or a YAML file.
        overrides: Texts `section.key=value`, the value in YAML.
        plugins: Modules to import beside those of the recipe.
        say: Function that shows a line, here about settings by an old name, and about
            those that follow from others.

    Raises:
        ValueError: If the recipe, a key or a value is not known, or a plugin cannot be
            imported.
    """
    path = recipe_file(name_or_path)
    layers = _layers(path, overrides, say)
    values = {}
    for layer in layers:
        values |= _in_proportion(layer.values, values, say)
    values["plugins"] = (*values.get("plugins", ()), *plugins)
    return _checked(values, layers)


def recipe_file(name_or_path: str) -> Path:
    """Returns the YAML file of a recipe, which need not be there if it is a path."""
    path = user_path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        if name_or_path not in recipes():
            raise ValueError(
                f"`recipe` must be one of {', '.join(recipes())}, or a YAML file."
                f"{nearest_name(name_or_path, recipes())} "
                f"Received: recipe={name_or_path!r}"
            )
        path = _recipe_folder() / f"{name_or_path}.yaml"
    return path


def read_config(
    path: Path, overrides: Iterable[str] = (), *, say: Say = silent
) -> Config:
    """Returns the defaults with a YAML file's differences and then the overrides.

    Args:
        path: The YAML file.
        overrides: Texts `section.key=value`, the value in YAML.
        say: Function that shows a line, here about settings by an old name.

    Raises:
        ValueError: If the file is no YAML mapping, if a key or value is not known, or
            if a setting stands there by its old name and its new one.
        FileNotFoundError: If there is no such file.
    """
    layers = _layers(path, overrides, say)
    return _checked({k: v for layer in layers for k, v in layer.values.items()}, layers)


class _Layer(NamedTuple):
    """Settings by `section.key`, and what gives them."""

    values: dict[str, Any]
    where: str


def _layers(path, overrides, say):
    """Returns the settings of a file, and those of the overrides together."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration file {path}.")
    settings = read_yaml(path)
    of_file = _values({} if settings is None else settings, str(path), say)
    values, wheres = {}, []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ValueError(
                "An override must read `section.key=value`. "
                f"Received: --set {override!r}"
            )
        settings = _yaml_value(text)
        for part in reversed(key.strip().split(".", 1)):
            settings = {part: settings}
        wheres.append(f"--set {override}")
        values |= _values(settings, wheres[-1], say)
    return _Layer(of_file, str(path)), _Layer(values, ", ".join(wheres))


_MILESTONES = (
    "train.warmup_epochs",
    "train.decay_epochs",
    "data.sizes",
    "model.drop_from_epoch",
    "train.freeze_epochs",
)


def _in_proportion(values, below, say):
    """Adds to settings the milestones that their number of epochs brings along.

    Values and those below them, which they replace, are by `section.key`; the defaults
    are below them all.
    """
    num_epochs = values.get("train.epochs")
    below = flat_settings(Config()) | below
    before = below["train.epochs"]
    if num_epochs in (None, before) or num_epochs not in EPOCHS:
        return values
    milestones = Milestones(*(below[key] for key in _MILESTONES))
    scaled = milestones.in_proportion(num_epochs, before)
    following = {
        key: now
        for key, was, now in zip(_MILESTONES, milestones, scaled, strict=True)
        if key not in values and was != now
    }
    if following:
        texts = [f"{key}={yaml_text(value)}" for key, value in following.items()]
        say(
            f"train.epochs={num_epochs} instead of {before}: {' and '.join(texts)} in "
            "proportion"
        )
    return {**following, **values}


def _checked(values, layers):
    """Returns the settings of some values; an error tells what gave them."""
    where = ", ".join(layer.where for layer in layers if layer.where)
    load_plugins(values.get("plugins", ()), where)
    try:
        return _config_of(values)
    except ValueError as error:
        raise ValueError(f"{error} ({where})") from error


def _recipe_folder():
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def _yaml_value(text):
    try:
        return yaml_value(text)
    except ValueError:
        return text


def _values(settings, where, say):
    """Returns the values of a mapping of sections by `section.key`, each checked."""
    values, sections, kinds = {}, _sections(), typing.get_type_hints(Config)
    for section, keys in _mapping(settings, "A configuration", where).items():
        if section in kinds and section not in sections:
            values[section] = _converted(keys, kinds[section], section, where)
            continue
        if section not in sections:
            raise _no_such_setting(section, _all_keys(), where)
        hints = typing.get_type_hints(sections[section])
        for name, value in _mapping(keys, section, where).items():
            old = f"{section}.{name}"
            key = RENAMED.get(old, old)
            if key != old:
                say(f"{where}: the setting `{old}` is now called `{key}`.")
                if key.partition(".")[2] in keys:
                    raise ValueError(
                        f"`{key}` must be given once: `{old}` is its old name. Remove "
                        f"that. Received: both ({where})"
                    )
            if key not in _all_keys():
                names = [other for other in _all_keys() if other.startswith(section)]
                raise _no_such_setting(key, names, where)
            values[key] = _converted(value, hints[key.partition(".")[2]], key, where)
    return values


def _mapping(value, name, where):
    if not isinstance(value, dict):
        raise ValueError(
            f"{name} must hold keys and values. Received: {f'{value!r}':.60} ({where})"
        )
    return value


def _no_such_setting(key, names, where):
    near = nearest_name(str(key), names)
    return ValueError(f"There is no setting `{key}`.{near} Received: {where}")


def _config_of(values):
    """Returns the settings of some values by `section.key`, the others by default."""
    settings, others = {name: {} for name in _sections()}, {}
    for key, value in values.items():
        section, dot, name = key.partition(".")
        (settings[section] if dot else others)[name or key] = value
    made = {name: make(**settings[name]) for name, make in _sections().items()}
    return Config(**made, **others)


def _sections():
    """Returns the class of each section of the settings by its name."""
    return {
        section.name: section.default_factory
        for section in dataclasses.fields(Config)
        if dataclasses.is_dataclass(section.default_factory)
    }


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
    if hint in (int, float) and isinstance(value, str):
        value = _number(value)  # YAML reads 1e-3 as a text
    if hint is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = _number(value)
    if hint is str and key == "model.weights" and value is None:
        value = "none"  # YAML reads none, null and ~ alike
    is_huge = hint is int and isinstance(value, int) and abs(value) >= 1 << 63
    if type(value) is not hint or is_huge:
        expected = KINDS.get(hint, str(hint)) + (" of 64 bits" if is_huge else "")
        raise ValueError(
            f"`{key}` must be {expected}. Received: {f'{value!r}':.60} ({where})"
        )
    return value


def _number(value):
    try:
        return float(value)
    except (ValueError, OverflowError):
        return value


def _all_keys():
    return [
        f"{section}.{setting.name}"
        for section, settings in _sections().items()
        for setting in dataclasses.fields(settings)
    ]


# Settings that do not change the result.
FREE_SETTINGS = (
    "data.root",
    "data.threads",
    "train.checkpoint_minutes",
    "train.keep_checkpoints",
)


def flat_settings(config: Config) -> dict:
    """Returns all settings by `section.name`; those of no section by their name."""
    flat = {}
    for section, settings in dataclasses.asdict(config).items():
        if isinstance(settings, dict):
            flat |= {f"{section}.{key}": value for key, value in settings.items()}
        else:
            flat[section] = settings
    return flat


class ChangedSetting(NamedTuple):
    """A setting `section.name` that is not the same in two configurations."""

    key: str
    before: Any
    now: Any


def changed_settings(before: Config, now: Config) -> tuple[ChangedSetting, ...]:
    """Returns the settings that are not the same in two configurations."""
    first, second = flat_settings(before), flat_settings(now)
    return tuple(
        ChangedSetting(key, first[key], second[key])
        for key in first
        if first[key] != second[key]
    )


def settings_changing_result(before: Config, now: Config) -> tuple[ChangedSetting, ...]:
    """Returns the changed settings that change what comes of a training."""
    changes = changed_settings(before, now)
    return tuple(change for change in changes if change.key not in FREE_SETTINGS)


def check_same_settings(begun_with: Config, config: Config, *, force: bool) -> None:
    """Checks that a run goes on with its own settings, but for free ones."""
    changes = [
        f"{change.key} (the run's {change.before!r}, now {change.now!r})"
        for change in settings_changing_result(begun_with, config)
    ]
    if changes and not force:
        raise ValueError(
            "A run is resumed with its own settings. Leave out those that differ, or "
            f"pass --force to go on with them. Received: {', '.join(changes)}"
        )


def yaml_text(value) -> str:
    """Returns a setting as `--set` takes it."""
    text = yaml.safe_dump(plain(value), default_flow_style=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def settings_text(changes: Iterable[ChangedSetting]) -> str:
    """Returns what settings have become, for people.

    Example:
        >>> from topdb_tf.runs.recipes import changed_settings, settings_text
        >>> from topdb_tf.runs.settings import Config, TrainConfig
        >>> other = Config(train=TrainConfig(epochs=9, decay_epochs=(5, 7)))
        >>> settings_text(changed_settings(Config(), other))
        'train.epochs=9, train.decay_epochs=[5, 7]'
    """
    return ", ".join(f"{change.key}={yaml_text(change.now)}" for change in changes)
