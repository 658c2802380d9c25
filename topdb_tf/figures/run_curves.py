"""The CMC and the training curves of runs, from what their folders hold."""

import csv
import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from topdb_tf.drawing.curves import CmcCurve, cmc_figure
from topdb_tf.drawing.training_curves import training_figure
from topdb_tf.evaluate import published
from topdb_tf.evaluate.averages import MeanCmc, mean_cmc
from topdb_tf.evaluate.comparability import differences_from_published
from topdb_tf.evaluate.evaluate import evaluate
from topdb_tf.evaluate.scores import Scores, read_scores
from topdb_tf.evaluate.table_formats import ScoreTable
from topdb_tf.evaluate.trainings import Training
from topdb_tf.figures.view import View
from topdb_tf.retrieval.protocol import RetrievalResult
from topdb_tf.runs.folder import Run
from topdb_tf.texts import Say, silent

_UNITS = {"hours": 3600, "minutes": 60, "seconds": 1}


@dataclass(frozen=True)
class Curve:
    """The CMC of a training, the mean of its runs on a data set.

    The results, by the folder of the run, are all plain or all re-ranked.
    """

    label: str
    dataset: str
    results: Mapping[Path, RetrievalResult]
    is_reranked: bool = False

    @functools.cached_property
    def mean(self) -> MeanCmc:
        """Shares by rank; a `ValueError` if the protocols of the runs differ."""
        return mean_cmc(self.results)

    def to_dict(self) -> dict:
        """Returns what `--json` prints of it."""
        deviation = self.mean.deviation
        return {
            "cmc": self.mean.cmc.tolist(),
            "deviation": None if deviation is None else deviation.tolist(),
            "label": self.label,
            "dataset": self.dataset,
            "reranked": self.is_reranked,
            "runs": [str(run) for run in self.results],
        }


@dataclass(frozen=True)
class CmcCurves:
    """The CMC of several trainings, and the paper's rank-1 by name, shares."""

    curves: tuple[Curve, ...]
    references: Mapping[str, float]


def cmc(
    trainings: Sequence[Training],
    dataset: str | None = None,
    *,
    best: bool = False,
    rerank: bool = False,
    max_rank: int = 20,
    features: ScoreTable | None = None,
    say: Say = silent,
) -> View:
    """Returns the CMC of some trainings; runs without scores are scored first.

    Those of features of other programs are drawn behind them, if there are any.

    The paper's rank-1 stands beside them where it was printed for the data set, and
    all runs were trained on that and scored by the paper's protocol.
    """
    curves, scored = [], {}
    for training in trainings:
        scores = {
            run.path: scores_of_run(run, dataset, best=best, rerank=rerank, say=say)
            for run in training.runs
        }
        name = next(iter(scores.values())).origin.dataset
        scored.setdefault(name, []).extend(scores.values())
        for again in (False, True)[: 1 + rerank]:
            results = {run: one.result(reranked=again) for run, one in scores.items()}
            label = f"{training.label}, re-ranked" if again else training.label
            curves.append(Curve(label, name, results, again))
    if len(scored) > 1:
        curves = [
            replace(curve, label=f"{curve.label}, {_title(curve.dataset)}")
            for curve in curves
        ]
    for name, scores in features.rows if features else ():
        for kind, result in scores.results:
            label = name if kind == "plain" else f"{name}, {kind}"
            is_reranked = kind != "plain"
            curves.append(Curve(label, name, {Path(name): result}, is_reranked))
    references = _references(scored, rerank)
    return cmc_of(curves, references=references, max_rank=max_rank)


def cmc_of(
    curves: Sequence[Curve],
    *,
    references: Mapping[str, float] | None = None,
    max_rank: int = 20,
) -> View:
    """Returns the figure of some CMC, with the paper's rank-1 by name, shares."""
    facts = CmcCurves(tuple(curves), references or {})
    drawn = [CmcCurve(curve.label, *curve.mean) for curve in curves]

    def picture(width):
        return cmc_figure(
            drawn, max_rank=max_rank, references=facts.references, width=width
        )

    return View(facts, picture)


@dataclass(frozen=True)
class Log:
    """Figures by epoch and name of the column; `None` where an epoch has none."""

    columns: Mapping[str, Sequence[float | None]]

    @property
    def last(self) -> list[tuple[str, float]]:
        """The figures of the last epoch by name, `epoch` among them."""
        last = [(name, column[-1]) for name, column in self.columns.items()]
        return [(name, figure) for name, figure in last if figure is not None]

    @property
    def total_seconds(self) -> float | None:
        """How long the epochs took; older versions did not write it of each."""
        seconds = self.columns.get("seconds", (None,))
        return None if None in seconds else sum(seconds)


