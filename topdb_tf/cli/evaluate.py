"""Commands that score a model, find its thresholds, and decide by them."""

import traceback

import click

from topdb_tf.cli.options import (
    AS_JSON,
    BEST,
    DATA_ROOT,
    DATASET,
    IGNORE_CAMERAS,
    METRIC,
    NORMALIZE_CAMERAS,
    OVERRIDES,
    PATH,
    RERANK,
    RUN,
    SHARE,
    TRACKLETS,
    NumberRange,
    camera_normalization,
    count_option,
    data_overrides,
    evaluation_overrides,
    explained_os_errors,
    features_in,
    note_on_demo,
    read_features,
    say,
    say_settings,
    seed_option,
    show,
)
from topdb_tf.cli.settings import PLUGINS
from topdb_tf.runs.recipes import read_recipe
from topdb_tf.texts import one_line, printable


@click.command()
@RUN
@click.option(
    "--weights",
    type=PATH,
    callback=note_on_demo,
    help="A .keras file or preset instead of a run; needs --dataset, writes nothing.",
)
@DATASET
@DATA_ROOT
@BEST
@click.option(
    "--validation",
    is_flag=True,
    help="The identities that RUN held out of its training, instead of the test.",
)
@RERANK
@IGNORE_CAMERAS
@NORMALIZE_CAMERAS
@TRACKLETS
@PLUGINS
@OVERRIDES
@AS_JSON
def evaluate(
    run,
    weights,
    dataset,
    data_root,
    best,
    validation,
    rerank,
    ignore_cameras,
    normalize_cameras,
    camera_statistics,
    tracklets,
    plugins,
    overrides,
    as_json,
):
    """Scores RUN, the newest run or a .keras file.

    \b
    topdb-tf evaluate
    topdb-tf evaluate runs/market1501 --rerank --json
    topdb-tf evaluate runs/market1501 --dataset people.csv
    topdb-tf evaluate --weights topdb.keras --dataset market1501
    """
    from topdb_tf.evaluate import evaluate as scoring
    from topdb_tf.evaluate.scores import score_lines
    from topdb_tf.runs.folder import open_run

    chosen = {"rerank": rerank, "tracklets": tracklets, "say": say}
    chosen["normalize_cameras"] = camera_normalization(
        normalize_cameras, camera_statistics
    )
    settings = data_overrides(None, data_root)
    settings += ["evaluation.ignore_cameras=true"] * ignore_cameras
    if weights is not None:
        if run is not None or best or validation or dataset is None:
            raise ValueError(
                "--weights stands instead of RUN, --best and --validation, and needs "
                "--dataset."
            )
        settings += overrides
        config = read_recipe("paper", settings, plugins=plugins, say=say)
        say_settings(config)
        scores = scoring.evaluate_weights(weights, config, dataset, **chosen)
    else:
        if overrides or plugins:
            option = "--set" if overrides else "--plugin"
            raise ValueError(
                f"{option} goes with --weights; a run has its own settings."
            )
        run = open_run(run, settings, say=say)
        say_settings(run.config)
        scores = scoring.evaluate(
            run, dataset, best=best, validation=validation, **chosen
        )
    say(f"{weights or run.path} on {scores.origin.dataset}")
    show(scores, score_lines, as_json)


@click.command()
@click.argument("files", nargs=-1, required=True, type=PATH)
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
@count_option("--k1", default=20, help="Of the re-ranking.")
@count_option("--k2", default=6, help="Of the re-ranking.")
@click.option(
    "--lambda",
    "lambda_value",
    type=NumberRange(0, 1),
    default=0.3,
    show_default=True,
    help="Of the re-ranking: the share of the distance itself.",
)
@IGNORE_CAMERAS
@NORMALIZE_CAMERAS
@count_option(
    "--memory-limit",
    metavar="MIB",
    most=10**9,
    default=1024,
    help="Memory above the features, in MiB.",
)
@count_option(
    "--expand", metavar="K", help="First average each image's K nearest (AQE)."
)
@count_option(
    "--single-shot",
    metavar="DRAWS",
    help="Draw one gallery image a person this often, as in CUHK03's classic protocol.",
)
@click.option("--verify", is_flag=True, help="Add equal error rate and TPR at FPRs.")
@click.option(
    "--per-query",
    type=PATH,
    metavar="FILE.csv",
    help="Write the scores of each query into this file.",
)
@click.option(
    "--ci",
    "with_intervals",
    is_flag=True,
    help="Add 95 % intervals over other test persons (bootstrap).",
)
@seed_option("Of --ci.")
@AS_JSON
def score(
    files,
    rerank,
    rerank_input,
    k1,
    k2,
    lambda_value,
    normalize_cameras,
    camera_statistics,
    memory_limit,
    with_intervals,
    seed,
    as_json,
    **options,
):
    """Scores the features in FILES, of any program.

    A file (.npz, .parquet, .pt, .pth, .safetensors, .mat), several or a folder, such
    as .npy, which hold one set together: query_features, gallery_features, query_pids,
    gallery_pids, query_camids and gallery_camids, or usual other names such as qf,
    q_pids, query_label. No TensorFlow is needed.

    \b
    topdb-tf score features.npz --per-query queries.csv --ci
    topdb-tf score pytorch_result.mat --metric cosine --rerank --json
    topdb-tf score query.pt gallery.pt
    """
    from topdb_tf.evaluate.score_file import score_file
    from topdb_tf.retrieval.reranking import Reranking

    reranking = Reranking(k1, k2, lambda_value, rerank_input) if rerank else None
    scores = score_file(
        files,
        rerank=reranking,
        normalize_cameras=camera_normalization(normalize_cameras, camera_statistics),
        memory_limit=memory_limit << 20,
        seed=seed if with_intervals else None,
        say=say,
        **options,
    )
    show(scores, lambda scores: scores.lines(), as_json)


