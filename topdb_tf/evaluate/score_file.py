"""Scoring the features in a file, from whatever program they come."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from topdb_tf.evaluate.scores import Scores, score_lines
from topdb_tf.files import plain
from topdb_tf.progress import progress_bar
from topdb_tf.retrieval.expansion import expand_features
from topdb_tf.retrieval.features import RetrievalSet, load_retrieval_set
from topdb_tf.retrieval.pairs.verification import (
    equal_error_rate,
    roc_curve,
    threshold_at_fpr,
    tpr_at_fpr,
)
from topdb_tf.retrieval.protocol import MEMORY_LIMIT, score
from topdb_tf.retrieval.reranking import Reranking
from topdb_tf.retrieval.single_shot import SingleShot

_FALSE_POSITIVE_RATES = (0.01, 0.001, 0.0001)


@dataclass(frozen=True)
class Verification:
    """How well pairs of one person are told from pairs of two, by the distance.

    Args:
        equal_error_rate: Error rate where both kinds of errors are as frequent.
        equal_error_threshold: The distance of that.
        tpr_at_fpr: Share of the true pairs that are found, by false-positive rate, as
            a text.
        threshold_at_fpr: The distance of each; `None` where none keeps so low a rate.
        num_genuine: Number of pairs of one person.
        num_impostors: Number of pairs of two persons.
    """

    equal_error_rate: float
    equal_error_threshold: float
    tpr_at_fpr: dict[str, float]
    threshold_at_fpr: dict[str, float | None]
    num_genuine: int
    num_impostors: int

    def __str__(self):
        shares = ", ".join(
            f"TPR {tpr:.1%} at FPR {fpr}" for fpr, tpr in self.tpr_at_fpr.items()
        )
        rate = self.equal_error_rate
        return f"same person or not: equal error rate {rate:.2%}, {shares}"


@dataclass(frozen=True)
class FileScores:
    """The scores of the features in a file.

    Args:
        scores: The scores.
        load_seconds: Seconds in which the file was read.
        verification: How well pairs are told apart, if that was asked for.
    """

    scores: Scores
    load_seconds: float
    verification: Verification | None = None

    def lines(self) -> list[str]:
        """Returns the scores for people."""
        lines = score_lines(self.scores)
        return [*lines, *([str(self.verification)] if self.verification else [])]

    def to_dict(self) -> dict:
        """Returns what belongs in JSON."""
        record = self.scores.to_dict() | {"load_seconds": self.load_seconds}
        record["protocol"].setdefault("query_expansion", None)
        if self.verification is not None:
            record["verification"] = plain(self.verification)
        return record


def score_file(
    path: Path,
    *,
    metric: str,
    rerank: Reranking | None = None,
    expand: int | None = None,
    single_shot: int | None = None,
    verify: bool = False,
    ignore_cameras: bool = False,
    memory_limit: int = MEMORY_LIMIT,
) -> FileScores:
    """Scores the features of an NPZ file.

    Args:
        path: File with the arrays of `topdb_tf.retrieval.features.RetrievalSet`, such
            as the one that a run keeps of its test images.
        metric: One of `topdb_tf.retrieval.distances.METRICS`.
        rerank: Parameters of the re-ranking, or `None` for none.
        expand: Number of neighbours whose features are averaged first, or `None`.
        single_shot: Number of galleries that are drawn, or `None`.
        verify: Whether pairs are judged as well, by the plain distances.
        ignore_cameras: Whether matches by the query's own camera count as well.
        memory_limit: Bytes that may be taken above the features.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the arrays cannot be scored, or a parameter is out of range.
    """
    start = time.perf_counter()
    images = load_retrieval_set(path)
    load_seconds = time.perf_counter() - start
    if expand is not None:
        query_features, gallery_features = expand_features(
            images.query_features, images.gallery_features, k=expand, metric=metric
        )
        images = images._replace(
            query_features=query_features, gallery_features=gallery_features
        )
    with progress_bar("scoring") as progress:
        result = score(
            images,
            metric=metric,
            rerank=rerank,
            single_shot=None if single_shot is None else SingleShot(single_shot),
            ignore_cameras=ignore_cameras,
            memory_limit=memory_limit,
            progress=progress,
        )
    result = result._replace(protocol=replace(result.protocol, query_expansion=expand))
    verification = _verified(images, metric, ignore_cameras) if verify else None
    return FileScores(Scores(result), load_seconds, verification)


def _verified(images: RetrievalSet, metric: str, ignore_cameras: bool) -> Verification:
    with progress_bar("judging pairs") as progress:
        curve = roc_curve(
            images, metric=metric, ignore_cameras=ignore_cameras, progress=progress
        )
    rate, threshold = equal_error_rate(curve)
    thresholds = {fpr: threshold_at_fpr(curve, fpr) for fpr in _FALSE_POSITIVE_RATES}
    return Verification(
        equal_error_rate=rate,
        equal_error_threshold=threshold,
        tpr_at_fpr={str(fpr): tpr_at_fpr(curve, fpr) for fpr in thresholds},
        # No threshold keeps so low a rate where it is infinite.
        threshold_at_fpr={
            str(fpr): found if found > float("-inf") else None
            for fpr, found in thresholds.items()
        },
        num_genuine=curve.num_genuine,
        num_impostors=curve.num_impostors,
    )
