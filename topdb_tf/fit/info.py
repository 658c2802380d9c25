"""What a run is, how far it came, and what it scored."""

from dataclasses import dataclass
from typing import Any

from topdb_tf.evaluate.scores import Scores, read_scores, score_lines
from topdb_tf.files import plain
from topdb_tf.fit.resume import ended_early
from topdb_tf.runs.folder import Run
from topdb_tf.runs.recipes import changed_settings
from topdb_tf.runs.settings import Config
from topdb_tf.training.checkpoint_files import (
    BestEpoch,
    Position,
    positions,
    read_record,
)


@dataclass(frozen=True)
class RunInfo:
    """What a run is, how far its newest checkpoint is, and what it scored."""

    run: Run
    last: Position | None
    best: BestEpoch | None
    ended_early: bool
    scores: Scores | None

    @property
    def settings(self) -> list[tuple[str, Any]]:
        """Names and values of the settings that differ from the defaults."""
        changes = changed_settings(Config(), self.run.saved)
        return [(change.key, plain(change.now)) for change in changes]

    @property
    def epochs(self) -> int:
        """Number of epochs that were planned."""
        return self.run.saved.train.epochs

    def to_dict(self) -> dict:
        """Returns what belongs in JSON."""
        folder, last = self.run.folder, self.last
        environment = self.run.environment.to_dict()
        return {
            "run": str(self.run.path),
            "split": self.run.saved.data.dataset,
            "settings": dict(self.settings),
            "epochs": self.epochs,
            "environment": environment if folder.environment.is_file() else None,
            "last": last and {"epochs_done": last.epoch, "steps_done": last.step},
            "best": self.best and {**self.best._asdict(), "by": self.run.chooses_by},
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
        best=read_record(checkpoints, last).best if last else None,
        ended_early=ended_early(run.folder, run.saved),
        scores=read_scores(run),
    )


def info_lines(info: RunInfo) -> list[str]:
    """Returns what a run is for people."""
    environment, last = info.run.environment, info.last or Position()
    settings = [f"{key}={value}" for key, value in info.settings]
    steps = f", {last.step} steps" if last.step else ""
    early = ", stopped early" if info.ended_early else ""
    lines = [
        f"run         {info.run.path}",
        f"data set    {info.run.saved.data.dataset}",
        *(f"images      {counts}" for counts in environment.data),
        f"settings    {', '.join(settings) or 'all as in the paper'}",
        f"epochs      {last.epoch} of {info.epochs} done{steps}{early}",
        f"precision   {environment.precision}",
        f"parameters  {environment.trainable_parameters or 0:,} trainable, "
        f"embedding of {environment.embedding_dim}",
        f"device      {environment.device}",
        f"seed        {environment.seed}",
    ]
    if info.best:
        epoch, mean_ap = info.best
        part = info.run.chooses_by
        lines.append(f"best        epoch {epoch}, {part} mAP {mean_ap:.1%}")
    scores = score_lines(info.scores) if info.scores else ["none yet"]
    return lines + [f"scores      {line}" for line in scores]
