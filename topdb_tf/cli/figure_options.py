"""What the commands that draw share: where figures go, and of what they are."""

from pathlib import Path

import click

from topdb_tf.cli.output import data_overrides, show

PATH = click.Path(path_type=Path)


def output_options(command):
    """Adds the options of every figure."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print what is drawn."),
        click.option(
            "--column",
            is_flag=True,
            help="3.5 inches wide, for a column of a paper, instead of 7.2.",
        ),
        click.option(
            "--out",
            type=PATH,
            multiple=True,
            metavar="FILE",
            help="File .png, .svg or .pdf; may be repeated.  [default: "
            "RUN/figures/NAME.png]",
        ),
    ):
        command = option(command)
    return command


def data_options(command):
    """Adds the options of figures of test images."""
    for option in (
        click.option(
            "--best", is_flag=True, help="The epoch of the highest mAP, not the last."
        ),
        click.option("--data-root", type=PATH, help="Folder of data."),
        click.option("--dataset", help="Another data set than the run's own."),
    ):
        command = option(command)
    return command


def opened(run: Path | None, data_root: Path | None, output: dict, name: str) -> tuple:
    """Returns a run, its settings, and the files of a figure of it."""
    from topdb_tf.recipe.figure_files import figure_files
    from topdb_tf.recipe_files import read_config
    from topdb_tf.run_folder import open_run

    run = open_run(run)
    config = read_config(run.config, data_overrides(None, data_root))
    return run, config, figure_files(output["out"], run=run.path, name=name)


def width_of(output: dict) -> float:
    """Returns the width of a figure, in inches."""
    from topdb_tf.figures.style import COLUMN_WIDTH, PAGE_WIDTH

    return COLUMN_WIDTH if output["column"] else PAGE_WIDTH


def finish(drawn, facts: dict, files: list[Path], output: dict) -> None:
    """Writes a figure to its files, and shows them, or all facts about it."""
    from topdb_tf.recipe.figure_files import write_figure

    write_figure(drawn, files)
    result = {**facts, "files": [str(file) for file in files]}
    show(result, lambda result: result["files"], output["as_json"])
