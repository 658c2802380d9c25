"""The same training from several seeds: what comes of it, and how far they differ."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from topdb_tf.data.benchmarks import dataset_name
from topdb_tf.evaluate.averages import Spread, mean_metrics
from topdb_tf.evaluate.scores import PAPER_METRICS, read_scores
from topdb_tf.files import contents_of, plain, write_whole
from topdb_tf.fit.fit import fit, resume
from topdb_tf.fit.resume import how_it_ended
from topdb_tf.json_files import read_json, record_of
from topdb_tf.runs.data import located
from topdb_tf.runs.folder import Run, RunFolder, held, open_run
from topdb_tf.runs.recipes import read_config, settings_changing_result
from topdb_tf.runs.settings import Config
from topdb_tf.texts import Say, percent
from topdb_tf.training.checkpoint_files import positions

_FILE = "seeds.json"
DEVIATION = "sample standard deviation, of n - 1"


class SeedScores(NamedTuple):
    """The scores of one seed and its run, shares by the key of the metric."""

    seed: int
    run: str
    plain: dict[str, float]
    reranked: dict[str, float]


@dataclass(frozen=True)
class SeedsSummary:
    """What came of a training from several seeds: what `seeds.json` holds.

    Means and deviations are by the key of the metric.
    """

    folder: str
    dataset: str
    seeds: tuple[SeedScores, ...]
    plain: dict[str, Spread]
    reranked: dict[str, Spread]

    def to_dict(self) -> dict:
        """Returns what `seeds.json` holds."""
        seeds = [
            {"seed": one.seed, "run": one.run, **one.plain, "reranked": one.reranked}
            for one in self.seeds
        ]
        return {
            "run": self.folder,
            "dataset": self.dataset,
            "deviation": DEVIATION,
            "seeds": seeds,
            **plain(self.plain),
            "reranked": plain(self.reranked),
        }

    @classmethod
    def from_dict(cls, record: Mapping) -> "SeedsSummary":
        """Returns the summary that `to_dict` made a record of."""
        keys = [metric.key for metric in PAPER_METRICS]

        def of_keys(kind, values):
            values = record_of(dict[str, Any], values)
            return {key: record_of(kind, values[key], key) for key in keys}

        seeds = [
            SeedScores(
                record_of(int, one["seed"], "seed"),
                record_of(str, one["run"], "run"),
                of_keys(float, one),
                of_keys(float, one["reranked"]),
            )
            for one in record_of(list[dict[str, Any]], record["seeds"], "seeds")
        ]
        folder, dataset = (
            record_of(str, record[key], key) for key in ("run", "dataset")
        )
        again = of_keys(Spread, record["reranked"])
        return cls(folder, dataset, tuple(seeds), of_keys(Spread, record), again)


def read_seeds(folder: Path) -> SeedsSummary | None:
    """Returns the summary of the seeds in a folder, `None` where there is none.

    Raises:
        ValueError: If its file is damaged.
    """
    file = folder / _FILE
    if not file.is_file():
        return None
    advice = "must be what `topdb-tf fit --seeds` wrote there."
    return read_json(file, SeedsSummary.from_dict, advice)


def fit_seeds(
    config: Config, folder: Path, *, num_seeds: int, say: Say
) -> SeedsSummary:
    """Trains from `num_seeds` seeds, `train.seed` and those after it, and sums up.

    Every seed is a run in a folder of its own, `seed-1` and so on, and its final
    scores are re-ranked too. Calling it again with the same folder skips the seeds
    that are finished and goes on with one that was interrupted; more seeds can be
    added so. The summary is written to `seeds.json`.

    Args:
        config: Settings of the runs.
        folder: Folder of the seeds' folders.
        num_seeds: Number of seeds, at least 1.
        say: Function that shows a line.

    Raises:
        FileExistsError: If the folder is that of a single run.
        ValueError: If a run in the folder was begun with other settings.
    """
    config = located(config)
    if config.train.strategy == "multiworker":
        raise ValueError(
            "Several seeds cannot be trained by the strategy multiworker in one call. "
            "Train each seed by itself, with --set train.seed=N."
        )
    if RunFolder(folder).holds_run:
        raise FileExistsError(
            f"{folder} is the folder of a single run. Choose another --run-dir."
        )
    evaluation = replace(config.evaluation, rerank=True)
    configs = {}
    for seed in range(config.train.seed, config.train.seed + num_seeds):
        run = RunFolder(folder / f"seed-{seed}")
        train = replace(config.train, seed=seed)
        configs[run] = replace(config, train=train, evaluation=evaluation)
        _check_settings(run, configs[run])
    say(f"If this is interrupted, the same call with --run-dir {folder} goes on.")
    for number, (run, own) in enumerate(configs.items(), 1):
        if how_it_ended(run, own):
            say(f"seed {own.train.seed} ({number} of {num_seeds}) is finished already")
        else:
            say(f"seed {own.train.seed} ({number} of {num_seeds})")
            _finish(run, own, say)
    summary = summary_of_seeds(folder, [open_run(run.path) for run in configs])
    write_whole(folder / _FILE, json.dumps(summary.to_dict(), indent=2) + "\n")
    return summary


def summary_of_seeds(folder: Path, runs: Sequence[Run]) -> SeedsSummary:
    """Returns the scores of finished seeds, their means and their deviations.

    Raises:
        ValueError: If the seeds were scored by different protocols.
    """
    scores = {run: read_scores(run) for run in runs}
    means = []
    for again in (False, True):
        spreads = mean_metrics(
            {str(run.path): own.result(reranked=again) for run, own in scores.items()}
        )
        means.append({metric.key: spreads[metric.name] for metric in PAPER_METRICS})
    seeds = [
        SeedScores(
            run.saved.train.seed,
            str(run.path),
            *(
                {metric.key: metric.of(result) for metric in PAPER_METRICS}
                for result in (own.plain, own.reranked)
            ),
        )
        for run, own in scores.items()
    ]
    dataset = dataset_name(runs[0].saved.data.dataset)
    return SeedsSummary(str(folder), dataset, tuple(seeds), *means)


def seeds_lines(summary: SeedsSummary) -> list[str]:
    """Returns the summary for people: a line a seed, then the means."""
    lines = [f"seed {one.seed}: {_scores_text(one, percent)}" for one in summary.seeds]
    if len(lines) > 1:
        lines.append(
            f"mean of {len(lines)} seeds ± sample standard deviation: "
            f"{_scores_text(summary, str)}"
        )
    return [*lines, f"all in percent; the runs are in {summary.folder}"]


def _scores_text(scored, text_of):
    texts = [
        ", ".join(f"{one.name} {text_of(scores[one.key])}" for one in PAPER_METRICS)
        for scores in (scored.plain, scored.reranked)
    ]
    return "; re-ranked: ".join(texts)


def _check_settings(run, config):
    if not run.holds_run:
        if run.path.exists() and contents_of(run.path):
            raise FileExistsError(
                f"{run.path} holds something, but no run. Remove it, or choose another "
                "--run-dir."
            )
        return
    changes = [
        f"{change.key}={change.before} there, {change.now} now"
        for change in settings_changing_result(read_config(run.config_file), config)
    ]
    if changes:
        raise ValueError(
            f"{run.path} was begun with other settings: {'; '.join(changes)}. Repeat "
            "them, or choose another --run-dir."
        )


def _finish(run, config, say):
    """Trains a seed from where it was interrupted, or from its start."""
    if positions(run.checkpoints):
        root = [f"data.root={config.data.root}"] if config.data.root else []
        resume(run.path, overrides=root, say=say)
    else:
        if run.holds_run:
            say(f"{run.path} was interrupted before its first checkpoint: starts anew")
            with held(run):
                shutil.rmtree(run.path)
        fit(config, run.path, say=say)
    import keras

    keras.utils.clear_session()  # no names and no memory are handed to the next seed
