"""What each setting is: its value, what it may be, and its line of the docstrings."""

import dataclasses
import inspect
import re
import typing
from typing import Any, NamedTuple

from topdb_tf.runs.fields import KINDS
from topdb_tf.runs.recipes import yaml_text
from topdb_tf.runs.settings import Config


class Setting(NamedTuple):
    """A setting of a run.

    The key is as `--set` takes it; what it may be and what it does are in words.
    """

    key: str
    value: Any
    may_be: str
    meaning: str

    def line(self) -> str:
        """Returns what is said to people."""
        value = f"{self.key}={yaml_text(self.value)}"
        return f"{value}  ({self.may_be})  {self.meaning}"


def described(config: Config) -> tuple[Setting, ...]:
    """Returns every setting of a run in the order of its `config.yaml`."""
    settings = []
    for section in dataclasses.fields(Config):
        inner = getattr(config, section.name)
        if dataclasses.is_dataclass(inner):
            settings += _described(inner, f"{section.name}.")
    return (*settings, *_described(config, ""))


def _described(settings, prefix):
    """Yields the settings of a section, but for sections in it."""
    hints, meanings = typing.get_type_hints(type(settings)), _meanings(type(settings))
    for one in dataclasses.fields(settings):
        value = getattr(settings, one.name)
        if not dataclasses.is_dataclass(value):
            may_be = _may_be(one, hints[one.name])
            yield Setting(f"{prefix}{one.name}", value, may_be, meanings[one.name])


def _may_be(setting, hint):
    """Returns what a setting may be, from its field and its type."""
    if choices := setting.metadata.get("choices"):
        return f"{', '.join(choices[:-1])} or {choices[-1]}"
    optional = type(None) in typing.get_args(hint)
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    words = KINDS.get(hint) or KINDS.get(kinds[0] if optional else hint, "texts")
    interval = setting.metadata.get("interval")
    within = "" if interval is None else f" in {interval}"
    return f"{words.replace('`', '')}{within}{' or null' if optional else ''}"


def _meanings(section):
    """Returns what the docstring of a section says of each setting, by its name."""
    args = inspect.getdoc(section).partition("Args:\n")[2]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", args, re.M)
    return {name: " ".join(text.replace("`", "").split()) for name, text in entries}
