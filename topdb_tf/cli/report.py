"""Commands that put runs on a page, or into a table."""

from pathlib import Path

import click
from click.core import ParameterSource

from topdb_tf.cli.options import (
    AS_JSON,
    IGNORE_CAMERAS,
    METRIC,
    PATH,
    RERANK,
    RUN,
    count_option,
    data_options,
    data_overrides,
    evaluation_overrides,
    features_in,
    options_of,
    say,
    show,
    show_record,
)

_OF_PAGES = (
    "out",
    "force",
    "dataset",
    "data_root",
    "best",
    "queries",
    "top",
    "no_images",
    "opens",
)
_page_options = options_of(
    data_options,
    click.option(
        "--rerank/--no-rerank",
        default=True,
        show_default=True,
        help="Rank by k-reciprocal re-ranked distances too.",
    ),
    count_option("--queries", default=60, help="Queries whose ranked lists are shown."),
    count_option("--top", default=10, help="Images of a ranked list."),
    click.option(
        "--no-images", is_flag=True, help="No pictures: scores and curves only."
    ),
    click.option("--open", "opens", is_flag=True, help="Show it in a browser."),
    AS_JSON,
)


@click.command()
@RUN
@click.option("--out", type=PATH, help="[default: report.html in RUN]")
@_page_options
def report(run, out, data_root, queries, top, no_images, opens, as_json, **measuring):
    """Writes all about RUN, or the newest run, on a page.

    Scores beside the paper's, curves, distances, cameras, ranked lists before and
    after re-ranking and what the network looks at. The page loads nothing. It holds
    pictures of the people in the data, unless --no-images.

    \b
    topdb-tf report
    topdb-tf report runs/market1501 --queries 200 --open
    topdb-tf report runs/market1501 --no-images --out market1501.html
    """
    from topdb_tf.report.page import Contents
    from topdb_tf.report.report import report_lines, write_report
    from topdb_tf.runs.folder import open_run

    run = open_run(run, data_overrides(None, data_root), say=say)
    contents = Contents(queries, top, images=not no_images)
    result = write_report(run, out or run.folder.report, contents, **measuring)
    _finish(result, report_lines, opens, as_json)


@click.command()
@click.argument("runs", nargs=-1, required=True, type=PATH, metavar="(RUN|FEATURES)...")
@click.option(
    "--out",
    type=PATH,
    default=Path("compare.html"),
    show_default=True,
    help="The page.",
)
@click.option("--force", is_flag=True, help="Replace the page if it exists.")
@METRIC
@IGNORE_CAMERAS
@_page_options
def compare(
    runs,
    out,
    metric,
    ignore_cameras,
    data_root,
    queries,
    top,
    no_images,
    opens,
    as_json,
    **measuring,
):
    """Compares RUNS with the first of them, as text and a page.

    Runs of the same settings from different seeds are one training: mean ± deviation.
    Where the data set is the same, queries are compared one by one, and those that
    differ most are shown with both ranked lists. Of FEATURES in files the differences
    are printed, with 95 % intervals over the test persons.

    \b
    topdb-tf compare runs/paper runs/no_drop
    topdb-tf compare runs/seeds-of-one runs/seeds-of-other --no-images --json
    topdb-tf compare ours.npz theirs.npz --metric cosine
    """
    if files := _features_alone(runs, *_OF_PAGES):
        from topdb_tf.evaluate.arrays import compare_files

        chosen = _scoring(metric, ignore_cameras, measuring["rerank"])
        show_record(compare_files(files, **chosen), as_json)
        return
    from topdb_tf.report.compare import compare_lines, write_comparison
    from topdb_tf.report.page import Contents

    contents = Contents(queries, top, images=not no_images)
    overrides = data_overrides(None, data_root)
    overrides += evaluation_overrides(metric, ignore_cameras)
    result = write_comparison(runs, out, contents, overrides=overrides, **measuring)
    _finish(result, compare_lines, opens, as_json)


@click.command()
@click.argument("runs", nargs=-1, type=PATH, metavar="[RUN|FEATURES]...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "csv", "latex"]),
    default="text",
    show_default=True,
    help="Of the tables; latex needs the package booktabs.",
)
@METRIC
@IGNORE_CAMERAS
@RERANK
@AS_JSON
def table(runs, form, metric, ignore_cameras, rerank, as_json):
    """Prints the paper's tables from RUNS and as published.

    RUNS are folders of runs, of seeds, or of folders of them; by default `runs`. Runs
    that differ in the seed and the data set alone make one row. What they score on
    other data sets than their own is a table of its own. FEATURES in files are
    scored, by --metric, --ignore-cameras and --rerank, and make a row each.

    \b
    topdb-tf table
    topdb-tf table runs/market1501 runs/cuhk03 --format latex
    topdb-tf table ours.npz theirs.npz --rerank
    """
    from topdb_tf.evaluate.table import paper_tables
    from topdb_tf.evaluate.table_formats import table_lines

    is_csv = form == "csv"
    if files := _features_alone(runs):
        from topdb_tf.evaluate.arrays import scores_of_files

        result = scores_of_files(files, **_scoring(metric, ignore_cameras, rerank))
        show(result, lambda table: table.lines(form), as_json, is_exact=is_csv)
        return
    if metric or ignore_cameras or rerank:
        raise click.UsageError(
            "--metric, --ignore-cameras and --rerank are for features in files; runs "
            "are shown as `topdb-tf evaluate` scored them."
        )
    result = paper_tables(runs or (Path("runs"),))
    if form == "csv" and not as_json:
        for note in result.notes:
            say(f"Note: {note}")
    show(result, lambda result: table_lines(result, form), as_json, is_exact=is_csv)


def _features_alone(places, *needless) -> tuple[Path, ...]:
    """Returns the files of features, if the places are such; none if they are runs."""
    files = features_in(places, *needless)
    if files and files != places:
        others = [str(place) for place in places if place not in files]
        raise click.UsageError(
            "Name either runs or files of features. A run keeps those of its test "
            f"images in features-DATASET.npz. Received: {files[0]} beside {others[0]}"
        )
    return files


def _scoring(metric, ignore_cameras, rerank):
    """Returns how features are scored; they are re-ranked where that is asked for."""
    context = click.get_current_context()
    is_default = context.get_parameter_source("rerank") == ParameterSource.DEFAULT
    chosen = {"metric": metric} if metric else {}
    rerank = rerank and not is_default
    return {**chosen, "ignore_cameras": ignore_cameras, "rerank": rerank}


def _finish(result, lines_of, opens, as_json):
    show(result, lines_of, as_json)
    if opens and click.launch(result.page.out.resolve().as_uri()):
        say("No browser could be opened.")
