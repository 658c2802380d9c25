"""Commands of a search index."""

from pathlib import Path

import click

from topdb_tf.cli.options import say, show

_PLACE = click.Path(path_type=Path)
_INDEX = click.argument("index", type=_PLACE)
_PLACES = click.argument("places", nargs=-1, required=True, type=_PLACE)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")


def _embedding_options(command):
    """Adds the options of what embeds images."""
    for option in (
        click.option("--timeout", type=float, help="Seconds for the embedding."),
        click.option("--skip-bad", is_flag=True, help="Leave bad images out."),
        click.option(
            "--batch-size",
            type=click.IntRange(1),
            default=32,
            show_default=True,
            help="Images a request.",
        ),
        click.option("--server", metavar="HOST:PORT", help="Or a model server."),
        click.option("--model", type=_PLACE, help="A run, an export or a .keras file."),
    ):
        command = option(command)
    return command


def _parameters(ctx, param, texts):
    """Returns the parameters in texts KEY=VALUE."""
    try:
        return {name: int(value) for name, value in (t.split("=") for t in texts)}
    except ValueError:
        raise click.BadParameter(
            f"must be KEY=WHOLE NUMBER. Received: {' '.join(texts)}"
        ) from None


_SET = click.option(
    "--set",
    "parameters",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_parameters,
    help="A parameter of the kind, such as nprobe=64; `index info` shows them.",
)


@click.group()
def index():
    """Searches many images for a person: builds and asks an index on disk.

    The kind exact compares a query with every image and misses nothing. ivf and hnsw
    look at a part of the images: faster for single queries, but some matches are
    missed. They need FAISS (pip install 'topdb-tf[search]').

    \b
    topdb-tf index build photos --model runs/market1501 --out people.index
    topdb-tf index query people.index person.jpg --top 5
    """


@index.command()
@_PLACES
@click.option("--out", type=_PLACE, required=True, help="Folder of the index.")
@click.option(
    "--kind",
    type=click.Choice(["exact", "ivf", "hnsw"]),
    default="exact",
    show_default=True,
    help="How it is searched: all of it, or a part, faster and not exactly.",
)
@click.option(
    "--metric",
    help="Of the distance: sqeuclidean, euclidean or cosine.  [default: the run's, "
    "else sqeuclidean]",
)
@_SET
@_embedding_options
@_JSON
def build(places, out, as_json, **options):
    """Builds an index of PLACES: images and folders, or a file of features (.npz).

    \b
    topdb-tf index build photos --model runs/market1501 --out people.index
    topdb-tf index build photos --server grpc://localhost:8500 --out people.index
    topdb-tf index build features.npz --kind hnsw --out people.index
    """
    from topdb_tf.search.build import build_index
    from topdb_tf.search.facts import index_lines

    show(build_index(places, out, **options), index_lines, as_json)


@index.command()
@_INDEX
@_PLACES
@click.option(
    "--top",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Images of a list.",
)
@click.option("--max-distance", type=float, help="Leave out what is farther.")
@click.option(
    "--false-match-rate",
    type=float,
    help="Leave out what is farther than its calibrated threshold.",
)
@click.option("--camera", "camids", type=int, multiple=True, help="Look in it alone.")
@_SET
@click.option("--picture", type=_PLACE, help="Draw it, too: .png, .svg or .pdf.")
@_embedding_options
@_JSON
def query(index, places, picture, as_json, **options):
    """Finds in INDEX what is nearest to PLACES: images, folders or features (.npz).

    Without --model or --server, the model that the index was built with embeds the
    queries. If its run is calibrated, the table tells same persons from others.

    \b
    topdb-tf index query people.index person.jpg --top 5 --picture found.png
    topdb-tf index query people.index queries --false-match-rate 1e-3 --json
    topdb-tf index query people.index person.jpg --camera 3 --set nprobe=256
    """
    from topdb_tf.search.query import draw_query, query_index, query_lines

    result = query_index(index, places, **options)
    if picture:
        draw_query(result, picture)
        say(f"the picture is {picture}")
    show(result, query_lines, as_json)


@index.command()
@_INDEX
@_PLACES
@click.option("--skip-known", is_flag=True, help="Leave images alone that are there.")
@_embedding_options
@_JSON
def add(index, places, as_json, **options):
    """Adds PLACES to INDEX: images, folders or features (.npz).

    An image that is there by its path is replaced, unless --skip-known.

    \b
    topdb-tf index add people.index photos/today
    topdb-tf index add people.index photos --skip-known
    """
    from topdb_tf.search.build import add_to_index
    from topdb_tf.search.facts import index_lines

    show(add_to_index(index, places, **options), index_lines, as_json)


@index.command()
@_INDEX
@click.option("--path", "paths", multiple=True, help="As `query` shows it.")
@click.option("--pid", "pids", type=int, multiple=True, help="All images of a person.")
@click.option("--prefix", "prefixes", multiple=True, help="What paths begin with.")
@_JSON
def remove(index, as_json, **chosen):
    """Removes images from INDEX by path, person or prefix; each may be repeated.

    They are found no more at once; their features leave the disk with `compact`.

    \b
    topdb-tf index remove people.index --path photos/0001_c1s1_01_00.png
    topdb-tf index remove people.index --pid 7 --prefix photos/2019
    """
    from topdb_tf.search.build import remove_from_index
    from topdb_tf.search.facts import index_lines

    show(remove_from_index(index, **chosen), index_lines, as_json)


@index.command()
@_INDEX
@_JSON
def compact(index, as_json):
    """Writes INDEX anew without what was removed, with new centres or graph.

    \b
    topdb-tf index compact people.index
    """
    from topdb_tf.search.build import compact as compact_it
    from topdb_tf.search.facts import index_lines

    show(compact_it(index), index_lines, as_json)


@index.command()
@_INDEX
@click.option("--check", is_flag=True, help="Read all files and compare checksums.")
@_JSON
def info(index, check, as_json):
    """Tells what INDEX is: kind, images, model, metric, size.

    \b
    topdb-tf index info people.index --check
    """
    from topdb_tf.search.facts import index_facts, index_lines

    show(index_facts(index, check=check), index_lines, as_json)
