"""The same training from several seeds: what comes of it, and how far they differ."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from topdb_tf.data.benchmarks import dataset_name
from topdb_tf.evaluate.scores import FIGURES, figures_of, spread
from topdb_tf.files import write_whole
from topdb_tf.fit.fit import fit, resume
from topdb_tf.fit.resume import is_finished
from topdb_tf.runs.data import located
from topdb_tf.runs.folder import RunFolder, held
from topdb_tf.runs.recipes import FREE_SETTINGS, flat_settings, read_config
from topdb_tf.runs.settings import Config
from topdb_tf.texts import spread_text
from topdb_tf.training.checkpoint_files import positions

Say = Callable[[str], None]


def fit_seeds(config: Config, folder: Path, *, num_seeds: int, say: Say) -> dict:
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

    Returns:
        What `summary_of_seeds` returns.

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
    if RunFolder(folder).config.exists():
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
        if is_finished(run, own):
            say(f"seed {own.train.seed} ({number} of {num_seeds}) is finished already")
        else:
            say(f"seed {own.train.seed} ({number} of {num_seeds})")
            _finish(run, own, say)
    summary = summary_of_seeds(folder, configs)
    write_whole(folder / "seeds.json", json.dumps(summary, indent=2) + "\n")
    return summary


def summary_of_seeds(folder: Path, configs: dict[RunFolder, Config]) -> dict:
    """Returns the scores of each seed, their means and their deviations.

    Args:
        folder: Folder of the seeds' folders.
        configs: Settings by finished run.

    Returns:
        `run`, `dataset`, `deviation` (which one it is), `seeds` (a record a seed),
        and `mean_ap` and `rank_1` with `mean`, `deviation` and `num_seeds`; the same
        two of the re-ranked scores in `reranked`. The deviation of one seed is none.
    """
    seeds = []
    for run, config in configs.items():
        scores = json.loads(run.scores.read_text(encoding="utf-8"))
        seeds.append(
            {
                "seed": config.train.seed,
                "run": str(run.path),
                **figures_of(scores),
                "reranked": figures_of(scores["reranked"]),
            }
        )
    return {
        "run": str(folder),
        "dataset": dataset_name(config.data.dataset),
        "deviation": "sample standard deviation, of n - 1",
        "seeds": seeds,
        **{name: spread([seed[name] for seed in seeds]) for name in FIGURES},
        "reranked": {
            name: spread([seed["reranked"][name] for seed in seeds]) for name in FIGURES
        },
    }


def seeds_lines(summary: dict) -> list[str]:
    """Returns the summary for people: a line a seed, then the means."""
    lines = []
    for seed in summary["seeds"]:
        single = {name: spread([seed[name]]) for name in FIGURES}
        again = {name: spread([seed["reranked"][name]]) for name in FIGURES}
        lines.append(f"seed {seed['seed']}: {_figures_text(single, again)}")
    count = len(summary["seeds"])
    if count > 1:
        lines.append(
            f"mean of {count} seeds ± sample standard deviation: "
            f"{_figures_text(summary, summary['reranked'])}"
        )
    return [*lines, f"all in percent; the runs are in {summary['run']}"]


def _figures_text(plain, reranked):
    texts = [
        f"mAP {spread_text(scores['mean_ap'])}, rank-1 {spread_text(scores['rank_1'])}"
        for scores in (plain, reranked)
    ]
    return "; re-ranked: ".join(texts)


def _check_settings(run, config):
    if not run.config.is_file():
        if run.path.exists() and any(run.path.iterdir()):
            raise FileExistsError(
                f"{run.path} holds something, but no run. Remove it, or choose another "
                "--run-dir."
            )
        return
    own, wanted = flat_settings(read_config(run.config)), flat_settings(config)
    changes = [
        f"{key}={own[key]} there, {value} now"
        for key, value in wanted.items()
        if own[key] != value and key not in FREE_SETTINGS
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
        if run.config.is_file():
            say(f"{run.path} was interrupted before its first checkpoint: starts anew")
            with held(run):
                shutil.rmtree(run.path)
        fit(config, run.path, say=say)
    import keras

    keras.utils.clear_session()  # no names and no memory are handed to the next seed
