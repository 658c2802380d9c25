"""Embedding by the workers of a Ray cluster, part by part; what is done is kept."""

import hashlib
import json
import logging
import os
import pickle
import re
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.data.records import IdNames, Split
from topdb_tf.embed.cluster.part_writer import TRIES, ImageTable, PartWriter, part_file
from topdb_tf.embed.errors import ServingError
from topdb_tf.embed.places import images_at, uri_of
from topdb_tf.embed.projection import check_pca_file
from topdb_tf.embed.source import Source, check_source
from topdb_tf.evaluate.embedding import columns_of_images
from topdb_tf.files import files_below, held_folder, sha256_of, write_whole
from topdb_tf.json_files import read_json, record_of
from topdb_tf.parquet_files import CODES, SUFFIX, load_parquet
from topdb_tf.progress import progress_bar
from topdb_tf.runs.models import find_model, model_name, weights_of
from topdb_tf.runs.plugins import loaded_plugins
from topdb_tf.texts import Say, counted, listed, module_of_extra, one_line, silent

_JOB = "_job.json"
_MOST_IMAGES, _PARTS_OF_A_WORKER = 1000, 8
_SECONDS = 10  # to reach an address


@dataclass(frozen=True)
class Workers:
    """Which workers embed: of a cluster at an address, or of this machine.

    Without a number they are one a GPU, or one a core where there is no GPU.
    """

    address: str | None = None
    count: int | None = None


@dataclass(frozen=True)
class PartsFolder:
    """A folder of Parquet files that workers wrote, and how many were there before."""

    out: Path
    num_images: int
    num_bad: int
    num_parts: int
    num_kept: int
    seconds: float

    def lines(self) -> list[str]:
        """Returns what is said to people."""
        kept = f", {self.num_kept:,} of them from before" if self.num_kept else ""
        return [
            f"{self.out}: {counted(self.num_images, 'image')} in "
            f"{counted(self.num_parts, 'part')}{kept}; {self.num_bad:,} bad ones, told "
            f"in the column `error`; {self.seconds:.1f} s"
        ]


@dataclass(frozen=True)
class _Job:
    """What the parts of a folder are made of: others are not put beside them."""

    images_sha256: str
    model: str
    codes: str
    images_per_part: int
    pca_sha256: str | None = None


class _Done(NamedTuple):
    """A part that a worker, a process of some number, has written."""

    part: int
    process: int


def embed_images(
    source: Source, places: Sequence[Path], out: Path, workers: Workers, **options
) -> PartsFolder:
    """Writes the embeddings of the images that `topdb_tf.embed.places.images_at` gives.

    Of the options `codes` and `say` are those of `embed_on_workers`, others of that.
    """
    job = {name: options.pop(name) for name in ("codes", "say") if name in options}
    images = images_at(places, **options)
    names = [path.name for path in images.skipped]
    notes = [f"skipped, as no images: {listed(names)}"] if names else []
    for note in [*images.notes, *notes]:
        job.get("say", silent)(note)
    tables = [_table_of(images.records, images.names)]
    return embed_on_workers(source, tables, out, workers, **job)


def embed_split(
    source: Source, split: Split, out: Path, workers: Workers, **options
) -> PartsFolder:
    """Writes the embeddings of queries and gallery, as `topdb-tf score` reads them."""
    names = IdNames(split.pid_names, split.camera_names)
    parts = [_table_of(split.part(part), names, part) for part in ("query", "gallery")]
    return embed_on_workers(source, parts, out, workers, **options)


