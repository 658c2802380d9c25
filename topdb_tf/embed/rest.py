"""TensorFlow Serving's REST API, by the standard library alone."""

import base64
import contextlib
import http.client
import io
import json
import queue
import socket
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from topdb_tf.embed.address import ModelChoice, ServerAddress
from topdb_tf.embed.answers import MOST_NUMBERS, SLACK, checked_rows, newest_of
from topdb_tf.embed.errors import RefusedError, ServingError, UnavailableError

_UNAVAILABLE = (429, 503)
_MAX_SHOWN = 300  # characters of an answer that is no JSON
_DIGITS = 32  # of a number in an answer, with its sign, exponent, comma and indentation
_PIECE = 1 << 16


class RestConnection:
    """A model on a server that speaks REST, asked from any number of threads.

    Connections are kept open and used again. For TLS the certificates in `ca_file` are
    trusted instead of the system's. `resolve_version` sets the version of `model`.
    Redirections are not followed, and proxies of the environment not used.
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
        most = len(images) * MOST_NUMBERS * _DIGITS
        answer = self._json("POST", f"{self._path()}:predict", body, timeout, most)
        outputs = answer.get("outputs") if isinstance(answer, dict) else None
        if isinstance(outputs, dict):  # of a model with several outputs
            outputs = outputs.get("embedding")
        return checked_rows(outputs, str(self.address), _shown(answer))

    def resolve_version(self, timeout: float) -> int:
        """Makes all further requests go to one version, and returns its number."""
        answer = self._json("GET", self._path(), None, timeout, 0)
        try:
            versions = [
                int(str(status["version"]))
                for status in answer["model_version_status"]
                if status["state"] == "AVAILABLE"
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise ServingError(
                f"{self.address} is no TensorFlow Serving: its model status must hold "
                f"`model_version_status`. Received: {_shown(answer)}"
            ) from error
        self.model = newest_of(versions, self.model, str(self.address))
        return self.model.version

    def close(self) -> None:
        """Closes the connections, those in use as soon as they have their answer."""
        self._is_closed = True
        self._close_idle()

    def _path(self):
        name, version, label = self.model
        path = f"{self.address.prefix}/v1/models/{quote(name, safe='')}"
        if version is not None:
            return f"{path}/versions/{version}"
        return f"{path}/labels/{quote(label, safe='')}" if label else path

    def _json(self, method, path, body, timeout, most):
        """Returns the JSON of an answer that may have so many bytes and some slack."""
        status, reason, text = self._exchange(method, path, body, timeout, most)
        try:
            answer, is_json = json.loads(text), True
        except (ValueError, RecursionError):
            answer, is_json = text[:_MAX_SHOWN].decode(errors="replace"), False
        message = _shown(answer) or reason
        if isinstance(answer, dict) and isinstance(answer.get("error"), str):
            message = answer["error"]
        if status in _UNAVAILABLE:
            raise UnavailableError(f"{self.address} is busy: {message}.")
        if status in (400, 404):
            raise RefusedError(f"HTTP {status}", message)
        if status != 200 or not is_json:
            raise ServingError(f"{self.address} answered {status} {reason}: {message}")
        return answer

    def _exchange(self, method, path, body, timeout, most):
        """Returns status, reason and body of the answer to one request."""
        end = time.monotonic() + timeout
        connection, is_whole = None, False
        try:
            with contextlib.suppress(queue.Empty):
                connection = self._idle.get_nowait()
            connection = connection or self._new_connection(end)
            connection.sock.allow(end, most + SLACK)
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = b"".join(iter(lambda: response.read(_PIECE), b""))
            if response.length:  # read in pieces, what is cut short is not told
                raise http.client.IncompleteRead(text, response.length)
            is_whole = connection.sock is not None  # not closed by the server
            reason, location = response.reason, response.getheader("Location")
            if location and 300 <= response.status < 400:
                reason += f", to {location}, which is not followed"
            return response.status, reason, text
        except (http.client.HTTPException, OSError, ValueError) as error:
            self._close_idle()  # where one is dead, those kept open are too
            raise self._explained(error, timeout) from error
        finally:
            if is_whole:
                self._idle.put(connection)
            elif connection is not None:
                connection.close()
            if self._is_closed:
                self._close_idle()

    def _new_connection(self, end):
        """Returns a connection that is open, at the end of the time at the latest."""
        host, port = self.address.host.strip("[]"), self.address.port
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for number, (*_, place) in enumerate(places, 1):
            try:
                sock = socket.create_connection(place[:2], timeout=_left(end))
                break
            except OSError:
                if number == len(places):
                    raise
        if self._context is None:
            connection = http.client.HTTPConnection(host, port)
        else:
            sock.settimeout(_left(end))
            sock = self._context.wrap_socket(sock, server_hostname=host)
            connection = http.client.HTTPSConnection(host, port, context=self._context)
        connection.sock = _BoundedSocket(sock)
        return connection

    def _close_idle(self):
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    def _explained(self, error, timeout):
        if isinstance(error, TimeoutError):
            return ServingError(
                f"{self.address} gave no answer within {timeout:.3g} s."
            )
        reason = str(error) or type(error).__name__
        is_cut = isinstance(error, http.client.IncompleteRead | ConnectionError)
        if not is_cut and not isinstance(error, OSError):
            return ServingError(
                f"{self.address} does not speak REST. If it is the port of gRPC, name "
                f"it grpc://{self.address}; if it is encrypted, https://"
                f"{self.address}. Received: {reason[:_MAX_SHOWN]!r}"
            )
        hopeless = isinstance(error, ssl.SSLError) or (
            isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN
        )
        kind = ServingError if hopeless else UnavailableError
        return kind(f"{self.address} cannot be reached by REST: {reason}.")


class _BoundedSocket:
    """What `http.client` needs of a socket, with an end of the time and of the bytes.

    The timeout of a socket is for a single call: a server that sends a byte now and
    then would never meet it.
    """

    def __init__(self, sock):
        self._sock = sock
        self.allow(0, 0)

    def allow(self, end, num_bytes):
        """Lets the next request take until an end, and so many bytes of answer."""
        self._end, self._bytes_left = end, num_bytes

    def sendall(self, contents):
        view = memoryview(contents)
        while view:
            self._sock.settimeout(_left(self._end))
            view = view[self._sock.send(view) :]

    def makefile(self, mode):
        return io.BufferedReader(_BoundedFile(self, self._sock.makefile(mode, 0)))

    def close(self):
        self._sock.close()

    def read_from(self, file, buffer):
        """Reads from the unbuffered file of the socket into a buffer."""
        self._sock.settimeout(_left(self._end))
        count = file.readinto(buffer)
        self._bytes_left -= count or 0
        if self._bytes_left < 0:
            raise ServingError(
                "The answer of the model server must be as long as embeddings of at "
                f"most {MOST_NUMBERS:,} numbers an image are. Received: more bytes"
            )
        return count


class _BoundedFile(io.RawIOBase):
    """The file to read of a bounded socket; the socket lives until it is closed."""

    def __init__(self, sock, file):
        self._sock, self._file = sock, file

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._sock.read_from(self._file, buffer)

    def close(self):
        self._file.close()
        super().close()


def _left(end):
    """Returns the seconds until an end."""
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _shown(answer):
    """Returns the beginning of an answer as it is shown."""
    return str(answer)[:_MAX_SHOWN]
