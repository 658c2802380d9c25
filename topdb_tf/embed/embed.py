"""Embedding image files into a file of features, by a server or by a model here."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.data.image_files import list_images
from topdb_tf.data.market import JUNK_PID, record_of
from topdb_tf.data.records import ImageRecord, camids_of, pids_of
from topdb_tf.embed.address import ModelChoice, parse_address
from topdb_tf.embed.client import ServingClient
from topdb_tf.embed.connections import connect
from topdb_tf.embed.errors import Failure, ServingError, failure_lines
from topdb_tf.embed.model_probes import probe_features
from topdb_tf.embed.retries import Deadline
from topdb_tf.export.serving import newest_version
from topdb_tf.files import check_new_file, plain, whole_file
from topdb_tf.progress import progress_bar
from topdb_tf.runs.machine import load_tensorflow
from topdb_tf.runs.models import check_model, find_model
from topdb_tf.texts import listed

UNKNOWN = int(np.iinfo(np.int64).min)
"""The pid or camid of an image that does not tell it; -1 is a pid of its own."""


@dataclass(frozen=True)
class Source:
    """What embeds images, and how it is asked.

    The model is a folder that `topdb-tf export` wrote, or what
    `topdb_tf.runs.models.find_model` knows: a run, a file, a preset. Instead of it the
    server at an address may be asked, for one of its models; see
    `topdb_tf.embed.connections.connect`. The other fields are what
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


class Embedding(NamedTuple):
    """Images with their features, and what embedding them took.

    Args:
        features: float32 of shape `(num_images, dim)`.
        paths: Names of the images.
        pids: Persons, int64 of shape `(num_images,)`; `UNKNOWN` where the name of an
            image does not tell.
        camids: Cameras, int64 of shape `(num_images,)`, likewise.
        probes: What `probe_features` returned for the same model, if it is known.
        kept: Places of the images among those that were to be embedded, int64.
        failures: Images that were left out.
        version: Number of the model's version, if it has one.
        seconds: Time for embedding.
    """

    features: np.ndarray
    paths: list[str]
    pids: np.ndarray
    camids: np.ndarray
    probes: np.ndarray | None = None
    kept: np.ndarray | None = None
    failures: tuple[Failure, ...] = ()
    version: int | None = None
    seconds: float = 0.0

    @property
    def images_per_second(self) -> float:
        """Speed, with the images that were left out."""
        return (len(self.paths) + len(self.failures)) / self.seconds


class FeaturesFile(NamedTuple):
    """A file of features that was written; what is no image by its name is skipped."""

    out: Path
    embedding: Embedding
    skipped: Sequence[Path]

    def to_dict(self) -> dict:
        """Returns what `--json` prints."""
        num_images, dim = self.embedding.features.shape
        return {
            "out": str(self.out),
            "num_images": num_images,
            "dim": dim,
            "version": self.embedding.version,
            "seconds": self.embedding.seconds,
            "images_per_second": self.embedding.images_per_second,
            "failures": plain(self.embedding.failures),
            "skipped": plain(self.skipped),
        }

    def lines(self) -> list[str]:
        """Returns what is said to people."""
        embedding, names = self.embedding, [path.name for path in self.skipped]
        num_images, dim = embedding.features.shape
        version = embedding.version
        return [
            *([f"skipped, as no images: {listed(names)}"] if names else []),
            *failure_lines(embedding.failures),
            f"{self.out}: {num_images:,} images, {dim} numbers "
            f"each{'' if version is None else f', model version {version}'}; "
            f"{embedding.seconds:.1f} s, {embedding.images_per_second:.1f} images/s, "
            f"{len(embedding.failures)} left out",
        ]


def open_client(source: Source) -> ServingClient:
    """Returns a client of a server, or of a model in a file or folder.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If there is not one of server and model, or either is no such.
    """
    server, model = source.server, source.model
    if (server is None) == (model is None):
        raise ValueError(
            "Name either --server HOST:PORT or --model FOLDER. "
            f"Received: server={server!r}, model={str(model) if model else None!r}"
        )
    max_in_flight = source.max_in_flight
    if server is not None:
        protocol = source.protocol
        if parse_address(server, protocol).protocol == "grpc":
            load_tensorflow()  # quietly: the protos bring it along
        connection = connect(
            server, protocol=protocol, model=source.choice, ca_file=source.ca_file
        )
    else:
        connection = _open_model(model)
        # One embeds while the next is decoded; more would share the same cores.
        max_in_flight = min(max_in_flight, 2)
    return ServingClient(
        connection, batch_size=source.batch_size, max_in_flight=max_in_flight
    )


