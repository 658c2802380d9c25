"""Commands that bring a model into service, and checkpoints of others to models."""

import click

from topdb_tf.cli.options import (
    AS_JSON,
    BEST,
    DATA_ROOT,
    LAYOUT,
    PATH,
    RUN,
    count_option,
    data_overrides,
    note_on_demo,
    say,
    show,
    show_record,
)


@click.command()
@click.argument("source", required=False, type=PATH, callback=note_on_demo)
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
    type=PATH,
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
    "--normalize", is_flag=True, help="saved_model: divide embeddings by their L2 norm."
)
@click.option(
    "--cameras",
    type=PATH,
    metavar="INDEX",
    help="saved_model: put the camera statistics of this index into assets.extra.",
)
@click.option(
    "--loader",
    type=click.Choice(["cpp", "session"]),
    help="saved_model: load the result by the C++ function that TensorFlow Serving "
    "calls, or by a session.  [default: cpp where TensorFlow has it]",
)
@BEST
@click.option(
    "--dataset", help="onnx, litert: data set to score and calibrate int8 on."
)
@LAYOUT
@DATA_ROOT
@count_option(
    "--max-pids",
    metavar="N",
    least=0,
    default=100,
    help="onnx, litert: query identities to score on; 0: all.",
)
@click.option("--force", is_flag=True, help="onnx, litert: replace the file.")
@AS_JSON
def export(
    source,
    kind,
    out,
    precision,
    normalize,
    cameras,
    loader,
    best,
    dataset,
    data_root,
    max_pids,
    force,
    as_json,
):
    """Writes a model for TensorFlow Serving, ONNX or LiteRT.

    SOURCE is the folder of a run (by default the newest), a .keras file or a preset.

    \b
    topdb-tf export
    topdb-tf export runs/market1501 --precision bfloat16 --out models/topdb
    topdb-tf export runs/market1501 --format litert --precision int8
    """
    from topdb_tf.export import one_file, serving

    source = serving.find_source(source, best=best)
    if kind == "saved_model":
        _refuse("dataset", "data_root", "max_pids", "force")
        if precision == "int8":
            raise click.UsageError("--precision int8 is for --format litert alone.")
        if cameras is not None:
            from topdb_tf.search.overview import cameras_file

            cameras = cameras_file(cameras, source.model)
        written = serving.export_saved_model(
            source,
            out,
            precision=precision,
            normalize=normalize,
            loader=loader,
            cameras=cameras,
            say=say,
        )
        show(written, serving.served_lines, as_json)
        return
    _refuse("normalize", "cameras", "loader")
    overrides = tuple(data_overrides(dataset, data_root))
    written = one_file.export_file(
        source,
        kind,
        out,
        precision=precision,
        report_data=one_file.ReportData(overrides, max_pids or None),
        force=force,
        say=say,
    )
    show(written, one_file.file_lines, as_json)


@click.command()
@RUN
@click.option(
    "--to",
    "target",
    required=True,
    metavar="FOLDER|ADDRESS",
    help="A new folder, hf://USER/NAME, or kaggle://USER/MODEL/keras/VARIANT.",
)
@BEST
@AS_JSON
def publish(run, target, best, as_json):
    """Writes RUN, or the newest run, as a preset for others.

    A preset holds the weights, the resizing, a model card, the recipe, the scores and
    the sum of each file. Others name it where a model is asked for. Hubs know you by
    `hf auth login`, or by the token of Kaggle. Folders of your machine are left out.

    \b
    topdb-tf publish runs/people --to people-preset
    topdb-tf publish runs/people --best --to hf://user/people
    topdb-tf embed photos --model hf://user/people
    """
    from topdb_tf.export.presets.publish import publish as publish_run
    from topdb_tf.runs.folder import open_run

    show_record(publish_run(open_run(run), target, best=best, say=say), as_json)


@click.command()
@click.argument("checkpoint", type=PATH)
@click.argument("out", type=PATH)
@click.option(
    "--variant",
    type=click.Choice(["topdb", "no_reg", "no_drop", "bdb"]),
    help="The network that it must hold.  [default: told from its keys]",
)
@click.option(
    "--image-size",
    nargs=2,
    type=click.IntRange(8, 4096),
    default=(384, 128),
    show_default=True,
    metavar="HEIGHT WIDTH",
    help="Of the images that the model will take, in pixels.",
)
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@AS_JSON
def convert(checkpoint, out, variant, image_size, force, as_json):
    """Makes a PyTorch CHECKPOINT into the model OUT.keras.

    Reads .safetensors, and with PyTorch (`pip install torch`) the files of
    torch.save; nothing in them is run.

    \b
    topdb-tf convert model.pth.tar-400 topdb.keras
    topdb-tf evaluate --weights topdb.keras --dataset market1501
    """
    from topdb_tf.export import convert as conversions

    conversion = conversions.convert(
        checkpoint, out, variant=variant, image_size=image_size, force=force
    )
    show(conversion, conversions.convert_lines, as_json)


def _refuse(*names):
    """Refuses options of another format that were given."""
    for name in names:
        origin = click.get_current_context().get_parameter_source(name)
        if origin is not click.core.ParameterSource.DEFAULT:
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{option} does not apply to this --format.")
