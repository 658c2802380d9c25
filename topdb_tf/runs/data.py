"""The data set of a run: a benchmark by its name, or one's own images by their path."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from topdb_tf.data.benchmarks import data_root, dataset_name, is_path, read_split
from topdb_tf.data.own_images import read_sightings
from topdb_tf.data.records import Split
from topdb_tf.data.sightings import absolute
from topdb_tf.data.table import table_text
from topdb_tf.files import write_whole
from topdb_tf.progress import progress_bar
from topdb_tf.runs.folder import RunFolder
from topdb_tf.runs.recipes import read_config
from topdb_tf.runs.settings import Config

Say = Callable[[str], None]


def read_data(
    dataset: str,
    config: Config,
    *,
    run: RunFolder | None = None,
    say: Say | None = None,
) -> Split:
    """Returns the records of a data set.

    Images of one's own are divided by `data.test_share` and `data.division_seed` where
    no split is given. A run that was trained on them has its division in `split.csv`,
    and that is read, whatever its folder holds by now.

    Args:
        dataset: A benchmark below the data root of the settings, else a file or folder.
        config: Settings of the data and the evaluation.
        run: Folder of the run whose model is used, if there is one.
        say: Function that shows a line to the user. Defaults to silence.

    Raises:
        FileNotFoundError: If the data set, or some of its images, are missing.
        ValueError: If it cannot be used.
    """
    say = say or _silent
    if run is not None and run.split.is_file() and is_own(dataset, run):
        return _divided_before(run, say)
    root = data_root(Path(config.data.root) if config.data.root else None)
    name = dataset_name(dataset)
    with progress_bar(f"looking at {name}") as progress:
        split = read_split(
            dataset,
            root,
            check_counts=config.data.check_counts,
            progress=progress,
            test_share=config.data.test_share,
            division_seed=config.data.division_seed,
            ignore_cameras=config.evaluation.ignore_cameras,
        )
    for note in split.notes:
        say(f"{name}: {note}")
    return split


def located(config: Config) -> Config:
    """Returns settings that name one's own images by an absolute path."""
    if not is_path(config.data.dataset):
        return config
    path = str(absolute(config.data.dataset))
    return replace(config, data=replace(config.data, dataset=path))


def is_own(dataset: str | None, run: RunFolder) -> bool:
    """Returns whether a data set is the one that a run was trained on."""
    own = read_config(run.config).data.dataset
    if dataset is None or dataset == own:
        return True
    if not is_path(dataset):
        return False
    return absolute(dataset) in (absolute(own), absolute(run.split))


def facts_of_data(dataset: str, trained_on: str | None) -> dict:
    """Returns what scores tell of the data, by name.

    Returns:
        `dataset`, the short name of what was tested on; `dataset_path` where that is
        one's own; and `trained_on`, the short name of what the model was trained on,
        `None` where nobody knows.
    """
    facts = {"dataset": dataset_name(dataset)}
    if is_path(dataset):
        facts["dataset_path"] = str(absolute(dataset))
    return {**facts, "trained_on": trained_on and dataset_name(trained_on)}


def write_division(run: RunFolder, config: Config, split: Split) -> None:
    """Writes which of one's own images a run trains on, and which are for its test."""
    if is_path(config.data.dataset):
        write_whole(run.split, table_text(split))


def warn_of_trained_images(run: RunFolder, split: Split, say: Say) -> None:
    """Says if test images of another data set are among those a run was trained on."""
    if not run.split.is_file():
        return
    trained = {record.path for record in read_split(run.split, Path()).train}
    tested = {record.path for record in split.query + split.gallery}
    if trained & tested:
        say(
            f"warning: {len(trained & tested):,} of the {len(tested):,} test images "
            f"were trained on ({run.split}), so the scores are not of unseen persons"
        )


def _divided_before(run, say):
    source = read_config(run.config).data.dataset
    name = dataset_name(source)
    try:
        split = read_split(run.split, Path())
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"A run keeps to the images that it began with. {error} Bring them back, "
            "or name another data set with --dataset."
        ) from error
    known = {record.path for record in split.train + split.query + split.gallery}
    try:
        now = {one.path for one in read_sightings(absolute(source))[0]}
    except (FileNotFoundError, ValueError):
        say(f"{name}: {source} cannot be read any more; as divided in {run.split}.")
    else:
        if now - known:
            say(
                f"{name}: {len(now - known):,} images that are new in {source} are not "
                f"used; as divided in {run.split}."
            )
    return replace(split, name=name)


def _silent(line):
    """Shows nothing."""
