"""Commands that put runs on a page."""

from pathlib import Path

import click

from topdb_tf.cli.options import data_overrides, say, show
from topdb_tf.runs.recipes import read_config


def _page_options(command):
    """Adds the options that pages of one run and of several share."""
    for option in reversed(
        (
            click.option("--dataset", help="Another data set than the run's own."),
            click.option(
                "--data-root", type=click.Path(path_type=Path), help="Folder of data."
            ),
            click.option(
                "--best",
                is_flag=True,
                help="The epoch of the highest mAP, not the last.",
            ),
            click.option(
                "--rerank/--no-rerank",
                default=True,
                show_default=True,
                help="Rank by k-reciprocal re-ranked distances too.",
            ),
            click.option(
                "--queries",
                type=click.IntRange(min=1),
                default=60,
                show_default=True,
                help="Queries whose ranked lists are shown.",
            ),
            click.option(
                "--top",
                type=click.IntRange(min=1),
                default=10,
                show_default=True,
                help="Images of a ranked list.",
            ),
            click.option(
                "--no-images", is_flag=True, help="No pictures: scores and curves only."
            ),
            click.option("--open", "opens", is_flag=True, help="Show it in a browser."),
            click.option("--json", "as_json", is_flag=True, help="Print JSON alone."),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="[default: report.html in RUN]"
)
@_page_options
def report(run, out, data_root, queries, top, no_images, opens, as_json, **options):
    """Writes all about RUN, or the newest run, into one page of HTML.

    Scores beside the paper's, curves, distances, cameras, ranked lists before and
    after re-ranking and what the network looks at. The page loads nothing. It holds
    pictures of the people in the data, unless --no-images.

    \b
    topdb-tf report
    topdb-tf report runs/market1501 --queries 200 --open
    topdb-tf report runs/market1501 --no-images --out market1501.html
    """
    from topdb_tf.report import report as recipe
    from topdb_tf.runs.folder import open_run

    run = open_run(run)
    config = read_config(run.config, data_overrides(None, data_root), say=say)
    contents = recipe.Contents(queries=queries, top=top, images=not no_images)
    out = out or run.report
    result = recipe.write_report(run, config, out, contents, **options)
    _finish(result, recipe.report_lines, opens, as_json)


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("compare.html"),
    show_default=True,
    help="The page.",
)
@_page_options
def compare(runs, out, data_root, queries, top, no_images, opens, as_json, **options):
    """Compares RUNS, the first with each of the others, in text and as one page.

    Runs of the same settings from different seeds are one training: mean ± deviation.
    Where the data set is the same, queries are compared one by one, and those that
    differ most are shown with both ranked lists.

    \b
    topdb-tf compare runs/paper runs/no_drop
    topdb-tf compare runs/seeds-of-one runs/seeds-of-other --no-images --json
    """
    from topdb_tf.report import compare as recipe

    contents = recipe.Contents(queries=queries, top=top, images=not no_images)
    options["overrides"] = data_overrides(None, data_root)
    result = recipe.write_comparison(runs, out, contents, **options)
    _finish(result, recipe.compare_lines, opens, as_json)


def _finish(result, lines_of, opens, as_json):
    show(result, lines_of, as_json)
    if opens and click.launch(Path(result["out"]).resolve().as_uri()):
        say("No browser could be opened.")
