"""What a run is, how far it came, and what it scored."""

import json

from topdb_tf.config import Config
from topdb_tf.recipe.resume import ended_early
from topdb_tf.recipe.scoring import score_lines
from topdb_tf.recipe_files import read_config
from topdb_tf.run_folder import RunFolder
from topdb_tf.training.checkpoint_files import positions, read_facts


def run_info(run: RunFolder) -> dict:
    """Returns the facts of a run: settings that differ, environment, progress, scores.

    Raises:
        ValueError: If the settings of the run cannot be read.
    """
    config = read_config(run.config)
    return {
        "run": str(run.path),
        "split": config.data.split,
        "settings": _differences(config),
        "epochs": config.train.epochs,
        "environment": _read_json(run.environment),
        **_progress(run),
        "ended_early": ended_early(run, config),
        "scores": _read_json(run.scores),
        "files": sorted(
            str(path.relative_to(run.path))
            for path in run.path.rglob("*")
            if path.is_file()
        ),
    }


def info_lines(facts: dict) -> list[str]:
    """Returns the facts of a run for people."""
    environment = facts["environment"] or {}
    settings = [f"{key}={value}" for key, value in facts["settings"].items()]
    last = facts["last"] or {"epochs_done": 0, "steps_done": 0}
    steps = f", {last['steps_done']} steps" if last["steps_done"] else ""
    early = ", stopped early" if facts["ended_early"] else ""
    lines = [
        f"run         {facts['run']}",
        f"data set    {facts['split']}",
        f"settings    {', '.join(settings) or 'all as in the paper'}",
        f"epochs      {last['epochs_done']} of {facts['epochs']} done{steps}{early}",
        f"precision   {environment.get('precision')}",
        f"parameters  {environment.get('trainable_parameters', 0):,} trainable, "
        f"embedding of {environment.get('embedding_dim')}",
        f"device      {environment.get('device')}",
        f"seed        {environment.get('seed')}",
    ]
    if facts["best"]:
        best = facts["best"]
        lines.append(
            f"best        epoch {best['epochs_done']}, mAP {best['mean_ap']:.1%}"
        )
    scores = score_lines(facts["scores"]) if facts["scores"] else ["none yet"]
    return lines + [f"scores      {line}" for line in scores]


def _progress(run):
    """Returns how far the newest checkpoint is, and the best epoch before it."""
    done = positions(run.checkpoints)
    if not done:
        return {"last": None, "best": None}
    epochs, steps = done[0]
    return {
        "last": {"epochs_done": epochs, "steps_done": steps},
        "best": read_facts(run.checkpoints, done[0])["best"],
    }


def _differences(config):
    """Returns the settings that differ from the defaults, by `section.name`."""
    differences = {}
    for section in ("data", "model", "train", "evaluation"):
        own, default = getattr(config, section), getattr(Config(), section)
        for name, value in vars(own).items():
            if value != getattr(default, name):
                plain = list(value) if isinstance(value, tuple) else value
                differences[f"{section}.{name}"] = plain
    return differences


def _read_json(path):
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
