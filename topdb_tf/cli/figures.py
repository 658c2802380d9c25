"""Commands that draw figures made of images."""

from pathlib import Path

import click

from topdb_tf.cli.options import (
    PATH,
    data_options,
    finish,
    opened,
    output_options,
    say,
    width_of,
)

_MAP = click.option(
    "--map",
    "name",
    type=click.Choice(["backbone", "bottlenecks"]),
    default="backbone",
    show_default=True,
    help="Map whose activation is drawn: F or G in the paper.",
)


@click.group()
def figure():
    """Draws figures of a run: what the network looks at, and what it finds."""


def _image_options(command):
    """Adds the options of figures of images that are named or drawn."""
    for option in (
        click.option("--seed", default=1, show_default=True, help="Of what is drawn."),
        click.option(
            "--num",
            type=click.IntRange(min=1),
            default=4,
            show_default=True,
            help="Persons whose query is drawn, where no image is named.",
        ),
        click.argument("places", nargs=-1, type=PATH, metavar="[RUN] [IMAGES]..."),
    ):
        command = option(command)
    return command


@figure.command()
@_image_options
@_MAP
@click.option(
    "--beside",
    type=PATH,
    multiple=True,
    metavar="RUN",
    help="Another run, drawn beside it on the same images; may be repeated.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="Share of the heat that pixels must reach to be kept.",
)
@data_options
@output_options
def activations(
    places, num, seed, name, beside, threshold, dataset, data_root, best, **output
):
    """Draws where the model of RUN, or of the newest run, looks in images.

    Each image, the activation over it (eq. 1 of the paper) and the part that passes
    the threshold. IMAGES are files or folders, by default queries of the run.

    \b
    topdb-tf figure activations
    topdb-tf figure activations runs/paper --beside runs/no_drop --out looks.pdf
    topdb-tf figure activations runs/paper photos --threshold 0.35
    """
    from topdb_tf.figures.look import activations as recipe

    run, config, files, shown = _opened_images(
        places, data_root, output, "activations", dataset=dataset, num=num, seed=seed
    )
    options = {"beside": beside, "best": best, "name": name, "threshold": threshold}
    drawn, facts = recipe(run, config, shown, width=width_of(output), **options)
    finish(drawn, facts, files, output)


@figure.command()
@_image_options
@data_options
@output_options
def masks(places, num, seed, dataset, data_root, best, **output):
    """Draws the rows that Top DropBlock takes in RUN's training, by its model.

    Beside them the activity that the rows are ranked by, and a random block, as
    BatchDropBlock draws one for all images of a batch.

    \b
    topdb-tf figure masks
    topdb-tf figure masks runs/paper --num 6 --out masks.svg --column
    topdb-tf figure masks runs/paper photos/a.jpg photos/b.jpg
    """
    from topdb_tf.figures.masks import masks as recipe

    run, config, files, shown = _opened_images(
        places, data_root, output, "masks", dataset=dataset, num=num, seed=seed
    )
    options = {"best": best, "seed": seed, "width": width_of(output)}
    drawn, facts = recipe(run, config, shown, **options)
    finish(drawn, facts, files, output)


@figure.command()
@_image_options
@_MAP
@click.option(
    "--epoch",
    "chosen",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="N",
    help="An epoch; may be repeated.  [default: up to six of those kept]",
)
@click.option("--data-root", type=PATH, help="Folder of data.")
@output_options
def epochs(places, num, seed, name, chosen, data_root, **output):
    """Draws where RUN's network looked after several epochs of its training.

    A run keeps the checkpoints of its newest two epochs and of the best unless
    `train.keep_checkpoints` says more. IMAGES are as in `figure activations`.

    \b
    topdb-tf figure epochs
    topdb-tf figure epochs runs/paper --epoch 1 --epoch 50 --epoch 400 --num 3
    """
    from topdb_tf.figures import epochs as epoch_figure

    run, config, files, shown = _opened_images(
        places, data_root, output, "epochs", num=num, seed=seed, check=_has_epochs
    )
    options = {"chosen": chosen, "name": name, "width": width_of(output)}
    finish(*epoch_figure.epochs(run, config, shown, **options), files, output)


@figure.command()
@click.argument("run", required=False, type=PATH)
@click.option("--lowest", metavar="N", type=click.IntRange(min=0), help="Lowest AP.")
@click.option("--highest", metavar="N", type=click.IntRange(min=0), help="Highest AP.")
@click.option(
    "--wrong",
    metavar="N",
    type=click.IntRange(min=0),
    help="Drawn from those whose first image is wrong.",
)
@click.option(
    "--pid",
    "pids",
    type=int,
    multiple=True,
    help="All queries of this person; may be repeated.",
)
@click.option("--rerank", is_flag=True, help="Add the re-ranked list below each.")
@click.option(
    "--top",
    metavar="K",
    type=click.IntRange(1, 50),
    default=10,
    show_default=True,
    help="Images of a list.",
)
@click.option(
    "--junk",
    "with_junk",
    is_flag=True,
    help="Show images of the query's person and camera too, which are not ranked.",
)
@click.option("--seed", default=1, show_default=True, help="Of what is drawn.")
@data_options
@output_options
def rankings(run, lowest, highest, wrong, pids, seed, data_root, **options):
    """Draws queries of RUN, or of the newest run, and what its model finds for them.

    By default the two queries of the lowest average precision and the two of the
    highest. All test images are embedded first.

    \b
    topdb-tf figure rankings
    topdb-tf figure rankings runs/market1501 --wrong 5 --rerank --out wrong.pdf
    topdb-tf figure rankings runs/market1501 --pid 12 --pid 40 --top 5 --column
    """
    from topdb_tf.figures import rankings as recipe

    output = {name: options.pop(name) for name in ("out", "column", "as_json")}
    run, config, files = opened(run, data_root, output, "rankings")
    if lowest is highest is wrong is None and not pids:
        lowest = highest = 2
    choice = recipe.QueryChoice(lowest or 0, highest or 0, wrong or 0, pids, seed)
    options |= {"width": width_of(output), "say": say}
    finish(*recipe.rankings(run, config, choice, **options), files, output)


def _has_epochs(run):
    from topdb_tf.figures.epochs import kept_epochs

    kept_epochs(run)


def _opened_images(
    places: tuple[Path, ...], data_root, output, name, *, check=None, **options
):
    """Returns a run, its settings, the files of a figure, and the images it shows."""
    from topdb_tf.figures.images import run_and_images, shown_images

    run, images = run_and_images(places)
    run, config, files = opened(run, data_root, output, name)
    if check is not None:
        check(run)
    return run, config, files, shown_images(run, config, images, say=say, **options)
