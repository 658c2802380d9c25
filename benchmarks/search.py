"""Recall, speed, memory and size of each kind of search index.

    python benchmarks/search.py --images 1000000 --dim 512 --kinds ivf HNSW32,SQ8
    python benchmarks/search.py --kinds --milvus 20 --batch 100

Features are drawn: a centre an identity (20 images each), half as large an offset a
camera (15 of them) and 0.7 times as large a noise an image, all with a spectrum that
falls as 1/number^0.85 (about 58 effective dimensions), divided by their norm. With
`--like FILE.npz`, as `topdb-tf embed` writes it where names tell persons and cameras,
they have the covariances that those features have between persons, between cameras and
within, and their length. Queries are other images of the same persons.

Recall@1 is the share of the queries whose nearest image is found first, recall@10 the
share of the ten nearest that are among the ten found. Speeds are medians, searches of
each kind and of the exact one in turns, so both have the same share of the machine;
memory is what opening the index takes, without the mapped features, which the system
keeps in memory that is free.

With `--milvus MINUTES` Milvus Lite (FLAT) is given as many of the images as it takes in
that time, and asked query by query for at most a tenth of it, `exact` among the same
images in turns with it.
"""

import argparse
import os
import re
import shutil
import statistics
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from topdb_tf.data.records import UNKNOWN
from topdb_tf.embed.embed import Embedding
from topdb_tf.search.changes import create_index
from topdb_tf.search.filters import EVERYTHING
from topdb_tf.search.index import SearchIndex

IMAGES_A_PERSON, NUM_CAMERAS, NUM_QUERIES = 20, 15, 512
SWEEPS = {
    "nprobe": (16, 32, 64, 128, 256, 512),
    "efSearch": (40, 64, 128, 256, 512, 1024),
}


