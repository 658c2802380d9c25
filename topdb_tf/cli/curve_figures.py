"""Commands that draw curves and matrices of runs."""

import click

from topdb_tf.cli.options import (
    PATH,
    data_options,
    data_overrides,
    finish,
    opened,
    output_options,
    say,
    width_of,
)


@click.command()
@click.argument("runs", nargs=-1, type=PATH)
@click.option(
    "--ranks",
    "max_rank",
    type=click.IntRange(2, 50),
    default=20,
    show_default=True,
    help="The last rank drawn.",
)
@click.option("--rerank", is_flag=True, help="Add the re-ranked curves.")
@data_options
@output_options
def cmc(runs, max_rank, dataset, data_root, best, rerank, **output):
    """Draws the CMC of RUNS, or of the newest run, beside the paper's rank-1.

    A folder of seeds is drawn as their mean in a band of the deviation. Scores are
    read where `topdb-tf evaluate` left them; what has none is scored first.

    \b
    topdb-tf figure cmc
    topdb-tf figure cmc runs/paper runs/no_drop --out cmc.svg --out cmc.pdf
    topdb-tf figure cmc runs/NAME --ranks 50 --rerank
    """
    from topdb_tf.evaluate.trainings import trainings_of
    from topdb_tf.figures import run_curves as recipe

    trainings = trainings_of(runs)
    files = _files(output, runs, trainings, "cmc")
    options = {"dataset": dataset, "best": best, "rerank": rerank, "say": say}
    overrides = data_overrides(None, data_root)
    numbers = recipe.cmc_numbers(trainings, overrides=overrides, **options)
    drawn = recipe.cmc_picture(numbers, max_rank=max_rank, width=width_of(output))
    finish(drawn, numbers, files, output)


@click.command()
@click.argument("runs", nargs=-1, type=PATH)
@output_options
def training(runs, **output):
    """Draws losses by stream, accuracy, learning rate and scores of RUNS by epoch.

    By default the newest run. Of several, every panel shows one stream. A folder of
    seeds is drawn as their mean in a band of the deviation.

    \b
    topdb-tf figure training
    topdb-tf figure training runs/paper runs/authors --out training.pdf
    """
    from topdb_tf.evaluate.trainings import trainings_of
    from topdb_tf.figures import run_curves as recipe

    trainings = trainings_of(runs)
    files = _files(output, runs, trainings, "training")
    numbers = recipe.training_numbers(trainings)
    finish(
        recipe.training_picture(numbers, width=width_of(output)), numbers, files, output
    )


@click.command()
@click.argument("run", required=False, type=PATH)
@click.option(
    "--bins",
    "num_bins",
    type=click.IntRange(2, 1000),
    default=80,
    show_default=True,
    help="Of the histograms.",
)
@data_options
@output_options
def distances(run, num_bins, dataset, data_root, best, **output):
    """Draws how far apart images of one person and of two are, by RUN's model.

    With the thresholds of `topdb-tf calibrate`, where there are any.

    \b
    topdb-tf figure distances
    topdb-tf figure distances runs/market1501 --out distances.pdf --column
    """
    from topdb_tf.figures import pair_distances as recipe

    run, config, files = opened(run, data_root, output, "distances")
    options = {"dataset": dataset, "best": best, "num_bins": num_bins, "say": say}
    numbers = recipe.distance_numbers(run, config, **options)
    for note in numbers["notes"]:
        say(note)
    finish(
        recipe.distance_picture(numbers, width=width_of(output)), numbers, files, output
    )


@click.command()
@click.argument("run", required=False, type=PATH)
@click.option(
    "--score",
    type=click.Choice(["rank-1", "mAP"]),
    default="rank-1",
    show_default=True,
    help="In the cells; --json prints both.",
)
@data_options
@output_options
def cameras(run, score, dataset, data_root, best, **output):
    """Draws rank-1 or mAP by the cameras of the query and of the gallery.

    A cell is of the queries of one camera, ranked against the gallery of one camera.

    \b
    topdb-tf figure cameras
    topdb-tf figure cameras runs/market1501 --score mAP --out cameras.svg
    """
    from topdb_tf.figures.camera_pairs import camera_numbers, camera_picture

    name = "cameras" if score == "rank-1" else "cameras-mAP"
    run, config, files = opened(run, data_root, output, name)
    numbers = camera_numbers(run, config, dataset=dataset, best=best, say=say)
    drawn = camera_picture(numbers, score=score, width=width_of(output))
    finish(drawn, numbers, files, output)


@click.command("map")
@click.argument("run", required=False, type=PATH)
@click.option(
    "--method",
    type=click.Choice(["tsne", "pca"]),
    default="tsne",
    show_default=True,
    help="How embeddings come into the plane.",
)
@click.option("--pid", "persons", multiple=True, help="A person; may be repeated.")
@click.option(
    "--num-pids",
    type=click.IntRange(1, 104),
    default=12,
    show_default=True,
    help="Persons with the most images, where none is named.",
)
@click.option("--seed", default=1, show_default=True, help="Of t-SNE.")
@data_options
@output_options
def embedding_map(run, method, persons, num_pids, seed, data_root, **options):
    """Draws the test images of some persons as points, as RUN's model places them.

    \b
    topdb-tf figure map
    topdb-tf figure map runs/market1501 --method pca --pid 12 --pid 40 --pid 77
    """
    from topdb_tf.figures import places as recipe

    output = {name: options.pop(name) for name in ("out", "column", "as_json")}
    run, config, files = opened(run, data_root, output, "map")
    options |= {"method": method, "persons": persons, "num_pids": num_pids}
    numbers = recipe.map_numbers(run, config, seed=seed, say=say, **options)
    finish(recipe.map_picture(numbers, width=width_of(output)), numbers, files, output)


def _files(output, runs, trainings, name):
    from topdb_tf.cli.options import figure_files

    run = runs[0] if runs else trainings[0].runs[0].path
    return figure_files(output["out"], run=run, name=name)
