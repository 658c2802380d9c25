"""The command that embeds image files."""

import click

from topdb_tf.cli.models import source_options
from topdb_tf.cli.options import AS_JSON, PATH, show_record


@click.command()
@click.argument("images", nargs=-1, type=PATH)
@click.option("--query", type=PATH, help="Folder of queries, named as Market-1501.")
@click.option("--gallery", type=PATH, help="Folder of the gallery, likewise.")
@source_options
@click.option(
    "--out", type=PATH, default="features.npz", show_default=True, help="The NPZ file."
)
@AS_JSON
def embed(images, query, gallery, source, out, as_json):
    """Writes the embeddings of IMAGES, or folders, into a file.

    A server is HOST:PORT, http://, https://, grpc:// or grpcs://HOST:PORT; without a
    scheme, port 8500 is gRPC and any other REST. With --query and --gallery the file
    is what `topdb-tf score` reads.

    \b
    topdb-tf embed photos --server grpc://localhost:8500
    topdb-tf embed a.jpg b.jpg --model runs/market1501
    topdb-tf embed --query query --gallery bounding_box_test --model export
    """
    from topdb_tf.data.image_files import checked_places
    from topdb_tf.embed.embed import embed_images, embed_split

    places = checked_places(images, query, gallery)
    if images:
        result = embed_images(source, places, out)
    else:
        result = embed_split(source, *places, out)
    show_record(result, as_json)