_DIFFERENT, _ERROR = 1, 2


class _TellsByStatus(click.Command):
    """Ends with 2 at any error: 1 is an answer, and must not be taken for one."""

    def invoke(self, ctx):
        root = ctx.find_root()
        try:
            with explained_os_errors(root):
                return super().invoke(ctx)
        except (click.exceptions.Exit, click.UsageError):
            raise
        except Exception as error:  # Python would end with 1 at an unforeseen one
            if isinstance(error, click.ClickException):
                error.message = printable(error.message)
                error.show()
            elif isinstance(error, ValueError) and not root.params.get("traceback"):
                click.echo(f"Error: {one_line(error)}", err=True)
            elif not isinstance(error, BrokenPipeError):
                traceback.print_exc()
            ctx.exit(_ERROR)


@click.command()
@click.argument("run", required=False, type=PATH, metavar="[RUN|FEATURES]")
@click.option(
    "--false-match-rate",
    "rates",
    type=SHARE,
    multiple=True,
    help="Share of the pairs of two persons to be taken for one; may be repeated.  "
    "[default: 0.001, or the smallest that the persons can state]",
)
@DATASET
@DATA_ROOT
@METRIC
@BEST
@click.option(
    "--ignore-cameras", is_flag=True, help="Count pairs by one camera as well."
)
@seed_option("Of the two halves.")
@OVERRIDES
@AS_JSON
def calibrate(run, data_root, metric, ignore_cameras, overrides, as_json, **options):
    """Finds the distances up to which RUN takes persons for one.

    Those of FEATURES in a file are printed alone.

    The persons of query and gallery are drawn into two halves. Thresholds are found
    on the pairs of one half, and the rates that they really give are measured on the
    other. Other cameras and other people have other rates: calibrate on your own.

    \b
    topdb-tf calibrate
    topdb-tf calibrate runs/market1501 --false-match-rate 1e-3 --false-match-rate 1e-4
    topdb-tf calibrate features.npz --metric cosine --json
    """
    from topdb_tf.evaluate import calibrate as calibration
    from topdb_tf.runs.folder import open_run

    needless = ("dataset", "data_root", "best", "overrides")
    if run and features_in([run], *needless):
        images = read_features(run, metric, ignore_cameras)
        chosen = {name: options[name] for name in ("rates", "seed")}
        result = calibration.calibrate_features(images, **chosen, say=say)
        show(result, calibration.calibration_lines, as_json)
        return
    overrides = [*data_overrides(None, data_root), *overrides]
    overrides += evaluation_overrides(metric, ignore_cameras)
    run = open_run(run, overrides, say=say)
    say_settings(run.config)
    result = calibration.calibrate(run, say=say, **options)
    say(f"thresholds are in {run.folder.calibration}")
    show(result, calibration.calibration_lines, as_json)


@click.command(cls=_TellsByStatus)
@click.argument("images", nargs=-1, type=PATH)
@click.option(
    "--pairs",
    type=PATH,
    help="CSV file of pairs instead, IMAGE,IMAGE a row, without a header.",
)
@click.option(
    "--run",
    type=PATH,
    help="A calibrated run, or a preset of one.  [default: the newest run]",
)
@click.option(
    "--false-match-rate",
    type=SHARE,
    help="One that was calibrated.  [default: the first]",
)
@AS_JSON
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
    from topdb_tf.evaluate.match import match as judge
    from topdb_tf.evaluate.match import match_lines, read_pairs
    from topdb_tf.runs.folder import open_run
    from topdb_tf.runs.models import find_model, weights_of

    if len(images) != (0 if pairs else 2):
        raise click.UsageError("Name two images, or a file with --pairs.")
    pairs = read_pairs(pairs) if pairs else [images]
    model = find_model(run)
    folder = open_run(run).path if model is None else weights_of(model).parent
    result = judge(folder, pairs, false_match_rate=false_match_rate)
    show(result, match_lines, as_json)
    is_same = all(pair.is_same_person for pair in result.pairs)
    ctx.exit(0 if is_same else _DIFFERENT)
