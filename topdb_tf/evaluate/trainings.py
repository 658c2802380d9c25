"""Runs that are one training from several seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from topdb_tf.runs.folder import RunFolder, open_run
from topdb_tf.runs.recipes import flat_settings, is_neutral, read_config


class RunGroup(NamedTuple):
    """A run, or the runs of one training from several seeds.

    Args:
        label: What it is called in figures.
        runs: Their folders.
    """

    label: str
    runs: tuple[RunFolder, ...]


def trainings_of(folders: Sequence[Path]) -> list[RunGroup]:
    """Returns the trainings in some folders, each of a run or of several seeds.

    A training is called by the name of its folder, or by its path where two folders
    have the same name.

    Args:
        folders: Folders of runs, or of folders `seed-N` as `fit --seeds` makes them;
            none: the newest run.

    Raises:
        FileNotFoundError: If a folder is neither.
    """
    if not folders:
        folders = [open_run(None).path]
    names = [folder.resolve().name for folder in folders]
    trainings = []
    for folder, name in zip(folders, names, strict=True):
        seeds = sorted(folder.glob("seed-*/config.yaml"), key=_seed)
        if seeds and not RunFolder(folder).config.is_file():
            runs = tuple(RunFolder(config.parent) for config in seeds)
        else:
            runs = (open_run(folder),)
        label = name if names.count(name) == 1 else str(folder)
        trainings.append(RunGroup(label, runs))
    return trainings


def _seed(config):
    number = config.parent.name.removeprefix("seed-")
    return (0, int(number), "") if number.isdigit() else (1, 0, number)


def grouped(trainings: Sequence[RunGroup]) -> list[RunGroup]:
    """Joins trainings of the same settings and data whose seeds are different.

    Args:
        trainings: Of `topdb_tf.evaluate.trainings.trainings_of`.
    """
    groups = {}
    for training in trainings:
        configs = [read_config(run.config) for run in training.runs]
        key = (*_deciding(configs[0]).items(), configs[0].data.dataset)
        seeds = {config.train.seed for config in configs}
        rooms = groups.setdefault(str(key), [])
        room = next((room for room in rooms if not room[1] & seeds), None)
        if room is None:
            rooms.append(([training], seeds))
        else:
            room[0].append(training)
            room[1].update(seeds)
    joined = [members for rooms in groups.values() for members, _ in rooms]
    joined.sort(key=lambda members: trainings.index(members[0]))
    return [
        RunGroup(
            ", ".join(member.label for member in members),
            tuple(run for member in members for run in member.runs),
        )
        for members in joined
    ]


def _deciding(config):
    settings = flat_settings(config)
    return {key: settings[key] for key in settings if not is_neutral(key)}
