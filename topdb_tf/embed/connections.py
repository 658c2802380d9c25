"""Connections to model servers, by their addresses."""

import re
import ssl
from pathlib import Path

from topdb_tf.embed.address import ModelChoice, parse_address


def connect(
    server: str,
    *,
    protocol: str | None = None,
    model: ModelChoice | None = None,
    ca_file: Path | None = None,
):
    """Returns a connection to a server, for `topdb_tf.embed.client.ServingClient`.

    Nothing is sent yet. The address is read by `topdb_tf.embed.address.parse_address`;
    the certificates (PEM) in `ca_file` are trusted, for TLS.
    """
    address = parse_address(server, protocol)
    model = model or ModelChoice()
    if model.version is not None and model.label is not None:
        raise ValueError(
            "A version is chosen by its number or by a label. "
            f"Received: version={model.version}, label={model.label!r}"
        )
    for name in (model.name, model.label or "-"):
        # What TensorFlow Serving tells from the rest of an address, in REST.
        if not name.strip() or re.search(r"[/:\x00-\x1f\x7f]", name):
            raise ValueError(
                "The name and the label of a model must be texts without a slash, a "
                f"colon or a control character. Received: {name!r}"
            )
    if model.version is not None and not 0 <= model.version < 2**63:
        raise ValueError(
            f"A version must be a whole number from 0. Received: {model.version}"
        )
    if ca_file is not None:
        try:
            ssl.create_default_context(cafile=ca_file)
        except ssl.SSLError as error:
            raise ValueError(
                f"{ca_file} must hold certificates (PEM). Received: {error}"
            ) from error
    if address.protocol == "rest":
        from topdb_tf.embed.rest import RestConnection

        return RestConnection(address, model, ca_file)
    try:
        from topdb_tf.embed.rpc import GrpcConnection
    except ImportError as error:
        raise ValueError(
            "gRPC needs tensorflow-serving-api: pip install tensorflow-serving-api, or "
            f"use REST (http://HOST:8501). Received: server={server!r}; {error}"
        ) from error
    return GrpcConnection(address, model, ca_file)
