"""Commands that train, and that tell what was trained."""

from pathlib import Path

import click
from click.core import ParameterSource

from topdb_tf.cli.options import (
    AS_JSON,
    DATA_ROOT,
    LAYOUT,
    OVERRIDES,
    PATH,
    RUN,
    NamesOption,
    NumberRange,
    data_overrides,
    dataset_names,
    new_run_dir,
    say,
    say_settings,
    show,
)
from topdb_tf.cli.settings import PLUGINS, RECIPE
from topdb_tf.runs.recipes import read_recipe
from topdb_tf.runs.settings import PRECISIONS
from topdb_tf.training.choices import STRATEGIES


@click.command()
@click.option(
    "--dataset",
    cls=NamesOption,
    names=dataset_names,
    help="{names}, or one's own images: a CSV file or a folder. Several are joined by "
    "+.  [default: the recipe's]",
)
@RECIPE
@LAYOUT
@DATA_ROOT
@click.option(
    "--run-dir",
    type=PATH,
    help="New folder of the run.  [default: runs/DATASET-RECIPE-TIME]",
)
@click.option(
    "--epochs",
    type=click.IntRange(1, 99_999),
    metavar="N",
    help="train.epochs: warm-up and decay of the recipe change in proportion.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(4, 65_536),
    metavar="N",
    help="data.batch_size: images a step.",
)
@click.option(
    "--lr",
    type=NumberRange(0, 1000, min_open=True),
    metavar="RATE",
    help="train.learning_rate: the peak at a batch of train.reference_batch_size, 128.",
)
@PLUGINS
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="auto times the device and takes what pays.  [default: the recipe's]",
)
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    help="mirrored: all GPUs of this machine; multiworker: the machines in TF_CONFIG, "
    "on each of which the same command is run, with the run's folder on a file system "
    "that all see.  [default: the recipe's]",
)
@OVERRIDES
@click.option(
    "--seeds",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Train from N seeds, a folder each, and sum up; the same --run-dir goes on.",
)
@click.option(
    "--resume",
    "resumed",
    type=PATH,
    metavar="RUN",
    help="Go on with the interrupted run of this folder.",
)
@click.option("--force", is_flag=True, help="Resume with settings that are not its.")
@AS_JSON
@click.pass_context
def fit(
    context,
    dataset,
    recipe,
    data_root,
    run_dir,
    epochs,
    batch_size,
    lr,
    plugins,
    precision,
    strategy,
    overrides,
    seeds,
    resumed,
    force,
    as_json,
):
    """Trains a network and scores it.

    \b
    topdb-tf fit --dataset market1501
    topdb-tf fit --dataset cuhk03-labeled --recipe authors --set train.seed=2
    topdb-tf fit --dataset people --recipe light --epochs 20
    topdb-tf fit --dataset market1501+people.csv --set data.balance=true
    topdb-tf fit --dataset people --plugin my_blocks --set model.drop=mine
    topdb-tf fit --dataset market1501 --seeds 5 --run-dir runs/market1501
    topdb-tf fit --resume runs/market1501
    """
    from topdb_tf.data.benchmarks import dataset_name
    from topdb_tf.fit.fit import fit as fit_recipe
    from topdb_tf.fit.fit import resume
    from topdb_tf.fit.seeds import fit_seeds, seeds_lines

    options = data_overrides(dataset, data_root)
    named = {
        "train.epochs": epochs,
        "data.batch_size": batch_size,
        "train.learning_rate": lr,
        "train.precision": precision,
        "train.strategy": strategy,
    }
    options += [f"{key}={value}" for key, value in named.items() if value is not None]
    options += overrides
    if resumed is not None:
        _refuse_beside_resume(context)
        _show_run(resume(resumed, overrides=options, force=force, say=say), as_json)
        return
    config = read_recipe(recipe, options, plugins=plugins, say=say)
    say_settings(config)
    name = dataset_name(config.data.dataset)
    run_dir = run_dir or new_run_dir(f"{name}-{Path(recipe).stem}")
    if seeds is None:
        _show_run(fit_recipe(config, run_dir, say=say), as_json)
    else:
        summary = fit_seeds(config, run_dir, num_seeds=seeds, say=say)
        show(summary, seeds_lines, as_json)


@click.command()
@DATA_ROOT
@click.option(
    "--run-dir", type=PATH, help="New folder of the run.  [default: runs/demo-TIME]"
)
@OVERRIDES
@AS_JSON
def demo(data_root, run_dir, overrides, as_json):
    """Trains on drawn people, to try everything in minutes.

    Compares with what needs no training. Draws the data set on first use; takes a few
    minutes on two cores.

    \b
    topdb-tf demo
    topdb-tf demo --run-dir runs/demo --set train.epochs=3 --json
    """
    from topdb_tf.fit.demo import demo as run_demo
    from topdb_tf.fit.demo import table_lines

    overrides = [*data_overrides(None, data_root), *overrides]
    config = read_recipe("demo", overrides, say=say)
    say_settings(config)
    table = run_demo(config, run_dir or new_run_dir("demo"), say=say)
    show(table, table_lines, as_json)


@click.command()
@RUN
@AS_JSON
def info(run, as_json):
    """Tells what RUN, or the newest run, is and how far it came.

    \b
    topdb-tf info
    topdb-tf info runs/market1501 --json
    """
    from topdb_tf.fit.info import info_lines, run_info
    from topdb_tf.runs.folder import open_run

    show(run_info(open_run(run)), info_lines, as_json)


def _show_run(run, as_json):
    if run is None:  # the chief of the workers shows it
        return
    from topdb_tf.evaluate.scores import read_scores

    record = {"run": str(run.path), **read_scores(run).to_dict()}
    show(record, lambda _: [str(run.path)], as_json)


def _refuse_beside_resume(context):
    options = ("recipe", "run_dir", "seeds", "layout", "pattern", "plugins")
    for name in options:
        option = "--plugin" if name == "plugins" else "--" + name.replace("_", "-")
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(
                f"--resume goes on with a run as it is. Leave out {option}."
            )