def embed_images(source: Source, places: Sequence[Path], out: Path) -> FeaturesFile:
    """Writes the features of images, and whom they show where all names tell it.

    The file holds `features`, float32 `(num_images, dim)`, and `paths`; if every name
    follows the pattern of Market-1501, also `pids` and `camids`. `probe_features` are
    those of drawn images, by which `topdb-tf index` knows the model again. An older
    file is replaced when the new one is whole.

    Raises:
        FileNotFoundError: If an image, or the folder of `out`, does not exist.
        ValueError: If an image is bad, or there is none.
        ServingError: If the server fails.
    """
    check_new_file(out, suffix=".npz", force=True)
    images = list_images(places)
    embedding = embed_files(source, images.paths)
    arrays = {"features": embedding.features, "paths": np.array(embedding.paths)}
    if (embedding.pids != UNKNOWN).all():
        arrays |= {"pids": embedding.pids, "camids": embedding.camids}
    return _write(out, arrays, embedding, images.skipped)


def embed_split(source: Source, query: Path, gallery: Path, out: Path) -> FeaturesFile:
    """Writes the features of queries and gallery as `topdb-tf score` reads them.

    The names of the images tell person and camera; images of pid -1 are left out, as
    when a data set is read. Paths are kept in `query_paths` and `gallery_paths`. An
    older file is replaced when the new one is whole.

    Raises:
        FileNotFoundError: If a folder, or that of `out`, does not exist.
        ValueError: If an image is bad, there is none in a folder, or a name does not
            tell person and camera.
        ServingError: If the server fails.
    """
    check_new_file(out, suffix=".npz", force=True)
    images = {"query": list_images([query]), "gallery": list_images([gallery])}
    parts = [
        (part, path)
        for part in images
        for path in images[part].paths
        if record_of(path).pid != JUNK_PID
    ]
    embedding = embed_files(source, [path for _, path in parts])
    kept_parts = np.array([parts[place][0] for place in embedding.kept])
    arrays = {}
    for part in images:
        rows = np.flatnonzero(kept_parts == part)
        if not len(rows):
            raise ValueError(f"The {part} must have an image that can be embedded.")
        arrays |= {
            f"{part}_features": embedding.features[rows],
            f"{part}_pids": embedding.pids[rows],
            f"{part}_camids": embedding.camids[rows],
            f"{part}_paths": np.array(embedding.paths)[rows],
        }
    skipped = [path for part in images.values() for path in part.skipped]
    return _write(out, arrays, embedding, skipped)


def embed_files(source: Source, paths: Sequence[Path]) -> Embedding:
    """Returns the features of image files.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If an image is bad.
        ServingError: If the server fails, or an embedding is not finite.
    """
    with open_client(source) as client:
        deadline = Deadline(source.timeout)
        probes = probe_features(client, deadline)  # what is wrong is said at once
        start = time.perf_counter()
        with progress_bar("embedding") as progress:
            features, kept, failures = client.embed(
                paths,
                skip_bad=source.skip_bad,
                timeout=deadline,
                progress=progress,
            )
        seconds = time.perf_counter() - start
        if features.shape[1] != probes.shape[1]:
            raise ServingError(
                "All embeddings must have the same length: did the model change "
                f"meanwhile? Received: {features.shape[1]} and {probes.shape[1]}"
            )
        records = [record_of_path(paths[place]) for place in kept]
        return Embedding(
            features=features,
            paths=[str(paths[place]) for place in kept],
            pids=pids_of(records),
            camids=camids_of(records),
            probes=probes,
            kept=kept,
            failures=failures,
            version=client.version,
            seconds=seconds,
        )


def record_of_path(path: Path) -> ImageRecord:
    """Returns the record of an image, of nobody where its name does not tell."""
    try:
        return record_of(path)
    except ValueError:
        return ImageRecord(path, UNKNOWN, UNKNOWN)


def _open_model(path):
    embedder = find_model(path)
    if embedder is None and not path.exists():
        raise FileNotFoundError(f"There is no model at {path}.")
    check_model(embedder) if embedder else newest_version(path)
    load_tensorflow()
    from topdb_tf.embed.local import EmbedderConnection, SavedModelConnection

    return EmbedderConnection(embedder) if embedder else SavedModelConnection(path)


def _write(out, arrays, embedding, skipped):
    """Writes the arrays of an embedding, and returns what was written."""
    with whole_file(out) as partial:
        np.savez(partial, **arrays, probe_features=embedding.probes)
    return FeaturesFile(out, embedding, skipped)
