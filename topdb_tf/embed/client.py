"""Embeddings of image files by a model server, or by a model in a folder."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from topdb_tf.embed.errors import BadImageError, Failure, RefusedError, ServingError
from topdb_tf.embed.retries import Deadline, Retries, ask


class EmbeddedFiles(NamedTuple):
    """The embeddings of image files.

    Args:
        embeddings: float32 of shape `(num_kept, dim)`, in the order of the files.
        kept: Indices of the files that have one, int64 of shape `(num_kept,)`.
        failures: The others.
    """

    embeddings: np.ndarray
    kept: np.ndarray
    failures: tuple[Failure, ...]


class Connection(Protocol):
    """What answers the requests of a client, from any number of threads."""

    def predict(self, images: Sequence[bytes], timeout: float) -> np.ndarray:
        """Returns the embeddings of images, float32 `(batch, dim)`.

        Args:
            images: Contents of JPEG or PNG files.
            timeout: Seconds until the answer must be there.

        Raises:
            UnavailableError: If it may go better later.
            RefusedError: If the images are refused.
            ServingError: If there is no answer in time, or not the one expected.
        """

    def resolve_version(self, timeout: float) -> int | None:
        """Makes all further requests go to one version, and returns its number.

        Without a version in the choice of the model, that is the newest one that is
        ready, so that a version rolled out meanwhile does not mix its embeddings in.
        A model without a server may have no number.

        Raises:
            UnavailableError: If no version is ready yet.
            RefusedError: If there is no such model, version or label.
        """

    def close(self) -> None:
        """Closes what is open, what is in use as soon as it has its answer."""


class ServingClient:
    """Embeds any number of image files: in batches, several of them at a time.

    A request that meets a server which is down, busy or loading is repeated after a
    pause. One that is refused is not. The first request chooses the version of the
    model, and all others go to the same.

    Args:
        connection: What answers the requests: see `topdb_tf.embed.connections` for
            servers, and `topdb_tf.embed.local` for models without one.
        batch_size: Number of images in a request.
        max_in_flight: Number of requests at a time.
        retries: How often a request is repeated.
        request_timeout: Most seconds for the answer to one request.

    Attributes:
        version: Number of the version that answers, after the first call, if known.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        batch_size: int = 32,
        max_in_flight: int = 4,
        retries: Retries | None = None,
        request_timeout: float = 60.0,
    ):
        if min(batch_size, max_in_flight) < 1 or not request_timeout > 0:
            raise ValueError(
                "There must be an image in a request, a request at a time and time for "
                f"it. Received: batch_size={batch_size}, "
                f"max_in_flight={max_in_flight}, request_timeout={request_timeout}"
            )
        self.connection = connection
        self.batch_size = batch_size
        self.max_in_flight = max_in_flight
        self.retries = retries or Retries()
        self.request_timeout = request_timeout
        self.version = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def embed(
        self,
        paths: Sequence[Path | str | bytes],
        *,
        skip_bad: bool = False,
        timeout: float | Deadline | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> EmbeddedFiles:
        """Returns the embeddings of image files, in their order.

        The files are read while others are on their way, and sent as they are.

        Args:
            paths: JPEG or PNG files, or their contents.
            skip_bad: Whether an image that cannot be read or embedded is left out
                and listed. Otherwise it ends everything.
            timeout: Seconds for all of it, or the end of the time of more than it; as
                long as it takes if it is `None`.
            progress: Called with the number of files done and of all.

        Raises:
            BadImageError: If an image is bad; it names the first. With `skip_bad`, if
                all of them are.
            ServingError: If the server does not answer, or not in time.
            ValueError: If there is no path.
        """
        if not len(paths):
            raise ValueError("There must be an image to embed. Received: no paths")
        deadline = timeout if isinstance(timeout, Deadline) else Deadline(timeout)
        task = _Task(self, skip_bad, deadline)
        self.version = task.ask(self.connection.resolve_version)
        starts = range(0, len(paths), self.batch_size)
        parts, done = [], 0
        pool = ThreadPoolExecutor(self.max_in_flight)
        try:
            for part in pool.map(lambda start: task.embed(paths, start), starts):
                parts.append(part)
                done += len(part.kept) + len(part.failures)
                if progress is not None:
                    progress(done, len(paths))
        finally:
            task.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
        return _joined(parts)


class _Task:
    """What the requests of one call of `ServingClient.embed` share."""

    def __init__(self, client, skip_bad, deadline):
        self.client = client
        self.skip_bad = skip_bad
        self.deadline = deadline
        self.stop = threading.Event()
        self.first_failed = float("inf")  # where the batch starts
        self._lock = threading.Lock()

    def ask(self, request, start=0):
        # What comes before the failure goes on, so that the first one is reported.
        if start > self.first_failed:
            raise ServingError("The request was given up: one before it failed.")
        return ask(
            request,
            retries=self.client.retries,
            deadline=self.deadline,
            longest=self.client.request_timeout,
            stop=self.stop,
        )

    def embed(self, paths, start):
        """Returns the embeddings of the batch of files that starts there."""
        try:
            return self._embed(paths, start)
        except BaseException:
            with self._lock:
                self.first_failed = min(self.first_failed, start)
            raise

    def _embed(self, paths, start):
        failures, images, indices = {}, [], []
        for index in range(start, min(start + self.client.batch_size, len(paths))):
            try:
                images.append(_contents(_path_of(paths, index), paths[index]))
                indices.append(index)
            except BadImageError as error:
                self._note(failures, index, error.failure)
        embeddings = None
        for _ in range(len(images) + self.client.retries.attempts):
            if not images:
                break
            try:
                embeddings = self._checked(images, start)
                break
            except RefusedError as error:
                position, reason = self._culprit(images, start, error)
            if position is not None:
                index = indices.pop(position)
                del images[position]
                failure = Failure(_path_of(paths, index), reason)
                self._note(failures, index, failure)
        if images and embeddings is None:
            raise ServingError(
                "The server refuses images that it takes alone: it puts bad images of "
                "others into the same batch. Ask it not to batch requests."
            )
        if images and (is_bad := ~np.isfinite(embeddings).all(axis=1)).any():
            first = paths[indices[np.flatnonzero(is_bad)[0]]]
            raise ServingError(
                "Embeddings must be finite: is the model a trained one? Received: "
                f"{is_bad.sum()} that are not, the first of {first}"
            )
        in_order = tuple(failures[index] for index in sorted(failures))
        return EmbeddedFiles(embeddings, np.array(indices, np.int64), in_order)

    def _note(self, failures, index, failure):
        if not self.skip_bad:
            raise BadImageError(failure)
        failures[index] = failure

    def _checked(self, images, start):
        """Returns the embeddings of the contents of images, if they are any."""
        embeddings = self.ask(
            lambda timeout: self.client.connection.predict(images, timeout), start
        )
        shape = embeddings.shape
        if len(shape) != 2 or shape[0] != len(images) or not shape[1]:
            raise ServingError(
                "The model must give an embedding for each image. "
                f"Received: shape={shape} for {len(images)} images"
            )
        return embeddings

    def _culprit(self, images, start, error):
        """Returns position and reason of an image that is refused, if there is one.

        A server that batches the requests of its clients counts in the whole batch,
        so the image that it names is sent alone before it is blamed, and then the
        others.
        """
        named = error.position
        if named is None:
            raise error
        if len(images) == 1:
            return (0, error.reason) if named == 0 else (None, None)
        positions = sorted(range(len(images)), key=lambda position: position != named)
        for position in positions:
            try:
                self._checked([images[position]], start)
            except RefusedError as refusal:
                if refusal.position == 0:
                    return position, refusal.reason
        return None, None


def _path_of(paths, index):
    """Returns the path of an image, or what it is called without one."""
    path = paths[index]
    return Path(f"image {index}") if isinstance(path, bytes) else Path(path)


def _contents(path, image):
    try:
        contents = image if isinstance(image, bytes) else path.read_bytes()
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise BadImageError(Failure(path, reason)) from error
    if not contents:
        raise BadImageError(Failure(path, "the file is empty"))
    return contents


def _joined(parts):
    failures = tuple(failure for part in parts for failure in part.failures)
    parts = [part for part in parts if part.embeddings is not None]
    if not parts:
        raise BadImageError(failures[0])
    dims = {part.embeddings.shape[1] for part in parts}
    if len(dims) > 1:
        raise ServingError(
            "All embeddings must have the same length: did the model change "
            f"meanwhile? Received: lengths={sorted(dims)}"
        )
    return EmbeddedFiles(
        np.concatenate([part.embeddings for part in parts]),
        np.concatenate([part.kept for part in parts]),
        failures,
    )
