"""The command that embeds image files."""

from pathlib import Path

import click

from topdb_tf.cli.options import show

_PLACE = click.Path(path_type=Path)


@click.command()
@click.argument("images", nargs=-1, type=_PLACE)
@click.option("--query", type=_PLACE, help="Folder of queries, named as Market-1501.")
@click.option("--gallery", type=_PLACE, help="Folder of the gallery, likewise.")
@click.option("--server", metavar="HOST:PORT", help="Model server; scheme as below.")
@click.option("--model", type=_PLACE, help="Or a model here: export, run or .keras.")
@click.option(
    "--protocol", type=click.Choice(["rest", "grpc"]), help="Instead of a scheme."
)
@click.option("--model-name", default="topdb", show_default=True, help="On the server.")
@click.option("--version", type=int, help="Of the model on the server; the newest.")
@click.option("--label", help="Label of the version instead, such as canary.")
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Certificates (PEM) to trust, for https and grpcs.",
)
@click.option(
    "--out",
    type=_PLACE,
    default="features.npz",
    show_default=True,
    help="The NPZ file.",
)
@click.option("--skip-bad", is_flag=True, help="Leave bad images out and list them.")
@click.option("--timeout", type=float, help="Seconds for all of it.")
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Images a request.",
)
@click.option(
    "--in-flight",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Requests at a time.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")
def embed(images, query, gallery, out, skip_bad, timeout, as_json, **where):
    """Writes the embeddings of IMAGES, files and folders, into an NPZ file.

    A server is HOST:PORT, http://, https://, grpc:// or grpcs://HOST:PORT; without a
    scheme, port 8500 is gRPC and any other REST. With --query and --gallery the file
    is what `topdb-tf score` reads.

    \b
    topdb-tf embed photos --server grpc://localhost:8500
    topdb-tf embed a.jpg b.jpg --model runs/market1501
    topdb-tf embed --query query --gallery bounding_box_test --model export
    """
    from topdb_tf.data.image_files import checked_places
    from topdb_tf.embed import embed as recipe

    options = {"skip_bad": skip_bad, "timeout": timeout}
    places = checked_places(images, query, gallery)
    with recipe.open_client(**_client_options(**where)) as client:
        if images:
            result = recipe.embed_images(client, places, out, **options)
        else:
            result = recipe.embed_split(client, *places, out, **options)
    show(result, recipe.embed_lines, as_json)


def _client_options(model_name, version, label, in_flight, **options):
    from topdb_tf.embed.address import ModelChoice

    choice = ModelChoice(model_name, version, label)
    return {**options, "choice": choice, "max_in_flight": in_flight}
