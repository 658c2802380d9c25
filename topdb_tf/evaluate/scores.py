"""Scores of a model: made, kept in the run's folder, averaged over seeds, told."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from topdb_tf.data.benchmarks import absolute_name, dataset_name, is_path
from topdb_tf.files import plain, write_whole
from topdb_tf.json_files import read_json, record_of
from topdb_tf.progress import progress_bar
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.identities import Identities
from topdb_tf.retrieval.pairs.intervals import Share, means_over_persons
from topdb_tf.retrieval.postprocessing import CameraNormalization
from topdb_tf.retrieval.protocol import Reranking, RetrievalResult, score
from topdb_tf.runs.data import DataOrigin, is_own, origin_of
from topdb_tf.runs.folder import TEST, Choice, Run
from topdb_tf.runs.settings import Config
from topdb_tf.texts import Table, counted, percent


class Metric(NamedTuple):
    """A score, and where it is shown.

    Args:
        key: Its name in summaries of seeds and tables, JSON.
        name: Its name in print.
        of: Function from a result to its value, a share.
        in_line: Whether it stands in the line that `evaluate` prints.
        in_tile: Whether it stands among the few at the top of a report.
        in_paper: Whether it is in the paper's tables.
    """

    key: str
    name: str
    of: Callable[[RetrievalResult], float]
    in_line: bool = True
    in_tile: bool = False
    in_paper: bool = False


def _at_rank(rank):
    # A gallery smaller than the rank has found what it can before it ends.
    return lambda result: float(result.scores.cmc[:rank][-1])


METRICS = (
    Metric("mean_ap", "mAP", lambda r: r.scores.mean_ap, in_tile=True, in_paper=True),
    Metric("rank_1", "rank-1", _at_rank(1), in_tile=True, in_paper=True),
    Metric("rank_5", "rank-5", _at_rank(5), in_tile=True),
    Metric("rank_10", "rank-10", _at_rank(10)),
    Metric("rank_20", "rank-20", _at_rank(20)),
    Metric("mean_inp", "mINP", lambda r: r.scores.mean_inp, in_tile=True),
    Metric(
        "mean_ap_trapezoid",
        "mAP, trapezoid",
        lambda r: r.scores.mean_ap_trapezoid,
        in_line=False,
    ),
)
"""Every score that is shown. Printout, table, report and comparison go through it."""
PAPER_METRICS = tuple(metric for metric in METRICS if metric.in_paper)
QUERY_METRICS = (
    ("mAP", lambda queries: queries.average_precision),
    (
        "rank-1",
        lambda queries: np.where(
            queries.first_match_rank > 0, queries.first_match_rank == 1, np.nan
        ),
    ),
    ("mINP", lambda queries: queries.inverse_negative_penalty),
)
"""The scores that single queries have, with the function that returns them of all."""


@dataclass(frozen=True, repr=False)
class Scores:
    """The scores of one model on one data set: what `scores.json` holds.

    Args:
        plain: Those of the ranking by the distances of the embeddings.
        reranked: Those of the k-reciprocal re-ranking, if they were computed.
        origin: What was tested on and trained on, where that is known.
        model: Name of the model's file.
        model_sha256: Sum of that file; older versions did not write it.
        part: Whether they are of the "test" or of the held-out "validation".
        choice: How the model's epoch was chosen, if it was.
        identities: Who is on the images, of scores that were computed just now.
        data_sets: Where several data sets were tested on: those of each by itself.
            `plain` and `reranked` are then of all queries in one gallery of all.
    """

    plain: RetrievalResult
    reranked: RetrievalResult | None = None
    origin: DataOrigin | None = None
    model: str | None = None
    model_sha256: str | None = None
    part: str = TEST
    choice: Choice | None = None
    identities: Identities | None = None
    data_sets: tuple["Scores", ...] = ()

    def __repr__(self):
        plain, again = self.plain, self.reranked
        count = counted(plain.scores.num_valid_queries, "query")
        words = [*_main_metrics(plain), count]
        if plain.protocol.cameras == "none":
            words.append("no cameras")
        words += plain.protocol.changes()
        text = ", ".join(words)
        return f"{text}; re-ranked {', '.join(_main_metrics(again))}" if again else text

    def _repr_html_(self):
        """Shows all scores as a table in a notebook."""
        rows = [
            [metric.name, *(percent(metric.of(result)) for _, result in self.results)]
            for metric in METRICS
        ]
        return Table(repr(self), ["", *(name for name, _ in self.results)], rows).html()

    @property
    def results(self) -> list[tuple[str, RetrievalResult]]:
        """The plain result and, where there is one, the re-ranked one, by name."""
        results = [("plain", self.plain), ("re-ranked", self.reranked)]
        return [(name, result) for name, result in results if result is not None]

    def result(self, *, reranked: bool) -> RetrievalResult | None:
        """Returns the re-ranked result, or the plain one."""
        return self.reranked if reranked else self.plain

    def metrics(self, *, reranked: bool = False) -> list[tuple[str, float]]:
        """Returns the scores that are shown, shares by their names."""
        result = self.result(reranked=reranked)
        return [(metric.name, metric.of(result)) for metric in METRICS]

    def per_query(self) -> np.ndarray:
        """Returns the scores of each query, such as for `pandas.DataFrame`.

        Returns:
            Structured array of shape `(num_queries,)`: `pid` and `camid`, and of each
            ranking `average_precision`, `inverse_negative_penalty` (NaN without a
            match) and `first_match_rank` (from 1; 0 without a match), of the re-ranked
            one with `reranked_` before the name.

        Raises:
            ValueError: If the scores were read from a file, or the gallery was drawn.
        """
        self._check_queries()
        columns = {
            "pid": self.identities.query_pids,
            "camid": self.identities.query_camids,
        }
        for name, result in self.results:
            start = "" if name == "plain" else "reranked_"
            for field in _OF_QUERIES:
                columns[start + field] = getattr(result.scores.queries, field)
        table = np.empty(
            len(self.identities.query_pids),
            [(name, column.dtype) for name, column in columns.items()],
        )
        for name, column in columns.items():
            table[name] = column
        return table

    def query_scores(self) -> list[tuple[str, np.ndarray]]:
        """Returns mAP, rank-1 and mINP of each query by name, NaN without a match.

        Those of the re-ranking have `re-ranked` before the name.

        Raises:
            ValueError: As `per_query`.
        """
        self._check_queries()
        return [
            (name if kind == "plain" else f"{kind} {name}", of(result.scores.queries))
            for kind, result in self.results
            for name, of in QUERY_METRICS
        ]

    def intervals(self, *, num_draws: int = 2000, seed: int = 1) -> Mapping[str, Share]:
        """Returns mAP, rank-1 and mINP with their 95 % intervals, by name.

        They tell how the scores would vary with other test persons, who are drawn with
        replacement; see `topdb_tf.retrieval.pairs.intervals.means_over_persons`. They
        know nothing of other seeds of a training.

        Args:
            num_draws: How often the persons are drawn.
            seed: Seed of the draws.

        Raises:
            ValueError: As `per_query`.
        """
        names, columns = zip(*self.query_scores(), strict=True)
        is_valid = ~np.isnan(columns[0])
        scores = np.column_stack(columns)[is_valid]
        pids = self.identities.query_pids[is_valid]
        shares = means_over_persons(scores, pids, num_draws=num_draws, seed=seed)
        return dict(zip(names, shares, strict=True))

    def _check_queries(self):
        is_drawn = self.plain.protocol.single_shot is not None
        if self.identities is None or self.plain.scores.queries is None or is_drawn:
            raise ValueError(
                "Scores of single queries are there where they were computed just now, "
                "and the whole gallery was ranked: score the features again."
            )

    def to_dict(self) -> dict:
        """Returns what `scores.json` holds."""
        record = self.origin.to_dict() if self.origin else {}
        for name in ("model", "model_sha256"):
            if getattr(self, name) is not None:
                record[name] = getattr(self, name)
        record["part"] = self.part
        if self.choice is not None:
            record["choice"] = plain(self.choice)
        record |= self.plain.to_dict()
        if self.reranked is not None:
            record["reranked"] = self.reranked.to_dict()
        if self.data_sets:
            record["data_sets"] = [scores.to_dict() for scores in self.data_sets]
        return record

    @classmethod
    def from_dict(cls, record: Mapping) -> "Scores":
        """Returns the scores that `to_dict` made a record of."""
        again, names = record.get("reranked"), ("model", "model_sha256")
        return cls(
            plain=RetrievalResult.from_dict(record),
            reranked=None if again is None else RetrievalResult.from_dict(again),
            origin=DataOrigin.from_dict(record) if "dataset" in record else None,
            **{name: record_of(str | None, record.get(name), name) for name in names},
            part=record_of(str, record.get("part", TEST), "part"),
            choice=record_of(Choice | None, record.get("choice"), "choice"),
            data_sets=tuple(
                cls.from_dict(one)
                for one in record_of(list[dict[str, Any]], record.get("data_sets", []))
            ),
        )


_OF_QUERIES = ("average_precision", "inverse_negative_penalty", "first_match_rank")


def _main_metrics(result):
    return [f"{metric.name} {percent(metric.of(result))} %" for metric in PAPER_METRICS]


def score_set(
    retrieval_set: RetrievalSet,
    config: Config,
    *,
    rerank: bool = False,
    normalize_cameras: CameraNormalization | None = None,
    tracklets: str | None = None,
) -> RetrievalResult:
    """Returns the result of one ranking under the settings of a run.

    Images that were pooled by track are told so, by what the protocol says of it.
    """
    with progress_bar("re-ranking" if rerank else "scoring") as progress:
        return score(
            retrieval_set,
            metric=config.evaluation.metric,
            rerank=Reranking() if rerank else None,
            ignore_cameras=config.evaluation.ignore_cameras,
            normalize_cameras=normalize_cameras,
            tracklets=tracklets,
            progress=progress,
        )


def scores_file(
    run: Run,
    dataset: str | None = None,
    *,
    best: bool = False,
    validation: bool = False,
    changes: Sequence[str] = (),
) -> Path:
    """Returns the file of a run's scores; each data set, model and protocol has one.

    `scores.json` is that of `embedder.keras` on the test of the run, by the protocol of
    the run's settings. Where these are changed, it is another file.
    """
    end = "-validation" if validation else ""
    end += _end_of_protocol(run) + ("-best" if best else "")
    end += "".join(f"-{one}" for one in changes).replace(",", "").replace(" ", "-")
    if is_own(dataset, run):
        name = dataset_name(run.saved.data.dataset)
        return run.path / f"scores-{name}{end}.json" if end else run.folder.scores
    file = run.path / f"scores-{dataset_name(dataset)}{end}.json"
    if is_path(dataset) and file.is_file():
        path = absolute_name(dataset)
        if _dataset_path(file) != path:  # another data set of the same name
            digest = hashlib.sha256(path.encode()).hexdigest()[:6]
            return file.with_name(f"scores-{dataset_name(dataset)}-{digest}{end}.json")
    return file


def read_scores(
    run: Run, dataset: str | None = None, *, best: bool = False
) -> Scores | None:
    """Returns the scores that a run's folder holds, or `None` where there are none."""
    scores = read_scores_file(scores_file(run, dataset, best=best))
    if scores is not None and scores.origin is None:
        trained_on = run.saved.data.dataset
        origin = origin_of(dataset or trained_on, trained_on)
        return dataclasses.replace(scores, origin=origin)
    return scores


