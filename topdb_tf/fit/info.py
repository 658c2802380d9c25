"""What a run is, how far it came, and what it scored."""

import datetime
import json
import struct
from pathlib import Path
from typing import NamedTuple

from topdb_tf.evaluate.scores import score_lines
from topdb_tf.fit.resume import ended_early
from topdb_tf.runs.folder import RunFolder
from topdb_tf.runs.recipes import read_config
from topdb_tf.runs.settings import Config
from topdb_tf.training.checkpoint_files import positions, read_facts


def run_info(run: RunFolder) -> dict:
    """Returns the facts of a run: settings that differ, environment, progress, scores.

    Raises:
        ValueError: If the settings of the run cannot be read.
    """
    config = read_config(run.config)
    return {
        "run": str(run.path),
        "split": config.data.dataset,
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


class TrainingTimes(NamedTuple):
    """When a training was under way.

    Args:
        begin: When it began.
        end: When its last entry was written.
        seconds: Of training and scoring; not those between an interruption and the
            call that went on with it.
    """

    begin: datetime.datetime
    end: datetime.datetime
    seconds: float


def training_times(run: RunFolder) -> TrainingTimes | None:
    """Returns the times in a run's TensorBoard events; nothing where there are none.

    They are in the entries themselves, so that a folder that was copied still tells
    them. The seconds before the first entry, of reading data and building the network,
    are not known.
    """
    files = sorted(run.tensorboard.rglob("events.out.tfevents.*"))
    spans = [(min(times), max(times)) for times in map(_wall_times, files) if times]
    if not spans:
        return None
    begin, end = min(first for first, _ in spans), max(last for _, last in spans)
    seconds = sum(last - first for first, last in _joined(spans))
    zone = datetime.timezone.utc
    moments = (datetime.datetime.fromtimestamp(time, zone) for time in (begin, end))
    return TrainingTimes(*moments, seconds)


def _wall_times(path: Path) -> list[float]:
    """Returns the times of the whole entries of a file of events."""
    data, place, times = path.read_bytes(), 0, []
    while place + 12 <= len(data):  # length, its checksum, entry, its checksum
        (length,) = struct.unpack_from("<Q", data, place)
        entry = data[place + 12 : place + 12 + length]
        if len(entry) == length >= 9 and entry[0] == _WALL_TIME:
            times.append(struct.unpack_from("<d", entry, 1)[0])
        place += 16 + length
    return times


def _joined(spans):
    """Returns the spans without overlaps: several files are written at a time."""
    joined = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], last)
        else:
            joined.append([first, last])
    return joined


_WALL_TIME = 0x09  # field 1 of TensorBoard's Event, a double
