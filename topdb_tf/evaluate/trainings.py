"""Runs that are one training from several seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from topdb_tf.files import contents_of
from topdb_tf.runs.folder import Run, RunFolder, open_run
from topdb_tf.runs.nearest import NEUTRAL_SETTINGS
from topdb_tf.runs.recipes import flat_settings
from topdb_tf.runs.settings import Config


@dataclass(frozen=True)
class Training:
    """A run, or the runs of one training in the order of their seeds."""

    label: str
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> set[int]:
        """The seeds of its runs."""
        return {run.saved.train.seed for run in self.runs}


def trainings_of(
    folders: Sequence[Path], overrides: Sequence[str] = ()
) -> list[Training]:
    """Returns the trainings in some folders, each of a run or of several seeds.

    Folders are those of runs, or of folders `seed-N` as `fit --seeds` makes them; none
    means the newest run. A training is called by the name of its folder, or by its path
    where two folders have the same name.
    """
    if not folders:
        folders = [open_run().path]
    names = [folder.resolve().name for folder in folders]
    trainings = []
    for folder, name in zip(folders, names, strict=True):
        inside = contents_of(folder) if folder.is_dir() else []
        seeds = [path / "config.yaml" for path in inside if path.match("seed-*")]
        seeds = sorted(filter(Path.is_file, seeds), key=_seed)
        is_run = RunFolder(folder).holds_run or not seeds
        paths = [folder] if is_run else [config.parent for config in seeds]
        label = name if names.count(name) == 1 else str(folder)
        runs = tuple(open_run(path, overrides) for path in paths)
        trainings.append(Training(label, runs))
    return trainings


def joined_by_settings(trainings: Sequence[Training]) -> list[Training]:
    """Joins trainings of the same settings and data whose seeds are different."""
    by_settings = {}
    for training in trainings:
        config = training.runs[0].saved
        key = (*deciding_settings(config), config.data.dataset)
        groups = by_settings.setdefault(key, [])
        for group in groups:
            if all(not member.seeds & training.seeds for member in group):
                group.append(training)
                break
        else:
            groups.append([training])
    groups = [group for groups in by_settings.values() for group in groups]
    groups.sort(key=lambda group: trainings.index(group[0]))
    return [
        Training(
            ", ".join(member.label for member in group),
            tuple(run for member in group for run in member.runs),
        )
        for group in groups
    ]


def deciding_settings(config: Config) -> tuple:
    """Returns the settings that make a training what it is, all but seed and data."""
    settings = flat_settings(config)
    return tuple(pair for pair in settings.items() if pair[0] not in NEUTRAL_SETTINGS)


def _seed(config):
    number = config.parent.name.removeprefix("seed-")
    return (0, int(number), "") if number.isdigit() else (1, 0, number)
