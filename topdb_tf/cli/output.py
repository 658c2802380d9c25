"""What the commands share: lines and results, data options, names of new runs."""

import datetime
import json
from pathlib import Path

import click


def say(line: str) -> None:
    """Shows a line to people, on standard error."""
    click.echo(line, err=True)


def show(result: dict, lines_of, as_json: bool) -> None:
    """Writes a result to standard output: JSON alone, or its lines for people."""
    text = json.dumps(result, indent=2) if as_json else "\n".join(lines_of(result))
    click.echo(text)


def data_overrides(dataset: str | None, data_root: Path | None) -> list[str]:
    """Returns the options `--dataset` and `--data-root` as overrides of a recipe."""
    overrides = [f"data.split={dataset}"] if dataset else []
    return overrides + ([f"data.root={data_root.resolve()}"] if data_root else [])


def new_run_dir(name: str) -> Path:
    """Returns the folder of a new run, `runs/NAME-TIME`."""
    return Path("runs") / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