def embed_on_workers(
    source: Source,
    tables: Sequence[ImageTable],
    out: Path,
    workers: Workers,
    *,
    codes: str = CODES[0],
    say: Say = silent,
) -> PartsFolder:
    """Writes the embeddings of images into a folder of Parquet files, by Ray Data.

    A part is written by one worker, whole or not at all, and holds the images that
    stand beside each other, whoever wrote it. A worker that dies is started again. When
    the same command is given once more, only the parts that are missing are made. An
    image that is bad has no embedding, but an `error`.

    Args:
        source: What embeds the images; every worker must reach its files.
        tables: The images.
        out: The folder, in a place that all workers reach.
        workers: Which ones.
        codes: How numbers are kept.
        say: Function that shows a line to the user.

    Raises:
        FileNotFoundError: If a model is missing.
        ValueError: If the folder holds parts of other images or another model.
        ServingError: If workers failed; the finished parts are kept.
    """
    start = time.perf_counter()
    check_out(out)
    check_source(source)
    check_pca_file(source.pca, "--workers")
    if source.timeout is not None:
        raise ValueError("Workers have no --timeout: the same command goes on later.")
    source, out = _absolute(source), out.absolute()
    out.mkdir(exist_ok=True)
    refusal = f"Another process writes into {out}. Wait for its end, and try again."
    with held_folder(out, refusal):
        ray = _load_ray()
        job = _checked_job(out, _job_of(source, tables, codes, workers))
        parts = _parts_of(tables, job.images_per_part)
        missing = [n for n in range(len(parts)) if not part_file(out, n).exists()]
        if missing and len(missing) < len(parts):
            say(f"{out}: {len(parts) - len(missing)} of {len(parts)} parts are there")
        if missing:
            tasks = {number: parts[number] for number in missing}
            # Ray tells of dead workers on standard output, which is for the result.
            with redirect_stdout(sys.stderr), _connected(ray, workers):
                done = run_parts(ray, source, tasks, out, codes, workers)
                with progress_bar("embedding parts") as progress:
                    for count, _ in enumerate(done, 1):
                        progress(count, len(missing))
    return PartsFolder(
        out=out,
        num_images=sum(len(part.paths) for part in parts),
        num_bad=sum(_count_bad(part_file(out, n)) for n in range(len(parts))),
        num_parts=len(parts),
        num_kept=len(parts) - len(missing),
        seconds=time.perf_counter() - start,
    )


def run_parts(ray, source, tasks, out, codes, workers) -> Iterator[_Done]:
    """Yields the parts as they are done, in any order."""
    count, cpus, gpus = _shares(ray, workers, len(tasks))
    rows = [
        {"part": number, "task": pickle.dumps(task)} for number, task in tasks.items()
    ]
    for tries in out.glob(f"{TRIES}*"):  # of a job that failed
        tries.unlink()
    data = ray.data.from_items(rows, override_num_blocks=len(rows))
    done = data.map_batches(
        PartWriter,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=count),
        fn_constructor_args=(source, out, codes, Path.cwd(), cpus, loaded_plugins()),
        num_cpus=cpus,
        num_gpus=gpus,
    )
    try:
        for row in done.iter_rows():
            yield _Done(row["part"], row["process"])
    except ray.exceptions.RayError as error:
        # The worker's own error stands before what Ray says of it.
        told = re.findall(r"^ *(?!ray\.)[\w.]*Error: (.+)", str(error), re.M)
        told = told or [line for line in str(error).splitlines() if line.strip()]
        count = sum(part_file(out, number).exists() for number in tasks)
        there = f"{count} of {counted(len(tasks), 'part')}"
        raise ServingError(
            f"The workers failed. {there} were written into {out} and stay there: mend "
            "it and give the same command again, which makes the others. "
            f"Received: {one_line(told[-1])}"
        ) from error


def check_out(out: Path) -> None:
    """Raises unless a folder of parts can be written."""
    load_parquet()
    if out.suffix != SUFFIX or out.is_file():
        raise ValueError(
            f"Workers write a folder of parts: --out must end in {SUFFIX}, and be no "
            f"file. Received: {out}"
        )
    if not out.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {out.parent} to write into.")


def _table_of(records, names, part=""):
    """Returns images as the parts hold them."""
    columns = columns_of_images(records, names, is_table=True)
    paths = np.array(list(map(uri_of, columns.pop("paths"))))
    if part:  # others of its columns may not tell tracks
        columns.pop("tracklets", None)
    return ImageTable(part, paths, columns)


def _parts_of(tables, images_per_part):
    """Returns the images of each part, in the order of their numbers."""
    return [
        table.rows(start, start + images_per_part)
        for table in tables
        for start in range(0, len(table.paths), images_per_part)
    ]


