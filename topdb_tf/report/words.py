"""What a report says of a run in words and tables."""

import json

from topdb_tf.data.records import DatasetCard, load_card
from topdb_tf.evaluate.measured import Measured
from topdb_tf.fit.info import run_info, training_times
from topdb_tf.retrieval.pairs.intervals import share_of_trials
from topdb_tf.runs.recipes import (
    NearestRecipe,
    flat_settings,
    nearest_recipe,
    read_recipe,
    settings_text,
    yaml_text,
)
from topdb_tf.texts import duration_text, percent, spread_text

_FEW_QUERIES = 200
_SAME_SCORES = 5e-4


def title_of(dataset: str) -> str:
    """Returns the name that the authors of a data set gave it, if that is known."""
    card = _card(dataset)
    return card.title if card else dataset


def recipe_text(near: NearestRecipe) -> str:
    """Returns the recipe of a run for people, with what is not the recipe's."""
    if not near.departures:
        return f"{near.name}, unchanged"
    return f"{near.name} with {settings_text(near.departures)}"


def summary(measured: Measured) -> list[tuple]:
    """Returns names and values of what a run is; a value may be several lines."""
    config, scores = measured.config, measured.scores
    facts = run_info(measured.run)
    environment = facts["environment"] or {}
    near = nearest_recipe(config)
    trained_on = title_of(measured.trained_on)
    return [
        ("Run", str(measured.run.path)),
        ("Trained on", f"{trained_on}, {len(measured.split.train):,} images")
        if measured.is_own
        else ("Trained on", trained_on),
        ("Recipe", recipe_text(near)),
        ("Network", _network_lines(config, environment, measured)),
        ("Precision", str(environment.get("precision", "unknown"))),
        ("Epochs", _epochs_text(facts)),
        ("Seed", _seed_lines(measured)),
        ("Trained", _times_lines(measured)),
        ("Device", str(environment.get("device", "unknown"))),
        ("Evaluated on", _protocol_lines(measured.split.name, scores)),
    ]


def protocol_facts(protocol: dict) -> list[tuple]:
    """Returns names and values of the protocol, in full."""
    if protocol.get("cameras") == "none":
        cameras = "none are known: every image but the query itself counts"
    elif protocol["ignore_cameras"]:
        cameras = "ignored: matches by the query's own camera count"
    else:
        cameras = (
            "an image of the query's person by the query's own camera is not ranked"
        )
    valid, total = protocol["num_valid_queries"], protocol["num_queries"]
    return [
        ("Distance", _METRICS[protocol["metric"]]),
        ("mAP", f"{protocol['mean_ap']}, then the mean over the valid queries"),
        ("mAP, trapezoid", protocol["mean_ap_trapezoid"]),
        ("mINP", "share of matches up to the last one, the mean over the queries"),
        ("CMC", "share of the valid queries with a match up to the rank"),
        ("Cameras", cameras),
        ("Queries", f"{valid:,} of {total:,} have a match and count; single query"),
        ("Gallery", f"{protocol['num_gallery']:,} images"),
        ("Ties", protocol["ties"]),
        ("Identities and cameras", f"SHA-256 {protocol['split_sha256']}"),
    ]


_METRICS = {
    "sqeuclidean": "squared Euclidean",
    "euclidean": "Euclidean",
    "cosine": "cosine",
}


def settings_table(near: NearestRecipe) -> dict:
    """Returns the settings of a run that are not its recipe's, with the recipe's."""
    recipe = flat_settings(read_recipe(near.name))
    return {
        "caption": f"Beside the recipe {near.name}.",
        "head": ["setting", "this run", near.name],
        "rows": [
            [key, yaml_text(value), yaml_text(recipe[key])]
            for key, value in near.changes.items()
        ],
        "words": True,
    }


def environment_facts(environment: dict) -> list[tuple]:
    """Returns names and values of an environment, as `environment.json` has it."""
    packages = environment.get("packages", {})
    commit = environment.get("git_commit")
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    facts = [
        ("topdb-tf", environment.get("topdb_tf", "unknown")),
        ("Commit", commit[:12] if commit else "unknown: not run from its repository"),
        ("Python", environment.get("python", "unknown")),
        ("Device", environment.get("device", "unknown")),
        ("System", environment.get("platform", "unknown")),
    ]
    return facts + [("Packages", versions)] * bool(packages)


