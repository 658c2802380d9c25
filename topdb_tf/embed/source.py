"""What embeds images, a model or a server, and how it is asked."""

from dataclasses import dataclass
from pathlib import Path

from topdb_tf.embed.address import ModelChoice, parse_address
from topdb_tf.embed.client import ServingClient
from topdb_tf.embed.connections import connect
from topdb_tf.export.serving import newest_version
from topdb_tf.runs.machine import load_tensorflow
from topdb_tf.runs.models import check_model, find_model


@dataclass(frozen=True)
class Source:
    """What embeds images, and how it is asked.

    The model is a folder that `topdb-tf export` wrote, or what
    `topdb_tf.runs.models.find_model` knows: a run, a file, a preset. Instead of it the
    server at an address may be asked, for one of its models; see
    `topdb_tf.embed.connections.connect`. A PCA reduces the embeddings: that in a file,
    or one to so many numbers that is yet to be fitted. The other fields are what
    `topdb_tf.embed.client.ServingClient` takes.
    """

    model: Path | None = None
    server: str | None = None
    protocol: str | None = None
    choice: ModelChoice = ModelChoice()
    ca_file: Path | None = None
    batch_size: int = 32
    max_in_flight: int = 4
    skip_bad: bool = False
    timeout: float | None = None
    pca: Path | int | None = None


def open_client(source: Source) -> ServingClient:
    """Returns a client of a server, or of a model in a file or folder.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If there is not one of server and model, or either is no such.
    """
    server, model = source.server, source.model
    max_in_flight = source.max_in_flight
    embedder = check_source(source)
    if server is not None:
        protocol = source.protocol
        if parse_address(server, protocol).protocol == "grpc":
            load_tensorflow()  # quietly: the protos bring it along
        connection = connect(
            server, protocol=protocol, model=source.choice, ca_file=source.ca_file
        )
    else:
        load_tensorflow()
        from topdb_tf.embed.local import EmbedderConnection, SavedModelConnection

        local = EmbedderConnection if embedder else SavedModelConnection
        connection = local(embedder or model)
        # One embeds while the next is decoded; more would share the same cores.
        max_in_flight = min(max_in_flight, 2)
    return ServingClient(
        connection, batch_size=source.batch_size, max_in_flight=max_in_flight
    )


def check_source(source: Source) -> Path | None:
    """Returns what `find_model` gives of a source's model, if it is one for that.

    Raises, before TensorFlow is loaded, what `open_client` does of what is named.
    """
    server, model = source.server, source.model
    if (server is None) == (model is None):
        raise ValueError(
            "Name either --server HOST:PORT or --model FOLDER. "
            f"Received: server={server!r}, model={str(model) if model else None!r}"
        )
    if server is not None:
        return None
    embedder = find_model(model)
    if embedder is None and not model.exists():
        raise FileNotFoundError(f"There is no model at {model}.")
    check_model(embedder) if embedder else newest_version(model)
    return embedder
