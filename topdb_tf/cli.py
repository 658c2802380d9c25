"""The command line: parse, call the recipe, print."""

import datetime
import json
import sys
from pathlib import Path

import click

from topdb_tf import __version__
from topdb_tf.recipe_files import read_config, read_recipe, recipes

_EXPLAINED = (ValueError, FileNotFoundError, FileExistsError, ArithmeticError)


class _Commands(click.Group):
    """Turns what a user can mend into one line and a non-zero status."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except _EXPLAINED as error:
            if ctx.params.get("traceback"):
                raise
            raise click.ClickException(" ".join(str(error).split())) from error


@click.group(cls=_Commands)
@click.version_option(__version__)
@click.option("--traceback", is_flag=True, help="Show where an error came from.")
def main(traceback):
    """Trains, evaluates and serves Top-DB-Net for person re-identification.

    Progress and messages go to standard error, results to standard output.
    """


@main.command()
@click.option(
    "--dataset",
    help="market1501, dukemtmc-reid, cuhk03-labeled, cuhk03-detected or synthetic.  "
    "[default: the recipe's]",
)
@click.option(
    "--recipe",
    default="paper",
    show_default=True,
    help=f"{', '.join(recipes())}, or a YAML file.",
)
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of data.")
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    help="New folder of the run.  [default: runs/DATASET-RECIPE-TIME]",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    help="auto times the device and takes what pays.  [default: the recipe's]",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another setting, such as train.epochs=1; may be repeated.",
)
def fit(dataset, recipe, data_root, run_dir, precision, overrides):
    """Trains a network and scores it.

    \b
    topdb-tf fit --dataset market1501
    topdb-tf fit --dataset cuhk03-labeled --recipe authors --set train.seed=2
    """
    from topdb_tf.recipe.fit import fit as fit_recipe

    options = _data_overrides(dataset, data_root)
    options += [f"train.precision={precision}"] if precision else []
    config = read_recipe(recipe, [*options, *overrides])
    name = f"{config.data.split}-{Path(recipe).stem}"
    click.echo(fit_recipe(config, run_dir or _new_run_dir(name), say=_say).path)


@main.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--dataset", help="Another data set than the run's own.")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of data.")
@click.option(
    "--best", is_flag=True, help="The epoch of the highest mAP, not the last."
)
@click.option("--rerank", is_flag=True, help="Add k-reciprocal re-ranked scores.")
@click.option(
    "--ignore-cameras", is_flag=True, help="Count matches of the query's own camera."
)
@click.option("--json", "as_json", is_flag=True, help="Print scores.json alone.")
def evaluate(run, dataset, data_root, best, rerank, ignore_cameras, as_json):
    """Scores the model of RUN, or of the newest run, on query and gallery.

    \b
    topdb-tf evaluate
    topdb-tf evaluate runs/market1501 --rerank --json
    """
    from topdb_tf.recipe.scoring import evaluate as evaluate_recipe
    from topdb_tf.recipe.scoring import score_lines
    from topdb_tf.run_folder import open_run

    run = open_run(run)
    overrides = _data_overrides(None, data_root)
    overrides += ["evaluation.ignore_cameras=true"] * ignore_cameras
    config = read_config(run.config, overrides)
    scores = evaluate_recipe(run, config, dataset=dataset, best=best, rerank=rerank)
    _say(f"{run.path} on {scores['dataset']}")
    _show(scores, score_lines, as_json)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--metric",
    type=click.Choice(["sqeuclidean", "euclidean", "cosine"]),
    default="sqeuclidean",
    show_default=True,
)
@click.option("--rerank", is_flag=True, help="Re-rank by k-reciprocal encoding first.")
@click.option(
    "--rerank-input",
    type=click.Choice(["squared", "euclidean"]),
    default="squared",
    show_default=True,
    help="Distances that are re-ranked: squared as in the authors' code, or Euclidean "
    "as in the paper of the re-ranking.",
)
@click.option("--k1", default=20, show_default=True, help="Of the re-ranking.")
@click.option("--k2", default=6, show_default=True, help="Of the re-ranking.")
@click.option("--lambda", "lambda_value", default=0.3, show_default=True)
@click.option(
    "--ignore-cameras", is_flag=True, help="Count matches of the query's own camera."
)
@click.option(
    "--memory-limit",
    metavar="MIB",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="Memory above the features, in MiB.",
)
@click.option(
    "--expand",
    metavar="K",
    type=int,
    help="First average each image's K nearest (AQE).",
)
@click.option(
    "--single-shot",
    metavar="DRAWS",
    type=int,
    help="Draw one gallery image a person this often, as in CUHK03's classic protocol.",
)
@click.option("--verify", is_flag=True, help="Add equal error rate and TPR at FPRs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")
def score(file, as_json, **options):
    """Scores the features in FILE.npz, from whatever program they come.

    The arrays are query_features, gallery_features, query_pids, gallery_pids,
    query_camids and gallery_camids.

    \b
    topdb-tf score features.npz
    topdb-tf score features.npz --metric cosine --rerank --json
    """
    from topdb_tf.recipe.features import score_file
    from topdb_tf.recipe.scoring import score_lines

    options["memory_limit"] <<= 20
    scores = score_file(file, **options)
    _show(scores, score_lines, as_json)


@main.command()
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of data.")
@click.option(
    "--run-dir", type=click.Path(path_type=Path), help="New folder of the run."
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def demo(data_root, run_dir, overrides, as_json):
    """Trains on drawn people and compares with what needs no training.

    Draws the synthetic data set on first use; takes a few minutes on two cores.
    """
    from topdb_tf.recipe.demo import demo as run_demo
    from topdb_tf.recipe.demo import table_lines

    config = read_recipe("demo", [*_data_overrides(None, data_root), *overrides])
    table = run_demo(config, run_dir or _new_run_dir("demo"), say=_say)
    _show(table, table_lines, as_json)


@main.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")
def info(run, as_json):
    """Tells what RUN, or the newest run, is and how far it came."""
    from topdb_tf.recipe.info import info_lines, run_info
    from topdb_tf.run_folder import open_run

    _show(run_info(open_run(run)), info_lines, as_json)


def _data_overrides(dataset, data_root):
    overrides = [f"data.split={dataset}"] if dataset else []
    return overrides + ([f"data.root={data_root.resolve()}"] if data_root else [])


def _new_run_dir(name):
    return Path("runs") / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def _show(result, lines_of, as_json):
    text = json.dumps(result, indent=2) if as_json else "\n".join(lines_of(result))
    click.echo(text)


def _say(line):
    click.echo(line, err=True)


if __name__ == "__main__":
    sys.exit(main())
