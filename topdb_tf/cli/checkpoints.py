"""Commands for the checkpoints of other programs."""

from pathlib import Path

import click

from topdb_tf.cli.options import show


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--variant",
    type=click.Choice(["topdb", "no_reg", "no_drop", "bdb"]),
    help="The network that it must hold.  [default: told from its keys]",
)
@click.option(
    "--image-size",
    nargs=2,
    type=click.IntRange(min=1),
    default=(384, 128),
    show_default=True,
    metavar="HEIGHT WIDTH",
    help="Of the images that the model will take, in pixels.",
)
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")
def convert(checkpoint, out, as_json, **options):
    """Makes a PyTorch CHECKPOINT, of the authors or of BDB, into the model OUT.keras.

    Reads .safetensors, and with `pip install 'topdb-tf[torch]'` the files of
    torch.save; nothing in them is run.

    \b
    topdb-tf convert model.pth.tar-400 topdb.keras
    topdb-tf evaluate --weights topdb.keras --dataset market1501
    """
    from topdb_tf.export.convert import convert as convert_recipe
    from topdb_tf.export.convert import convert_lines

    show(convert_recipe(checkpoint, out, **options), convert_lines, as_json)
