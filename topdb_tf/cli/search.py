"""Commands of a search index."""

import re
from pathlib import Path

import click

from topdb_tf.cli.models import model_options, source_options
from topdb_tf.cli.options import (
    AS_JSON,
    LAYOUT,
    PATH,
    SHARE,
    NumberRange,
    UserPath,
    chosen_reading,
    count_option,
    options_of,
    say,
    show_record,
)


class IndexPlace(UserPath):
    """A folder of an index, or, where that will do, a collection of Milvus."""

    def __init__(self, *, is_folder: bool = False):
        super().__init__()
        self._is_folder = is_folder

    def convert(self, value, param, ctx):
        """Returns the path, or the place of the collection."""
        if not re.match(r"milvus(\+\w+)?:", str(value)):
            return super().convert(value, param, ctx)
        if self._is_folder:
            self.fail(f"must be the folder of an index here. Received: {value}")
        from topdb_tf.search.milvus.place import place_of

        try:
            return place_of(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_FOLDER = click.argument("index", type=IndexPlace(is_folder=True))
_INDEX = click.argument("index", type=IndexPlace())
_PLACES = click.argument("places", nargs=-1, required=True, type=PATH)


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
_LIMITS = options_of(
    count_option("--top", default=10, help="Images of a list."),
    click.option(
        "--max-distance", type=NumberRange(0), help="Leave out what is farther."
    ),
    click.option(
        "--false-match-rate",
        type=SHARE,
        help="Leave out what is farther than its calibrated threshold.",
    ),
    _SET,
)


@click.group()
def index():
    """Searches many images for a person, by an index on disk.

    The kind exact compares a query with every image and misses nothing. Others look at
    a part of the images: faster for single queries, but some matches are missed. They
    need FAISS (pip install faiss-cpu).

    \b
    topdb-tf index build photos --model runs/market1501 --out people.index
    topdb-tf index query people.index person.jpg --top 5
    """


@index.command()
@_PLACES
@click.option("--out", type=PATH, help="Folder of the index.")
@click.option(
    "--to",
    type=IndexPlace(),
    metavar="milvus://HOST:PORT/NAME",
    help="Store it in a collection of Milvus instead.",
)
@click.option(
    "--kind",
    default="exact",
    show_default=True,
    metavar="KIND",
    help="exact, ivf, hnsw, or a factory string of FAISS such as HNSW32,SQ8; with "
    "--to one of the first three.",
)
@click.option(
    "--metric",
    help="Of the distance: sqeuclidean, euclidean or cosine.  [default: the run's, "
    "else sqeuclidean]",
)
@click.option(
    "--normalize-cameras",
    is_flag=True,
    help="Normalise features by camera, which images and queries then must tell.",
)
@_SET
@LAYOUT
@source_options
@AS_JSON
def build(places, out, to, source, as_json, **settings):
    """Builds an index of PLACES: images, folders, a list, features.

    Whom a CSV file and the folders of a data set tell is kept, by their names.

    \b
    topdb-tf index build photos --model runs/market1501 --out people.index
    topdb-tf index build crops.csv --model runs/market1501 --out people.index
    topdb-tf index build photos --server grpc://localhost:8500 --out people.index
    topdb-tf index build features.npz --kind hnsw --out people.index
    topdb-tf index build features.npz --to milvus://localhost:19530/people
    """
    from topdb_tf.search.build import build_index

    if (out is None) == (to is None) or isinstance(to, Path):
        raise click.UsageError(
            "Name the folder of the index, --out, or a collection, --to "
            f"milvus://HOST:PORT/NAME. Received: out={out}, to={to}"
        )
    settings |= {"say": say, **dict(chosen_reading())}
    show_record(build_index(places, out or to, source, **settings), as_json)


@index.command()
@_INDEX
@_PLACES
@_LIMITS
@click.option("--camera", "camids", multiple=True, help="Look there alone, as in 1,2.")
@click.option("--since", help="Earliest time: 2024-05-01T13:30+02:00, or Unix seconds.")
@click.option("--until", help="Latest time. UTC where no zone is told.")
@click.option("--picture", type=PATH, help="Draw it, too: .png, .svg or .pdf.")
@LAYOUT
@source_options
@AS_JSON
def query(index, places, camids, since, until, picture, source, as_json, **limits):
    """Finds in INDEX what is nearest to PLACES: images or features.

    Without --model or --server, the model that the index was built with embeds the
    queries. If its run is calibrated, the table tells same persons from others.

    \b
    topdb-tf index query people.index person.jpg --top 5 --picture found.png
    topdb-tf index query people.index queries --false-match-rate 1e-3 --json
    topdb-tf index query people.index person.jpg --camera door --since 2024-05-01
    """
    from topdb_tf.search.filters import Filter
    from topdb_tf.search.picture import rank_lists
    from topdb_tf.search.query import query_index

    if picture:
        from topdb_tf.drawing.style import check_format, save_figure

        check_format(picture)
    reading = {"say": say, **dict(chosen_reading())}
    among = Filter(camids, since, until)
    result = query_index(index, places, source, among=among, reading=reading, **limits)
    if picture:
        from topdb_tf.drawing.rank_lists import rank_list_figure

        save_figure(rank_list_figure(rank_lists(result.queries)), picture)
        say(f"the picture is {picture}")
    show_record(result, as_json)


@index.command()
@_FOLDER
@_LIMITS
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on."
)
@count_option("--port", least=0, most=65535, default=7860, help="0 takes any.")
@model_options
def browse(index, source, **settings):
    """Opens a page to try queries of INDEX: drop an image there.

    The page shows the people in the images. Only this machine reaches it, unless --host
    names another address: there is no password. It loads nothing from elsewhere. Ctrl-C
    ends it.

    \b
    topdb-tf index browse people.index
    topdb-tf index browse people.index --model runs/market1501 --port 8000 --top 20
    """
    from topdb_tf.search.browse import address_of, is_loopback, open_page

    server = open_page(index, source, **settings)
    if not is_loopback(settings["host"]):
        say("whoever can reach this address sees the people in the index")
    click.echo(f"{index} is open at {address_of(server)} until Ctrl-C")
    server.serve_forever()


