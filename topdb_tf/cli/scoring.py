"""Commands that score a model or features."""

from pathlib import Path

import click

from topdb_tf.cli.output import data_overrides, say, show
from topdb_tf.recipe_files import read_config


@click.command()
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
    overrides = data_overrides(None, data_root)
    overrides += ["evaluation.ignore_cameras=true"] * ignore_cameras
    config = read_config(run.config, overrides)
    scores = evaluate_recipe(run, config, dataset=dataset, best=best, rerank=rerank)
    say(f"{run.path} on {scores['dataset']}")
    show(scores, score_lines, as_json)


@click.command()
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
    show(scores, score_lines, as_json)
