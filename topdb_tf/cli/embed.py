"""The command that embeds image files."""

import click

from topdb_tf.cli.models import source_options
from topdb_tf.cli.options import (
    AS_JSON,
    DATA_ROOT,
    LAYOUT,
    PATH,
    chosen_reading,
    count_option,
    data_overrides,
    say,
    show_record,
)
from topdb_tf.parquet_files import CODES


def _address_of(ctx, param, text):
    """Returns the address in ray:ADDRESS, empty for this machine."""
    name, _, address = (text or "ray").partition(":")
    if name != "ray":
        raise click.BadParameter(f"must be ray or ray:ADDRESS. Received: {text}")
    return text and address


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
@click.option(
    "--pool",
    type=click.Choice(["tracklet", "tracklet:median", "tracklet:first"]),
    callback=lambda ctx, _, text: text and (text.partition(":")[2] or "mean"),
    help="One row a track: the mean of its embeddings, or another.",
)
@click.option(
    "--workers",
    metavar="ray[:ADDRESS]",
    callback=_address_of,
    help="Embed by Ray, on this machine or a cluster, into a folder of parts.",
)
@count_option("--num-workers", help="Of them; one a GPU, else one a core.")
@AS_JSON
def embed(
    images,
    query,
    gallery,
    dataset,
    data_root,
    source,
    out,
    codes,
    pool,
    workers,
    num_workers,
    as_json,
):
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
    topdb-tf embed crops.csv --model runs/market1501 --pool tracklet --out tracks.npz
    topdb-tf embed s3://bucket/crops --model run --workers ray --out crops.parquet
    """
    from topdb_tf.data.image_files import checked_places
    from topdb_tf.embed import embed as here

    places = checked_places(images, query, gallery, dataset)
    options, overrides = {"codes": codes, "say": say}, data_overrides(None, data_root)
    if workers is None and num_workers is not None:
        raise ValueError("--num-workers goes with --workers ray.")
    if pool and (workers is not None or query is not None):
        raise ValueError(
            "--pool is for IMAGES or --dataset, whose tracks are told, without "
            "--workers: from what these write `topdb_tf.pool` takes embeddings and the "
            "column `tracklet`."
        )
    if workers is not None:
        from topdb_tf.embed.cluster import cluster

        pool = cluster.Workers(workers or None, num_workers)
        cluster.check_out(out)
        if images:
            options |= dict(chosen_reading())
            result = cluster.embed_images(source, places, out, pool, **options)
        else:
            split = here.split_of_pair(*places)[0] if places else None
            split = split or here.split_of_dataset(source, dataset, overrides, say)
            result = cluster.embed_split(source, split, out, pool, **options)
    elif dataset is not None:
        options |= {"overrides": overrides, "pool": pool}
        result = here.embed_dataset(source, dataset, out, **options)
    elif images:
        options |= {"pool": pool, **dict(chosen_reading())}
        result = here.embed_images(source, places, out, **options)
    else:
        result = here.embed_pair(source, *places, out, codes=codes)
    show_record(result, as_json)
