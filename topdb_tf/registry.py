"""Tables of parts by their names, which programs outside the package add to."""

import re
from collections.abc import Callable, MutableMapping
from typing import Any


def register(
    table: MutableMapping[str, Any],
    name: str,
    part: Callable | None,
    *,
    what: str,
    entry: Callable[[Callable], Any] = lambda part: part,
) -> Callable:
    """Adds a part to a table under a name.

    A part that was added before and is defined anew, as when a cell of a notebook runs
    again, takes the place of the older one.

    What the part is, in words, is for errors; `entry` makes of it what the table holds.
    Without a part a decorator of it is returned.
    """
    if part is None:
        return lambda part: register(table, name, part, what=what, entry=entry)
    if not (isinstance(name, str) and re.fullmatch(r"[\w-]+", name)):
        raise ValueError(
            f"The name of a {what} must be letters, digits, _ and -. Received: {name!r}"
        )
    if not callable(part):
        raise ValueError(
            f"A {what} must be a function or a class. Received: {name}={part!r}"
        )
    before = _ADDED.get((what, name))
    if name in table and before != _place(part):
        raise ValueError(
            f"There is a {what} {name!r} already. Choose another name, such as "
            f"{'my_' + name!r}. The names that are taken: {', '.join(table)}"
        )
    table[name] = entry(part)
    _ADDED[what, name] = _place(part)
    return part


_ADDED: dict[tuple[str, str], tuple[str, str]] = {}


def _place(part):
    kind = part if hasattr(part, "__qualname__") else type(part)
    return kind.__module__, kind.__qualname__
