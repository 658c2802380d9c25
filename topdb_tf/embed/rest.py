"""TensorFlow Serving's REST API, by the standard library alone."""

import base64
import contextlib
import http.client
import json
import queue
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from topdb_tf.embed.address import ModelChoice, ServerAddress
from topdb_tf.embed.errors import RefusedError, ServingError, UnavailableError

_UNAVAILABLE = (429, 503)
_MAX_SHOWN = 300  # characters of an answer that is no JSON


class RestConnection:
    """A model on a server that speaks REST, asked from any number of threads.

    Connections are kept open and used again. For TLS the certificates in `ca_file` are
    trusted instead of the system's. `resolve_version` sets the version of `model`.
    """

    def __init__(
        self, address: ServerAddress, model: ModelChoice, ca_file: Path | None
    ):
        self.address = address
        self.model = model
        self._context = None
        if address.tls:
            self._context = ssl.create_default_context(cafile=ca_file)
        self._idle = queue.LifoQueue()
        self._is_closed = False

    def predict(self, images: Sequence[bytes], timeout: float) -> np.ndarray:
        """Returns the embeddings of images, float32 `(batch, dim)`."""
        encoded = [{"b64": base64.b64encode(image).decode()} for image in images]
        body = json.dumps({"inputs": {"image_bytes": encoded}})
        answer = self._json("POST", f"{self._path()}:predict", body, timeout)
        try:
            return np.array(answer["outputs"], np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise ServingError(
                f"{self.address} must answer with `outputs`, an array of numbers. "
                f"Received: {str(answer)[:_MAX_SHOWN]}"
            ) from error

    def resolve_version(self, timeout: float) -> int:
        """Makes all further requests go to one version, and returns its number."""
        answer = self._json("GET", self._path(), None, timeout)
        try:
            versions = [
                int(status["version"])
                for status in answer["model_version_status"]
                if status["state"] == "AVAILABLE"
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise ServingError(
                f"{self.address} is no TensorFlow Serving: its model status must hold "
                f"`model_version_status`. Received: {str(answer)[:_MAX_SHOWN]}"
            ) from error
        if not versions:
            raise UnavailableError(
                f"No version of model {self.model.name} is ready at {self.address}."
            )
        self.model = ModelChoice(self.model.name, max(versions))
        return self.model.version

    def close(self) -> None:
        """Closes the connections, those in use as soon as they have their answer."""
        self._is_closed = True
        self._close_idle()

    def _path(self):
        name, version, label = self.model
        path = f"{self.address.prefix}/v1/models/{name}"
        if version is not None:
            return f"{path}/versions/{version}"
        return f"{path}/labels/{label}" if label else path

    def _json(self, method, path, body, timeout):
        status, reason, text = self._exchange(method, path, body, timeout)
        try:
            answer = json.loads(text)
            message = answer["error"] if status != 200 else None
        except (ValueError, TypeError, KeyError):
            answer, message = None, text[:_MAX_SHOWN].decode(errors="replace")
        if status in _UNAVAILABLE:
            raise UnavailableError(f"{self.address} is busy: {message}.")
        if status in (400, 404):
            raise RefusedError(f"HTTP {status}", message)
        if status != 200 or answer is None:
            raise ServingError(f"{self.address} answered {status} {reason}: {message}")
        return answer

    def _exchange(self, method, path, body, timeout):
        """Returns status, reason and body of the answer to one request."""
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = self._new_connection()
        is_whole = False
        try:
            connection.timeout = timeout
            if connection.sock is not None:
                connection.sock.settimeout(timeout)
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read()
            is_whole = True
            return response.status, response.reason, text
        except (http.client.HTTPException, OSError) as error:
            self._close_idle()  # where one is dead, those kept open are too
            raise self._explained(error, timeout) from error
        finally:
            if is_whole:
                self._idle.put(connection)
            else:
                connection.close()
            if self._is_closed:
                self._close_idle()

    def _new_connection(self):
        host = self.address.host.strip("[]")
        if self._context is None:
            return http.client.HTTPConnection(host, self.address.port)
        return http.client.HTTPSConnection(
            host, self.address.port, context=self._context
        )

    def _close_idle(self):
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    def _explained(self, error, timeout):
        if isinstance(error, TimeoutError):
            return ServingError(
                f"{self.address} gave no answer within {timeout:.3g} s."
            )
        hopeless = isinstance(error, ssl.SSLError) or (
            isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN
        )
        kind = ServingError if hopeless else UnavailableError
        reason = str(error) or type(error).__name__
        return kind(f"{self.address} cannot be reached by REST: {reason}.")
