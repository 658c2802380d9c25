"""Scoring the features in a file, from whatever program they come."""

import time
from pathlib import Path

from topdb_tf.progress import progress_bar
from topdb_tf.retrieval.expansion import expand_features
from topdb_tf.retrieval.features import load_retrieval_set
from topdb_tf.retrieval.pairs.verification import (
    equal_error_rate,
    roc_curve,
    threshold_at_fpr,
    tpr_at_fpr,
)
from topdb_tf.retrieval.protocol import score
from topdb_tf.retrieval.reranking import Reranking
from topdb_tf.retrieval.single_shot import SingleShot

_FALSE_POSITIVE_RATES = (0.01, 0.001, 0.0001)


def score_file(
    path: Path,
    *,
    metric: str,
    rerank: bool,
    expand: int | None,
    single_shot: int | None,
    verify: bool,
    **options,
) -> dict:
    """Scores the features of an NPZ file.

    Args:
        path: File with the arrays of `topdb_tf.retrieval.features.RetrievalSet`.
        metric: One of `topdb_tf.retrieval.distances.METRICS`.
        rerank: Whether the distances are re-ranked.
        expand: Number of neighbours whose features are averaged first, or none.
        single_shot: Number of galleries that are drawn, or none.
        verify: Whether pairs are judged as well, by the plain distances.
        **options: `k1`, `k2`, `lambda_value` and `rerank_input` of the re-ranking;
            `ignore_cameras` and `memory_limit` of `topdb_tf.retrieval.protocol.score`.

    Returns:
        The fields of the result; `load_seconds`, the seconds of reading; and
        `verification` if asked for.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the arrays cannot be scored, or an option is out of range.
    """
    reranking = Reranking(
        *(options.pop(name) for name in ("k1", "k2", "lambda_value", "rerank_input"))
    )
    start = time.perf_counter()
    features = load_retrieval_set(path)
    load_seconds = time.perf_counter() - start
    if expand is not None:
        query_features, gallery_features = expand_features(
            features.query_features, features.gallery_features, k=expand, metric=metric
        )
        features = features._replace(
            query_features=query_features, gallery_features=gallery_features
        )
    with progress_bar("scoring") as progress:
        result = score(
            features,
            metric=metric,
            rerank=reranking if rerank else None,
            single_shot=None if single_shot is None else SingleShot(single_shot),
            progress=progress,
            **options,
        )
    scores = {**result.to_dict(), "load_seconds": load_seconds}
    scores["protocol"]["query_expansion"] = expand
    if verify:
        scores["verification"] = _verification(
            features, metric, options["ignore_cameras"]
        )
    return scores


def _verification(features, metric, ignore_cameras):
    with progress_bar("judging pairs") as progress:
        curve = roc_curve(
            features, metric=metric, ignore_cameras=ignore_cameras, progress=progress
        )
    rate, threshold = equal_error_rate(curve)
    rates = _FALSE_POSITIVE_RATES
    thresholds = [threshold_at_fpr(curve, fpr) for fpr in rates]
    return {
        "equal_error_rate": rate,
        "equal_error_threshold": threshold,
        "tpr_at_fpr": {str(fpr): tpr_at_fpr(curve, fpr) for fpr in rates},
        # JSON has no infinity: no threshold keeps so low a rate.
        "threshold_at_fpr": {
            str(fpr): threshold if threshold > float("-inf") else None
            for fpr, threshold in zip(rates, thresholds, strict=True)
        },
        "num_genuine": curve.num_genuine,
        "num_impostors": curve.num_impostors,
    }
