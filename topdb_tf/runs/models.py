"""From the name of a model to what is loaded: a file, a preset, or that of a run."""

from pathlib import Path

from topdb_tf.damage import check_model_file
from topdb_tf.model.preset_files import (
    WEIGHTS,
    check_preset,
    hub_address,
    is_demo,
    preset_folder,
    read_record,
)
from topdb_tf.runs.folder import RunFolder, open_run


def find_model(name: Path | str | None) -> Path | None:
    """Returns what `topdb_tf.load_embedder` takes of a model by its name.

    It is a file, or the folder of a preset, which is fetched if the name is an address;
    `None` if the name is of something else.
    """
    if name is None or Path(name).is_file():
        return name
    run = RunFolder(Path(name))
    return run.embedder if run.holds_run else preset_folder(name)


def run_of(name: Path | str | None) -> RunFolder | None:
    """Returns the folder of the run that a model is of, if there is one."""
    model = find_model(name)
    folder = None if model is None else RunFolder(model.parent)
    return folder if folder and not model.is_dir() and folder.holds_run else None


def check_model(model: Path) -> None:
    """Checks, before TensorFlow is loaded, what `find_model` gave."""
    check_preset(model) if model.is_dir() else check_model_file(model)


def is_named(name: Path | str) -> bool:
    """Returns whether a model is no path: "demo", or an address."""
    return hub_address(name) is not None or (
        is_demo(name) and not Path(name).is_absolute()
    )


def model_name(name: Path | str) -> str:
    """Returns the name of a model by which it is found from any folder."""
    return hub_address(name) or str(name if is_named(name) else Path(name).resolve())


def weights_of(model: Path) -> Path:
    """Returns the file that tells what `find_model` gave from another model."""
    return model / WEIGHTS if model.is_dir() else model


def metric_of(model: Path | None) -> str:
    """Returns the metric of the run that a model is of, or squared Euclidean."""
    if model is not None and model.is_dir():
        return read_record(model).metric
    run = run_of(model)
    return open_run(run.path).config.evaluation.metric if run else "sqeuclidean"
