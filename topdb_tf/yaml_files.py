"""YAML that people write, read so that no value is another than it looks."""

import re
from pathlib import Path
from typing import Any

import yaml

MOST_CHARACTERS = 1 << 18
"""Of a file, and of what its anchors and aliases stand for when written out."""

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)$")
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?$"
    r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
)
_TAG = "tag:yaml.org,2002:"
_OTHERWISE = {_TAG + "int", _TAG + "float", _TAG + "timestamp"}
_ERRORS = (  # those of explicit tags are Python's own
    yaml.YAMLError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RecursionError,
)


class _Loader(yaml.SafeLoader):
    """The safe loader of YAML, without what surprises people.

    A key stands once in a mapping; 010 and 1:30, which YAML 1.1 reads as 8 and 90, and
    dates are texts; and what aliases stand for is bounded before it is made.
    """

    yaml_implicit_resolvers = {
        first: [one for one in known if one[0] not in _OTHERWISE]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text):
        super().__init__(text)
        self._sizes = {}  # of finished nodes, in characters, by their identity

    def compose_node(self, parent, index):
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if not is_alias:
            self._sizes[id(node)] = self._size_of(node)
        if self._sizes.get(id(node), MOST_CHARACTERS) >= MOST_CHARACTERS:
            raise ValueError("its aliases stand for far more than it holds")
        return node

    def _size_of(self, node):
        if isinstance(node, yaml.ScalarNode):
            return 1 + len(node.value)
        parts = node.value
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, _ in parts:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    line = key.start_mark.line + 1
                    raise ValueError(f"the key `{key.value}` again in line {line}")
                seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
            parts = [part for pair in parts for part in pair]
        return 1 + sum(self._sizes[id(part)] for part in parts)


_Loader.add_implicit_resolver(_TAG + "int", _INT, list("-+0123456789"))
_Loader.add_implicit_resolver(_TAG + "float", _FLOAT, list("-+0123456789."))


def yaml_value(text: str) -> Any:
    """Returns the value that a text in YAML stands for."""
    try:
        return yaml.load(text, _Loader)
    except _ERRORS as error:
        raise ValueError(str(error) or type(error).__name__) from error


def read_yaml(path: Path) -> Any:
    """Returns the value in a YAML file."""
    size = path.stat().st_size
    if size >= MOST_CHARACTERS:
        raise ValueError(f"{path} is not a YAML file of settings: it has {size} bytes")
    try:
        return yaml_value(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a YAML file: {error}") from error
