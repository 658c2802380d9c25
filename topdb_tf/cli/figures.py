"""Commands that draw figures of a run: what it learned, finds and looks at."""

from functools import partial

import click

from topdb_tf.cli.figure_output import (
    draw_embedded,
    draw_images,
    draw_scored,
    draw_trainings,
)
from topdb_tf.cli.options import (
    DATA_ROOT,
    IGNORE_CAMERAS,
    METRIC,
    PATH,
    SHARE,
    count_option,
    data_options,
    options_of,
    output_options,
    seed_option,
)


@click.group()
def figure():
    """Draws what a network looks at, and what it finds."""


_RUNS = click.argument("runs", nargs=-1, type=PATH)
_SOURCE = click.argument("run", required=False, type=PATH, metavar="[RUN|FEATURES]")
_SOURCES = click.argument("runs", nargs=-1, type=PATH, metavar="[RUN|FEATURES]...")
_SEED = seed_option("Of what is drawn.")
_embedded_options = options_of(METRIC, IGNORE_CAMERAS, data_options, output_options)
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
    """Draws where the model of RUN looks in IMAGES.

    Each image, the activation over it (eq. 1 of the paper) and the part that passes
    the threshold. IMAGES are files or folders, by default queries of the run.

    \b
    topdb-tf figure activations
    topdb-tf figure activations runs/paper --beside runs/no_drop --out looks.pdf
    topdb-tf figure activations runs/paper photos --threshold 0.35
    """
    from topdb_tf.figures.look import activations

    draw_images(activations, places, name="activations", **options)


@figure.command()
@_IMAGES
@data_options
@output_options
def masks(places, **options):
    """Draws the rows that Top DropBlock takes in RUN's training.

    Beside them the activity that the rows are ranked by, and a random block, as
    BatchDropBlock draws one for all images of a batch.

    \b
    topdb-tf figure masks
    topdb-tf figure masks runs/paper --num 6 --out masks.svg --column
    topdb-tf figure masks runs/paper photos/a.jpg photos/b.jpg
    """
    from topdb_tf.figures.masks import masks

    draw_images(masks, places, name="masks", **options)


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
    """Draws where RUN's network looked after several epochs.

    A run keeps the checkpoints of its newest two epochs and of the best unless
    `train.keep_checkpoints` says more. IMAGES are as in `figure activations`.

    \b
    topdb-tf figure epochs
    topdb-tf figure epochs runs/paper --epoch 1 --epoch 50 --epoch 400 --num 3
    """
    from topdb_tf.figures.epochs import epochs

    draw_images(epochs, places, name="epochs", **options)


@figure.command()
@_SOURCE
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
@_embedded_options
def rankings(lowest, highest, wrong, pids, seed, **options):
    """Draws queries of RUN, and what its model finds for them.

    By default the two queries of the lowest average precision and the two of the
    highest. All test images are embedded first.

    \b
    topdb-tf figure rankings
    topdb-tf figure rankings runs/market1501 --wrong 5 --rerank --out wrong.pdf
    topdb-tf figure rankings runs/market1501 --pid 12 --pid 40 --top 5 --column
    topdb-tf figure rankings features.npz
    """
    from topdb_tf.figures.rankings import QueryChoice, check_choice, rankings

    if lowest is None and highest is None and wrong is None and not pids:
        lowest = highest = 2
    choice = QueryChoice(lowest or 0, highest or 0, wrong or 0, pids, seed)
    check = partial(check_choice, choice=choice)
    draw_embedded(rankings, name="rankings", check=check, choice=choice, **options)


@figure.command()
@_SOURCES
@count_option(
    "--ranks", "max_rank", least=2, most=50, default=20, help="The last rank drawn."
)
@click.option("--rerank", is_flag=True, help="Add the re-ranked curves.")
@_embedded_options
def cmc(runs, **options):
    """Draws the CMC of RUNS beside the paper's rank-1.

    A folder of seeds is drawn as their mean in a band of the deviation. Scores are
    read where `topdb-tf evaluate` left them; what has none is scored first.

    \b
    topdb-tf figure cmc
    topdb-tf figure cmc runs/paper runs/no_drop --out cmc.svg --out cmc.pdf
    topdb-tf figure cmc runs/NAME --ranks 50 --rerank
    topdb-tf figure cmc features.npz theirs.pt --metric cosine
    """
    from topdb_tf.figures.run_curves import cmc

    draw_scored(cmc, runs, name="cmc", **options)


@figure.command()
@_RUNS
@click.option(
    "--by",
    type=click.Choice(["epoch", "time"]),
    default="epoch",
    show_default=True,
    help="What the horizontal axis tells.",
)
@output_options
def training(runs, **options):
    """Draws losses, learning rate and scores by epoch or time.

    By default the newest run. Of several, every panel shows one stream. A folder of
    seeds is drawn as their mean in a band of the deviation.

    \b
    topdb-tf figure training
    topdb-tf figure training runs/paper runs/authors --out training.pdf
    topdb-tf figure training runs/light runs/light_hour --by time
    """
    from topdb_tf.figures.run_curves import training

    draw_trainings(training, runs, name="training", **options)


@figure.command()
@_SOURCE
@count_option(
    "--bins", "num_bins", least=2, most=1000, default=80, help="Of the histograms."
)
@_embedded_options
def distances(**options):
    """Draws how far apart RUN places images of one person, of two.

    With the thresholds of `topdb-tf calibrate`, where there are any.

    \b
    topdb-tf figure distances
    topdb-tf figure distances runs/market1501 --out distances.pdf --column
    topdb-tf figure distances features.npz --metric cosine
    """
    from topdb_tf.figures.pair_distances import distances_of

    draw_embedded(distances_of, name="distances", **options)


@figure.command()
@_SOURCE
@click.option(
    "--score",
    type=click.Choice(["rank-1", "mAP"]),
    default="rank-1",
    show_default=True,
    help="In the cells; --json prints both.",
)
@_embedded_options
def cameras(score, **options):
    """Draws rank-1 or mAP by the cameras of query and gallery.

    A cell is of the queries of one camera, ranked against the gallery of one camera.

    \b
    topdb-tf figure cameras
    topdb-tf figure cameras runs/market1501 --score mAP --out cameras.svg
    topdb-tf figure cameras features.npz
    """
    from topdb_tf.figures.camera_pairs import cameras_of, check_cameras

    name = "cameras" if score == "rank-1" else "cameras-mAP"
    draw_embedded(cameras_of, name=name, check=check_cameras, score=score, **options)


@figure.command("map")
@_SOURCE
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
@_embedded_options
def embedding_map(persons, num_pids, **options):
    """Draws test images of some persons as points, as RUN has them.

    \b
    topdb-tf figure map
    topdb-tf figure map runs/market1501 --method pca --pid 12 --pid 40 --pid 77
    topdb-tf figure map features.npz
    """
    from topdb_tf.figures.places import map_of, persons_of_map

    choose = partial(persons_of_map, persons=persons, num_pids=num_pids)

    def draw(embedded, **options):
        return map_of(embedded, choose(embedded.split), **options)

    draw_embedded(draw, name="map", check=choose, **options)
