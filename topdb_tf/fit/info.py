"""What a run is, how far it came, and what it scored."""

import datetime
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from topdb_tf.evaluate.scores import Scores, read_scores, score_lines
from topdb_tf.fit.resume import ended_early
from topdb_tf.runs.folder import Run, RunFolder
from topdb_tf.runs.settings import Config
from topdb_tf.training.checkpoint_files import Position, positions, read_facts


@dataclass(frozen=True)
class RunInfo:
    """What a run is, how far it came, and what it scored.

    Args:
        run: The run.
        last: How far the newest checkpoint is, or `None` where there is none.
        best: The best epoch before it, or `None`.
        ended_early: Whether the training stopped before its last epoch.
        scores: Its scores, or `None` where there are none yet.
    """

    run: Run
    last: Position | None
    best: dict | None
    ended_early: bool
    scores: Scores | None

    @property
    def settings(self) -> dict:
        """The settings that differ from the defaults, by `section.name`."""
        return _differences(self.run.saved)

    @property
    def epochs(self) -> int:
        """Number of epochs that were planned."""
        return self.run.saved.train.epochs

    def to_dict(self) -> dict:
        """Returns what belongs in JSON."""
        folder, last = self.run.folder, self.last
        return {
            "run": str(self.run.path),
            "split": self.run.saved.data.dataset,
            "settings": self.settings,
            "epochs": self.epochs,
            "environment": _read_json(folder.environment),
            "last": last and {"epochs_done": last.epoch, "steps_done": last.step},
            "best": self.best,
            "ended_early": self.ended_early,
            "scores": self.scores and self.scores.to_dict(),
            "files": sorted(
                str(path.relative_to(self.run.path))
                for path in self.run.path.rglob("*")
                if path.is_file()
            ),
        }


def run_info(run: Run) -> RunInfo:
    """Returns what a run is, how far it came, and what it scored.

    Raises:
        ValueError: If a file of the run is damaged.
    """
    checkpoints = run.folder.checkpoints
    last = next(iter(positions(checkpoints)), None)
    return RunInfo(
        run=run,
        last=last,
        best=read_facts(checkpoints, last)["best"] if last else None,
        ended_early=ended_early(run.folder, run.saved),
        scores=read_scores(run),
    )


def info_lines(info: RunInfo) -> list[str]:
    """Returns what a run is for people."""
    environment, last = info.run.environment, info.last or Position()
    settings = [f"{key}={value}" for key, value in info.settings.items()]
    steps = f", {last.step} steps" if last.step else ""
    early = ", stopped early" if info.ended_early else ""
    lines = [
        f"run         {info.run.path}",
        f"data set    {info.run.saved.data.dataset}",
        f"settings    {', '.join(settings) or 'all as in the paper'}",
        f"epochs      {last.epoch} of {info.epochs} done{steps}{early}",
        f"precision   {environment.precision}",
        f"parameters  {environment.trainable_parameters or 0:,} trainable, "
        f"embedding of {environment.embedding_dim}",
        f"device      {environment.device}",
        f"seed        {environment.seed}",
    ]
    if info.best:
        epoch, mean_ap = info.best["epochs_done"], info.best["mean_ap"]
        lines.append(f"best        epoch {epoch}, mAP {mean_ap:.1%}")
    scores = score_lines(info.scores) if info.scores else ["none yet"]
    return lines + [f"scores      {line}" for line in scores]


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
