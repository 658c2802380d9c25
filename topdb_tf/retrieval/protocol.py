"""The named protocol: features and identities in, a record of scores out."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from time import perf_counter
from typing import NamedTuple

import numpy as np

from topdb_tf.json_files import record_of
from topdb_tf.progress import adding_up
from topdb_tf.retrieval.distances import METRICS, FeatureDistances
from topdb_tf.retrieval.features import RetrievalSet, checked_distances
from topdb_tf.retrieval.matches import MatchIndex
from topdb_tf.retrieval.neighbors import expand_features
from topdb_tf.retrieval.parallel import Workers
from topdb_tf.retrieval.postprocessing import CameraNormalization
from topdb_tf.retrieval.ranking import (
    BLOCK_BYTES,
    MIN_ROWS,
    CountedRanks,
    QueryBlock,
    RetrievalScores,
    query_blocks,
    summarize,
)
from topdb_tf.retrieval.reranking import RerankedDistances, Reranking
from topdb_tf.retrieval.single_shot import DrawnRanks, SingleShot
from topdb_tf.texts import check_one_of

MEMORY_LIMIT = 1 << 30
_MAX_RANK = 50
_SCORE_BYTES_AN_IMAGE = 256
_RERANK_BYTES = 32 << 20
_RERANK_BYTES_A_NEIGHBOR = 64
_RERANKED_METRICS = {
    (False, "squared"): "sqeuclidean",
    (False, "euclidean"): "euclidean",
    (True, "squared"): "cosine",
    (True, "euclidean"): "chord",
}


@dataclass(frozen=True)
class Protocol:
    """What scores depend on beside the features; only equal ones can be compared.

    A file of another version may lack some of it; what is missing is `None`.

    How average precision is computed, and what becomes of equal distances, is in words.
    Cameras are `none` where none are known; the sum is of all identities and cameras in
    their order; the query expansion is the number of neighbours averaged first.
    """

    metric: str | None = None
    mean_ap: str = "mean of the precision at each match"
    mean_ap_trapezoid: str = "trapezoid rule, as in the Market-1501 benchmark's code"
    ties: str = "equal distances keep the order of the gallery"
    reranking: Reranking | None = None
    single_shot: SingleShot | None = None
    ignore_cameras: bool | None = None
    cameras: str | None = None
    num_queries: int | None = None
    num_gallery: int | None = None
    num_valid_queries: int | None = None
    split_sha256: str | None = None
    query_expansion: int | None = None
    camera_normalization: CameraNormalization | None = None
    tracklets: str | None = None

    def to_dict(self) -> dict:
        """Returns what belongs in a JSON file."""
        record = asdict(self)
        for name in ("cameras", "query_expansion", *_CHANGES):
            if record[name] is None:
                del record[name]
        return record

    def changes(self) -> list[str]:
        """Returns in words what was made of the features before they were ranked."""
        made = [getattr(self, name) for name in _CHANGES]
        return [str(one) for one in made if one is not None]

    def differences(self, other: "Protocol") -> list[str]:
        """Returns the names of what is not the same in another protocol."""
        mine, theirs = asdict(self), asdict(other)
        return sorted(name for name in mine if mine[name] != theirs[name])


_CHANGES = ("tracklets", "camera_normalization")  # of features, in this order
_WRITTEN = {
    "mean_ap_trapezoid": float,
    "mean_inp": float,
    "num_valid_queries": int,
    "seconds": float,
    "warmup_seconds": float,
}


class RetrievalResult(NamedTuple):
    """Scores and how they were obtained.

    Args:
        scores: The scores, those of single queries included.
        protocol: What the scores depend on.
        seconds: Seconds of the computation.
        warmup_seconds: Seconds before it, in which kernels were compiled, or read from
            disk; almost zero from the second call on.
        warning: Why the ranking means little, if it does; see
            `topdb_tf.retrieval.distances.FeatureDistances.doubt`.
    """

    scores: RetrievalScores
    protocol: Protocol
    seconds: float
    warmup_seconds: float
    warning: str | None = None

    @classmethod
    def from_dict(cls, record: Mapping) -> "RetrievalResult":
        """Returns the result that `to_dict` made a record of, without single queries.

        A score that the record does not have, as one of an older version, is NaN.

        Raises:
            KeyError: If there is no mAP, no CMC or no protocol.
            ValueError: If they are not what they should be.
        """
        known = {
            name: record_of(kind, record[name], name) if name in record else math.nan
            for name, kind in _WRITTEN.items()
        }
        known["mean_ap"] = record_of(float, record["mean_ap"], "mean_ap")
        seconds, warmup_seconds = known.pop("seconds"), known.pop("warmup_seconds")
        cmc = record_of(dict[str, float], record["cmc"], "cmc")
        if not cmc:
            raise ValueError("`cmc` must hold the share of a rank")
        shares = [*cmc.values(), *(known[name] for name in known if "mean" in name)]
        if any(not 0 <= share <= 1 for share in shares if not math.isnan(share)):
            raise ValueError("scores must be shares, in [0, 1]")
        by_rank = sorted((int(rank), share) for rank, share in cmc.items())
        return cls(
            RetrievalScores(
                cmc=np.array([share for _, share in by_rank]), queries=None, **known
            ),
            record_of(Protocol, record["protocol"], "protocol"),
            seconds,
            warmup_seconds,
            record_of(str | None, record.get("warning"), "warning"),
        )

    def to_dict(self) -> dict:
        """Returns what belongs in a JSON file; scores are shares in [0, 1]."""
        scores = self.scores._asdict()
        del scores["queries"]
        cmc = {str(k): float(share) for k, share in enumerate(scores.pop("cmc"), 1)}
        num_valid_queries = scores.pop("num_valid_queries")
        warning = {} if self.warning is None else {"warning": self.warning}
        return {
            **scores,
            **warning,
            "cmc": cmc,
            "num_valid_queries": num_valid_queries,
            "protocol": self.protocol.to_dict(),
            "seconds": self.seconds,
            "warmup_seconds": self.warmup_seconds,
        }


def score(
    retrieval_set: RetrievalSet,
    *,
    metric: str = "sqeuclidean",
    rerank: Reranking | None = None,
    ignore_cameras: bool = False,
    single_shot: SingleShot | None = None,
    normalize_cameras: CameraNormalization | None = None,
    expand: int | None = None,
    tracklets: str | None = None,
    memory_limit: int = MEMORY_LIMIT,
    progress: Callable[[int, int], None] | None = None,
) -> RetrievalResult:
    """Ranks the gallery for every query and scores the rankings.

    See `topdb_tf.retrieval.ranking.retrieval_scores` for what is ranked and how, and
    `topdb_tf.retrieval.reranking.RerankedDistances` for the re-ranking.

    Args:
        retrieval_set: Features and identities.
        metric: One of `topdb_tf.retrieval.distances.METRICS`. Re-ranking starts from
            the distances that `rerank.input` names, of directions for `"cosine"`.
        rerank: Parameters of the re-ranking. Defaults to none.
        ignore_cameras: Whether matches by the query's own camera count as well.
        single_shot: How often one gallery image a person is drawn, for the classic
            protocol of CUHK03. Defaults to all images at once.
        normalize_cameras: How features are normalised by camera first, if they are.
        expand: Number of neighbours whose features are averaged first, after that.
        tracklets: What the protocol says of images that were pooled by track already.
        memory_limit: Bytes that may be taken above the features, as float32.
        progress: Called with the work done and all of it, in arbitrary units.

    Returns:
        Scores, protocol and times. Where all images are of no camera the protocol says
        `cameras: none`: such scores cannot be compared with those of the benchmarks.

    Raises:
        ValueError: If the input does not fit together, holds NaN, or leaves every
            query without a match, or if the memory does not suffice.
    """
    warm_up = perf_counter()
    _compile_kernels(rerank is not None)
    start = perf_counter()
    retrieval_set = postprocessed(retrieval_set, metric, normalize_cameras, expand)
    source = ranked_distances(retrieval_set, metric, rerank)
    blocks = distance_blocks(
        source, rerank=rerank, memory_limit=memory_limit, progress=progress
    )
    judge = _judge(retrieval_set, ignore_cameras, single_shot)
    scores = summarize([judge(block, workers) for block, workers in blocks], _MAX_RANK)
    protocol = _protocol_of(
        retrieval_set,
        scores,
        metric=metric,
        reranking=rerank,
        single_shot=single_shot,
        ignore_cameras=ignore_cameras,
        query_expansion=expand,
        camera_normalization=normalize_cameras,
        tracklets=tracklets,
    )
    seconds, warning = perf_counter() - start, source.doubt()
    if protocol.cameras == "none":
        warning = _doubt_of_queries(retrieval_set) or warning
    return RetrievalResult(scores, protocol, seconds, start - warm_up, warning)


def _protocol_of(images, scores, *, ignore_cameras, **chosen) -> Protocol:
    camids = images.query_camids, images.gallery_camids
    is_without_cameras = all(np.all(ids < 0) for ids in camids)
    return Protocol(
        ignore_cameras=ignore_cameras or is_without_cameras,
        cameras="none" if is_without_cameras else None,
        num_queries=len(images.query_pids),
        num_gallery=len(images.gallery_pids),
        num_valid_queries=scores.num_valid_queries,
        split_sha256=_split_hash(images),
        **chosen,
    )


def postprocessed(
    images: RetrievalSet,
    metric: str,
    normalize_cameras: CameraNormalization | None = None,
    expand: int | None = None,
) -> RetrievalSet:
    """Returns the images with the features that `score` ranks for these arguments."""
    if normalize_cameras is not None:
        images = normalize_cameras.normalized(images, metric)
    if expand is None:
        return images
    features = expand_features(*images[:2], k=expand, metric=metric)
    return RetrievalSet._make((*features, *images.identities))


def _doubt_of_queries(images):
    """Returns what is doubtful where queries may be matched with themselves.

    An image that has the same number in both parts is not ranked for itself; of others
    only the features tell, which two images do not share to the bit.
    """
    known = {
        (hash(row.tobytes()), number)
        for row, number in zip(
            images.gallery_features, images.gallery_camids, strict=True
        )
    }
    in_gallery = {row for row, _ in known}
    count = 0
    for row, number in zip(images.query_features, images.query_camids, strict=True):
        row = hash(row.tobytes())
        count += row in in_gallery and (number == -1 or (row, number) not in known)
    if not count:
        return None
    return (
        f"{count:,} of {len(images.query_pids):,} queries have the features of a "
        "gallery image to the bit, and count it as a match: without cameras, an image "
        "in both parts finds itself. Name the cameras or the files (query_paths, "
        "gallery_paths), or leave the queries out of the gallery"
    )


def ranked_distances(
    retrieval_set: RetrievalSet, metric: str, rerank: Reranking | None = None
) -> FeatureDistances:
    """Returns the distances that a gallery is ranked by, or that are re-ranked."""
    check_one_of("metric", metric, METRICS)
    if rerank is not None:
        metric = _RERANKED_METRICS[metric == "cosine", rerank.input]
    return checked_distances(retrieval_set, metric)


def distance_blocks(
    source: FeatureDistances,
    *,
    rerank: Reranking | None = None,
    memory_limit: int = MEMORY_LIMIT,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[QueryBlock, Workers]]:
    """Returns an iterator over blocks of distances, and the threads that work on them.

    The source is what `ranked_distances` returned for the same re-ranking; the memory
    is checked before the first block is asked for. For the others see `score`.
    """
    memory = _block_memory(source, rerank, memory_limit)
    advance = adding_up(progress, _num_distances(source, rerank))

    def blocks(source):
        with Workers() as workers:
            passed = {"memory": memory, "advance": advance}
            if rerank is not None:
                source = RerankedDistances(source, rerank, workers=workers, **passed)
            for block in query_blocks(source, **passed):
                yield block, workers

    return blocks(source)


def _judge(retrieval_set, ignore_cameras, single_shot):
    """Returns what scores the queries of a block, from a set that was checked."""
    index = MatchIndex(retrieval_set.identities, ignore_cameras=ignore_cameras)
    index.check_any()
    return DrawnRanks(index, single_shot) if single_shot else CountedRanks(index)


def _block_memory(source, rerank, memory_limit) -> int:
    """Returns the bytes for a block, after what grows with the number of images."""
    linear = _SCORE_BYTES_AN_IMAGE * source.num_images
    if rerank is not None:
        bytes_an_image = (rerank.k1 + 1) * _RERANK_BYTES_A_NEIGHBOR
        linear += _RERANK_BYTES + bytes_an_image * source.num_images
    least = linear + 4 * MIN_ROWS * source.num_images
    if memory_limit < least:
        raise ValueError(
            f"`memory_limit` must be at least {least} bytes "
            f"({least / 2**20:.0f} MiB) for {source.num_images} images. "
            f"Received: {memory_limit=}"
        )
    return min(memory_limit - linear, BLOCK_BYTES)


def _num_distances(source, rerank) -> int:
    to_gallery = source.num_queries * source.num_gallery
    if rerank is None:
        return to_gallery
    return to_gallery + source.num_images * (source.num_images + 1) // 2


def _split_hash(retrieval_set) -> str:
    digest = hashlib.sha256()
    for array in retrieval_set.identities:
        digest.update(len(array).to_bytes(8, "little"))
        digest.update(np.asarray(array, "<i8").tobytes())
    return digest.hexdigest()


@cache
def _compile_kernels(rerank: bool) -> None:
    features, ids = np.eye(3, dtype=np.float32), np.arange(3)
    retrieval_set = RetrievalSet(features, features, ids, ids, ids, ids)
    source = checked_distances(retrieval_set, "sqeuclidean")
    judge = _judge(retrieval_set, True, None)
    with Workers(1) as workers:
        memory = 1 << 6  # several blocks
        if rerank:
            parameters = {"workers": workers, "memory": memory}
            source = RerankedDistances(source, Reranking(), **parameters)
        for block in query_blocks(source, memory=memory):
            judge(block, workers)
