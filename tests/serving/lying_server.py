"""A server on the loopback that answers as no model server should."""

import contextlib
import socket
import threading
import time

OK = b"HTTP/1.1 200 OK\r\n"


def http(body, status="200 OK", headers=""):
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


READY = http(b'{"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}')


def without_end(start, piece, pause=0.0):
    """Returns an answer that never ends: its start, then a piece again and again."""

    def send(connection):
        connection.sendall(start)
        while True:
            connection.sendall(piece)
            time.sleep(pause)

    return send


class LyingServer:
    """Answers each request for the status of a model, and each other one, in one way.

    An answer is bytes, or a function that sends them.
    """

    def __init__(self, prediction, status=READY):
        self.answers = {True: status, False: prediction}
        self.requests = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                arguments = (connection,)
                threading.Thread(
                    target=self._serve, args=arguments, daemon=True
                ).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError), connection:
            reader = connection.makefile("rb")
            with reader:
                while first := reader.readline():
                    length = 0
                    while (line := reader.readline()) != b"\r\n":
                        name, _, value = line.partition(b":")
                        if name.lower() == b"content-length":
                            length = int(value)
                    reader.read(length)
                    self.requests += 1
                    answer = self.answers[first.startswith(b"GET")]
                    if callable(answer):
                        answer(connection)
                        return
                    connection.sendall(answer)
