"""Where a model server is, and which of its models is asked."""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

_SCHEMES = {
    "http": ("rest", False),
    "https": ("rest", True),
    "grpc": ("grpc", False),
    "grpcs": ("grpc", True),
}
_GRPC_PORT = 8500  # TensorFlow Serving's default


class ServerAddress(NamedTuple):
    """The address of a server.

    Args:
        protocol: "rest" or "grpc".
        host: Name or number, an IPv6 number in brackets.
        port: Number of the port.
        tls: Whether the connection is encrypted.
        prefix: Path before `/v1`, where a proxy adds one; REST only.
    """

    protocol: str
    host: str
    port: int
    tls: bool = False
    prefix: str = ""

    def __str__(self):
        return f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine, where no proxy leads to."""
        return self.host in ("localhost", "[::1]") or self.host.startswith("127.")


class ModelChoice(NamedTuple):
    """Which model of a server is asked.

    Args:
        name: Name of the model.
        version: Number of the version; the newest one that is ready if it is `None`.
        label: Label of a version, such as "canary", instead of a number.
    """

    name: str = "topdb"
    version: int | None = None
    label: str | None = None


def parse_address(server: str, protocol: str | None = None) -> ServerAddress:
    """Returns the address in `HOST:PORT` or `SCHEME://HOST:PORT`.

    The scheme is `http`, `https`, `grpc` or `grpcs`. Without one, and without a
    protocol, port 8500 is gRPC, as TensorFlow Serving has it, and any other is REST.

    Args:
        server: The address as a user gives it.
        protocol: "rest" or "grpc".

    Raises:
        ValueError: If there is no port, scheme and protocol are not what they can be
            or contradict each other, or there is more than an address, such as the
            model.

    Example:
        >>> from topdb_tf.embed.address import parse_address
        >>> parse_address("localhost:8500").protocol
        'grpc'
        >>> str(parse_address("https://models.example:443/re-id"))
        'models.example:443'
    """
    has_scheme = "://" in server
    parts = urlsplit(server if has_scheme else f"//{server}")
    try:
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")  # as the system's resolver would
    except ValueError:  # a port that is no number, a host that can be none
        host = port = None
    path, _, model = parts.path.partition("/v1/models")
    if model or parts.path.rstrip("/").endswith("/v1"):
        name = re.sub(r"[:/].*", "", model.lstrip("/")) or "NAME"
        start = server.partition("/v1")[0]
        raise ValueError(
            "The server is named without the path of a model: --server "
            f"{start} --model-name {name}. Received: server={server!r}"
        )
    is_known = not has_scheme or parts.scheme in _SCHEMES
    has_more = "@" in parts.netloc or parts.query or parts.fragment
    is_odd = has_more or re.search(r"[\s\x00-\x1f\x7f]", server)
    if not host or not port or not is_known or is_odd:
        raise ValueError(
            "The server must be HOST:PORT, or one of "
            f"{', '.join(f'{scheme}://HOST:PORT' for scheme in _SCHEMES)}. "
            f"Received: server={server!r}"
        )
    default = protocol or ("grpc" if port == _GRPC_PORT else "rest")
    named, tls = _SCHEMES[parts.scheme] if has_scheme else (default, False)
    if named not in ("rest", "grpc") or protocol not in (None, named):
        raise ValueError(
            'The protocol must be "rest" or "grpc", and that of the address. '
            f"Received: protocol={protocol!r}, server={server!r}"
        )
    if named == "grpc" and path.strip("/"):
        raise ValueError(
            f"The server must be HOST:PORT for gRPC, without a path. "
            f"Received: server={server!r}"
        )
    host = f"[{host}]" if ":" in host else host
    return ServerAddress(named, host, port, tls, parts.path.rstrip("/"))