def main():
    """Measures the kinds that are named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--like", type=Path, metavar="FILE.npz")
    parser.add_argument("--kinds", nargs="*", default=["ivf", "hnsw"])
    parser.add_argument("--batch", type=int, default=64, help="Queries at once.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--milvus", type=float, metavar="MINUTES")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    changes = {k: int(v) for k, v in (text.split("=") for text in arguments.set)}
    parts = parts_of(arguments.dim) if arguments.like is None else like(arguments.like)
    features, queries = draw(arguments.images, *parts, normalize=arguments.like is None)
    names = [f"{number:07d}.jpg" for number in range(len(features))]
    folder = Path(tempfile.mkdtemp(prefix="search-"))
    try:
        say(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {features.shape}")
        exact = built(folder, "exact", features, names)
        truth = exact.search(queries, k=10).rows
        for kind in arguments.kinds:
            index = built(folder, kind, features, names, changes)
            measure(index, exact, queries, truth, arguments)
            shutil.rmtree(folder / kind)
        if arguments.milvus:
            measure_milvus(folder, features, names, exact, queries, arguments.milvus)
    finally:
        shutil.rmtree(folder)


def parts_of(dim: int):
    """Returns the factors of the covariances of centres, offsets and noise."""
    scale = np.diag(np.arange(1, dim + 1) ** -0.425).astype(np.float32)
    return scale, 0.5 * scale, 0.7 * scale


def like(path: Path):
    """Returns what `parts_of` does for the features in a file."""
    with np.load(path) as file:
        known = file["pids"] > 0
        features = file["features"][known].astype(np.float64)
        groups = {name: file[name][known] for name in ("camids", "pids")}
    features -= features.mean(axis=0)
    factors = []
    for name in groups:  # cameras first, as each sees many persons
        _, places, counts = np.unique(
            groups[name], return_inverse=True, return_counts=True
        )
        means = np.zeros((len(counts), features.shape[1]))
        np.add.at(means, places, features)
        means /= counts[:, None]
        features -= means[places]
        factors.append(factor(means, len(counts)))
    num_free = len(features) - len(means)
    offsets, centers, noise = *factors, factor(features, num_free)
    return centers, offsets, noise


def factor(deviations, num_free):
    """Returns `(dim, dim)` rows whose mixture by a normal vector has a covariance."""
    values, vectors = np.linalg.eigh(deviations.T @ deviations / num_free)
    return (np.sqrt(np.maximum(values, 0))[:, None] * vectors.T).astype(np.float32)


def draw(num_images: int, centers, offsets, noise, *, normalize: bool, seed: int = 0):
    """Returns features of images, and of queries, in random order."""
    rng = np.random.default_rng(seed)
    num_pids = max(1, num_images // IMAGES_A_PERSON)

    def normal(count, factor):
        return rng.standard_normal((count, len(factor)), dtype=np.float32) @ factor

    centers, cameras = normal(num_pids, centers), normal(NUM_CAMERAS, offsets)

    def part(count):
        features = np.empty((count, len(noise)), np.float32)
        for start in range(0, count, 20000):
            block = features[start : start + 20000]
            block[:] = normal(len(block), noise)
            block += centers[rng.integers(0, num_pids, len(block))]
            block += cameras[rng.integers(0, NUM_CAMERAS, len(block))]
            if normalize:
                block /= np.linalg.norm(block, axis=1, keepdims=True)
        return features

    return part(num_images), part(NUM_QUERIES)


def built(folder, kind, features, names, changes=None):
    """Builds an index, opens it, and prints seconds, memory and size."""
    start = perf_counter()
    path = folder / kind
    create_index(path, features, names, kind=kind, parameters=changes)
    seconds, before = perf_counter() - start, private_memory()
    start = perf_counter()
    index = SearchIndex(path)
    opened, memory = perf_counter() - start, private_memory() - before
    each = [memory / len(names), size_of(path) / len(names)]
    say(
        f"\n{kind} {index.manifest.parameters}: built in {seconds:.0f} s, opened in "
        f"{opened:.1f} s, memory {memory / 2**30:.2f} GiB; bytes an image: "
        f"{each[0]:,.0f} in memory, {each[1]:,.0f} in files"
    )
    return index


def measure(index, exact, queries, truth, arguments):
    """Prints recall and speed by the parameter of the search."""
    known = index.manifest.parameters
    name = next(name for name in SWEEPS if name in known)
    cells = re.search(r"IVF(\d+)", index.manifest.kind)
    most = int(cells[1]) if cells else SWEEPS[name][-1]
    for value in [value for value in SWEEPS[name] if value <= most]:
        parameters = {name: value}
        found = index.search(queries, k=10, parameters=parameters).rows
        line = f"{name}={value}: {recalls(found, truth)}"
        for count in (1, arguments.batch):
            ours, rival, ratio = speeds(
                index, exact, queries, parameters, count, arguments.repeats
            )
            line += f"; {count} at once: {ours:,.0f} queries/s, exact {rival:.1f}, "
            line += f"{ratio:,.0f} x"
        say(f"{line}; load {os.getloadavg()[0]:.1f}")


def recalls(found, truth) -> str:
    """Returns in words how much of the nearest was found."""
    first = np.mean(found[:, 0] == truth[:, 0])
    pairs = zip(found, truth, strict=True)
    ten = np.mean([len(np.intersect1d(a, b)) / truth.shape[1] for a, b in pairs])
    return f"recall@1 {first:.3f}, recall@10 {ten:.3f}"


def measure_milvus(folder, features, names, exact, queries, minutes):
    """Prints what Milvus Lite takes to store the features, and to find the nearest."""
    from topdb_tf.search.milvus.collection import MilvusIndex
    from topdb_tf.search.milvus.place import manifest_of, place_of

    def items(vectors, paths):
        nobody = np.full(len(paths), UNKNOWN)
        return Embedding(vectors, paths, nobody, nobody)

    file, start, stored = folder / "lite.db", perf_counter(), 0
    with MilvusIndex(place_of(f"milvus://{file}/images"), is_new=True) as index:
        index.create(manifest_of("exact", "sqeuclidean", {}, features.shape[1]))
        before = private_memory()
        while stored < len(names) and perf_counter() - start < 60 * minutes:
            rows = slice(stored, stored + 20_000)
            index.add(items(features[rows], names[rows]), lambda *_: None)
            stored = min(rows.stop, len(names))
            say(f"Milvus Lite: {stored:,} in {perf_counter() - start:.0f} s")
        each = [(private_memory() - before) / stored, size_of(file) / stored]
        say(f"bytes an image: {each[0]:,.0f} in memory, {each[1]:,.0f} in files")
        among, start = np.arange(len(names)) < stored, perf_counter()
        found, truth, seconds = [], [], []
        for query in queries[:, np.newaxis]:
            if perf_counter() - start > 6 * minutes:
                break
            begin = perf_counter()
            truth.append(exact.search(query, k=10, among=among).rows[0])
            middle = perf_counter()
            asked = items(query, ["query"])
            entries, near = index.nearest(asked, 10, {}, EVERYTHING)
            seconds.append((middle - begin, perf_counter() - middle))
            found.append([int(entries.paths[row][:-4]) for row in near.rows[0]])
    ours, theirs = np.median(seconds, axis=0)
    say(
        f"{recalls(np.array(found), np.array(truth))} of {len(found)} queries, one by "
        f"one: {theirs:.2f} s each, exact {ours:.3f} s; load {os.getloadavg()[0]:.1f}"
    )


def size_of(place: Path) -> int:
    """Returns the bytes of a file, or of all files in a folder."""
    files = [place] if place.is_file() else filter(Path.is_file, place.rglob("*"))
    return sum(file.stat().st_size for file in files)


def speeds(index, exact, queries, parameters, count, repeats):
    """Returns queries a second of two indexes, and the median of their ratios."""
    seconds = [], []
    for repeat in range(repeats):
        part = queries[repeat * count : (repeat + 1) * count]
        start = perf_counter()
        exact.search(part, k=10)
        middle = perf_counter()
        index.search(part, k=10, parameters=parameters)
        seconds[0].append(perf_counter() - middle)
        seconds[1].append(middle - start)
    ratio = statistics.median(b / a for a, b in zip(*seconds, strict=True))
    return *(count / statistics.median(values) for values in seconds), ratio


def private_memory() -> int:
    """Returns the bytes that this process has for itself, without mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("RssAnon"))
    return int(line.split()[1]) << 10


def say(line):
    print(line, flush=True)


if __name__ == "__main__":
    main()
