"""Fields of settings: choices and numbers within intervals, checked."""

import dataclasses
import difflib
import typing
from collections.abc import Iterable
from dataclasses import field
from numbers import Integral

from topdb_tf.json_files import SCALARS
from topdb_tf.texts import Interval

KINDS = {
    **SCALARS,
    tuple[int, ...]: "whole numbers",
    tuple[tuple[int, ...], ...]: "lists of three whole numbers",
    float | tuple[float, ...]: "a number or several",
    float | str: "`soft` or a number",
}
"""What the values of settings are, in words, by their types."""


def nearest_name(name: str, names: Iterable[str]) -> str:
    """Returns the question whether another name was meant, nothing if none is near."""
    by_leaf = {option.rpartition(".")[2]: option for option in names}
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not close and name.rpartition(".")[2] in by_leaf:
        close = [by_leaf[name.rpartition(".")[2]]]
    return f" Did you mean `{close[0]}`?" if close else ""


def check_choice(key: str, value: str, choices: Iterable[str]) -> None:
    """Checks that a setting `section.key` names one of some choices.

    Raises:
        ValueError: If it does not; the nearest choice is named.
    """
    if value not in choices:
        raise ValueError(
            f"`{key}` must be one of {', '.join(choices)}."
            f"{nearest_name(value, choices)} Received: {value!r}"
        )


def one_of(default, *others):
    """Returns the field of a choice, the default first."""
    return field(default=default, metadata={"choices": (default, *others)})


def number_in(interval, default):
    """Returns the field of a number, or of several, that must lie in an interval."""
    return field(default=default, metadata={"interval": Interval(interval)})


def check_each(section, settings):
    """Checks each setting of a section by itself.

    Raises:
        ValueError: If a setting is not one of its choices, not of its type or not in
            its interval.
    """
    hints = typing.get_type_hints(type(settings))
    for setting in dataclasses.fields(settings):
        key, value = f"{section}.{setting.name}", getattr(settings, setting.name)
        if choices := setting.metadata.get("choices"):
            check_choice(key, value, choices)
        if (interval := setting.metadata.get("interval")) is None:
            continue
        kind = KINDS[hints[setting.name]]
        if value == "soft" and "soft" in kind:
            continue
        for number in value if isinstance(value, tuple) else (value,):
            is_whole = isinstance(number, Integral)
            if number not in interval or ("whole" in kind and not is_whole):
                raise ValueError(
                    f"`{key}` must be {kind} in {interval}. Received: {value!r}"
                )