def read_log(run: Run) -> Log:
    """Returns the log of a run."""
    file = run.folder.log
    if not file.is_file():
        raise FileNotFoundError(
            f"{run.path} has no {file.name}: its first epoch has not ended."
        )
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    try:
        columns = {
            name: [float(row[name]) if row[name] else None for row in rows]
            for name in rows[0]
        }
        epochs = [int(epoch) for epoch in columns["epoch"]]
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{file} must be a table of numbers with a column `epoch`, and at least "
            f"one row. Received: {error}"
        ) from error
    return Log(columns | {"epoch": epochs})


@dataclass(frozen=True)
class TrainingCurves:
    """Several trainings, and the logs of the runs of each."""

    trainings: tuple[Training, ...]
    logs: tuple[tuple[Log, ...], ...]

    def to_dict(self) -> dict:
        """Returns what `--json` prints of it."""
        return {
            "trainings": [
                {
                    "label": one.label,
                    "runs": [str(run.path) for run in one.runs],
                    "logs": [log.columns for log in logs],
                }
                for one, logs in zip(self.trainings, self.logs, strict=True)
            ]
        }


def training(trainings: Sequence[Training], *, by: str = "epoch") -> View:
    """Returns losses, accuracy, rate and scores of some trainings, by epoch or time."""
    logs = tuple(tuple(read_log(run) for run in one.runs) for one in trainings)
    if by == "time":
        runs = [run for one in trainings for run in one.runs]
        by = _unit(runs, itertools.chain(*logs))

    def picture(width):
        labels = [one.label for one in trainings]
        arrays = [[_arrays(log, by) for log in logs_of_one] for logs_of_one in logs]
        named = dict(zip(labels, arrays, strict=True))
        return training_figure(named, by=by, width=width)

    return View(TrainingCurves(tuple(trainings), logs), picture)


def _unit(runs, logs):
    """Returns in what the longest of some trainings is told."""
    longest = 0
    for run, log in zip(runs, logs, strict=True):
        if log.total_seconds is None:
            raise ValueError(
                f"{run.folder.log} does not tell how long each epoch took: it is of an "
                "older version. Draw it by epoch."
            )
        longest = max(longest, log.total_seconds)
    units = (name for name, unit in _UNITS.items() if longest >= 2 * unit)
    return next(units, "seconds")


def _arrays(log, by):
    """Returns the columns of a log as arrays, NaN where an epoch has no figure."""
    arrays = {name: np.array(column, float) for name, column in log.columns.items()}
    if by in _UNITS:
        arrays[by] = np.cumsum(arrays["seconds"]) / _UNITS[by]
    return arrays


def scores_of_run(
    run: Run,
    dataset: str | None,
    *,
    best: bool,
    rerank: bool,
    like: Scores | None = None,
    say: Say = silent,
) -> Scores:
    """Returns the scores of a run, which is scored where its folder lacks them.

    They must be by the protocols of those that they are to be `like`.
    """
    scores = read_scores(run, dataset, best=best)
    if scores is None:
        say(f"{run.path} has no scores yet: it is scored first")
    elif rerank and scores.reranked is None:
        say(f"{run.path} has no re-ranked scores yet: it is scored first")
    elif like is None or _protocols(like) <= _protocols(scores):
        return scores
    return evaluate(run, dataset, best=best, rerank=rerank, say=say)


def published_rank_1(method: str, dataset: str, *, rerank: bool) -> dict[str, float]:
    """Returns the rank-1 that the paper printed of a method, shares by their name."""
    printed = published.printed_of(method, dataset, reranked=rerank)
    return {f"{method} in the paper{end}": one.rank_1 / 100 for end, one in printed}


def _protocols(scores):
    return {(name, result.protocol) for name, result in scores.results}


def _references(scored, rerank):
    references = {}
    for dataset, scores in scored.items():
        if all(_is_as_published(dataset, one) for one in scores):
            end = f", {_title(dataset)}" if len(scored) > 1 else ""
            shares = published_rank_1(published.METHOD, dataset, rerank=rerank)
            references |= {f"{name}{end}": share for name, share in shares.items()}
    return references


def _is_as_published(dataset, scores):
    return (
        dataset in published.TITLES
        and scores.origin.trained_on in (None, dataset)
        and not differences_from_published(dataset, scores.plain.protocol)
    )


def _title(dataset):
    return published.TITLES.get(dataset, dataset)
