"""Gives Griffe the sections of this package's docstrings that it does not know."""

import re

import griffe

_SOURCE = re.compile(r"^Source: (?P<text>.+?)(?=\n\n|\Z)", re.M | re.S)
_URL = re.compile(r"(?<![<(\[])\bhttps?://[^\s)>]+|(?<=\()https?://[^\s)>]+")
_CALL_ARGUMENTS = re.compile(
    r"^Call arguments:\n(?P<lines>(?: {4}.*\n?|\n(?= {4}))+)", re.M
)
_ARGUMENT = re.compile(r"^(?P<name>\w+): ", re.M)


class Sections(griffe.Extension):
    """Makes `Source:`, `Call arguments:` and `Example:` sections that are shown."""

    def on_object(self, *, obj, **kwargs):
        """Rewrites a docstring before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """Returns a docstring whose sections are those of Google's style, or Markdown."""
    docstring = _SOURCE.sub(_source, docstring)
    docstring = _CALL_ARGUMENTS.sub(_call_arguments, docstring)
    return re.sub(r"^Example:$", "Examples:", docstring, flags=re.M)


def _source(match):
    text = _URL.sub(lambda url: f"<{url[0]}>", match["text"])
    return f"**Source:** {text}"


def _call_arguments(match):
    lines = re.sub(r"^ {4}", "", match["lines"].rstrip(), flags=re.M)
    items = _ARGUMENT.sub(lambda name: f"- `{name['name']}`: ", lines)
    return f"**Call arguments:**\n\n{items}\n\n"
