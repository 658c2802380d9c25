"""Commands that bring a model into service."""

from pathlib import Path

import click

from topdb_tf.cli.output import say, show


@click.command()
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the model's versions.  [default: saved_model in the run's folder]",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Of the feature maps; embeddings are float32.",
)
@click.option("--normalize", is_flag=True, help="Divide embeddings by their L2 norm.")
@click.option(
    "--best", is_flag=True, help="The epoch of the highest mAP, not the last."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")
def export(source, out, precision, normalize, best, as_json):
    """Writes a SavedModel that TensorFlow Serving loads, and checks it.

    SOURCE is the folder of a run (by default the newest) or a .keras file.

    \b
    topdb-tf export
    topdb-tf export runs/market1501 --precision bfloat16 --out models/topdb
    """
    from topdb_tf.recipe.export import export_lines, export_saved_model, find_source

    facts = export_saved_model(
        find_source(source, best=best),
        out,
        precision=precision,
        normalize=normalize,
        say=say,
    )
    show(facts, export_lines, as_json)
