"""Scoring the features in a file, from whatever program they come."""

import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from topdb_tf.evaluate.embedding import Embedded
from topdb_tf.evaluate.feature_files import embed_file
from topdb_tf.evaluate.scores import Scores, score_lines
from topdb_tf.files import check_new_file, plain, whole_file
from topdb_tf.progress import progress_bar
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.pairs.intervals import Share
from topdb_tf.retrieval.pairs.verification import (
    equal_error_rate,
    roc_curve,
    threshold_at_fpr,
    tpr_at_fpr,
)
from topdb_tf.retrieval.postprocessing import CameraNormalization
from topdb_tf.retrieval.protocol import MEMORY_LIMIT, postprocessed, score
from topdb_tf.retrieval.reranking import Reranking
from topdb_tf.retrieval.single_shot import SingleShot
from topdb_tf.runs.settings import EvaluationConfig
from topdb_tf.texts import Say, percent, silent

_FALSE_POSITIVE_RATES = (0.01, 0.001, 0.0001)


@dataclass(frozen=True)
class Verification:
    """How well pairs of one person are told from pairs of two, by the distance.

    False-positive rates are texts; there is no threshold where none keeps so low a one.
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
    """The scores of the features in a file, with what else was asked for.

    Intervals are those of the main scores over other test persons, by name.
    """

    scores: Scores
    load_seconds: float
    verification: Verification | None = None
    intervals: Mapping[str, Share] | None = None

    def lines(self) -> list[str]:
        """Returns the scores for people."""
        lines = score_lines(self.scores)
        if self.intervals is not None:
            texts = [
                f"{name} {percent(share.value)}% ({percent(share.low)} to "
                f"{percent(share.high)})"
                for name, share in self.intervals.items()
            ]
            lines.append(f"95 % intervals over test persons: {', '.join(texts)}")
        return [*lines, *([str(self.verification)] if self.verification else [])]

    def to_dict(self) -> dict:
        """Returns what belongs in JSON."""
        record = self.scores.to_dict() | {"load_seconds": self.load_seconds}
        record["protocol"].setdefault("query_expansion", None)
        if self.verification is not None:
            record["verification"] = plain(self.verification)
        if self.intervals is not None:
            record["intervals"] = plain(self.intervals)
        return record


def score_file(
    path: Path | Sequence[Path],
    *,
    metric: str,
    rerank: Reranking | None = None,
    expand: int | None = None,
    single_shot: int | None = None,
    verify: bool = False,
    ignore_cameras: bool = False,
    normalize_cameras: CameraNormalization | None = None,
    memory_limit: int = MEMORY_LIMIT,
    per_query: Path | None = None,
    seed: int | None = None,
    say: Say = silent,
) -> FileScores:
    """Scores features as `load_features` reads them.

    Args:
        path: File, folder or files.
        metric: One of `topdb_tf.retrieval.distances.METRICS`.
        rerank: Parameters of the re-ranking.
        expand: Number of neighbours whose features are averaged first.
        single_shot: Number of galleries that are drawn.
        verify: Whether pairs are judged as well, by the plain distances.
        ignore_cameras: Whether matches by the query's own camera count as well.
        normalize_cameras: How features are normalised by camera first, if they are.
        memory_limit: Bytes that may be taken above the features.
        per_query: CSV file to write, with the scores of each query.
        seed: Seed of the intervals over test persons.
        say: Function that shows a line to the user.
    """
    _check_wishes(per_query, seed, single_shot)
    evaluation = EvaluationConfig(metric=metric, ignore_cameras=ignore_cameras)
    start = time.perf_counter()
    embedded = embed_file(path, evaluation)
    for note in embedded.notes:
        say(f"warning: {note}")
    load_seconds = time.perf_counter() - start
    images, features = embedded.images, {"normalize_cameras": normalize_cameras}
    features["expand"] = expand
    with progress_bar("scoring") as progress:
        result = score(
            images,
            metric=metric,
            rerank=rerank,
            single_shot=None if single_shot is None else SingleShot(single_shot),
            ignore_cameras=ignore_cameras,
            tracklets=embedded.tracklets,
            memory_limit=memory_limit,
            progress=progress,
            **features,
        )
    verification = None
    if verify:
        ranked = postprocessed(images, metric, **features)
        verification = _verified(ranked, metric, ignore_cameras)
    scores = Scores(result, identities=images.identities)
    if per_query is not None:
        write_per_query(per_query, scores, embedded)
    intervals = None if seed is None else scores.intervals(seed=seed)
    return FileScores(scores, load_seconds, verification, intervals)


def _check_wishes(per_query, seed, single_shot):
    if per_query is not None:
        check_new_file(per_query, suffix=".csv")
    if single_shot is not None and (per_query is not None or seed is not None):
        raise ValueError(
            "Galleries that are drawn have no scores of single queries: --single-shot "
            "excludes --per-query and --ci."
        )


def write_per_query(file: Path, scores: Scores, embedded: Embedded) -> None:
    """Writes the scores of each query as CSV, a row each, in the order of the queries.

    A row begins with the place of the query, from 0, the file of the image where that
    is known, and person and camera as their owner calls them. What is not known, and
    precision where there is no match, is empty.
    """
    table, split = scores.per_query(), embedded.split
    names = table.dtype.names[2:]
    paths = ["path"] if embedded.has_paths else []
    lines = [["query", *paths, "pid", "camid", *names]]
    for place, (record, row) in enumerate(zip(split.query, table, strict=True)):
        path = [record.path] if embedded.has_paths else []
        camera = split.camera_name(record.camid) if record.camid >= 0 else ""
        values = ["" if value != value else value for value in row.tolist()[2:]]
        lines.append([place, *path, split.pid_name(record.pid), camera, *values])
    with whole_file(file) as partial, partial.open("w", newline="") as opened:
        csv.writer(opened, lineterminator="\n").writerows(lines)


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
