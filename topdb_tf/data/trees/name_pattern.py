"""Names of images that tell person and camera, by a pattern of their owner's."""

import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

from topdb_tf.data.market import IMAGE_SUFFIXES
from topdb_tf.texts import listed

PID, CAMID = "pid", "camid"
PATTERN_HELP = "such as '{camid}-{date}-{pid}-{n}' for door-0105-anna-3.jpg"
_FIELD = re.compile(r"\{(\w+)\}")


class Told(NamedTuple):
    """Person and camera in a name; `None` where the pattern has no such field."""

    person: str | None
    camera: str | None


class NamePattern(NamedTuple):
    """Names of fields, with the texts before, between and after them."""

    text: str
    fields: tuple[str, ...]
    texts: tuple[str, ...]

    def readings(self, path: Path) -> list[dict[str, str]]:
        """Returns what the name of an image tells: nothing, one thing, or two.

        Two are the ones of the shortest and the longest first fields: where they are
        the same, there is no other.
        """
        is_whole = self.texts[-1].lower().endswith(IMAGE_SUFFIXES)
        name = unicodedata.normalize("NFC", path.name if is_whole else path.stem)
        first, *between, last = self.texts
        inner = name[len(first) : len(name) - len(last)]
        if len(name) <= len(first) + len(last) or name != first + inner + last:
            return []
        early = _split(inner, between)
        if early is None:
            return []
        late = _split(inner[::-1], [text[::-1] for text in reversed(between)])
        pair = early, [value[::-1] for value in reversed(late)]
        told = [dict(zip(self.fields, values, strict=True)) for values in pair]
        return told[: 1 if pair[0] == pair[1] else 2]


def parse_pattern(text: str) -> NamePattern:
    """Returns the pattern that `data.pattern` tells.

    Example:
        >>> from pathlib import Path
        >>> from topdb_tf.data.trees.name_pattern import parse_pattern
        >>> parse_pattern("{camid}-{pid}-{n}").readings(Path("door-anna-3.jpg"))
        [{'camid': 'door', 'pid': 'anna', 'n': '3'}]
    """
    pieces = _FIELD.split(unicodedata.normalize("NFC", text))
    fields, texts = tuple(pieces[1::2]), tuple(pieces[::2])
    rules = {
        "hold {pid}, {camid} or both": {PID, CAMID} & set(fields),
        "name each field once": len(set(fields)) == len(fields),
        "have a text between two fields, which tells where one ends": all(texts[1:-1]),
        "have whole fields, {name}": not re.search("[{}]", "".join(texts)),
        "be of names of files; --layout is for folders": "/" not in text,
    }
    for rule, is_met in rules.items():
        if not is_met:
            raise ValueError(
                f"`data.pattern` (--pattern) must {rule}, {PATTERN_HELP}. "
                f"Received: {text!r}"
            )
    return NamePattern(text, fields, texts)


def told_by_names(images: list[Path], pattern: NamePattern) -> list[Told]:
    """Returns whom the names of images tell, and which camera, in their order."""
    readings = {path: pattern.readings(path) for path in images}
    others = [path.name for path, told in readings.items() if not told]
    if others:
        raise ValueError(
            f"The names of all images must be of the pattern {pattern.text}; move or "
            "rename others, or tell them in a CSV file. "
            f"{len(others):,} of {len(images):,} are not: {listed(others)}"
        )
    unsure = [path for path, told in readings.items() if len(told) > 1]
    if unsure:
        ways = " or ".join(
            ", ".join(f"{field}={value}" for field, value in told.items())
            for told in readings[unsure[0]]
        )
        raise ValueError(
            f"A name must be of the pattern {pattern.text} in one way. Give each piece "
            f"of it a field of its own. {unsure[0].name} can be {ways}. "
            f"{len(unsure):,} of {len(images):,} are such: "
            f"{listed([path.name for path in unsure])}"
        )
    only = (readings[path][0] for path in images)
    return [Told(told.get(PID), told.get(CAMID)) for told in only]


def _split(text, between):
    """Returns the fields between some texts, each as short as can be, or `None`."""
    values = []
    for separator in between:
        end = text.find(separator, 1)
        if end < 0:
            return None
        values.append(text[:end])
        text = text[end + len(separator) :]
    return [*values, text] if text else None
