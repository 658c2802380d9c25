"""Commands that bring a model into service."""

from pathlib import Path

import click

from topdb_tf.cli.options import data_overrides, say, show


@click.command()
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "kind",
    type=click.Choice(["saved_model", "onnx", "litert"]),
    default="saved_model",
    show_default=True,
    help="For TensorFlow Serving, ONNX Runtime or LiteRT.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="saved_model: folder of the model's versions; others: the file.  "
    "[default: in the run's folder, or beside the file]",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16", "int8"]),
    default="float32",
    show_default=True,
    help="Of the feature maps; embeddings are float32.  int8 is LiteRT's alone.",
)
@click.option(
    "--normalize",
    is_flag=True,
    help="saved_model: divide embeddings by their L2 norm.",
)
@click.option(
    "--best", is_flag=True, help="The epoch of the highest mAP, not the last."
)
@click.option(
    "--dataset", help="onnx, litert: data set to score and calibrate int8 on."
)
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of data.")
@click.option(
    "--max-pids",
    metavar="N",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="onnx, litert: query identities to score on; 0: all.",
)
@click.option("--force", is_flag=True, help="onnx, litert: replace the file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")
def export(source, kind, out, precision, best, as_json, **options):
    """Writes a model for TensorFlow Serving, ONNX Runtime or LiteRT, and checks it.

    SOURCE is the folder of a run (by default the newest) or a .keras file.

    \b
    topdb-tf export
    topdb-tf export runs/market1501 --precision bfloat16 --out models/topdb
    topdb-tf export runs/market1501 --format litert --precision int8
    """
    from topdb_tf.export.serving import find_source

    source = find_source(source, best=best)
    if kind == "saved_model":
        _refuse_others(options, "normalize")
        _export_saved_model(source, out, precision, options["normalize"], as_json)
    else:
        _refuse_others(options, "dataset", "data_root", "max_pids", "force")
        _export_file(source, kind, out, precision, options, as_json)


def _refuse_others(options, *known):
    given = click.get_current_context().get_parameter_source
    for name in options:
        source = given(name)
        if name not in known and source is not click.core.ParameterSource.DEFAULT:
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{option} does not apply to this --format.")


def _export_saved_model(source, out, precision, normalize, as_json):
    from topdb_tf.export.serving import export_lines, export_saved_model

    if precision == "int8":
        raise click.UsageError("--precision int8 is for --format litert alone.")
    facts = export_saved_model(
        source, out, precision=precision, normalize=normalize, say=say
    )
    show(facts, export_lines, as_json)


def _export_file(source, kind, out, precision, options, as_json):
    from topdb_tf.export.formats_of_run import (
        ReportData,
        export_file,
        export_file_lines,
    )

    data = ReportData(
        overrides=tuple(data_overrides(options["dataset"], options["data_root"])),
        max_pids=options["max_pids"] or None,
    )
    facts = export_file(
        source,
        kind,
        out,
        precision=precision,
        data=data,
        force=options["force"],
        say=say,
    )
    show(facts, export_file_lines, as_json)