def read_scores_file(file: Path) -> Scores | None:
    """Returns the scores in a file, or `None` where there is none."""
    if not file.is_file():
        return None
    advice = (
        "does not hold scores as `topdb-tf evaluate` writes them. Remove it, and score "
        "the run again."
    )
    return read_json(file, Scores.from_dict, advice)


def write_scores(file: Path, scores: Scores) -> None:
    """Writes scores as JSON, whole or not at all."""
    write_whole(file, json.dumps(scores.to_dict(), indent=2) + "\n")


def score_lines(scores: Scores) -> list[str]:
    """Returns the scores for people: a line for each kind of them."""
    lines, origin = [], scores.origin
    if origin is not None and origin.trained_on not in (None, origin.dataset):
        lines.append(f"trained on {origin.trained_on}, tested on {origin.dataset}")
    if scores.choice is not None:
        lines.append(str(scores.choice))
    is_told = scores.choice is not None or scores.part != TEST
    for name, result in scores.results:
        titles = ["all in one gallery"] * bool(scores.data_sets)
        titles += [scores.part] * is_told + [name] * (name != "plain")
        titles += result.protocol.changes()
        title = f"{', '.join(titles)}: " if titles else ""
        lines.append(_score_line(title, result))
    if scores.plain.warning:
        lines.append(f"warning: {scores.plain.warning}")
    if scores.plain.protocol.cameras == "none":
        itself = "" if scores.plain.warning else "; the query image itself does not"
        lines.append(f"no cameras: matches by the same camera count{itself}")
    for one in scores.data_sets:
        lines += [f"{one.origin.dataset}: {line}" for line in score_lines(one)]
    return lines


def _score_line(title, result):
    texts = [
        f"{metric.name} {metric.of(result):.1%}" for metric in METRICS if metric.in_line
    ]
    count = result.scores.num_valid_queries
    return f"{title}{', '.join(texts)} ({count:,} valid queries)"


def _end_of_protocol(run):
    """Returns what a file's name says of settings that are not those of the run."""
    used, saved = run.config.evaluation, run.saved.evaluation
    end = f"-{used.metric}" if used.metric != saved.metric else ""
    if used.ignore_cameras != saved.ignore_cameras:
        end += "-ignore-cameras" if used.ignore_cameras else "-with-cameras"
    return end


def _dataset_path(file):
    scores = read_scores_file(file)
    return scores and scores.origin and scores.origin.path
