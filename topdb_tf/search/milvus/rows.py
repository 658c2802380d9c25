"""Images as rows of a collection of Milvus, and rows as entries of an index."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from topdb_tf.data.records import UNKNOWN, IdNames
from topdb_tf.data.sightings import folded
from topdb_tf.search.entries import Entries

TEXTS = {"path": 4096, "person": 1024, "camera": 1024}  # bytes
KEYS = ("person_key", "camera_key")  # what the spellings of one have in common


def quoted(text: str) -> str:
    """Returns a text as it stands in an expression of Milvus."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def one_of(field: str, texts: Iterable[str]) -> str:
    """Returns the expression that a field is one of some texts."""
    return f"{field} in [{', '.join(map(quoted, texts))}]"


def texts_of(entries: Entries) -> Iterator[dict[str, str]]:
    """Yields path, person and camera of each image as texts, checked."""
    persons, cameras = entries.names
    columns = zip(entries.paths, entries.pids, entries.camids, strict=True)
    for path, pid, camid in columns:
        texts = {"path": path, "person": _text(pid, persons)}
        texts["camera"] = _text(camid, cameras)
        for name, text in texts.items():
            if len(text.encode("utf-8", "replace")) > TEXTS[name] or re.search(
                r"[\x00-\x1f\x7f\ud800-\udfff]", text
            ):
                raise ValueError(
                    f"A {name} in Milvus must be of one line in UTF-8, at most "
                    f"{TEXTS[name]} bytes. Received: {text[:200]!r}"
                )
        yield texts


def row_of(texts: dict[str, str], number: int, seconds: float) -> dict[str, Any]:
    """Returns what is stored of an image, but for its features."""
    return {
        **texts,
        "person_key": folded(texts["person"], "pid"),
        "camera_key": folded(texts["camera"], "camid"),
        "id": int(number),
        "time": None if np.isnan(seconds) else float(seconds),
    }


def _text(number, names):
    return "" if number == UNKNOWN else names.get(int(number), str(number))


def entries_of_hits(
    hits: Sequence[Mapping[str, Any]], dim: int
) -> tuple[Entries, np.ndarray]:
    """Returns images that were found as rows in the order of their ids, and vectors.

    Persons whose names are no numbers are numbered anew.
    """
    hits = sorted(hits, key=lambda hit: hit["id"])
    pids, persons = _numbered([hit["person"] for hit in hits])
    camids, cameras = _numbered([hit["camera"] for hit in hits])
    vectors = np.array([hit["features"] for hit in hits], np.float32)
    vectors = vectors.reshape(len(hits), dim)
    times = [np.nan if hit["time"] is None else hit["time"] for hit in hits]
    entries = Entries(
        ids=np.array([hit["id"] for hit in hits], np.int64),
        paths=[hit["path"] for hit in hits],
        pids=pids,
        camids=camids,
        is_live=np.ones(len(hits), bool),
        squares=np.einsum("ij,ij->i", vectors, vectors),
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
