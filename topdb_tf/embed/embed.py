"""Embedding image files into a file of features, by a server or by a model here."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from topdb_tf.data.image_files import list_images
from topdb_tf.data.market import JUNK_PID, record_of
from topdb_tf.data.records import camids_of, pids_of
from topdb_tf.embed.address import ModelChoice, parse_address
from topdb_tf.embed.client import Embedded, ServingClient
from topdb_tf.embed.connections import connect
from topdb_tf.embed.model_probes import probe_features
from topdb_tf.files import whole_file
from topdb_tf.progress import progress_bar
from topdb_tf.runs.folder import RunFolder
from topdb_tf.runs.machine import load_tensorflow

_MAX_NAMED_FILES = 5


def open_client(
    server: str | None,
    model: Path | None,
    *,
    protocol: str | None = None,
    choice: ModelChoice | None = None,
    ca_file: Path | None = None,
    batch_size: int = 32,
    max_in_flight: int = 4,
) -> ServingClient:
    """Returns a client of a server, or of a model in a file or folder.

    Args:
        server: Address of a server, or `None`.
        model: Else a folder that `topdb-tf export` wrote, the folder of a run, or its
            `embedder.keras`.
        protocol: "rest" or "grpc", where the address does not tell.
        choice: Which of the server's models is asked.
        ca_file: Certificates (PEM) to trust, for TLS.
        batch_size: Number of images in a request.
        max_in_flight: Number of requests at a time.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If there is not one of server and model, or either is no such.
    """
    if (server is None) == (model is None):
        raise ValueError(
            "Name either --server HOST:PORT or --model FOLDER. "
            f"Received: server={server!r}, model={str(model) if model else None!r}"
        )
    if server is not None:
        if parse_address(server, protocol).protocol == "grpc":
            load_tensorflow()  # quietly: the protos bring it along
        connection = connect(server, protocol=protocol, model=choice, ca_file=ca_file)
    else:
        connection = _open_model(model)
        # One embeds while the next is decoded; more would share the same cores.
        max_in_flight = min(max_in_flight, 2)
    return ServingClient(connection, batch_size=batch_size, max_in_flight=max_in_flight)


def embed_images(
    client: ServingClient, places: Sequence[Path], out: Path, **options
) -> dict:
    """Writes the features of images, and whom they show where all names tell it.

    The file holds `features`, float32 `(num_images, dim)`, and `paths`; if every name
    follows the pattern of Market-1501, also `pids` and `camids`. `probe_features` are
    those of drawn images, by which `topdb-tf index` knows the model again.

    Args:
        client: What embeds them.
        places: Image files, and folders with all below them.
        out: The NPZ file; an older one is replaced when the new one is whole.
        **options: `skip_bad` and `timeout` of `ServingClient.embed`.

    Returns:
        `out`, `num_images`, `dim`, `version` of the model, `seconds`,
        `images_per_second`, `failures` with `path` and `reason`, `skipped`.

    Raises:
        FileNotFoundError: If an image, or the folder of `out`, does not exist.
        ValueError: If an image is bad, or there is none.
        ServingError: If the server fails.
    """
    _check_out(out)
    images = list_images(places)
    embedded, facts = embed_paths(client, images.paths, **options)
    paths = [images.paths[index] for index in embedded.kept]
    arrays = {"features": embedded.embeddings, "paths": _texts(paths)}
    records = _records_of(paths)
    if records is not None:
        arrays |= {"pids": pids_of(records), "camids": camids_of(records)}
    arrays["probe_features"] = probe_features(client)
    with whole_file(out) as partial:
        np.savez(partial, **arrays)
    return {"out": str(out), **facts, "skipped": _names(images.skipped)}


def embed_split(
    client: ServingClient, query: Path, gallery: Path, out: Path, **options
) -> dict:
    """Writes the features of queries and gallery as `topdb-tf score` reads them.

    The names of the images tell person and camera; images of pid -1 are left out, as
    when a data set is read. Paths are kept in `query_paths` and `gallery_paths`.

    Args:
        client: What embeds them.
        query: Folder of the queries.
        gallery: Folder of the gallery.
        out: As of `embed_images`.
        **options: As of `embed_images`.

    Returns:
        As `embed_images`.

    Raises:
        FileNotFoundError, ServingError: As `embed_images`.
        ValueError: As `embed_images`, or if a name does not tell person and camera.
    """
    _check_out(out)
    parts = {"query": list_images([query]), "gallery": list_images([gallery])}
    records = [
        (part, record)
        for part in parts
        for record in map(record_of, parts[part].paths)
        if record.pid != JUNK_PID
    ]
    paths = [record.path for _, record in records]
    embedded, facts = embed_paths(client, paths, **options)
    arrays = {}
    for part in parts:
        places = [
            place
            for place, index in enumerate(embedded.kept)
            if records[index][0] == part
        ]
        if not places:
            raise ValueError(f"The {part} must have an image that can be embedded.")
        kept = [records[index][1] for index in embedded.kept[places]]
        arrays |= {
            f"{part}_features": embedded.embeddings[places],
            f"{part}_pids": pids_of(kept),
            f"{part}_camids": camids_of(kept),
            f"{part}_paths": _texts([record.path for record in kept]),
        }
    arrays["probe_features"] = probe_features(client)
    with whole_file(out) as partial:
        np.savez(partial, **arrays)
    skipped = [path for images in parts.values() for path in images.skipped]
    return {"out": str(out), **facts, "skipped": _names(skipped)}


def embed_lines(result: dict) -> list[str]:
    """Returns the result of `embed_images` or `embed_split` for people."""
    lines = []
    if result["skipped"]:
        names = [Path(path).name for path in result["skipped"]]
        lines.append(f"skipped, as no images: {_some(names)}")
    for failure in result["failures"]:
        lines.append(f"left out: {failure['path']}: {failure['reason']}")
    version = result["version"]
    return [
        *lines,
        f"{result['out']}: {result['num_images']:,} images, {result['dim']} numbers "
        f"each{'' if version is None else f', model version {version}'}; "
        f"{result['seconds']:.1f} s, {result['images_per_second']:.1f} images/s, "
        f"{len(result['failures'])} left out",
    ]


def _open_model(path):
    path = Path(path)
    run = RunFolder(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no model at {path}.")
    load_tensorflow()
    from topdb_tf.embed.local import EmbedderConnection, SavedModelConnection

    if path.is_file() or run.holds_run:
        return EmbedderConnection(path if path.is_file() else run.embedder)
    return SavedModelConnection(path)


def embed_paths(
    client: ServingClient, paths: Sequence[Path], **options
) -> tuple[Embedded, dict]:
    """Returns the embeddings of image files, and the facts about them.

    Args:
        client: What embeds them.
        paths: The files.
        **options: As of `embed_images`.

    Returns:
        The embeddings, and what `embed_images` returns without `out` and `skipped`.

    Raises:
        ValueError: If an image is bad, or an embedding is not finite.
        ServingError: If the server fails.
    """
    start = time.perf_counter()
    with progress_bar("embedding") as progress:
        embedded = client.embed(paths, progress=progress, **options)
    seconds = time.perf_counter() - start
    is_bad = ~np.isfinite(embedded.embeddings).all(axis=1)
    if is_bad.any():
        first = paths[embedded.kept[np.flatnonzero(is_bad)[0]]]
        raise ValueError(
            "Embeddings must be finite: is the model a trained one? "
            f"Received: {is_bad.sum()} that are not, the first of {first}"
        )
    return embedded, {
        "num_images": len(embedded.kept),
        "dim": embedded.embeddings.shape[1],
        "version": client.version,
        "seconds": seconds,
        "images_per_second": len(paths) / seconds,
        "failures": [
            {"path": str(failure.path), "reason": failure.reason}
            for failure in embedded.failures
        ],
    }


def _records_of(paths):
    try:
        return tuple(record_of(path) for path in paths)
    except ValueError:
        return None


def _texts(paths):
    return np.array([str(path) for path in paths])


def _names(paths):
    return [str(path) for path in paths]


def _some(names):
    others = len(names) - _MAX_NAMED_FILES
    more = f" and {others} more" if others > 0 else ""
    return f"{', '.join(names[:_MAX_NAMED_FILES])}{more}"


def _check_out(out):
    if out.suffix != ".npz" or out.is_dir() or not out.parent.is_dir():
        raise ValueError(
            "The features must go into a file .npz, in a folder that exists. "
            f"Received: out={out}"
        )
