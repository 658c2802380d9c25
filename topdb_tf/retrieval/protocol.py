"""The named protocol: features and identities in, a record of scores out."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from topdb_tf.retrieval.distances import FeatureDistances, check_metric
from topdb_tf.retrieval.matches import GalleryIndex, check_any_match, check_identities
from topdb_tf.retrieval.parallel import Workers
from topdb_tf.retrieval.ranking import (
    MIN_ROWS,
    CountedRanks,
    RetrievalScores,
    check_same_size,
    query_blocks,
    summarize,
)
from topdb_tf.retrieval.reranking import RerankedDistances, Reranking

MEMORY_LIMIT = 1 << 30
_BLOCK_BYTES = 64 << 20
_SCORE_BYTES_AN_IMAGE = 256
_RERANK_BYTES_A_NEIGHBOR = 64
_RERANKED_METRICS = {
    (False, "squared"): "sqeuclidean",
    (False, "euclidean"): "euclidean",
    (True, "squared"): "cosine",
    (True, "euclidean"): "chord",
}


class RetrievalSet(NamedTuple):
    """Features and identities of queries and gallery.

    Args:
        query_features: Shape `(num_queries, dim)`, any float type.
        gallery_features: Shape `(num_gallery, dim)`, any float type.
        query_pids: Shape `(num_queries,)`, whole numbers.
        gallery_pids: Shape `(num_gallery,)`; images of pid -1 are never ranked.
        query_camids: Shape `(num_queries,)`, whole numbers.
        gallery_camids: Shape `(num_gallery,)`.
    """

    query_features: np.ndarray
    gallery_features: np.ndarray
    query_pids: np.ndarray
    gallery_pids: np.ndarray
    query_camids: np.ndarray
    gallery_camids: np.ndarray


class RetrievalResult(NamedTuple):
    """Scores and how they were obtained.

    Args:
        scores: The scores, those of single queries included.
        protocol: What the scores depend on, by name.
        seconds: Seconds of the computation.
        warmup_seconds: Seconds before it, in which kernels were compiled, or read from
            disk; almost zero from the second call on.
    """

    scores: RetrievalScores
    protocol: dict
    seconds: float
    warmup_seconds: float

    def to_dict(self) -> dict:
        """Returns what belongs in a JSON file; scores are shares in [0, 1]."""
        scores = self.scores
        return {
            "mean_ap": scores.mean_ap,
            "mean_ap_trapezoid": scores.mean_ap_trapezoid,
            "mean_inp": scores.mean_inp,
            "cmc": {str(k): float(share) for k, share in enumerate(scores.cmc, 1)},
            "num_valid_queries": scores.num_valid_queries,
            "protocol": self.protocol,
            "seconds": self.seconds,
            "warmup_seconds": self.warmup_seconds,
        }

    def to_json(self) -> str:
        """Returns the same as indented JSON."""
        return json.dumps(self.to_dict(), indent=2)


def load_retrieval_set(path: Path | str) -> RetrievalSet:
    """Returns the arrays of an NPZ file, checked.

    Args:
        path: File with the arrays that `RetrievalSet` names; others are not read.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no NPZ file, if an array is missing or holds Python
            objects, or as `validate`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"No file of features at {path}. What it must hold: datasets/README.md"
        )
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = [name for name in RetrievalSet._fields if name not in arrays]
            if missing:
                raise ValueError(
                    f"{path} must hold the arrays {', '.join(RetrievalSet._fields)} "
                    f"(datasets/README.md). Missing: {', '.join(missing)}"
                )
            retrieval_set = RetrievalSet(*(arrays[n] for n in RetrievalSet._fields))
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(
            f"{path} must be an NPZ file (datasets/README.md). Received: {error}"
        ) from error
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path} must be an NPZ file of numbers, not of Python objects "
                "(datasets/README.md); pickled objects are not read, since they can "
                "run code."
            ) from error
        raise
    validate(retrieval_set)
    return retrieval_set


def validate(retrieval_set: RetrievalSet) -> None:
    """Raises `ValueError` unless features and identities fit together.

    Whether features are finite is found with their norms, by `score`.

    Raises:
        ValueError: If features are not of a float type, if shapes do not fit, if
            features overflowed in float16, or if there are no queries or the gallery
            is empty.
    """
    features = retrieval_set.query_features, retrieval_set.gallery_features
    for name, array in zip(RetrievalSet._fields, features, strict=False):
        if array.dtype.kind != "f":
            raise ValueError(
                f"`{name}` must be of a float type. Received: type {array.dtype}"
            )
    pids = retrieval_set.query_pids, retrieval_set.gallery_pids
    check_identities(*pids, retrieval_set.query_camids, retrieval_set.gallery_camids)
    check_same_size(FeatureDistances(*features), *pids)


