"""The CMC and the training curves of runs: numbers from their files, and figures."""

import csv
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from topdb_tf.drawing.curves import CmcCurve, cmc_figure
from topdb_tf.drawing.training_curves import training_figure
from topdb_tf.evaluate import published
from topdb_tf.evaluate.comparability import differences_from_published
from topdb_tf.evaluate.evaluate import evaluate
from topdb_tf.evaluate.scores import mean_cmc, read_scores
from topdb_tf.evaluate.trainings import RunGroup
from topdb_tf.runs.data import Say
from topdb_tf.runs.folder import RunFolder
from topdb_tf.runs.recipes import read_config

_METHOD = "Top-DB-Net"


def cmc_numbers(
    trainings: Sequence[RunGroup],
    *,
    overrides: Sequence[str] = (),
    dataset: str | None = None,
    best: bool = False,
    rerank: bool = False,
    say: Say | None = None,
) -> dict:
    """Returns the CMC of some trainings; runs without scores are scored first.

    Args:
        trainings: Of `trainings_of`.
        overrides: Settings of the data for runs that have to be scored.
        dataset: Another data set than the one that each was trained on.
        best: Whether to take the model of the best epoch instead of the last.
        rerank: Whether to add the re-ranked curves.
        say: Function that shows a line to the user. Defaults to silence.

    Returns:
        `curves`: records with `label`, `dataset`, `reranked`, `runs`, `cmc` (shares by
        rank, the mean of the runs) and `deviation` (sample standard deviation; none of
        one run). `references`: the rank-1 of the paper's network by name, where it
        was printed for the data set, and all runs were trained on that and scored by
        the paper's protocol.

    Raises:
        FileNotFoundError: As `topdb_tf.evaluate.evaluate.evaluate`.
    """
    options = {"dataset": dataset, "best": best}
    curves, scored = [], {}
    for training in trainings:
        scores = [
            _scores(run, overrides, options, rerank, say) for run in training.runs
        ]
        scored.setdefault(scores[0]["dataset"], []).extend(scores)
        for again in (False, True)[: 1 + rerank]:
            curves.append(_curve(training, scores, again))
    if len(scored) > 1:
        for curve in curves:
            curve["label"] += f", {_title(curve['dataset'])}"
    return {"curves": curves, "references": _references(scored, rerank)}


def cmc_picture(numbers: dict, **options) -> Figure:
    """Returns the figure of what `cmc_numbers` returns.

    Args:
        numbers: The numbers.
        **options: `max_rank` and `width`, of `topdb_tf.drawing.curves.cmc_figure`.
    """
    curves = [
        CmcCurve(
            curve["label"],
            np.array(curve["cmc"]),
            None if curve["deviation"] is None else np.array(curve["deviation"]),
        )
        for curve in numbers["curves"]
    ]
    return cmc_figure(curves, references=numbers["references"], **options)


def read_log(run: RunFolder) -> dict[str, list]:
    """Returns the columns of a run's log by name; `None` where an epoch has no figure.

    Raises:
        FileNotFoundError: If the run has no log yet.
        ValueError: If the log is damaged.
    """
    if not run.log.is_file():
        raise FileNotFoundError(
            f"{run.path} has no {run.log.name}: its first epoch has not ended."
        )
    with run.log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        log = {
            name: [float(row[name]) if row[name] else None for row in rows]
            for name in rows[0]
        }
        log["epoch"] = [int(epoch) for epoch in log["epoch"]]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{run.log} must be a table of numbers with a column `epoch`, and at least "
            f"one row. Received: {error}"
        ) from error
    return log


def training_numbers(trainings: Sequence[RunGroup]) -> dict:
    """Returns the logs of some trainings.

    Args:
        trainings: Of `trainings_of`.

    Returns:
        `trainings`: records with `label`, `runs` and `logs`, one a run, as `read_log`.

    Raises:
        FileNotFoundError: As `read_log`.
        ValueError: As `read_log`.
    """
    return {
        "trainings": [
            {
                "label": training.label,
                "runs": [str(run.path) for run in training.runs],
                "logs": [read_log(run) for run in training.runs],
            }
            for training in trainings
        ]
    }


def training_picture(numbers: dict, **options) -> Figure:
    """Returns the figure of what `training_numbers` returns.

    Args:
        numbers: The numbers.
        **options: `width`, of `topdb_tf.drawing.training_curves.training_figure`.
    """
    runs = {
        training["label"]: [
            {name: np.array(column, float) for name, column in log.items()}
            for log in training["logs"]
        ]
        for training in numbers["trainings"]
    }
    return training_figure(runs, **options)


def _scores(run, overrides, options, rerank, say):
    config = read_config(run.config, list(overrides))
    scores = read_scores(run, config, **options)
    if scores is None or (rerank and "reranked" not in scores):
        scores = evaluate(run, config, rerank=rerank, say=say, **options)
    return scores


def _curve(training, scores, reranked):
    return {
        **mean_cmc([own["reranked"] if reranked else own for own in scores]),
        "label": f"{training.label}, re-ranked" if reranked else training.label,
        "dataset": scores[0]["dataset"],
        "reranked": reranked,
        "runs": [str(run.path) for run in training.runs],
    }


def _references(scored, rerank):
    tables = [(published.TABLE_1, ""), (published.TABLE_2, ", re-ranked")]
    references = {}
    for dataset, scores in scored.items():
        if not all(_is_as_published(dataset, own) for own in scores):
            continue
        for table, how in tables[: 1 + rerank]:
            name = f"{_METHOD} in the paper{how}"
            if len(scored) > 1:
                name += f", {_title(dataset)}"
            references[name] = table[_METHOD][dataset].rank_1 / 100
    return references


def _is_as_published(dataset, scores):
    return (
        dataset in published.TITLES
        and scores.get("trained_on", dataset) == dataset
        and not differences_from_published(dataset, scores["protocol"])
    )


def _title(dataset):
    return published.TITLES.get(dataset, dataset)
