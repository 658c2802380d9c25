"""What the commands share: lines and results, data options, names of new runs."""

import datetime
import json
import platform
from pathlib import Path

import click

from topdb_tf import __version__
from topdb_tf.config import Config
from topdb_tf.progress import Verbosity, verbosity

PROGRAM = "topdb-tf"


def say(line: str) -> None:
    """Shows a line to people, on standard error, unless the command is quiet."""
    if verbosity() > Verbosity.QUIET:
        click.echo(line, err=True)


def say_more(line: str) -> None:
    """Shows a line to people, on standard error, if the command is verbose."""
    if verbosity() > Verbosity.NORMAL:
        click.echo(line, err=True)


def say_settings(config: Config) -> None:
    """Shows all settings of a run if the command is verbose."""
    say_more(config.to_yaml().rstrip())


def show(result: dict, lines_of, as_json: bool) -> None:
    """Writes a result to standard output: JSON alone, or its lines for people."""
    text = json.dumps(result, indent=2) if as_json else "\n".join(lines_of(result))
    click.echo(text)


def data_overrides(dataset: str | None, data_root: Path | None) -> list[str]:
    """Returns the options `--dataset` and `--data-root` as overrides of a recipe.

    Paths are absolute, and quoted, as they may hold what YAML reads otherwise.
    """
    overrides = []
    if dataset:
        from topdb_tf.data.benchmarks import is_path
        from topdb_tf.data.sightings import absolute

        dataset = str(absolute(dataset)) if is_path(dataset) else dataset
        overrides.append(f"data.split={json.dumps(dataset)}")
    if data_root:
        overrides.append(f"data.root={json.dumps(str(data_root.resolve()))}")
    return overrides


def new_run_dir(name: str) -> Path:
    """Returns the folder of a new run, `runs/NAME-TIME`."""
    return Path("runs") / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def version_lines() -> list[str]:
    """Returns the versions of this program, and of what it stands on."""
    import importlib.metadata

    libraries = ("tensorflow", "keras", "keras-hub", "numpy", "numba")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in libraries]
    return [
        f"{PROGRAM} {__version__}",
        ", ".join([f"Python {platform.python_version()}", *versions]),
    ]
