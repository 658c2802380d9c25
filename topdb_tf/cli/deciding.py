"""Commands that decide, and not only rank."""

import traceback
from pathlib import Path

import click

from topdb_tf.cli.options import data_overrides, say, say_settings, show
from topdb_tf.runs.recipes import read_config

_DIFFERENT, _ERROR, _CTRL_C = 1, 2, 130


class _TellsByStatus(click.Command):
    """Ends with 2 at any error: 1 is an answer, and must not be taken for one."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.UsageError):
            raise
        except KeyboardInterrupt:
            ctx.exit(_CTRL_C)
        except Exception as error:  # Python would end with 1 at an unforeseen one
            explained = isinstance(error, (ValueError, FileNotFoundError))
            if not explained or ctx.find_root().params.get("traceback"):
                traceback.print_exc()
            else:
                click.echo(f"Error: {' '.join(str(error).split())}", err=True)
            ctx.exit(_ERROR)


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--false-match-rate",
    "rates",
    type=float,
    multiple=True,
    default=(0.001,),
    show_default=True,
    help="Share of the pairs of two persons to be taken for one; may be repeated.",
)
@click.option(
    "--dataset", help="Another data set than the run's own: a name, CSV file or folder."
)
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of data.")
@click.option(
    "--metric",
    help="Of the distance: sqeuclidean, euclidean or cosine.  [default: the run's]",
)
@click.option(
    "--best", is_flag=True, help="The epoch of the highest mAP, not the last."
)
@click.option(
    "--ignore-cameras", is_flag=True, help="Count pairs by one camera as well."
)
@click.option("--seed", default=1, show_default=True, help="Of the two halves.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another setting, such as evaluation.batch_size=8; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print calibration.json alone.")
def calibrate(run, data_root, metric, ignore_cameras, overrides, as_json, **options):
    """Finds distance thresholds of RUN, or of the newest run, for `topdb-tf match`.

    The persons of query and gallery are drawn into two halves. Thresholds are found
    on the pairs of one half, and the rates that they really give are measured on the
    other. Other cameras and other people have other rates: calibrate on your own.

    \b
    topdb-tf calibrate
    topdb-tf calibrate runs/market1501 --false-match-rate 1e-3 --false-match-rate 1e-4
    """
    from topdb_tf.evaluate import calibrate as recipe
    from topdb_tf.runs.folder import open_run

    run = open_run(run)
    overrides = [*data_overrides(None, data_root), *overrides]
    overrides += [f"evaluation.metric={metric}"] if metric else []
    overrides += ["evaluation.ignore_cameras=true"] * ignore_cameras
    config = read_config(run.config, overrides, say=say)
    say_settings(config)
    calibration = recipe.calibrate(run, config, **options)
    say(f"thresholds are in {run.calibration}")
    show(calibration, recipe.calibration_lines, as_json)


@click.command(cls=_TellsByStatus)
@click.argument("images", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--pairs",
    type=click.Path(path_type=Path),
    help="CSV file of pairs instead, IMAGE,IMAGE a row, without a header.",
)
@click.option(
    "--run",
    type=click.Path(path_type=Path),
    help="A calibrated run.  [default: the newest]",
)
@click.option(
    "--false-match-rate",
    type=float,
    help="One that was calibrated.  [default: the first]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")
@click.pass_context
def match(ctx, images, pairs, run, false_match_rate, as_json):
    """Tells whether the two IMAGES show the same person.

    Ends with status 0 if they do, 1 if they show different persons and 2 at an
    error. With --pairs, 0 is for all pairs and 1 for any. The run has to be
    calibrated first, by `topdb-tf calibrate`; the rates hold for its data set.

    \b
    topdb-tf match a.jpg b.jpg --run runs/market1501
    topdb-tf match --pairs pairs.csv --false-match-rate 1e-4 --json
    """
    from topdb_tf.evaluate import match as recipe
    from topdb_tf.runs.folder import open_run

    if len(images) != (0 if pairs else 2):
        raise click.UsageError("Name two images, or a file with --pairs.")
    pairs = recipe.read_pairs(pairs) if pairs else [images]
    options = {"false_match_rate": false_match_rate}
    result = recipe.match(open_run(run), pairs, **options)
    show(result, recipe.match_lines, as_json)
    ctx.exit(0 if all(p["is_same_person"] for p in result["pairs"]) else _DIFFERENT)
