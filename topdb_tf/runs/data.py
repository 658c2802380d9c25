"""The data set of a run: a benchmark by its name, or one's own images by their path."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from topdb_tf.data.benchmarks import (
    absolute_name,
    check_name,
    data_root,
    dataset_name,
    is_path,
    joined_names,
    read_split,
)
from topdb_tf.data.joint.joining import joined, with_parts
from topdb_tf.data.own_images import check_no_layout, read_sightings
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
    folder, or several joined by `+`; the run is the one whose model is used, if there
    is one. For the validation, query and gallery are those that the run holds out.
    """
    whole = _whole(dataset, config, run, say)
    is_divided = [run is None or _own_name(n, run) for n in joined_names(dataset)]
    split, held_out = _divided(whole, config if run is None else run.saved, is_divided)
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


def _divided(split, config, is_own=None):
    """Returns a data set without those held out, and these, or `None` of others' data.

    Of several each is divided by itself, if it is one's own.
    """
    is_own = is_own or [True] * len(split.data_sets)
    if not config.data.validation_share:
        return split, None
    pairs = [
        hold_out(
            part,
            config.data.validation_share,
            division_seed=config.data.division_seed,
            ignore_cameras=config.evaluation.ignore_cameras,
        )
        if mine
        else (part, None)
        for part, mine in zip(split.data_sets, is_own, strict=True)
    ]
    if not split.parts:
        return pairs[0]
    without, held_out = zip(*pairs, strict=True)
    is_whole = None not in held_out
    return with_parts(split, without), with_parts(split, held_out) if is_whole else None


def _whole(dataset, config, run, say):
    """Returns a data set before any of it is held out, or several as one."""
    check_name(dataset)
    names = joined_names(dataset)
    if not any(_is_folder(name) for name in names):
        check_no_layout(dataset, config.data.layout, config.data.pattern)
    trained_on = run.saved.data.dataset if run else dataset
    is_joint = len(names) > 1 or len(joined_names(trained_on)) > 1
    splits = [_one_whole(name, is_joint, config, run, say) for name in names]
    return joined(dataset_name(dataset), splits) if len(splits) > 1 else splits[0]


def _is_folder(name):
    return is_path(name) and absolute(name).is_dir()


def _one_whole(dataset, is_joint, config, run, say):
    layout, pattern = config.data.layout, config.data.pattern
    own = None if run is None else _own_name(dataset, run)
    if own is not None:
        saved = run.saved.data
        if layout not in (AUTO, saved.layout) or pattern not in (None, saved.pattern):
            raise ValueError(
                "A run keeps to how it read its own images. Leave out --layout and "
                "--pattern, or name another data set. Received: "
                f"layout={layout!r}, pattern={pattern!r}"
            )
        if division_file(run.folder, own, saved.dataset).is_file():
            return _divided_before(own, run, say)
        layout, pattern = saved.layout, saved.pattern
    if is_joint and not _is_folder(dataset):
        layout, pattern = AUTO, None
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
    path = absolute_name(config.data.dataset)
    return replace(config, data=replace(config.data, dataset=path))


def is_own(dataset: str | None, run: Run) -> bool:
    """Returns whether a data set is the one that a run was trained on, all of it."""
    trained_on = run.saved.data.dataset
    if dataset is None or dataset == trained_on:
        return True
    names = joined_names(dataset)
    own = [_own_name(name, run) for name in names] if is_path(dataset) else []
    return tuple(own) == joined_names(trained_on)


def _own_name(dataset, run):
    """Returns which of the data sets that a run was trained on it is, or `None`.

    It can be named by the file of its division, too.
    """
    trained_on = run.saved.data.dataset
    for name in joined_names(trained_on):
        if dataset == name:
            return name
        division = division_file(run.folder, name, trained_on)
        if is_path(dataset) and absolute(dataset) in (absolute(name), division):
            return name
    return None


def division_file(folder: RunFolder, dataset: str, trained_on: str) -> Path:
    """Returns the file of how a data set was divided that a run was trained on.

    Each of several has a file of its own.
    """
    if len(joined_names(trained_on)) == 1:
        return absolute(folder.split)
    name = f"split-{dataset_name(dataset)}.csv"
    return absolute(folder.split.with_name(name))


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
    path = absolute_name(dataset) if is_path(dataset) else None
    return DataOrigin(
        dataset_name(dataset), path, trained_on and dataset_name(trained_on)
    )


def write_division(
    folder: RunFolder, config: Config, split: Split, validation: Split | None = None
) -> None:
    """Writes which of one's own images a run trains on, and which are for its tests."""
    trained_on = config.data.dataset
    names = joined_names(trained_on)
    held_out = validation.data_sets if validation else [None] * len(names)
    for name, part, held in zip(names, split.data_sets, held_out, strict=True):
        if is_path(name):
            file = division_file(folder, name, trained_on)
            write_whole(file, table_text(part, held))


def warn_of_trained_images(run: Run, split: Split, say: Say) -> None:
    """Says if test images of another data set are among those a run was trained on."""
    tested = {record.path for record in split.query + split.gallery}
    trained_on = run.saved.data.dataset
    for name in joined_names(trained_on):
        division = division_file(run.folder, name, trained_on)
        if not division.is_file():
            continue
        own, _ = _divided(_read_division(division, name), run.saved)
        trained = {record.path for record in own.train}
        if trained & tested:
            say(
                f"warning: {len(trained & tested):,} of the {len(tested):,} test "
                f"images were trained on ({division}), so the scores are not of unseen "
                "persons"
            )


def _read_division(division, dataset):
    """Returns the images that a run began with, as they were divided then."""
    try:
        split = read_split(division, Path())
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"A run keeps to the images that it began with. {error} Bring them back, "
            "or name another data set with --dataset."
        ) from error
    return replace(split, name=dataset_name(dataset))


def _divided_before(source, run, say):
    saved = run.saved.data
    division = division_file(run.folder, source, saved.dataset)
    split = _read_division(division, source)
    name, layout, pattern = split.name, saved.layout, saved.pattern
    if len(joined_names(saved.dataset)) > 1 and not _is_folder(source):
        layout, pattern = AUTO, None  # they are of folders
    known = {record.path for record in split.train + split.query + split.gallery}
    try:
        sightings, _ = read_sightings(absolute(source), layout=layout, pattern=pattern)
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
