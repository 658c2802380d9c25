"""Scores of a model: made, kept, averaged, told."""

import hashlib
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from topdb_tf.data.benchmarks import dataset_name, is_path
from topdb_tf.data.sightings import absolute
from topdb_tf.files import write_whole
from topdb_tf.progress import progress_bar
from topdb_tf.retrieval.protocol import Reranking, RetrievalResult, RetrievalSet, score
from topdb_tf.runs.data import is_own
from topdb_tf.runs.folder import RunFolder
from topdb_tf.runs.settings import Config


def score_set(retrieval_set: RetrievalSet, config: Config, *, rerank=False):
    """Returns the result of one ranking under the settings of a run."""
    with progress_bar("re-ranking" if rerank else "scoring") as progress:
        return score(
            retrieval_set,
            metric=config.evaluation.metric,
            rerank=Reranking() if rerank else None,
            ignore_cameras=config.evaluation.ignore_cameras,
            progress=progress,
        )


def scores_of(results: list[RetrievalResult], **facts) -> dict:
    """Returns the fields of a plain and, if there is one, a re-ranked result."""
    scores = {**facts, **results[0].to_dict()}
    if len(results) > 1:
        scores["reranked"] = results[1].to_dict()
    return scores


def write_scores(path: Path, scores: dict) -> None:
    """Writes scores as JSON, whole or not at all."""
    write_whole(path, json.dumps(scores, indent=2) + "\n")


def read_scores(
    run: RunFolder, config: Config, *, dataset: str | None = None, best: bool = False
) -> dict | None:
    """Returns the scores that `evaluate` wrote last; none if it was never called.

    Args:
        run: Folder of the run.
        config: Its settings.
        dataset: Another data set than the one it was trained on.
        best: Whether those of the best epoch are meant instead of the last.

    Raises:
        ValueError: If the file is damaged.
    """
    file = scores_file(run, config, dataset, best)
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is no JSON file: {error}. Remove it.") from error


def score_lines(scores: dict) -> list[str]:
    """Returns the scores for people: a line for each kind of them."""
    lines = []
    if scores.get("trained_on") not in (None, scores.get("dataset")):
        lines.append(
            f"trained on {scores['trained_on']}, tested on {scores['dataset']}"
        )
    lines.append(_score_line("", scores))
    if "reranked" in scores:
        lines.append(_score_line("re-ranked: ", scores["reranked"]))
    if "verification" in scores:
        verification = scores["verification"]
        rates = verification["tpr_at_fpr"].items()
        shares = ", ".join(f"TPR {tpr:.1%} at FPR {fpr}" for fpr, tpr in rates)
        rate = verification["equal_error_rate"]
        lines.append(f"same person or not: equal error rate {rate:.2%}, {shares}")
    if scores["protocol"].get("cameras") == "none":
        lines.append(
            "no cameras: matches by the same camera count; the query image itself does "
            "not"
        )
    return lines


def _score_line(title, scores):
    ranks = [f"rank-{rank} {_share(scores, rank)}" for rank in REPORTED_RANKS]
    return (
        f"{title}mAP {scores['mean_ap']:.1%}, mINP {scores['mean_inp']:.1%}, "
        f"{', '.join(ranks)} ({scores['num_valid_queries']:,} valid queries)"
    )


def _share(scores, rank):
    # A gallery smaller than the rank has found what it can before it ends.
    ranks = [int(text) for text in scores["cmc"] if int(text) <= rank]
    return f"{scores['cmc'][str(max(ranks))]:.1%}"


REPORTED_RANKS = (1, 5, 10, 20)


def scores_file(
    run: RunFolder, config: Config, dataset: str | None, best: bool
) -> Path:
    """Returns the file of a run's scores on a data set.

    Args:
        run: Folder of the run.
        config: Its settings.
        dataset: Another data set than its own, or `None`.
        best: Whether they are of the best epoch instead of the last.
    """
    end = "-best" if best else ""
    if is_own(dataset, run):
        name = f"scores-{dataset_name(config.data.dataset)}{end}.json"
        return run.path / name if best else run.scores
    file = run.path / f"scores-{dataset_name(dataset)}{end}.json"
    if is_path(dataset) and file.is_file():
        path = str(absolute(dataset))
        before = json.loads(file.read_text(encoding="utf-8"))
        if before.get("dataset_path") != path:  # another one of the same name
            digest = hashlib.sha256(path.encode()).hexdigest()[:6]
            return file.with_name(f"scores-{dataset_name(dataset)}-{digest}{end}.json")
    return file


FIGURES = ("mean_ap", "rank_1")


def figures_of(scores: dict) -> dict:
    """Returns the two figures of the paper's tables from the scores of a run."""
    return {"mean_ap": scores["mean_ap"], "rank_1": scores["cmc"]["1"]}


def spread(values: Sequence[float]) -> dict:
    """Returns mean, sample standard deviation and number of the values.

    Example:
        >>> from topdb_tf.fit.seeds import spread
        >>> spread([0.25, 0.75, 0.5])  # the squares of the deviations: 2 / 16, over 2
        {'mean': 0.5, 'deviation': 0.25, 'num_seeds': 3}
        >>> spread([0.5])
        {'mean': 0.5, 'deviation': None, 'num_seeds': 1}
    """
    return {
        "mean": statistics.fmean(values),
        "deviation": statistics.stdev(values) if len(values) > 1 else None,
        "num_seeds": len(values),
    }


def figures_of_scores(scores: dict) -> dict[str, float]:
    """Returns the scores that are shown, shares by name."""
    last = max(map(int, scores["cmc"]))
    ranks = {f"rank-{r}": scores["cmc"][str(min(r, last))] for r in _RANKS}
    return {
        "mAP": scores["mean_ap"],
        **ranks,
        "mINP": scores["mean_inp"],
        "mAP, trapezoid": scores["mean_ap_trapezoid"],
    }


_RANKS = (1, 5, 10, 20)


def mean_cmc(scores: Sequence[dict]) -> dict:
    """Returns the mean CMC of some seeds.

    Args:
        scores: Of each seed, with `cmc`, shares by rank.

    Returns:
        `cmc`, shares by rank, and `deviation`, their sample standard deviations; none
        of one seed.
    """
    cmcs = [own["cmc"] for own in scores]
    num_ranks = min(map(len, cmcs))
    by_rank = [[cmc[str(k)] for cmc in cmcs] for k in range(1, num_ranks + 1)]
    return {
        "cmc": [statistics.fmean(shares) for shares in by_rank],
        "deviation": [statistics.stdev(shares) for shares in by_rank]
        if len(cmcs) > 1
        else None,
    }
