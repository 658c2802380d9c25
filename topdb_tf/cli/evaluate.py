"""Commands that score a model or features."""

from pathlib import Path

import click

from topdb_tf.cli.options import data_overrides, say, say_settings, show
from topdb_tf.runs.recipes import read_config, read_recipe


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="A .keras file instead of a run; needs --dataset, writes nothing.",
)
@click.option(
    "--dataset", help="Another data set than the run's own: a name, CSV file or folder."
)
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of data.")
@click.option(
    "--best", is_flag=True, help="The epoch of the highest mAP, not the last."
)
@click.option("--rerank", is_flag=True, help="Add k-reciprocal re-ranked scores.")
@click.option(
    "--ignore-cameras", is_flag=True, help="Count matches of the query's own camera."
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another setting for --weights, such as data.check_counts=false.",
)
@click.option("--json", "as_json", is_flag=True, help="Print scores.json alone.")
def evaluate(
    run, weights, dataset, data_root, best, rerank, ignore_cameras, overrides, as_json
):
    """Scores the model of RUN, of the newest run or of a file, on query and gallery.

    \b
    topdb-tf evaluate
    topdb-tf evaluate runs/market1501 --rerank --json
    topdb-tf evaluate runs/market1501 --dataset people.csv
    topdb-tf evaluate --weights topdb.keras --dataset market1501
    """
    from topdb_tf.evaluate import evaluate as scoring
    from topdb_tf.evaluate.scores import score_lines
    from topdb_tf.runs.folder import open_run

    settings = data_overrides(None, data_root)
    settings += ["evaluation.ignore_cameras=true"] * ignore_cameras
    options = {"dataset": dataset, "rerank": rerank}
    if weights is not None:
        if run is not None or best or dataset is None:
            raise ValueError(
                "--weights stands instead of RUN and --best, and needs --dataset."
            )
        config = read_recipe("paper", [*settings, *overrides], say=say)
        say_settings(config)
        scores = scoring.evaluate_weights(weights, config, say=say, **options)
    else:
        if overrides:
            raise ValueError("--set goes with --weights; a run has its own settings.")
        run = open_run(run)
        config = read_config(run.config, settings, say=say)
        say_settings(config)
        scores = scoring.evaluate(run, config, best=best, say=say, **options)
    say(f"{weights or run.path} on {scores['dataset']}")
    show(scores, score_lines, as_json)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--metric",
    default="sqeuclidean",
    show_default=True,
    help="Of the distance: sqeuclidean, euclidean or cosine.",
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
@click.option(
    "--lambda",
    "lambda_value",
    default=0.3,
    show_default=True,
    help="Of the re-ranking: the share of the distance itself.",
)
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
    from topdb_tf.evaluate.score_file import score_file
    from topdb_tf.evaluate.scores import score_lines

    options["memory_limit"] <<= 20
    scores = score_file(file, **options)
    show(scores, score_lines, as_json)
