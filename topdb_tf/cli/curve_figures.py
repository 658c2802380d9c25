"""Commands that draw curves and matrices of runs."""

from pathlib import Path

import click

from topdb_tf.cli.output import data_overrides, say, show

_PATH = click.Path(path_type=Path)


def _options(command):
    """Adds the options of every figure."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print what is drawn."),
        click.option(
            "--column",
            is_flag=True,
            help="3.5 inches wide, for a column of a paper, instead of 7.2.",
        ),
        click.option(
            "--out",
            type=_PATH,
            multiple=True,
            metavar="FILE",
            help="File .png, .svg or .pdf; may be repeated.  [default: "
            "RUN/figures/NAME.png]",
        ),
    ):
        command = option(command)
    return command


def _data_options(command):
    """Adds the options of figures of test images."""
    for option in (
        click.option(
            "--best", is_flag=True, help="The epoch of the highest mAP, not the last."
        ),
        click.option("--data-root", type=_PATH, help="Folder of data."),
        click.option("--dataset", help="Another data set than the run's own."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("runs", nargs=-1, type=_PATH)
@click.option(
    "--ranks",
    "max_rank",
    type=click.IntRange(2, 50),
    default=20,
    show_default=True,
    help="The last rank drawn.",
)
@click.option("--rerank", is_flag=True, help="Add the re-ranked curves.")
@_data_options
@_options
def cmc(runs, max_rank, dataset, data_root, best, rerank, **output):
    """Draws the CMC of RUNS, or of the newest run, beside the paper's rank-1.

    A folder of seeds is drawn as their mean in a band of the deviation. Scores are
    read where `topdb-tf evaluate` left them; what has none is scored first.

    \b
    topdb-tf figure cmc
    topdb-tf figure cmc runs/paper runs/no_drop --out cmc.svg --out cmc.pdf
    topdb-tf figure cmc runs/NAME --ranks 50 --rerank
    """
    from topdb_tf.recipe import curve_figures as recipe

    trainings = recipe.trainings_of(runs)
    files = _files(output, runs, trainings, "cmc")
    options = {"dataset": dataset, "best": best, "rerank": rerank}
    overrides = data_overrides(None, data_root)
    numbers = recipe.cmc_numbers(trainings, overrides=overrides, **options)
    drawn = recipe.cmc_picture(numbers, max_rank=max_rank, width=_width(output))
    _finish(drawn, numbers, files, output)


@click.command()
@click.argument("runs", nargs=-1, type=_PATH)
@_options
def training(runs, **output):
    """Draws losses by stream, accuracy, learning rate and scores of RUNS by epoch.

    By default the newest run. Of several, every panel shows one stream. A folder of
    seeds is drawn as their mean in a band of the deviation.

    \b
    topdb-tf figure training
    topdb-tf figure training runs/paper runs/authors --out training.pdf
    """
    from topdb_tf.recipe import curve_figures as recipe

    trainings = recipe.trainings_of(runs)
    files = _files(output, runs, trainings, "training")
    numbers = recipe.training_numbers(trainings)
    _finish(
        recipe.training_picture(numbers, width=_width(output)), numbers, files, output
    )


@click.command()
@click.argument("run", required=False, type=_PATH)
@click.option(
    "--bins",
    "num_bins",
    type=click.IntRange(2, 1000),
    default=80,
    show_default=True,
    help="Of the histograms.",
)
@_data_options
@_options
def distances(run, num_bins, dataset, data_root, best, **output):
    """Draws how far apart images of one person and of two are, by RUN's model.

    With the thresholds of `topdb-tf calibrate`, where there are any.

    \b
    topdb-tf figure distances
    topdb-tf figure distances runs/market1501 --out distances.pdf --column
    """
    from topdb_tf.recipe import embedding_figures as recipe

    run, config, files = _opened(run, data_root, output, "distances")
    options = {"dataset": dataset, "best": best, "num_bins": num_bins}
    numbers = recipe.distance_numbers(run, config, **options)
    for note in numbers["notes"]:
        say(note)
    _finish(
        recipe.distance_picture(numbers, width=_width(output)), numbers, files, output
    )


@click.command()
@click.argument("run", required=False, type=_PATH)
@click.option(
    "--score",
    type=click.Choice(["rank-1", "mAP"]),
    default="rank-1",
    show_default=True,
    help="In the cells; --json prints both.",
)
@_data_options
@_options
def cameras(run, score, dataset, data_root, best, **output):
    """Draws rank-1 or mAP by the cameras of the query and of the gallery.

    A cell is of the queries of one camera, ranked against the gallery of one camera.

    \b
    topdb-tf figure cameras
    topdb-tf figure cameras runs/market1501 --score mAP --out cameras.svg
    """
    from topdb_tf.recipe import embedding_figures as recipe

    name = "cameras" if score == "rank-1" else "cameras-mAP"
    run, config, files = _opened(run, data_root, output, name)
    numbers = recipe.camera_numbers(run, config, dataset=dataset, best=best)
    drawn = recipe.camera_picture(numbers, score=score, width=_width(output))
    _finish(drawn, numbers, files, output)


@click.command("map")
@click.argument("run", required=False, type=_PATH)
@click.option(
    "--method",
    type=click.Choice(["tsne", "pca"]),
    default="tsne",
    show_default=True,
    help="How embeddings come into the plane.",
)
@click.option(
    "--pid", "pids", type=int, multiple=True, help="A person; may be repeated."
)
@click.option(
    "--num-pids",
    type=click.IntRange(1, 88),
    default=12,
    show_default=True,
    help="Persons with the most images, where none is named.",
)
@click.option("--seed", default=1, show_default=True, help="Of t-SNE.")
@_data_options
@_options
def embedding_map(run, method, pids, num_pids, seed, data_root, **options):
    """Draws the test images of some persons as points, as RUN's model places them.

    \b
    topdb-tf figure map
    topdb-tf figure map runs/market1501 --method pca --pid 12 --pid 40 --pid 77
    """
    from topdb_tf.recipe import embedding_map as recipe

    output = {name: options.pop(name) for name in ("out", "column", "as_json")}
    run, config, files = _opened(run, data_root, output, "map")
    options |= {"method": method, "pids": pids, "num_pids": num_pids, "seed": seed}
    numbers = recipe.map_numbers(run, config, **options)
    _finish(recipe.map_picture(numbers, width=_width(output)), numbers, files, output)


def _opened(run, data_root, output, name):
    """Returns a run, its settings, and the files of a figure of it."""
    from topdb_tf.recipe.figure_files import figure_files
    from topdb_tf.recipe_files import read_config
    from topdb_tf.run_folder import open_run

    run = open_run(run)
    config = read_config(run.config, data_overrides(None, data_root))
    return run, config, figure_files(output["out"], run=run.path, name=name)


def _files(output, runs, trainings, name):
    from topdb_tf.recipe.figure_files import figure_files

    run = runs[0] if runs else trainings[0].runs[0].path
    return figure_files(output["out"], run=run, name=name)


def _width(output):
    from topdb_tf.figures.style import COLUMN_WIDTH, PAGE_WIDTH

    return COLUMN_WIDTH if output["column"] else PAGE_WIDTH


def _finish(drawn, numbers, files, output):
    from topdb_tf.recipe.figure_files import write_figure

    write_figure(drawn, files)
    result = {**numbers, "files": [str(file) for file in files]}
    show(result, lambda result: result["files"], output["as_json"])
