"""What can go wrong between a client and a model, by what can be done about it."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_NAMED_IMAGE = re.compile(r"image_bytes\[(\d{1,9})\][:,]?([^\n\]]*)")


class ServingError(Exception):
    """A model server cannot be asked, or what it answers cannot be used."""


class UnavailableError(ServingError):
    """A server that is down, overloaded or still loading: it may do better later."""


class RefusedError(ServingError):
    """A request that would be refused again.

    Args:
        code: Name of the status, "INVALID_ARGUMENT" as in gRPC or "HTTP 400".
        message: The server's explanation.

    Attributes:
        position: Index of the image that the message names, if it does.
        reason: What it says about it.
    """

    def __init__(self, code: str, message: str):
        super().__init__(f"The model server refused the request ({code}): {message}")
        match = _NAMED_IMAGE.search(message)
        self.position = int(match[1]) if match else None
        self.reason = match[2].strip() if match else message


class Failure(NamedTuple):
    """An image file without an embedding, and why there is none."""

    path: Path
    reason: str


class BadImageError(ValueError):
    """An image file that cannot be read, or that the model refuses."""

    def __init__(self, failure: Failure):
        super().__init__(
            "Every image must be a whole JPEG or PNG file. Mend or remove it, or leave "
            f"such images out (--skip-bad). Received: path={failure.path} "
            f"({failure.reason})"
        )
        self.failure = failure


def failure_lines(failures: Iterable[Failure]) -> list[str]:
    """Returns which images were left out and why, for people."""
    return [f"left out: {failure.path}: {failure.reason}" for failure in failures]
