"""What a report says of a run in words and tables."""

from collections.abc import Sequence

from topdb_tf.data.records import DatasetCard, Split, load_card
from topdb_tf.drawing.distances import METRIC_NAMES
from topdb_tf.evaluate.measured import Measured
from topdb_tf.evaluate.scores import PAPER_METRICS
from topdb_tf.figures.run_curves import read_log
from topdb_tf.fit.info import RunInfo
from topdb_tf.fit.seeds import DEVIATION, read_seeds
from topdb_tf.retrieval.pairs.intervals import share_of_trials
from topdb_tf.retrieval.protocol import Protocol
from topdb_tf.runs.folder import VALIDATION
from topdb_tf.runs.machine import Environment
from topdb_tf.runs.nearest import NearestRecipe, nearest_recipe
from topdb_tf.runs.recipes import settings_text, yaml_text
from topdb_tf.texts import Table, duration_text, percent

_FEW_QUERIES = 200
_SAME_SCORES = 5e-4

NamesAndValues = list[tuple[str, str | Sequence[str]]]
"""Names of things with their values; a value may be several lines."""


def title_of(dataset: str) -> str:
    """Returns the name that the authors of a data set gave it, if that is known."""
    card = _card(dataset)
    return card.title if card else dataset


def camera_name(split: Split, camid: int) -> str:
    """Returns what a camera is called on a page."""
    if not split.has_cameras:
        return "unknown"
    return split.camera_name(camid)


def recipe_text(near: NearestRecipe) -> str:
    """Returns the recipe of a run for people, with what is not the recipe's."""
    if not near.departures:
        return f"{near.name}, unchanged"
    return f"{near.name} with {settings_text(near.departures)}"


def summary(measured: Measured, info: RunInfo) -> NamesAndValues:
    """Returns what a run is."""
    environment, split = measured.run.environment, measured.split
    protocol = measured.plain.result.protocol
    evaluated_on = [
        title_of(split.name),
        f"{protocol.num_valid_queries:,} valid queries of "
        f"{protocol.num_queries:,}, {protocol.num_gallery:,} gallery images",
    ]
    trained_on = title_of(measured.embedded.origin.trained_on)
    if measured.embedded.is_own:
        trained_on += f", {len(split.train):,} images"
    return [
        ("Run", str(measured.run.path)),
        ("Trained on", trained_on),
        ("Recipe", recipe_text(nearest_recipe(measured.config))),
        ("Network", _network_lines(measured)),
        ("Precision", str(environment.precision or "unknown")),
        ("Epochs", _epochs_text(info)),
        ("Weights", _weights_text(measured)),
        ("Seed", _seed_lines(measured)),
        ("Trained", _time_lines(measured)),
        ("Device", environment.device or "unknown"),
        ("Evaluated on", evaluated_on),
    ]


def protocol_in_full(protocol: Protocol) -> NamesAndValues:
    """Returns all of a protocol."""
    if protocol.cameras == "none":
        cameras = "none are known: every image but the query itself counts"
    elif protocol.ignore_cameras:
        cameras = "ignored: matches by the query's own camera count"
    else:
        cameras = (
            "an image of the query's person by the query's own camera is not ranked"
        )
    return [
        ("Distance", METRIC_NAMES[protocol.metric].removesuffix(" distance")),
        ("mAP", f"{protocol.mean_ap}, then the mean over the valid queries"),
        ("mAP, trapezoid", protocol.mean_ap_trapezoid),
        ("mINP", "share of matches up to the last one, the mean over the queries"),
        ("CMC", "share of the valid queries with a match up to the rank"),
        ("Cameras", cameras),
        (
            "Queries",
            f"{protocol.num_valid_queries:,} of {protocol.num_queries:,} have a match "
            "and count; single query",
        ),
        ("Gallery", f"{protocol.num_gallery:,} images"),
        ("Ties", protocol.ties),
        ("Identities and cameras", f"SHA-256 {protocol.split_sha256}"),
    ]


def settings_beside_recipe(near: NearestRecipe) -> Table:
    """Returns the settings of a run that are not its recipe's, with the recipe's."""
    return Table(
        caption=f"Beside the recipe {near.name}.",
        head=["setting", "this run", near.name],
        rows=[
            [change.key, yaml_text(change.now), yaml_text(change.before)]
            for change in near.changes
        ],
        is_words=True,
    )


def program_and_device(environment: Environment) -> NamesAndValues:
    """Returns the version of the program, and what it ran on."""
    commit = environment.git_commit
    return [
        ("topdb-tf", environment.topdb_tf or "unknown"),
        ("Commit", commit[:12] if commit else "unknown: not run from its repository"),
        ("Python", environment.python or "unknown"),
        ("Device", environment.device or "unknown"),
    ]


