"""The command that embeds image files."""

import click

from topdb_tf.cli.models import source_options
from topdb_tf.cli.options import (
    AS_JSON,
    DATA_ROOT,
    LAYOUT,
    PATH,
    chosen_reading,
    data_overrides,
    say,
    show_record,
)
from topdb_tf.parquet_files import CODES


@click.command()
@click.argument("images", nargs=-1, type=PATH)
@click.option("--query", type=PATH, help="Folder of queries, named as Market-1501.")
@click.option("--gallery", type=PATH, help="Folder of the gallery, likewise.")
@click.option("--dataset", help="A data set's queries and gallery, as `evaluate`'s.")
@LAYOUT
@DATA_ROOT
@source_options
@click.option(
    "--out",
    type=PATH,
    default="features.npz",
    show_default=True,
    help="The file: .npz or .parquet.",
)
@click.option(
    "--codes",
    type=click.Choice(CODES),
    default=CODES[0],
    show_default=True,
    help="How a Parquet file keeps numbers; int8 takes a quarter.",
)
@AS_JSON
def embed(images, query, gallery, dataset, data_root, source, out, codes, as_json):
    """Writes the embeddings of IMAGES, folders or a list, into a file.

    Whom a CSV file and the folders of a data set tell is written with them. With
    --dataset, or --query and --gallery, the file is what `topdb-tf score` reads.

    A server is HOST:PORT, http://, https://, grpc:// or grpcs://HOST:PORT; without a
    scheme, port 8500 is gRPC and any other REST.

    \b
    topdb-tf embed photos --server grpc://localhost:8500
    topdb-tf embed crops.csv --model runs/market1501
    topdb-tf embed --dataset crops.csv --model runs/market1501
    topdb-tf embed --query query --gallery bounding_box_test --model export
    topdb-tf embed photos --model runs/market1501 --pca 256 --out photos.parquet
    """
    from topdb_tf.data.image_files import checked_places
    from topdb_tf.embed.embed import embed_dataset, embed_images, embed_pair

    places = checked_places(images, query, gallery, dataset)
    if dataset is not None:
        overrides = data_overrides(None, data_root)
        result = embed_dataset(
            source, dataset, out, codes=codes, overrides=overrides, say=say
        )
    elif images:
        result = embed_images(
            source, places, out, codes=codes, say=say, **dict(chosen_reading())
        )
    else:
        result = embed_pair(source, *places, out, codes=codes)
    show_record(result, as_json)
