"""Images as rows of a collection of Milvus, and rows as entries of an index."""

import re
from collections.abc import Iterable, Iterator
from itertools import count
from typing import NamedTuple

import numpy as np

from topdb_tf.data.records import UNKNOWN, IdNames
from topdb_tf.data.sightings import folded
from topdb_tf.search.entries import Entries, squared_lengths

TEXTS = {"path": 4096, "person": 1024, "camera": 1024}  # bytes
KEY_BYTES = 1024
KEYS = ("person_key", "camera_key")  # what the spellings of one have in common


def quoted(text: str) -> str:
    """Returns a text as it stands in an expression of Milvus."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def one_of(field: str, texts: Iterable[str]) -> str:
    """Returns the expression that a field is one of some texts."""
    return f"{field} in [{', '.join(map(quoted, texts))}]"


class Row(NamedTuple):
    """An image as it is stored, and as it comes back with its distance."""

    path: str
    person: str
    camera: str
    person_key: str
    camera_key: str
    id: int
    time: float | None
    features: np.ndarray
    distance: float = 0.0


FOUND = [name for name in Row._fields if name != "distance" and name not in KEYS]


def row_of_hit(hit) -> Row:
    """Returns what Milvus found as a row, without the keys."""
    told = {name: hit.entity.get(name) for name in FOUND}
    return Row(**told, **dict.fromkeys(KEYS, ""), distance=hit.distance)


def rows_of(entries: Entries, features: np.ndarray) -> Iterator[Row]:
    """Yields images as rows, checked."""
    persons, cameras = entries.names
    columns = entries.paths, entries.pids, entries.camids, entries.ids, entries.times
    for path, pid, camid, number, seconds, vector in zip(
        *columns, features, strict=True
    ):
        person, camera = _text(pid, persons), _text(camid, cameras)
        for (name, most), text in zip(
            TEXTS.items(), (path, person, camera), strict=True
        ):
            is_long = len(text.encode("utf-8", "replace")) > most
            if is_long or re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text):
                raise ValueError(
                    f"A {name} in Milvus must be of one line in UTF-8, at most {most} "
                    f"bytes. Received: {text[:200]!r}"
                )
        keys = folded(person, "pid"), folded(camera, "camid")
        time = None if np.isnan(seconds) else float(seconds)
        yield Row(path, person, camera, *keys, int(number), time, vector)


def _text(number, names):
    return "" if number == UNKNOWN else names.get(int(number), str(number))


def entries_of_rows(found: Iterable[Row], dim: int) -> tuple[Entries, np.ndarray]:
    """Returns images that were found as entries in the order of their ids, and vectors.

    Persons whose names are no numbers are numbered anew.
    """
    found = sorted(found, key=lambda row: row.id)
    pids, persons = _numbered([row.person for row in found])
    camids, cameras = _numbered([row.camera for row in found])
    vectors = np.array([row.features for row in found], np.float32)
    vectors = vectors.reshape(len(found), dim)
    times = [np.nan if row.time is None else row.time for row in found]
    entries = Entries(
        ids=np.array([row.id for row in found], np.int64),
        paths=[row.path for row in found],
        pids=pids,
        camids=camids,
        is_live=np.ones(len(found), bool),
        squares=squared_lengths(vectors),
        times=np.array(times, np.float64),
        names=IdNames(persons, cameras),
    )
    return entries, vectors


def _numbered(texts):
    """Returns the numbers of texts, and what those are called that are no numbers."""
    known = {text for text in texts if re.fullmatch(r"-1|0|[1-9]\d{0,17}", text)}
    number_of = {text: int(text) for text in known} | {"": UNKNOWN}
    taken, others = set(number_of.values()), sorted({*texts} - number_of.keys())
    free = (number for number in count(1) if number not in taken)
    names = dict(zip(free, others, strict=False))
    number_of |= {text: number for number, text in names.items()}
    return np.array([number_of[text] for text in texts], np.int64), names
