"""Records in JSON files: read back by the types of their fields, and checked."""

import dataclasses
import inspect
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SCALARS = {int: "a whole number", float: "a number", str: "a text", bool: "true/false"}
"""What a value of each of these types is called in errors."""


def record_of(kind: Any, value: Any, name: str = "") -> Any:
    """Returns the record that `plain` wrote, by the types of its fields.

    What the record does not know is not read; a field that is missing keeps its
    default. Numbers must be finite, and whole ones fit into 64 bits. The kind is a
    dataclass, a `NamedTuple` or the type of a part; errors tell by the name where the
    value stands.
    """
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        known = [part for part in parts if part is not types.NoneType]
        return None if value is None else record_of(known[0], value, name)
    if origin in (tuple, list):
        _check(isinstance(value, list | tuple), "a list", value, name)
        if origin is list or parts[-1] is ...:
            parts = [parts[0]] * len(value)
        _check(len(value) == len(parts), f"a list of {len(parts)}", value, name)
        numbered = enumerate(zip(parts, value, strict=True))
        return origin(record_of(one, v, f"{name}[{i}]") for i, (one, v) in numbered)
    if origin is dict:
        _check(isinstance(value, Mapping), "an object", value, name)
        return {
            key: record_of(parts[1], part, f"{name}.{key}".strip("."))
            for key, part in value.items()
        }
    if dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"):
        return _record(kind, value, name)
    if kind in SCALARS:
        is_whole = type(value) is int and abs(value) < 1 << 63
        is_one = is_whole if kind is int else type(value) is kind
        if kind is float:
            is_one = is_whole or (is_one and math.isfinite(value))
        _check(is_one, SCALARS[kind], value, name)
    return Path(value) if kind is Path else value


def _record(kind, value, name):
    _check(isinstance(value, Mapping), "an object", value, name)
    kinds, known = typing.get_type_hints(kind), {}
    for field, parameter in inspect.signature(kind).parameters.items():
        place = f"{name}.{field}".strip(".")
        if field in value:
            known[field] = record_of(kinds[field], value[field], place)
        elif parameter.default is parameter.empty:
            raise ValueError(f"`{place}` is missing")
    return kind(**known)


def _check(holds, what, value, name):
    if not holds:
        subject = f"`{name}`" if name else "it"
        raise ValueError(f"{subject} must be {what}, not {f'{value!r}':.60}")


def json_value(text: str) -> Any:
    """Returns the value of a JSON text, in whose objects a key stands once."""
    return json.loads(text, object_pairs_hook=_object_of)


def _object_of(pairs):
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = [key for key in value if sum(key == one for one, _ in pairs) > 1]
        raise ValueError(f"the key `{twice[0]}` stands twice")
    return value


def read_json(path: Path, make: Callable[[Any], Any], advice: str) -> Any:
    """Returns what a function such as `from_dict` makes of the object in a JSON file.

    The advice tells who wrote the file, and what to do: the beginning of the error.
    """
    try:
        value = json_value(path.read_text(encoding="utf-8"))
        _check(isinstance(value, Mapping), "an object", value, "")
        return make(value)
    except KeyError as error:
        reason = f"{error} is missing"
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        is_json = not isinstance(error, json.JSONDecodeError | UnicodeDecodeError)
        reason = f"{error}" if is_json else f"no JSON: {error}"
    raise ValueError(f"{path} {advice} Received: {reason}")