def whole_environment(environment: Environment) -> NamesAndValues:
    """Returns all that is known of an environment."""
    rows = program_and_device(environment)
    rows.append(("System", environment.platform or "unknown"))
    if environment.packages:
        versions = environment.packages.items()
        packages = [f"{name} {version}" for name, version in versions]
        rows.append(("Packages", ", ".join(packages)))
    return rows


def warnings_of(measured: Measured, info: RunInfo) -> list[str]:
    """Returns what a reader must know before relying on the scores."""
    split, protocol = measured.split, measured.plain.result.protocol
    lines = [
        *measured.notes,
        *_subset_lines(split),
        *_unfinished_lines(info),
        *_other_scores_lines(measured, info),
        *_few_queries_lines(measured),
    ]
    if measured.plain.result.warning:
        lines.append(measured.plain.result.warning)
    if protocol.ignore_cameras and protocol.cameras != "none":
        lines.append(
            "Matches by the query's own camera count. That is easier than the "
            "benchmarks' protocol."
        )
    if not measured.embedded.is_own:
        trained_on = title_of(measured.embedded.origin.trained_on)
        lines.append(
            f"The network was trained on {trained_on}, not on {title_of(split.name)}."
        )
    return lines


def _card(dataset) -> DatasetCard | None:
    try:
        return load_card(dataset)
    except FileNotFoundError:
        return None


def _network_lines(measured):
    model, data = measured.config.model, measured.config.data
    embedding = f"embedding of {measured.images.query_features.shape[1]}"
    parameters = measured.run.environment.trainable_parameters
    if parameters:
        embedding += f", {parameters:,} trainable parameters"
    return [
        f"{model.backbone} at {data.image_height} x {data.image_width} pixels, "
        f"start: {model.weights}",
        f"streams {', '.join(model.streams)}",
        embedding,
        f"model {measured.embedded.model.name}",
    ]


def _epochs_text(info):
    if info.last is None:
        return f"{info.epochs} planned; no checkpoint is left to tell how many done"
    text = f"{info.last.epoch} of {info.epochs}"
    return f"{text}, stopped early" if info.ended_early else text


def _weights_text(measured):
    """Returns which epoch's weights are shown, and by which part it was chosen."""
    choice, run = measured.embedded.choice, measured.run
    if choice is not None:
        return str(choice)
    held_out = run.chooses_by == VALIDATION
    return f"of the last epoch{', though identities are held out' * held_out}"


def _seed_lines(measured):
    lines = [str(measured.config.train.seed)]
    seeds = read_seeds(measured.run.path.resolve().parent)
    if seeds is not None:
        scores = ", ".join(
            f"{metric.name} {seeds.plain[metric.key]}" for metric in PAPER_METRICS
        )
        lines.append(f"one of {len(seeds.seeds)} seeds: {scores} ({DEVIATION})")
    return lines


def _time_lines(measured):
    run = measured.run
    seconds = read_log(run).total_seconds if run.folder.log.is_file() else None
    if seconds is None:
        return ["unknown: the run's log has no seconds of each epoch"]
    return [f"{duration_text(seconds)} of training and scoring"]


def _subset_lines(split):
    card = _card(split.name)
    lines = []
    for part, expected in (card.parts if card else {}).items():
        number = len(getattr(split, part))
        if number != expected.images:
            lines.append(
                f"A part of {card.title}: {part} has {number:,} images instead of "
                f"{expected.images:,}. The scores are not those of the data set."
            )
    return lines


def _unfinished_lines(info):
    if info.last is None or info.ended_early or info.last.epoch >= info.epochs:
        return []
    return [f"Training is not finished: {info.last.epoch} of {info.epochs} epochs."]


def _other_scores_lines(measured, info):
    """Compares with the scores that the run was given before, of the same model."""
    before, now = info.scores, measured.scores
    if (
        before is None
        or before.origin is None
        or before.origin.dataset != now.origin.dataset
        or before.model != now.model
        or before.plain.protocol != now.plain.protocol
    ):
        return []
    old, new = before.plain.scores.mean_ap, now.plain.scores.mean_ap
    if abs(old - new) < _SAME_SCORES:
        return []
    return [
        f"{info.run.folder.scores.name} says mAP {percent(old)}, measured here "
        f"{percent(new)}: model, images or machine have changed since."
    ]


def _few_queries_lines(measured):
    scores, queries = measured.plain.result.scores, measured.split.query
    valid, lines = scores.num_valid_queries, []
    if valid < len(queries):
        lines.append(
            f"{len(queries) - valid:,} of {len(queries):,} queries have no match in "
            "the gallery by another camera, and do not count."
        )
    if valid < _FEW_QUERIES:
        rank_1 = share_of_trials(float(scores.cmc[0]), valid)
        lines.append(
            f"Only {valid:,} queries count: one of them is {100 / valid:.1f} points of "
            f"rank-1, whose 95 % interval is {percent(rank_1.low)} to "
            f"{percent(rank_1.high)} % or wider."
        )
    return lines