def warnings_of(measured: Measured) -> list[str]:
    """Returns what a reader must know before relying on the scores."""
    scores, split = measured.scores, measured.split
    valid = scores["num_valid_queries"]
    lines = [
        *measured.notes,
        *_subset_lines(split),
        *_unfinished_lines(measured),
        *_other_scores_lines(measured),
    ]
    if valid < len(split.query):
        missing = len(split.query) - valid
        lines.append(
            f"{missing:,} of {len(split.query):,} queries have no match in the gallery "
            "by another camera, and do not count."
        )
    if valid < _FEW_QUERIES:
        rank_1 = share_of_trials(scores["cmc"]["1"], valid)
        lines.append(
            f"Only {valid:,} queries count: one of them is {100 / valid:.1f} points of "
            f"rank-1, whose 95 % interval is {percent(rank_1.low)} to "
            f"{percent(rank_1.high)} % or wider."
        )
    protocol = scores["protocol"]
    if protocol["ignore_cameras"] and protocol.get("cameras") != "none":
        lines.append(
            "Matches by the query's own camera count. That is easier than the "
            "benchmarks' protocol."
        )
    if not measured.is_own:
        lines.append(
            f"The network was trained on {title_of(measured.trained_on)}, not on "
            f"{title_of(split.name)}."
        )
    return lines


def _card(dataset) -> DatasetCard | None:
    try:
        return load_card(dataset)
    except FileNotFoundError:
        return None


def _network_lines(config, environment, measured):
    model, data = config.model, config.data
    parameters = environment.get("trainable_parameters")
    lines = [
        f"{model.backbone} at {data.image_height} x {data.image_width} pixels, "
        f"start: {model.weights}",
        f"streams {', '.join(model.streams)}",
        f"embedding of {measured.retrieval_set.query_features.shape[1]}",
    ]
    if parameters:
        lines[-1] += f", {parameters:,} trainable parameters"
    return [*lines, f"model {measured.model.name}"]


def _epochs_text(facts):
    last = facts["last"]
    if last is None:
        return f"{facts['epochs']} planned; no checkpoint is left to tell how many done"
    text = f"{last['epochs_done']} of {facts['epochs']}"
    return text + (", stopped early" if facts["ended_early"] else "")


def _seed_lines(measured):
    lines = [str(measured.config.train.seed)]
    file = measured.run.path.resolve().parent / "seeds.json"
    if file.is_file():
        seeds = json.loads(file.read_text(encoding="utf-8"))
        mean_ap, rank_1 = (spread_text(seeds[name]) for name in ("mean_ap", "rank_1"))
        lines.append(
            f"one of {len(seeds['seeds'])} seeds: mAP {mean_ap}, rank-1 {rank_1} "
            f"({seeds['deviation']})"
        )
    return lines


def _times_lines(measured):
    times = training_times(measured.run)
    if times is None:
        return "unknown: the run has no TensorBoard events"
    return [
        f"{times.begin:%Y-%m-%d %H:%M} to {times.end:%Y-%m-%d %H:%M} UTC",
        f"{duration_text(times.seconds)} of training and scoring",
    ]


def _protocol_lines(dataset, scores):
    protocol = scores["protocol"]
    return [
        title_of(dataset),
        f"{protocol['num_valid_queries']:,} valid queries of "
        f"{protocol['num_queries']:,}, {protocol['num_gallery']:,} gallery images",
    ]


def _subset_lines(split):
    card = _card(split.name)
    lines = []
    for part, expected in (card.parts if card else {}).items():
        found = len(getattr(split, part))
        if found != expected.images:
            lines.append(
                f"A part of {card.title}: {part} has {found:,} images instead of "
                f"{expected.images:,}. The scores are not those of the data set."
            )
    return lines


def _unfinished_lines(measured):
    facts = run_info(measured.run)
    last, epochs = facts["last"], facts["epochs"]
    if last is None or facts["ended_early"] or last["epochs_done"] >= epochs:
        return []
    return [f"Training is not finished: {last['epochs_done']} of {epochs} epochs."]


def _other_scores_lines(measured):
    """Compares with the scores that the run was given before, of the same model."""
    run = measured.run
    if not run.scores.is_file():
        return []
    before, now = json.loads(run.scores.read_text(encoding="utf-8")), measured.scores
    same = (
        before.get("dataset") == measured.split.name
        and before.get("model") == measured.model.name
        and before["protocol"]["split_sha256"] == now["protocol"]["split_sha256"]
        and before["protocol"]["metric"] == now["protocol"]["metric"]
        and before["protocol"]["ignore_cameras"] == now["protocol"]["ignore_cameras"]
    )
    if not same or abs(before["mean_ap"] - now["mean_ap"]) < _SAME_SCORES:
        return []
    return [
        f"{run.scores.name} says mAP {percent(before['mean_ap'])}, measured here "
        f"{percent(now['mean_ap'])}: model, images or machine have changed since."
    ]
