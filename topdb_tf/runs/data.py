"""The data set of a run: a benchmark by its name, or one's own images by their path."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from topdb_tf.data.benchmarks import data_root, dataset_name, is_path, read_split
from topdb_tf.data.own_images import read_sightings
from topdb_tf.data.partition import hold_out
from topdb_tf.data.records import Split
from topdb_tf.data.sightings import absolute
from topdb_tf.data.table import table_text
from topdb_tf.data.trees.levels import AUTO
from topdb_tf.files import write_whole
from topdb_tf.json_files import record_of
from topdb_tf.progress import progress_bar
from topdb_tf.runs.folder import Run, RunFolder
from topdb_tf.runs.settings import Config
from topdb_tf.texts import Say, means_unknown, silent


def read_data(
    dataset: str,
    config: Config,
    *,
    run: Run | None = None,
    validation: bool = False,
    say: Say = silent,
) -> Split:
    """Returns the records of a data set.

    Where identities of the training are held out (`data.validation_share`), they are
    no part of it.

    Images of one's own are divided by `data.test_share` and `data.division_seed` where
    no division is given. A run that was trained on them has its division in
    `split.csv`, and that is read, whatever its folder holds by now.

    The data set is a benchmark below the data root of the settings, else a file or
    folder; the run is the one whose model is used, if there is one. For the validation,
    query and gallery are those that the run holds out.
    """
    split, held_out = _whole(dataset, config, run, say), None
    if run is None or is_own(dataset, run):
        split, held_out = _divided(split, config if run is None else run.saved)
    if validation and held_out is None:
        raise ValueError(
            "Identities are held out of the data set of a run, by its setting "
            f"`data.validation_share`. Received: data set {dataset}, "
            f"data.validation_share={config.data.validation_share:g}"
        )
    return held_out if validation else split


def read_divided(
    config: Config, *, run: Run | None = None, say: Say = silent
) -> tuple[Split, Split | None]:
    """Returns the data set of a training, and what it holds out to validate on.

    The run is the one that is gone on with, if one is.
    """
    return _divided(_whole(config.data.dataset, config, run, say), config)


def _divided(split, config):
    if not config.data.validation_share:
        return split, None
    return hold_out(
        split,
        config.data.validation_share,
        division_seed=config.data.division_seed,
        ignore_cameras=config.evaluation.ignore_cameras,
    )


def _whole(dataset, config, run, say):
    layout, pattern = config.data.layout, config.data.pattern
    if run is not None and is_own(dataset, run):
        saved = run.saved.data
        if layout not in (AUTO, saved.layout) or pattern not in (None, saved.pattern):
            raise ValueError(
                "A run keeps to how it read its own images. Leave out --layout and "
                "--pattern, or name another data set. Received: "
                f"layout={layout!r}, pattern={pattern!r}"
            )
        if run.folder.split.is_file():
            return _divided_before(run, say)
        layout, pattern = saved.layout, saved.pattern
    root = data_root(Path(config.data.root) if config.data.root else None)
    name = dataset_name(dataset)
    with progress_bar(f"looking at {name}") as progress:
        split = read_split(
            dataset,
            root,
            check_counts=config.data.check_counts,
            progress=progress,
            layout=layout,
            pattern=pattern,
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


def is_own(dataset: str | None, run: Run) -> bool:
    """Returns whether a data set is the one that a run was trained on."""
    trained_on = run.saved.data.dataset
    if dataset is None or dataset == trained_on:
        return True
    if not is_path(dataset):
        return False
    return absolute(dataset) in (absolute(trained_on), absolute(run.folder.split))


@dataclass(frozen=True)
class DataOrigin:
    """Short names of the data sets that a model was tested and trained on.

    The path is the absolute one of a data set of one's own. Nobody may know what the
    model was trained on.
    """

    dataset: str
    path: str | None = None
    trained_on: str | None = None

    def to_dict(self) -> dict:
        """Returns what JSON files hold of it."""
        path = {"dataset_path": self.path} if self.path else {}
        return {"dataset": self.dataset, **path, "trained_on": self.trained_on}

    @classmethod
    def from_dict(cls, record: Mapping) -> "DataOrigin":
        """Returns the origin in a record that `to_dict` is a part of."""
        keys = "dataset", "dataset_path", "trained_on"
        return cls(*(record_of(str | None, record.get(key), key) for key in keys))


def origin_of(dataset: str, trained_on: str | None) -> DataOrigin:
    """Returns the short names of two data sets, as they were named by the user."""
    path = str(absolute(dataset)) if is_path(dataset) else None
    return DataOrigin(
        dataset_name(dataset), path, trained_on and dataset_name(trained_on)
    )


def write_division(
    folder: RunFolder, config: Config, split: Split, validation: Split | None = None
) -> None:
    """Writes which of one's own images a run trains on, and which are for its tests."""
    if is_path(config.data.dataset):
        write_whole(folder.split, table_text(split, validation))


def warn_of_trained_images(run: Run, split: Split, say: Say) -> None:
    """Says if test images of another data set are among those a run was trained on."""
    division = run.folder.split
    if not division.is_file():
        return
    own, _ = _divided(_read_division(run), run.saved)
    trained = {record.path for record in own.train}
    tested = {record.path for record in split.query + split.gallery}
    if trained & tested:
        say(
            f"warning: {len(trained & tested):,} of the {len(tested):,} test images "
            f"were trained on ({division}), so the scores are not of unseen persons"
        )


def _read_division(run):
    """Returns the images that a run began with, as they were divided then."""
    try:
        split = read_split(run.folder.split, Path())
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"A run keeps to the images that it began with. {error} Bring them back, "
            "or name another data set with --dataset."
        ) from error
    return replace(split, name=dataset_name(run.saved.data.dataset))


def _divided_before(run, say):
    division, saved, split = run.folder.split, run.saved.data, _read_division(run)
    source, name = saved.dataset, split.name
    known = {record.path for record in split.train + split.query + split.gallery}
    try:
        sightings, _ = read_sightings(
            absolute(source), layout=saved.layout, pattern=saved.pattern
        )
        now = {one.path for one in sightings if not means_unknown(one.person)}
    except (FileNotFoundError, ValueError):
        say(f"{name}: {source} cannot be read any more; as divided in {division}.")
    else:
        if now - known:
            say(
                f"{name}: {len(now - known):,} images that are new in {source} are not "
                f"used; as divided in {division}."
            )
    return split
