"""Time and memory of scoring and re-ranking, at the sizes of the real splits.

    python benchmarks/retrieval.py [small market market-1536 msmt17]

Features are random unit vectors, clustered by identity. Printed are medians (and
the least) over the repetitions: seconds, seconds of processor time over all threads,
and the most memory above the features. The bare matrix product of queries and gallery
alternates with the scoring, and so has the same share of the machine. Processor time
over the number of cores is what an idle machine would need, at best. Normalising by
camera, and pooling tracks of five images, are told as shares of the scoring.
"""

import argparse
import os
import statistics
from pathlib import Path
from time import perf_counter, process_time
from typing import NamedTuple

import numpy as np

from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.postprocessing import CameraNormalization, pool
from topdb_tf.retrieval.protocol import score
from topdb_tf.retrieval.reranking import Reranking


class Size(NamedTuple):
    """Numbers of images, identities, cameras and dimensions of a split."""

    num_queries: int
    num_gallery: int
    num_pids: int
    num_cameras: int
    dim: int


SIZES = {
    "small": Size(200, 1500, 50, 6, 64),  # to see that it works
    "market": Size(3368, 15913, 751, 6, 512),
    "market-1024": Size(3368, 15913, 751, 6, 1024),
    "market-1536": Size(3368, 15913, 751, 6, 1536),
    "msmt17": Size(11659, 82161, 3060, 15, 512),
}


def main():
    """Measures the sizes that are named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", type=known_size, default=["market"])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, NumPy {np.__version__}")
    for name in arguments.sizes:
        measure_size(name, arguments.repeats)


def known_size(name: str) -> str:
    """Returns the name of a size; `choices` would refuse the default list."""
    if name not in SIZES:
        raise argparse.ArgumentTypeError(
            f"A size must be one of {', '.join(SIZES)}. Received: {name!r}"
        )
    return name


def measure_size(name: str, repeats: int) -> None:
    """Prints one line for each of product, scores, and re-ranking with scores."""
    retrieval_set = random_set(SIZES[name])
    print(f"\n{name}: {SIZES[name]}")
    works = {
        "bare product": lambda: bare_product(retrieval_set),
        "same, memory ready": lambda: bare_product(retrieval_set, out),
        "scores": lambda: score(retrieval_set),
        "re-ranking + scores": lambda: score(retrieval_set, rerank=Reranking()),
    }
    parts, normalization = retrieval_set[:2], CameraNormalization()
    tracks = [(np.arange(len(part)) // 5).astype(str) for part in parts]
    pairs = list(zip(parts, tracks, strict=True))
    changes = {
        "cameras": lambda: normalization.normalized(retrieval_set, "sqeuclidean"),
        "cameras, cosine": lambda: normalization.normalized(retrieval_set, "cosine"),
        "tracks, mean": lambda: [pool(*pair) for pair in pairs],
        "tracks, median": lambda: [pool(*pair, how="median") for pair in pairs],
    }
    for change in changes.values():
        change()  # kernels are compiled
    works |= changes
    shape = len(retrieval_set.query_pids), len(retrieval_set.gallery_pids)
    out = np.ones(shape, np.float32)  # written to, so that its pages are there
    results = {work: [] for work in works}
    for work in ("scores", "re-ranking + scores"):
        warm_up = score(tiny_set(), rerank=None if work == "scores" else Reranking())
        print(f"warm-up of {work}: {warm_up.warmup_seconds:.2f} s")
    for _ in range(repeats):
        for work, function in works.items():
            results[work].append(measure(function))
    for work, measured in results.items():
        seconds, processor, memory, load = zip(*measured, strict=True)
        print(
            f"{work:20s} {statistics.median(seconds):7.2f} s ({min(seconds):.2f}) "
            f"processor {statistics.median(processor):7.2f} s ({min(processor):.2f}) "
            f"memory {max(memory) / 2**30:.3f} GiB  load {max(load):.1f}"
        )
    for work in changes:
        pairs = list(zip(results[work], results["scores"], strict=True))
        shares = [statistics.median(a[i] / b[i] for a, b in pairs) for i in (0, 1)]
        print(f"{work} / scores: {shares[0]:.2%}, of processor time {shares[1]:.2%}")
    for work in list(works)[:2]:
        for place, kind in enumerate(("seconds", "processor seconds")):
            pairs = zip(results["scores"], results[work], strict=True)
            ratio = statistics.median(a[place] / b[place] for a, b in pairs)
            print(f"scores / {work}, {kind}: median {ratio:.2f}")


def random_set(size: Size, spread: float = 2.0, seed: int = 0) -> RetrievalSet:
    """Returns unit features around one random center an identity."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((size.num_pids, size.dim), dtype=np.float32)

    def part(num_images):
        pids = np.sort(rng.integers(0, size.num_pids, num_images))
        features = rng.standard_normal((num_images, size.dim), dtype=np.float32)
        features *= spread
        features += centers[pids]
        features /= np.sqrt(np.einsum("ij,ij->i", features, features))[:, None]
        return features, pids, rng.integers(0, size.num_cameras, num_images)

    query, gallery = part(size.num_queries), part(size.num_gallery)
    return RetrievalSet(*(part[i] for i in range(3) for part in (query, gallery)))


def tiny_set() -> RetrievalSet:
    """Returns a set that takes no time."""
    return random_set(Size(4, 64, 2, 6, 8))


def bare_product(retrieval_set: RetrievalSet, out=None) -> None:
    """Multiplies all queries with the whole gallery in one call."""
    query, gallery = retrieval_set.query_features, retrieval_set.gallery_features
    np.matmul(query, gallery.T, out=out)


def measure(function) -> tuple[float, float, int, float]:
    """Returns seconds, processor seconds, bytes of new memory and load average."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from now
    before = peak_memory()
    start, start_processor = perf_counter(), process_time()
    function()
    processor, seconds = process_time() - start_processor, perf_counter() - start
    return seconds, processor, peak_memory() - before, os.getloadavg()[0]


def peak_memory() -> int:
    """Returns the most memory this process has had in use, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


if __name__ == "__main__":
    main()