def score(
    retrieval_set: RetrievalSet,
    *,
    metric: str = "sqeuclidean",
    rerank: Reranking | None = None,
    ignore_cameras: bool = False,
    max_rank: int = 50,
    memory_limit: int = MEMORY_LIMIT,
    progress: Callable[[int, int], None] | None = None,
) -> RetrievalResult:
    """Ranks the gallery for every query and scores the rankings.

    Distances, ranks and scores are computed for some queries at a time; see
    `topdb_tf.retrieval.ranking.retrieval_scores` for what is ranked and how, and
    `topdb_tf.retrieval.reranking.RerankedDistances` for the re-ranking.

    Args:
        retrieval_set: Features and identities.
        metric: One of `topdb_tf.retrieval.distances.METRICS`. Re-ranking starts from
            the distances that `rerank.input` names, of normalised features if the
            metric is `"cosine"`.
        rerank: Parameters of the re-ranking. Defaults to none.
        ignore_cameras: Whether matches by the query's own camera count as well.
        max_rank: Length of the CMC, at least 1.
        memory_limit: Bytes that may be taken above the features, as float32.
        progress: Called with the work done and all of it, in arbitrary units.

    Returns:
        Scores, protocol and times.

    Raises:
        ValueError: If the input does not fit together, holds NaN, or leaves every
            query without a match, or if the memory does not suffice.
    """
    check_metric(metric)
    warm_up = perf_counter()
    _compile_kernels(rerank is not None)
    start = perf_counter()
    source, judge = _prepare(retrieval_set, metric, rerank, ignore_cameras)
    memory = _block_memory(source, rerank, memory_limit)
    advance = _Progress(source, rerank, progress).advance
    parts = []
    with Workers() as workers:
        passed = {"workers": workers, "memory": memory, "advance": advance}
        if rerank is not None:
            source = RerankedDistances(source, rerank, **passed)
        for block in query_blocks(source, **passed):
            parts.append(judge(*block, workers))
    scores = summarize(parts, max_rank)
    protocol = {
        "metric": metric,
        "mean_ap": "mean of the precision at each match",
        "mean_ap_trapezoid": "trapezoid rule, as in the Market-1501 benchmark's code",
        "ties": "equal distances keep the order of the gallery",
        "reranking": None if rerank is None else asdict(rerank),
        "ignore_cameras": ignore_cameras,
        "num_queries": source.num_queries,
        "num_gallery": source.num_gallery,
        "num_valid_queries": scores.num_valid_queries,
        "split_sha256": _split_hash(retrieval_set),
    }
    return RetrievalResult(scores, protocol, perf_counter() - start, start - warm_up)


def _prepare(retrieval_set, metric, rerank, ignore_cameras):
    *features, query_pids, gallery_pids, query_camids, gallery_camids = retrieval_set
    check_identities(query_pids, gallery_pids, query_camids, gallery_camids)
    if rerank is not None:
        metric = _RERANKED_METRICS[metric == "cosine", rerank.input]
    source = FeatureDistances(*features, metric)
    check_same_size(source, query_pids, gallery_pids)
    index = GalleryIndex(gallery_pids, gallery_camids, ignore_cameras=ignore_cameras)
    check_any_match(index, query_pids, query_camids)
    return source, CountedRanks(index, query_pids, query_camids)


def _block_memory(source, rerank, memory_limit) -> int:
    """Returns the bytes for a block, after what grows with the number of images."""
    linear = _SCORE_BYTES_AN_IMAGE * source.num_images
    if rerank is not None:
        linear += (rerank.k1 + 1) * _RERANK_BYTES_A_NEIGHBOR * source.num_images
    least = linear + 4 * MIN_ROWS * source.num_images
    if memory_limit < least:
        raise ValueError(
            f"`memory_limit` must be at least {least} bytes "
            f"({least / 2**20:.0f} MiB) for {source.num_images} images. "
            f"Received: {memory_limit=}"
        )
    return min(memory_limit - linear, _BLOCK_BYTES)


class _Progress:
    """Adds up work, and hands the sum to a callback."""

    def __init__(self, source, rerank, callback):
        num_images = source.num_images
        self._done = 0
        self._total = source.num_queries * source.num_gallery
        if rerank is not None:
            self._total += num_images * (num_images + 1) // 2
        self._callback = callback

    def advance(self, work: int) -> None:
        """Counts distances that were computed."""
        self._done += work
        if self._callback is not None:
            self._callback(min(self._done, self._total), self._total)


def _split_hash(retrieval_set) -> str:
    digest = hashlib.sha256()
    for array in retrieval_set[2:]:
        digest.update(len(array).to_bytes(8, "little"))
        digest.update(np.asarray(array, "<i8").tobytes())
    return digest.hexdigest()


@cache
def _compile_kernels(rerank: bool) -> None:
    features, ids = np.eye(3, dtype=np.float32), np.arange(3)
    retrieval_set = RetrievalSet(features, features, ids, ids, ids, ids)
    source, judge = _prepare(retrieval_set, "sqeuclidean", None, True)
    with Workers(1) as workers:
        passed = {"workers": workers, "memory": 1 << 10}
        if rerank:
            source = RerankedDistances(source, Reranking(), **passed)
        for block in query_blocks(source, **passed):
            judge(*block, workers)
