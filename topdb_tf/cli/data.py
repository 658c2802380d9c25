"""Commands that look at data sets before anything is trained on them."""

import os

import click

from topdb_tf.cli.options import (
    AS_JSON,
    DATA_ROOT,
    IGNORE_CAMERAS,
    LAYOUT,
    PATH,
    SHARE,
    NamesOption,
    chosen_reading,
    count_option,
    show,
)
from topdb_tf.texts import one_line, printable

_COLOURS = {"error:": "red", "warning:": "yellow", "note:": "blue"}


@click.group()
def data():
    """Checks data sets, and unpacks those of the public benchmarks."""


@data.command()
@click.argument("dataset")
@LAYOUT
@DATA_ROOT
@click.option("--quick", is_flag=True, help="Look at names and counts; open no image.")
@click.option("--strict", is_flag=True, help="End with status 1 for warnings too.")
@count_option(
    "--images-per-pid",
    default=4,
    help="Images of an identity in a batch of the training.",
)
@count_option("--batch-size", default=64, help="Images in a batch of the training.")
@click.option("--test-share", type=SHARE, help="As data.test_share of `fit`.")
@count_option("--division-seed", least=0, help="As data.division_seed of `fit`.")
@IGNORE_CAMERAS
@click.option(
    "--montage",
    type=PATH,
    metavar="FILE",
    help="Draw identities and findings into FILE, .png, .svg or .pdf.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all files.")
@click.pass_context
def check(ctx, dataset, data_root, strict, as_json, **options):
    """Looks DATASET over: a benchmark's name, a folder or a CSV file.

    Counts, names, cameras, damaged images, copies and near copies where they spoil a
    training or a score. Every finding says what to do. Nothing is changed.

    Ends with status 0 if the data set can be used, though there may be warnings; 1 if
    there are errors (with --strict: or warnings); 2 if it could not be looked at.

    \b
    topdb-tf data check market1501
    topdb-tf data check photos/people --montage people.png
    topdb-tf data check people.csv --quick --strict --json
    """
    from topdb_tf.data.checks.check import check_data
    from topdb_tf.runs.machine import load_tensorflow

    division = {name: options.pop(name) for name in ("test_share", "division_seed")}
    options |= {name: value for name, value in division.items() if value is not None}
    options |= dict(chosen_reading())
    try:
        result = check_data(dataset, data_root, **options, load_decoder=load_tensorflow)
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(one_line(error)) from error
    show(result, lambda result: _coloured(result.lines()), as_json, is_exact=True)
    ctx.exit(result.exit_status(strict=strict))


def _coloured(lines):
    """Returns lines whose first word is in colour; `click.echo` drops it in files."""
    is_plain = bool(os.environ.get("NO_COLOR"))
    for line in lines:
        word, space, rest = printable(line).partition(" ")
        if word in _COLOURS and not is_plain:
            word = click.style(word, fg=_COLOURS[word], bold=True)
        yield f"{word}{space}{rest}"


def _archive_names():
    from topdb_tf.data.archives.prepare import archive_kinds

    return [kind.name for kind in archive_kinds()]


@data.command()
@click.argument("archive", type=PATH)
@click.option(
    "--dataset",
    cls=NamesOption,
    names=_archive_names,
    help="What it holds: {names}.  [default: as its members tell]",
)
@DATA_ROOT
@AS_JSON
@click.pass_context
def prepare(ctx, archive, dataset, data_root, as_json):
    """Unpacks ARCHIVE of a public data set, and counts its images.

    zip, tar, tar.gz, tar.bz2 and tar.xz. Nothing is downloaded or overwritten. An
    archive that is damaged, or leads out of its folder, is refused and leaves nothing.

    Ends with status 0 if the data set is complete, 1 if it was unpacked but is not as
    its card says, 2 if it was not unpacked.

    \b
    topdb-tf data prepare Market-1501-v15.09.15.zip
    topdb-tf data prepare MSMT17_V1.tar.gz --data-root /data
    """
    from topdb_tf.data.archives.prepare import prepare

    try:
        result = prepare(archive, data_root, dataset=dataset)
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        raise click.UsageError(one_line(error)) from error
    show(result, lambda result: _coloured(result.lines()), as_json, is_exact=True)
    ctx.exit(0 if result.is_complete else 1)
