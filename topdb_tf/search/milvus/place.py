"""Where a collection of Milvus is, what kinds it may be, and who asks it."""

import contextlib
import logging
import os
import re
from collections.abc import Collection, Iterator
from importlib.util import find_spec
from typing import NamedTuple

from topdb_tf.embed.errors import ServingError
from topdb_tf.search.manifest import METRICS, Manifest
from topdb_tf.texts import check_one_of, first_line, install_command, module_of_extra

KINDS = {
    "exact": ("FLAT", {}),
    "hnsw": ("HNSW", {"M": 16, "efConstruction": 80, "efSearch": 256, "refine": 4}),
    "ivf": ("IVF_FLAT", {"nlist": 1024, "nprobe": 64, "refine": 4}),
}
"""Milvus's name of each kind, and the parameters of it."""
OF_SEARCH = {"efSearch": "ef", "nprobe": "nprobe"}  # and what Milvus calls them


class MilvusPlace(NamedTuple):
    """A collection, its server or file, and how the user named it."""

    uri: str
    collection: str
    text: str

    def __str__(self):
        return self.text

    @property
    def is_file(self) -> bool:
        """Whether it is of Milvus Lite, in a file of this machine."""
        return self.uri.endswith(".db")

    @property
    def seconds(self) -> int:
        """What an answer may take; Milvus Lite tidies its file meanwhile."""
        return 600 if self.is_file else 30


def place_of(text: str) -> MilvusPlace:
    """Returns the collection at `milvus://HOST:PORT/COLLECTION`.

    `milvus+tls://` asks over TLS; `milvus://FOLDER/NAME.db/COLLECTION` is one of Milvus
    Lite in a file of this machine.

    Raises:
        ValueError: If it is none.
    """
    match = re.fullmatch(r"milvus(\+tls)?://(.+)/([A-Za-z_]\w{0,254})", text, re.ASCII)
    tls, where, collection = match.groups() if match else (None, "", "")
    if where.endswith(".db") and not tls:
        return MilvusPlace(where, collection, text)
    if re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:.]+\]):\d{1,5}", where, re.ASCII):
        return MilvusPlace(f"http{'s' if tls else ''}://{where}", collection, text)
    raise ValueError(
        "A collection must be milvus://HOST:PORT/NAME, milvus+tls://HOST:PORT/NAME or, "
        "in a file of Milvus Lite, milvus://FILE.db/NAME; letters, digits and _ in its "
        f"name. Who asks is told by $MILVUS_TOKEN. Received: {text}"
    )


def manifest_of(
    kind: str, metric: str, parameters: dict[str, int], dim: int = 1
) -> Manifest:
    """Returns what a new collection of a kind is to be.

    Raises:
        ValueError: If Milvus has no such kind, or a parameter is not one of it.
    """
    check_one_of("metric", metric, METRICS)
    if kind not in KINDS:
        raise ValueError(
            f"The kind in Milvus must be one of {', '.join(KINDS)}. Received: {kind}"
        )
    check_settings(KINDS[kind][1], parameters)
    return Manifest(kind, KINDS[kind][1] | parameters, metric, dim)


def check_settings(known: Collection[str], parameters: dict[str, int]) -> None:
    """Raises `ValueError` unless parameters are some of the known ones, from 1."""
    for name, value in parameters.items():
        if name not in known or type(value) is not int or not 1 <= value < 2**31:
            raise ValueError(
                f"A parameter must be one of {', '.join(known) or 'none'} here, and a "
                f"whole number from 1. Received: {name}={value}"
            )


def open_client(place):
    """Returns a client of the server, or of Milvus Lite in a file."""
    client = module_of_extra(
        "pymilvus", extra="milvus", purpose="Milvus is asked by pymilvus"
    ).MilvusClient
    if place.is_file and find_spec("milvus_lite") is None:
        raise ValueError(
            f"A file is opened by Milvus Lite: {install_command('milvus')}. "
            f"Received: {place}"
        )
    for name in ("pymilvus", "milvus_lite"):  # errors are told here, once
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with told(place):
        token = os.environ.get("MILVUS_TOKEN", "")
        return client(place.uri, token=token, timeout=place.seconds)


@contextlib.contextmanager
def told(place, more="") -> Iterator[None]:
    """Tells what Milvus refuses, or that it does not answer, in our words."""
    import grpc
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except (MilvusException, grpc.RpcError) as error:
        reason = getattr(error, "message", "") or first_line(error)
        raise ServingError(
            f"Milvus must answer at {place}.{more} Received: {str(reason)[:300]}"
        ) from error