@index.command()
@_INDEX
@_PLACES
@click.option("--skip-known", is_flag=True, help="Leave images alone that are there.")
@LAYOUT
@source_options
@AS_JSON
def add(index, places, source, skip_known, as_json):
    """Adds PLACES to INDEX: images, folders, a list, features.

    An image that is there by its path is replaced, unless --skip-known.

    \b
    topdb-tf index add people.index photos/today
    topdb-tf index add people.index photos --skip-known
    """
    from topdb_tf.search.build import add_to_index

    reading = {"say": say, **dict(chosen_reading())}
    result = add_to_index(index, places, source, skip_known=skip_known, **reading)
    show_record(result, as_json)


@index.command()
@_INDEX
@click.option("--path", "paths", multiple=True, help="As `query` shows it.")
@click.option("--pid", "pids", multiple=True, help="All images of a person.")
@click.option("--prefix", "prefixes", multiple=True, help="What paths begin with.")
@AS_JSON
def remove(index, as_json, **named):
    """Removes images from INDEX by path, person or prefix.

    They are found no more at once; their features leave the disk with `compact`.

    \b
    topdb-tf index remove people.index --path photos/0001_c1s1_01_00.png
    topdb-tf index remove people.index --pid 7 --prefix photos/2019
    """
    from topdb_tf.search.build import remove_from_index

    show_record(remove_from_index(index, **named), as_json)


@index.command()
@_FOLDER
@AS_JSON
def compact(index, as_json):
    """Writes INDEX anew without what was removed.

    \b
    topdb-tf index compact people.index
    """
    from topdb_tf.search.build import compact as compact_it

    show_record(compact_it(index), as_json)


@index.command()
@_INDEX
@click.option("--check", is_flag=True, help="Read all files and compare checksums.")
@AS_JSON
def info(index, check, as_json):
    """Tells what INDEX is: kind, images, model, metric, size.

    \b
    topdb-tf index info people.index --check
    """
    from topdb_tf.search.build import collection_info
    from topdb_tf.search.overview import overview_of

    if not isinstance(index, Path):
        if check:
            raise click.UsageError("--check reads files; Milvus keeps its own.")
        show_record(collection_info(index), as_json)
        return
    show_record(overview_of(index, check=check), as_json)
