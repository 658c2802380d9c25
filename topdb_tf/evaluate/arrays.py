"""Scores of features from any program, given as arrays or lists."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import isinf
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.evaluate.feature_files import embed_file
from topdb_tf.evaluate.scores import Scores
from topdb_tf.evaluate.table_formats import NamedScores, ScoreTable, score_table
from topdb_tf.files import plain
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.pairs.paired import PairedDifference, paired_difference
from topdb_tf.retrieval.postprocessing import CameraNormalization
from topdb_tf.retrieval.protocol import distance_blocks, ranked_distances
from topdb_tf.retrieval.protocol import score as score_set
from topdb_tf.retrieval.reranking import Reranking
from topdb_tf.runs.settings import EvaluationConfig
from topdb_tf.texts import counted, signed


def score(
    query_features: np.ndarray | Sequence,
    gallery_features: np.ndarray | Sequence,
    query_pids: np.ndarray | Sequence,
    gallery_pids: np.ndarray | Sequence,
    query_camids: np.ndarray | Sequence | None = None,
    gallery_camids: np.ndarray | Sequence | None = None,
    *,
    metric: str = "sqeuclidean",
    rerank: bool | Reranking = False,
    ignore_cameras: bool = False,
    normalize_cameras: bool | CameraNormalization = False,
) -> Scores:
    """Ranks the gallery for every query, and scores the rankings.

    A gallery image of the query's person by the query's camera is not ranked, as in
    all benchmarks of person re-identification. TensorFlow is not imported.

    Args:
        query_features: A row of numbers for each query, shape `(num_queries, dim)`.
        gallery_features: The same of the gallery, `(num_gallery, dim)`.
        query_pids: Person of each query: whole numbers or texts, `(num_queries,)`.
        gallery_pids: Person of each gallery image; images of -1 are not ranked.
        query_camids: Camera of each query; without, no camera is known, and every
            gallery image of the person is a match.
        gallery_camids: Camera of each gallery image, or nothing likewise.
        metric: "sqeuclidean" (squared Euclidean), "euclidean" or "cosine".
        rerank: Whether to score the k-reciprocal re-ranking besides, with the
            parameters of its paper or with those given.
        ignore_cameras: Whether matches by the query's own camera count as well.
        normalize_cameras: Whether features are normalised by camera first, by the mean
            and the deviation of queries and gallery; or the parameters, a
            `topdb_tf.retrieval.postprocessing.CameraNormalization`.

    Returns:
        The scores; `per_query()` of them gives those of each query.

    Raises:
        ValueError: If the arrays do not fit together, hold NaN, or leave every query
            without a match.

    Example:
        >>> import topdb_tf
        >>> topdb_tf.score([[0.0], [1.0]], [[0.1], [0.8]], [1, 2], [1, 2])
        mAP 100.0 %, rank-1 100.0 %, 2 queries, no cameras
    """
    features = map(_features, (query_features, gallery_features))
    camids = (
        [None] * len(pids) if camids is None else camids
        for pids, camids in ((query_pids, query_camids), (gallery_pids, gallery_camids))
    )
    images = RetrievalSet(*features, query_pids, gallery_pids, *camids)
    parameters = _reranking(rerank)
    chosen = {"metric": metric, "ignore_cameras": ignore_cameras}
    chosen["normalize_cameras"] = CameraNormalization.of(normalize_cameras)
    results = [
        score_set(images, rerank=one, **chosen)
        for one in (None, parameters)[: 1 + (parameters is not None)]
    ]
    if results[0].warning is not None:
        warnings.warn(results[0].warning, stacklevel=2)
    return Scores(*results, identities=images.identities)


def _reranking(wish):
    parameters = Reranking() if wish is True else wish or None
    if not isinstance(parameters, Reranking | None):
        raise ValueError(
            f"`rerank` must be true, false or a `Reranking`. Received: {wish!r}"
        )
    return parameters


def rerank(
    query_features: np.ndarray | Sequence,
    gallery_features: np.ndarray | Sequence,
    *,
    metric: str = "sqeuclidean",
    **parameters,
) -> np.ndarray:
    """Returns the k-reciprocal re-ranked distances of queries to a gallery.

    They are exact; see `topdb_tf.retrieval.reranking.RerankedDistances`. TensorFlow is
    not imported.

    Source: Zhong et al., Re-ranking Person Re-identification with k-reciprocal
    Encoding, CVPR 2017 (https://arxiv.org/abs/1701.08398).

    Args:
        query_features: A row of numbers for each query, shape `(num_queries, dim)`.
        gallery_features: The same of the gallery, `(num_gallery, dim)`.
        metric: "sqeuclidean", "euclidean" or, of normalised features, "cosine".
        **parameters: Those of `topdb_tf.retrieval.reranking.Reranking`: `k1`, `k2`,
            `lambda_value` and `input`.

    Returns:
        float32 array of shape `(num_queries, num_gallery)`; smaller is more alike.

    Raises:
        ValueError: If shapes do not fit or a parameter is out of its range.

    Example:
        >>> import topdb_tf
        >>> topdb_tf.rerank([[0.0]], [[0.1], [0.8]], k1=1, k2=1).argmin()
        np.int64(0)
    """
    query, gallery = map(_features, (query_features, gallery_features))
    nobody = [np.zeros(len(features), int) for features in (query, gallery)]
    images = RetrievalSet(query, gallery, *nobody, *nobody)
    reranking, rows = Reranking(**parameters), []
    source = ranked_distances(images, metric=metric, rerank=reranking)
    for block, workers in distance_blocks(source, rerank=reranking):
        workers.run(block.finish, len(block.distances), grain=_GRAIN)
        rows.append(block.distances.copy())  # it is gone with the next one
    return np.concatenate(rows)


class Comparison(NamedTuple):
    """How much higher a second ranking of the same queries scores than a first.

    Differences are by the name of a score that every query has, with the 95 % interval
    over other test persons.
    """

    first: Scores
    second: Scores
    differences: dict[str, PairedDifference]

    def __repr__(self):
        return "\n".join(self.lines())

    def to_dict(self) -> dict:
        """Returns what belongs in JSON; scores are shares in [0, 1]."""
        differences = plain(self.differences)
        for found in differences.values():  # of one person alone they are infinite
            found |= {end: None for end in ("low", "high") if isinf(found[end])}
        return {
            "first": self.first.to_dict(),
            "second": self.second.to_dict(),
            "differences": differences,
        }

    def lines(self, names: Sequence[str] = ("first", "second")) -> list[str]:
        """Returns the comparison for people, the two by their names."""
        width = max(map(len, names)) + 1
        lines = [
            f"{name + ':':{width}} {scores!r}"
            for name, scores in zip(names, self[:2], strict=True)
        ]
        for name, found in self.differences.items():
            ends = f"{signed(found.low)} to {signed(found.high)}"
            lines.append(
                f"{name} {signed(found.mean)} points (95 % interval {ends}); better on "
                f"{counted(found.num_better, 'query')}, worse on {found.num_worse:,}"
            )
        return lines


def compare(
    first: Scores | RetrievalSet | str | PathLike,
    second: Scores | RetrievalSet | str | PathLike,
    **options,
) -> Comparison:
    """Compares two rankings of the same queries and gallery, query by query.

    Args:
        first: Scores that `score` or `evaluate` returned, or the features: a file as
            `load_features` reads it, or what it returned.
        second: The same of the other ranking.
        **options: Of `score`, for features.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the images are not the same, in the same order, or were scored
            by different protocols.

    Example:
        >>> import topdb_tf
        >>> features, pids = [[0.0], [1.0]], [1, 2]
        >>> before = topdb_tf.score(features, [[0.9], [0.2]], pids, pids)
        >>> after = topdb_tf.score(features, [[0.2], [0.9]], pids, pids)
        >>> topdb_tf.compare(before, after).differences["mAP"].mean
        0.5
    """
    return _compared(*(_scored(ranking, options) for ranking in (first, second)))


@dataclass(frozen=True)
class FileComparisons:
    """The features in a first file, compared with those in each of some others."""

    files: Sequence[Path]
    comparisons: Sequence[Comparison]

    def lines(self) -> list[str]:
        """Returns the comparisons for people."""
        lines = []
        for file, comparison in zip(self.files[1:], self.comparisons, strict=True):
            lines += ["", *comparison.lines((str(self.files[0]), str(file)))]
        return lines[1:]


def compare_files(files: Sequence[Path], **options) -> FileComparisons:
    """Compares the features in a first file with those in each of the others."""
    if len(files) < 2:
        raise ValueError(
            f"There must be two files of features to compare. Received: {len(files)}"
        )
    first, *others = (_scored(file, options) for file in files)
    return FileComparisons(files, [_compared(first, other) for other in others])


def scores_of_files(files: Sequence[Path], **options) -> ScoreTable:
    """Returns the scores of the features in some files as a table."""
    rows = [NamedScores(str(file), _scored(file, options).scores) for file in files]
    return score_table(rows)


_GRAIN = 16


class _Scored(NamedTuple):
    """Scores, and the names of the images where a file has them."""

    scores: Scores
    names: list[str] | None = None


def _compared(first: _Scored, second: _Scored) -> Comparison:
    before, after = (dict(one.scores.query_scores()) for one in (first, second))
    protocols = [one.scores.plain.protocol for one in (first, second)]
    differing = protocols[0].differences(protocols[1])
    if first.names and second.names and first.names != second.names:
        differing.append("names of the images")
    if differing:
        raise ValueError(
            "Two rankings are compared on the same images, in the same order, and by "
            f"the same protocol. They differ in: {', '.join(differing)}"
        )
    pids = first.scores.identities.query_pids
    differences = {
        name: paired_difference(before[name], after[name], pids)
        for name in before
        if name in after
    }
    return Comparison(first.scores, second.scores, differences)


def _features(features):
    """Returns features as an array of a float type; lists are taken as they come."""
    try:
        array = np.asarray(features)
    except ValueError as error:  # rows of several lengths
        raise ValueError(f"Features must be rows of one length. {error}") from error
    if hasattr(features, "dtype") or array.dtype.kind not in "biuf":
        return array  # checked as it is: an array of whole numbers is a mistake
    return array.astype(np.float32)  # those of a list are meant as numbers


def _scored(ranking, options) -> _Scored:
    if isinstance(ranking, Scores):
        return _Scored(ranking)
    if isinstance(ranking, RetrievalSet):
        return _Scored(score(*ranking, **options))
    names = {field.name for field in fields(EvaluationConfig)} - {"rerank"}
    evaluation = {name: options[name] for name in names & options.keys()}
    embedded = embed_file(ranking, EvaluationConfig(**evaluation))
    paths = [record.path.name for record in embedded.split.records]
    scores = score(*embedded.images, **options)
    return _Scored(scores, paths if embedded.has_paths else None)
