"""Sends images to a model server for a while and reports how it bore it.

    python serving/load_test.py grpc://127.0.0.1:8500 --duration 20 --concurrency 8

Every request is counted and none is repeated: what a client would try again is an error
here. It is for servers on this machine; `--allow-remote` is for one of your own
elsewhere.
"""

import collections
import io
import ipaddress
import json
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from PIL import Image

from topdb_tf.data.image_files import list_images
from topdb_tf.embed.address import ModelChoice, parse_address
from topdb_tf.embed.connections import connect
from topdb_tf.embed.errors import ServingError

MAX_SECONDS = 600


class Exchange(NamedTuple):
    """One request: its seconds, and the error that it ended with, if any."""

    seconds: float
    error: str | None


@dataclass(frozen=True)
class LoadResult:
    """What came of the requests; `--json` writes its fields.

    Args:
        seconds: How long requests were sent.
        requests: Number of requests.
        images: Number of images in those that were answered.
        images_per_second: The same by the second.
        p50_ms, p95_ms, p99_ms: Milliseconds in which that many percent of the answers
            came; `None` where there was none.
        errors: Number of requests by the error that they ended with.
    """

    seconds: float
    requests: int
    images: int
    images_per_second: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    errors: Mapping[str, int]


@click.command()
@click.argument("server")
@click.option("--duration", type=click.FloatRange(0.1, MAX_SECONDS), default=10.0)
@click.option("--concurrency", type=click.IntRange(1, 256), default=4)
@click.option("--batch-size", type=click.IntRange(1, 1024), default=8)
@click.option("--images", type=click.Path(path_type=Path), help="Folder; else drawn.")
@click.option("--model-name", default="topdb", show_default=True)
@click.option("--version", type=int)
@click.option("--allow-remote", is_flag=True, help="Take a server elsewhere.")
@click.option("--json", "as_json", is_flag=True)
def main(
    server,
    duration,
    concurrency,
    batch_size,
    images,
    model_name,
    version,
    allow_remote,
    as_json,
):
    """Loads SERVER, an address as `topdb-tf embed` takes it, for a bounded time."""
    address = parse_address(server)
    if not (allow_remote or is_loopback(address.host)):
        raise click.UsageError(
            f"{address.host} is not this machine. A load test can stop a server from "
            "serving others; --allow-remote says that it is yours to test."
        )
    contents = read_images(images) if images else drawn_images()
    connection = connect(server, model=ModelChoice(model_name, version))
    try:
        connection.resolve_version(10.0)
        connection.predict(contents[:1], 60.0)  # a first request may be slow
    except ServingError as error:
        raise click.ClickException(str(error)) from error
    result = run(
        connection,
        contents,
        duration=duration,
        concurrency=concurrency,
        batch_size=batch_size,
    )
    connection.close()
    if as_json:
        click.echo(json.dumps(asdict(result), indent=2))
    else:
        click.echo("\n".join(lines_of(result)))
    sys.exit(bool(result.errors))


def run(connection, contents, *, duration, concurrency, batch_size) -> LoadResult:
    """Returns what came of requests sent from threads until the time is over."""
    exchanges = collections.deque()
    end = time.perf_counter() + duration

    def work(worker):
        first = worker * batch_size
        while time.perf_counter() < end:
            places = range(first, first + batch_size)
            batch = [contents[place % len(contents)] for place in places]
            exchanges.append(exchange(connection, batch))
            first += concurrency * batch_size

    threads = [threading.Thread(target=work, args=(n,)) for n in range(concurrency)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    good = [exchange.seconds for exchange in exchanges if exchange.error is None]
    errors = collections.Counter(e.error for e in exchanges if e.error is not None)
    times = [None] * 3
    if good:
        times = (np.percentile(good, [50, 95, 99]) * 1000).tolist()
    return LoadResult(
        seconds=seconds,
        requests=len(exchanges),
        images=len(good) * batch_size,
        images_per_second=len(good) * batch_size / seconds,
        p50_ms=times[0],
        p95_ms=times[1],
        p99_ms=times[2],
        errors=dict(errors),
    )


def exchange(connection, batch) -> Exchange:
    """Returns how one request went."""
    start, error = time.perf_counter(), None
    try:
        connection.predict(batch, 30.0)
    except ServingError as failure:
        error = f"{type(failure).__name__}: {failure}"
    return Exchange(time.perf_counter() - start, error)


def lines_of(result: LoadResult):
    """Yields the result for people."""
    yield (
        f"{result.requests:,} requests in {result.seconds:.1f} s, "
        f"{result.images_per_second:.1f} images/s"
    )
    if result.p50_ms is not None:
        yield (
            f"answered after: p50 {result.p50_ms:.1f} ms, p95 {result.p95_ms:.1f} ms, "
            f"p99 {result.p99_ms:.1f} ms"
        )
    yield f"errors: {sum(result.errors.values()):,}"
    for error, count in result.errors.items():
        yield f"  {count:,} x {error}"


def is_loopback(host):
    """Returns whether the host of an address is this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def read_images(folder):
    """Returns the contents of the images in a folder."""
    return [path.read_bytes() for path in list_images([folder]).paths]


def drawn_images(num_images=64):
    """Returns JPEG files of noise, of the size of pedestrians in benchmarks."""
    generator = np.random.default_rng(0)
    contents = []
    for _ in range(num_images):
        file = io.BytesIO()
        pixels = generator.integers(0, 256, (16, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((64, 128)).save(file, "JPEG")
        contents.append(file.getvalue())
    return contents


if __name__ == "__main__":
    main()
