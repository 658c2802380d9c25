"""Embedding image files into a file of features, by a server or by a model here."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.data.checks.split import check_test
from topdb_tf.data.image_files import list_images
from topdb_tf.data.market import JUNK_PID, record_of
from topdb_tf.data.records import (
    NO_NAMES,
    IdNames,
    ImageRecord,
    Split,
    camids_of,
    pids_of,
    times_of,
)
from topdb_tf.embed.errors import Failure, ServingError, failure_lines
from topdb_tf.embed.model_probes import probe_features
from topdb_tf.embed.places import images_at, is_uri
from topdb_tf.embed.projection import (
    MOST_IMAGES,
    check_pca_file,
    fit_beside,
    pca_file,
    read_projection,
)
from topdb_tf.embed.retries import Deadline
from topdb_tf.embed.source import Source, open_client
from topdb_tf.evaluate.embedding import arrays_of, columns_of_images
from topdb_tf.evaluate.evaluate import check_pooling, pool_split
from topdb_tf.files import check_new_file, plain, whole_file
from topdb_tf.parquet_files import CODES, SUFFIX, load_parquet, write_arrays
from topdb_tf.progress import progress_bar
from topdb_tf.runs.data import is_own, read_data, warn_of_trained_images
from topdb_tf.runs.folder import open_run
from topdb_tf.runs.models import run_of
from topdb_tf.runs.recipes import read_recipe
from topdb_tf.texts import Say, check_one_of, counted, listed, silent


class Embedding(NamedTuple):
    """Images with their features, and what embedding them took.

    Args:
        features: float32 of shape `(num_images, dim)`.
        paths: Names of the images.
        pids: Persons, int64 of shape `(num_images,)`; `UNKNOWN` where none is told.
        camids: Cameras, int64 of shape `(num_images,)`, likewise.
        names: What persons and cameras are called.
        times: When they were taken, in seconds since 1970, NaN where that is not told;
            `None` if it is of none.
        probes: What `probe_features` returned for the same model, if it is known.
        kept: Places of the images among those that were to be embedded, int64.
        failures: Images that were left out.
        version: Number of the model's version, if it has one.
        seconds: Time for embedding.
        pool: How they were pooled by track, if they were; then all are of length 1.
    """

    features: np.ndarray
    paths: list[str]
    pids: np.ndarray
    camids: np.ndarray
    names: IdNames = NO_NAMES
    times: np.ndarray | None = None
    probes: np.ndarray | None = None
    kept: np.ndarray | None = None
    failures: tuple[Failure, ...] = ()
    version: int | None = None
    seconds: float = 0.0
    pool: str | None = None

    def take(self, rows: Sequence[int]) -> "Embedding":
        """Returns some of the images of a file."""
        ids = {"pids": self.pids[rows], "camids": self.camids[rows]}
        paths, times = [self.paths[row] for row in rows], self.times[rows]
        return self._replace(
            features=self.features[rows], paths=paths, times=times, **ids
        )

    @property
    def images_per_second(self) -> float:
        """Speed, with the images that were left out."""
        return (len(self.paths) + len(self.failures)) / self.seconds


class FeaturesFile(NamedTuple):
    """A file of features that was written; what is no image by its name is skipped.

    The embedding is that of the images, which may have been pooled to fewer tracks.
    """

    out: Path
    embedding: Embedding
    skipped: Sequence[Path]
    num_tracks: int | None = None

    def to_dict(self) -> dict:
        """Returns what `--json` prints."""
        num_images, dim = self.embedding.features.shape
        return {
            "out": str(self.out),
            "num_images": num_images,
            "num_tracks": self.num_tracks,
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
        version, shown = embedding.version, ""
        if self.num_tracks is not None:
            shown = f" in {counted(self.num_tracks, 'track')}"
        for ids, noun in ((embedding.pids, "person"), (embedding.camids, "camera")):
            known = np.unique(ids[ids >= 0])
            shown += f", {counted(len(known), noun)}" if len(known) else ""
        return [
            *([f"skipped, as no images: {listed(names)}"] if names else []),
            *failure_lines(embedding.failures),
            f"{self.out}: {num_images:,} images{shown}, {dim} numbers "
            f"each{'' if version is None else f', model version {version}'}; "
            f"{embedding.seconds:.1f} s, {embedding.images_per_second:.1f} images/s, "
            f"{len(embedding.failures)} left out",
        ]


def embed_images(
    source: Source,
    places: Sequence[Path],
    out: Path,
    *,
    codes: str = CODES[0],
    pool: str | None = None,
    say: Say = silent,
    **reading,
) -> FeaturesFile:
    """Writes the features of all images in files and folders, or of a CSV file.

    An NPZ file holds `features`, float32 `(num_images, dim)`, and `paths`; where it is
    told whom all show also `pids`, `camids` and what those are called, `pid_names` and
    `camera_names`, and `times` and `tracklets` where those are told. With `pool`, as
    `how` of `topdb_tf.pool`, a track is one row, with path and time of its first image,
    and the array `pool` says so. A Parquet file is that of
    `topdb_tf.parquet_files.write_arrays`, whose codes may be named. `probe_features`
    are those of drawn images, by which `topdb-tf index` knows the model again. An older
    file is replaced when the new one is whole. `reading` is what
    `topdb_tf.embed.places.images_at` takes.

    Raises:
        FileNotFoundError: If an image, or the folder of `out`, does not exist.
        ValueError: If an image is bad, there is none, or ids contradict each other.
        ServingError: If the server fails.
    """
    _check_out(out, codes)
    if any(map(is_uri, places)):
        raise ValueError(
            "Images in an object store are read by workers: --workers ray. Received: "
            f"{', '.join(map(str, places))}"
        )
    images = images_at(places, **reading)
    for note in images.notes:
        say(note)
    named = None
    if pool is not None:
        named = Split(listed(list(map(str, places)), 3), (), (), images.records)
        check_pooling(named, pool)
    embedding = embed_files(source, images.records, images.names)
    if isinstance(source.pca, int):
        pca = fit_beside(embedding, source.pca, out, say)
        embedding = pca.applied(embedding)
    features, protocol = embedding.features, None
    records = tuple(images.records[place] for place in embedding.kept)
    if named is not None:
        named = replace(named, gallery=records)
        features, named, protocol = pool_split(features, named, pool)
        records = named.gallery
    columns = columns_of_images(records, images.names, is_table=out.suffix == SUFFIX)
    arrays = {"features": features, **columns}
    return _write(out, arrays, embedding, images.skipped, codes, protocol)


def embed_pair(
    source: Source, query: Path, gallery: Path, out: Path, *, codes: str = CODES[0]
) -> FeaturesFile:
    """Writes the features of queries and gallery as `topdb-tf score` reads them.

    They are those of `split_of_pair`. An older file is replaced when the new one is
    whole.
    """
    _check_out(out, codes)
    check_pca_file(source.pca, "--query and --gallery")
    split, skipped = split_of_pair(query, gallery)
    return _embed_split(source, split, out, codes, skipped)


def split_of_pair(query: Path, gallery: Path) -> tuple[Split, list[Path]]:
    """Returns the images of two folders, and what is none by its name.

    The names of the images tell person and camera; images of pid -1 are left out, as
    when a data set is read.
    """
    images = [list_images([folder]) for folder in (query, gallery)]
    parts = [
        tuple(one for one in map(record_of, part.paths) if one.pid != JUNK_PID)
        for part in images
    ]
    return Split("", (), *parts), [path for part in images for path in part.skipped]


def embed_dataset(
    source: Source,
    dataset: str,
    out: Path,
    *,
    overrides: Sequence[str] = (),
    codes: str = CODES[0],
    pool: str | None = None,
    say: Say = silent,
) -> FeaturesFile:
    """Writes the features of a data set's queries and gallery, as `evaluate` reads it.

    Where the model is that of a run that was trained on the same images, its division
    is kept, and the overrides are over its settings. The file is what `topdb-tf score`
    reads, with what persons and cameras are called. `pool` is as for `embed_images`.
    """
    _check_out(out, codes)
    split = split_of_dataset(source, dataset, overrides, say)
    check_pooling(split, pool)
    if isinstance(source.pca, int):
        if not split.train:
            check_pca_file(source.pca, f"{split.name}, which has no training images,")
        some = split.train[:: -(-len(split.train) // MOST_IMAGES)]
        fit_beside(embed_files(source, some), source.pca, out, say)
        source = replace(source, pca=pca_file(out))
    elif split.train:
        say(f"{split.name}: {counted(len(split.train), 'training image')} left out")
    return _embed_split(source, split, out, codes, pool=pool)


def split_of_dataset(
    source: Source, dataset: str, overrides: Sequence[str], say: Say
) -> Split:
    """Returns a data set as the run of the model divides it, if it is one of a run."""
    folder = run_of(source.model)
    run = open_run(folder.path, overrides) if folder else None
    config = run.config if run else read_recipe("paper", overrides)
    split = read_data(dataset, config, run=run, say=say)
    if run and not is_own(dataset, run):
        warn_of_trained_images(run, split, say)
    check_test(split, ignore_cameras=config.evaluation.ignore_cameras)
    return split


def _embed_split(source, split, out, codes, skipped=(), pool=None):
    records = split.query + split.gallery
    names = IdNames(split.pid_names, split.camera_names)
    embedding = embed_files(source, records, names)
    is_query = embedding.kept < len(split.query)
    for part, rows in (("query", is_query), ("gallery", ~is_query)):
        if not rows.any():
            raise ValueError(f"The {part} must have an image that can be embedded.")
    kept = [records[place] for place in embedding.kept]
    queries = int(is_query.sum())
    split = replace(split, query=tuple(kept[:queries]), gallery=tuple(kept[queries:]))
    found = pool_split(embedding.features, split, pool)
    arrays = arrays_of(found.features, found.split)
    return _write(out, arrays, embedding, skipped, codes, found.protocol)


def embed_files(
    source: Source, records: Sequence[ImageRecord], names: IdNames = NO_NAMES
) -> Embedding:
    """Returns the features of image files, with whom they show."""
    is_file = isinstance(source.pca, Path)
    pca = read_projection(source.pca) if is_file else None
    with open_client(source) as client:
        deadline = Deadline(source.timeout)
        probes = probe_features(client, deadline)  # what is wrong is said at once
        start = time.perf_counter()
        with progress_bar("embedding") as progress:
            features, kept, failures = client.embed(
                [record.path for record in records],
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
        shown = [records[place] for place in kept]
        embedding = Embedding(
            features=features,
            paths=[str(record.path) for record in shown],
            pids=pids_of(shown),
            camids=camids_of(shown),
            names=names,
            times=times_of(shown),
            probes=probes,
            kept=kept,
            failures=failures,
            version=client.version,
            seconds=seconds,
        )
        return pca.applied(embedding) if pca else embedding


def _check_out(out, codes):
    """Checks, before anything is embedded, that a file of features can be written."""
    is_table = out.suffix == SUFFIX
    suffix = out.suffix if out.suffix in (".npz", SUFFIX) else f".npz or {SUFFIX}"
    check_new_file(out, suffix=suffix, force=True)
    check_one_of("codes", codes, CODES)
    if is_table:
        load_parquet()
    elif codes != CODES[0]:
        raise ValueError(
            f"Codes (--codes) are for Parquet files: --out NAME{SUFFIX}. Received: "
            f"{codes} for {out}"
        )


def _write(out, arrays, embedding, skipped, codes, protocol):
    """Writes the arrays of an embedding, and returns what was written."""
    num_tracks = None
    if protocol is not None:
        num_tracks = sum(len(arrays[n]) for n in arrays if n.endswith("features"))
        arrays["pool"] = np.array(protocol)
    arrays["probe_features"] = embedding.probes
    with whole_file(out) as partial:
        if out.suffix == SUFFIX:
            write_arrays(partial, arrays, codes=codes)
        else:
            np.savez(partial, **arrays)
    return FeaturesFile(out, embedding, skipped, num_tracks)
