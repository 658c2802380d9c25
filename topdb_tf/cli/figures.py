"""Commands that draw figures of a run: what it learned, finds and looks at."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click

from topdb_tf.cli.options import (
    DATA_ROOT,
    PATH,
    RUN,
    SHARE,
    count_option,
    data_options,
    data_overrides,
    options_of,
    output_options,
    say,
    seed_option,
    show,
)
from topdb_tf.files import plain, whole_file


@click.group()
def figure():
    """Draws figures of a run: what the network looks at, and what it finds."""


_RUNS = click.argument("runs", nargs=-1, type=PATH)
_SEED = seed_option("Of what is drawn.")
_IMAGES = options_of(
    click.argument("places", nargs=-1, type=PATH, metavar="[RUN] [IMAGES]..."),
    count_option(
        "--num",
        default=4,
        help="Persons whose query is drawn, where no image is named.",
    ),
    _SEED,
)
_MAP = click.option(
    "--map",
    "map_name",
    type=click.Choice(["backbone", "bottlenecks"]),
    default="backbone",
    show_default=True,
    help="Map whose activation is drawn: F or G in the paper.",
)


@figure.command()
@_IMAGES
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
    type=SHARE,
    default=0.5,
    show_default=True,
    help="Share of the heat that pixels must reach to be kept.",
)
@data_options
@output_options
def activations(places, **options):
    """Draws where the model of RUN, or of the newest run, looks in images.

    Each image, the activation over it (eq. 1 of the paper) and the part that passes
    the threshold. IMAGES are files or folders, by default queries of the run.

    \b
    topdb-tf figure activations
    topdb-tf figure activations runs/paper --beside runs/no_drop --out looks.pdf
    topdb-tf figure activations runs/paper photos --threshold 0.35
    """
    from topdb_tf.figures.look import activations

    _draw_images(activations, places, name="activations", **options)


@figure.command()
@_IMAGES
@data_options
@output_options
def masks(places, **options):
    """Draws the rows that Top DropBlock takes in RUN's training, by its model.

    Beside them the activity that the rows are ranked by, and a random block, as
    BatchDropBlock draws one for all images of a batch.

    \b
    topdb-tf figure masks
    topdb-tf figure masks runs/paper --num 6 --out masks.svg --column
    topdb-tf figure masks runs/paper photos/a.jpg photos/b.jpg
    """
    from topdb_tf.figures.masks import masks

    _draw_images(masks, places, name="masks", **options)


@figure.command()
@_IMAGES
@_MAP
@count_option(
    "--epoch",
    "only",
    multiple=True,
    metavar="N",
    help="An epoch; may be repeated.  [default: up to six of those kept]",
)
@DATA_ROOT
@output_options
def epochs(places, **options):
    """Draws where RUN's network looked after several epochs of its training.

    A run keeps the checkpoints of its newest two epochs and of the best unless
    `train.keep_checkpoints` says more. IMAGES are as in `figure activations`.

    \b
    topdb-tf figure epochs
    topdb-tf figure epochs runs/paper --epoch 1 --epoch 50 --epoch 400 --num 3
    """
    from topdb_tf.figures.epochs import epochs

    _draw_images(epochs, places, name="epochs", **options)


@figure.command()
@RUN
@count_option("--lowest", metavar="N", least=0, help="Lowest AP.")
@count_option("--highest", metavar="N", least=0, help="Highest AP.")
@count_option(
    "--wrong", metavar="N", least=0, help="Drawn from those whose first image is wrong."
)
@click.option(
    "--pid",
    "pids",
    type=int,
    multiple=True,
    help="All queries of this person; may be repeated.",
)
@click.option("--rerank", is_flag=True, help="Add the re-ranked list below each.")
@count_option("--top", metavar="K", most=50, default=10, help="Images of a list.")
@click.option(
    "--junk",
    "with_junk",
    is_flag=True,
    help="Show images of the query's person and camera too, which are not ranked.",
)
@_SEED
@data_options
@output_options
def rankings(lowest, highest, wrong, pids, seed, **options):
    """Draws queries of RUN, or of the newest run, and what its model finds for them.

    By default the two queries of the lowest average precision and the two of the
    highest. All test images are embedded first.

    \b
    topdb-tf figure rankings
    topdb-tf figure rankings runs/market1501 --wrong 5 --rerank --out wrong.pdf
    topdb-tf figure rankings runs/market1501 --pid 12 --pid 40 --top 5 --column
    """
    from topdb_tf.figures.rankings import QueryChoice, check_choice, rankings

    if lowest is None and highest is None and wrong is None and not pids:
        lowest = highest = 2
    choice = QueryChoice(lowest or 0, highest or 0, wrong or 0, pids, seed)
    check = partial(check_choice, choice=choice)
    _draw_embedded(rankings, name="rankings", check=check, choice=choice, **options)


@figure.command()
@_RUNS
@count_option(
    "--ranks", "max_rank", least=2, most=50, default=20, help="The last rank drawn."
)
@click.option("--rerank", is_flag=True, help="Add the re-ranked curves.")
@data_options
@output_options
def cmc(runs, **options):
    """Draws the CMC of RUNS, or of the newest run, beside the paper's rank-1.

    A folder of seeds is drawn as their mean in a band of the deviation. Scores are
    read where `topdb-tf evaluate` left them; what has none is scored first.

    \b
    topdb-tf figure cmc
    topdb-tf figure cmc runs/paper runs/no_drop --out cmc.svg --out cmc.pdf
    topdb-tf figure cmc runs/NAME --ranks 50 --rerank
    """
    from topdb_tf.figures.run_curves import cmc

    _draw_trainings(cmc, runs, name="cmc", say=say, **options)


@figure.command()
@_RUNS
@output_options
def training(runs, **options):
    """Draws losses by stream, accuracy, learning rate and scores of RUNS by epoch.

    By default the newest run. Of several, every panel shows one stream. A folder of
    seeds is drawn as their mean in a band of the deviation.

    \b
    topdb-tf figure training
    topdb-tf figure training runs/paper runs/authors --out training.pdf
    """
    from topdb_tf.figures.run_curves import training

    _draw_trainings(training, runs, name="training", **options)


@figure.command()
@RUN
@count_option(
    "--bins", "num_bins", least=2, most=1000, default=80, help="Of the histograms."
)
@data_options
@output_options
def distances(**options):
    """Draws how far apart images of one person and of two are, by RUN's model.

    With the thresholds of `topdb-tf calibrate`, where there are any.

    \b
    topdb-tf figure distances
    topdb-tf figure distances runs/market1501 --out distances.pdf --column
    """
    from topdb_tf.figures.pair_distances import distances_of

    _draw_embedded(distances_of, name="distances", **options)


@figure.command()
@RUN
@click.option(
    "--score",
    type=click.Choice(["rank-1", "mAP"]),
    default="rank-1",
    show_default=True,
    help="In the cells; --json prints both.",
)
@data_options
@output_options
def cameras(score, **options):
    """Draws rank-1 or mAP by the cameras of the query and of the gallery.

    A cell is of the queries of one camera, ranked against the gallery of one camera.

    \b
    topdb-tf figure cameras
    topdb-tf figure cameras runs/market1501 --score mAP --out cameras.svg
    """
    from topdb_tf.figures.camera_pairs import cameras_of, check_cameras

    name = "cameras" if score == "rank-1" else "cameras-mAP"
    _draw_embedded(cameras_of, name=name, check=check_cameras, score=score, **options)


@figure.command("map")
@RUN
@click.option(
    "--method",
    type=click.Choice(["tsne", "pca"]),
    default="tsne",
    show_default=True,
    help="How embeddings come into the plane.",
)
@click.option("--pid", "persons", multiple=True, help="A person; may be repeated.")
@count_option(
    "--num-pids",
    most=104,
    default=12,
    help="Persons with the most images, where none is named.",
)
@seed_option("Of t-SNE.")
@data_options
@output_options
def embedding_map(persons, num_pids, **options):
    """Draws the test images of some persons as points, as RUN's model places them.

    \b
    topdb-tf figure map
    topdb-tf figure map runs/market1501 --method pca --pid 12 --pid 40 --pid 77
    """
    from topdb_tf.figures.places import map_of, persons_of_map

    choose = partial(persons_of_map, persons=persons, num_pids=num_pids)

    def draw(embedded, **options):
        return map_of(embedded, choose(embedded.split), **options)

    _draw_embedded(draw, name="map", check=choose, **options)


def _draw_images(
    draw: Callable, places, *, num, seed, data_root, dataset=None, **options
) -> None:
    """Draws images by a run, which is the first of the places if that is one."""
    from topdb_tf.figures.images import ImageChoice
    from topdb_tf.runs.folder import RunFolder, open_run

    run = None
    if places and RunFolder(places[0]).holds_run:
        run, *places = places
    choice = ImageChoice(tuple(places), dataset, num, seed)
    run = open_run(run, data_overrides(None, data_root), say=say)
    _write(draw, run, choice, folder=run.path, say=say, **options)


def _draw_embedded(
    draw: Callable, run, dataset, data_root, best, *, check=None, **options
) -> None:
    """Draws the test images of a run, embedded when the names of files are checked."""
    from topdb_tf.evaluate.embedding import embed_run
    from topdb_tf.runs.folder import open_run

    run = open_run(run, data_overrides(None, data_root), say=say)

    def draw_run(**options):
        embedded = embed_run(run, dataset, best=best, check=check, say=say)
        return draw(embedded, **options)

    _write(draw_run, folder=run.path, **options)


def _draw_trainings(
    draw: Callable, runs: Sequence[Path], *, data_root: Path | None = None, **options
) -> None:
    """Opens trainings and draws a figure of them, with the options of its command."""
    from topdb_tf.evaluate.trainings import trainings_of

    trainings = trainings_of(runs, data_overrides(None, data_root))
    folder = runs[0] if runs else trainings[0].runs[0].path
    _write(draw, trainings, folder=folder, **options)


def _write(
    draw: Callable,
    *arguments,
    folder: Path,
    name: str,
    out: Sequence[Path],
    column: bool,
    as_json: bool,
    **options,
) -> None:
    """Draws a figure, writes it whole, and shows its files, or all that is in it.

    Without `out` it is written into the folder of the run. Names of files are checked
    before anything is drawn.
    """
    from topdb_tf.drawing import style

    for file in out:
        style.check_format(file)
    files = list(out) or [folder / "figures" / f"{name}.png"]
    view = draw(*arguments, **options)
    for note in getattr(view.facts, "notes", ()):
        say(note)
    drawn = view.picture(style.COLUMN_WIDTH if column else style.PAGE_WIDTH)
    for file in files:
        file.parent.mkdir(exist_ok=True)
        with whole_file(file) as partial:
            style.save_figure(drawn, partial)
    names = [str(file) for file in files]
    show({**plain(view.facts), "files": names}, lambda _: names, as_json)