def _job_of(source, tables, codes, workers):
    digest = hashlib.sha256()
    for table in tables:
        columns = table.columns | {"paths": table.paths}
        for name, values in sorted(columns.items()):
            texts = [table.part, name, *map(str, values)]
            digest.update("\0".join(texts).encode("utf-8", "surrogateescape"))
    count = sum(len(table.paths) for table in tables)
    share = count / (_PARTS_OF_A_WORKER * (workers.count or os.cpu_count() or 1))
    size = source.batch_size  # parts are of whole batches
    most = max(1, _MOST_IMAGES // size)
    return _Job(
        images_sha256=digest.hexdigest(),
        model=_fingerprint(source),
        codes=codes,
        images_per_part=size * min(most, max(1, round(share / size))),
        pca_sha256=sha256_of(source.pca) if source.pca else None,
    )


def _fingerprint(source):
    """Returns a text that is another one for another model."""
    if source.server is not None:
        return f"{source.server} {source.choice}"
    model = find_model(source.model)
    if model is not None:
        return sha256_of(weights_of(model))
    sums = [sha256_of(path) for path in files_below(source.model)]
    return hashlib.sha256("".join(sums).encode()).hexdigest()


def _checked_job(out, job):
    """Returns the job whose parts a folder holds, which must be the same."""
    file = out / _JOB
    if not file.exists():
        if any(out.glob(f"*{SUFFIX}")):
            raise ValueError(f"{out} must be new, or hold parts of the same job.")
        write_whole(file, json.dumps(asdict(job), indent=1) + "\n")
        return job
    advice = "must be what `topdb-tf embed --workers` wrote."
    before = read_json(file, lambda value: record_of(_Job, value), advice)
    now = replace(job, images_per_part=before.images_per_part)
    if now != before:
        pairs = zip(asdict(now).items(), asdict(before).values(), strict=True)
        names = [name.removesuffix("_sha256") for (name, a), b in pairs if a != b]
        raise ValueError(
            f"{out} holds parts of another job, with other {', '.join(names)}. Name "
            "another folder, or remove it"
        )
    return before


def _count_bad(file):
    parquet = load_parquet()
    errors = parquet.read_table(file, columns=["error"])["error"]
    return len(errors) - errors.null_count


def _absolute(source):
    """Returns a source whose files are found from any folder."""
    changes = {}
    if source.model is not None:
        changes["model"] = Path(model_name(source.model))
    for name in ("pca", "ca_file"):
        if (path := getattr(source, name)) is not None:
            changes[name] = path.resolve()
    return replace(source, **changes)


def _load_ray():
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray, _ = (
        module_of_extra(name, extra="ray", purpose="Workers are Ray's")
        for name in ("ray", "ray.data")
    )
    return ray


class _connected:
    """Connects with a cluster, or starts one here, and leaves it afterwards."""

    def __init__(self, ray, workers):
        self._ray, self._address = ray, workers.address
        self._is_own = not ray.is_initialized()

    def __enter__(self):
        here = {} if self._address else {"include_dashboard": False}
        if not self._address:
            here["_node_ip_address"] = "127.0.0.1"
        context = self._ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        if not self._is_own:
            return
        try:
            self._check_address()
            self._ray.init(
                self._address,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                **here,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ServingError(
                "There must be a Ray cluster at the address, --workers ray:ADDRESS. "
                f"Received: {self._address}; {one_line(str(error))}"
            ) from error

    def _check_address(self):
        """Raises `OSError` where nobody answers, which Ray tries for minutes."""
        match = re.fullmatch(r"(?:ray://)?(.+):(\d{1,5})", self._address or "")
        if match:
            socket.create_connection((match[1], int(match[2])), _SECONDS).close()

    def __exit__(self, *_):
        if self._is_own:
            self._ray.shutdown()


def _shares(ray, workers, num_parts):
    """Returns how many workers there are, and the cores and GPUs of each."""
    total = ray.cluster_resources()
    cpus, gpus = int(total.get("CPU", 1)), int(total.get("GPU", 0))
    count = workers.count or gpus or cpus
    if count > max(cpus, gpus):
        raise ValueError(
            f"There must be a core for each worker. Received: {count} workers, "
            f"{cpus} cores"
        )
    nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    smallest = int(min((n for n in nodes if n), default=1))
    cpus_each = max(1, min(cpus // count, smallest))
    return min(count, num_parts), cpus_each, int(count <= gpus)
