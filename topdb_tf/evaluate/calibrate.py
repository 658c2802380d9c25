"""Distance thresholds of a run's model, and the false-match rates that they give.

The benchmarks have no validation split. So the test identities are drawn into two
halves: the thresholds are found on the pairs of the first, and the rates that they
give are measured on the pairs of the second, whose persons are others.
"""

import datetime
import json
import time
from collections.abc import Sequence
from dataclasses import replace

from topdb_tf import __version__
from topdb_tf.data.records import camids_of, pids_of
from topdb_tf.evaluate.embedding import Embeddings
from topdb_tf.files import sha256_of, write_whole
from topdb_tf.progress import progress_bar
from topdb_tf.retrieval.matches import Identities
from topdb_tf.retrieval.pairs.calibration import calibration_of
from topdb_tf.retrieval.pairs.halves import check_rates, checked_halves
from topdb_tf.runs.data import facts_of_data, is_own, read_data
from topdb_tf.runs.folder import RunFolder, model_file
from topdb_tf.runs.machine import load_tensorflow
from topdb_tf.runs.settings import Config
from topdb_tf.texts import duration_text, rate_text

_FORMAT = 1
_FIELDS = ("model", "model_sha256", "dataset", "metric", "operating_points", "roc")
_SHOWN_CAMERAS = 5


def calibrate(
    run: RunFolder,
    config: Config,
    *,
    rates: Sequence[float],
    dataset: str | None = None,
    best: bool = False,
    seed: int = 1,
) -> dict:
    """Finds thresholds for a run's model and writes `calibration.json`.

    Args:
        run: Folder of the run.
        config: Its settings; metric and cameras are those of `config.evaluation`.
        rates: Wanted false-match rates, each in (0, 1). The first is the one that
            `topdb_tf.evaluate.match` takes where none is named.
        dataset: Another data set than the one it was trained on.
        best: Whether to take the model of the best epoch instead of the last.
        seed: Of the halves.

    Returns:
        What `calibration.json` holds: the fields of
        `topdb_tf.retrieval.pairs.calibration.Calibrated`, and `format`,
        `topdb_tf` (its version), `date`, `dataset`, `model` with its
        `model_sha256`, `metric`, `ignore_cameras`, `seed` and `seconds`.

    Raises:
        FileNotFoundError: If the run has no model yet, or the data is missing.
        ValueError: As `calibration_of`; before anything is embedded where the data
            does not suffice.
    """
    model = model_file(run, best=best)
    check_rates(rates)
    load_tensorflow()
    from topdb_tf.model.extraction import load_embedder

    if is_own(dataset, run):
        dataset = config.data.dataset
    split = read_data(dataset, config, run=run)
    ignore_cameras = config.evaluation.ignore_cameras or not split.has_cameras
    if ignore_cameras:
        split = _without_queries_in_gallery(split)
    options = {"ignore_cameras": ignore_cameras, "seed": seed}
    parts = split.query, split.gallery
    identities = Identities(*map(pids_of, parts), *map(camids_of, parts))
    checked_halves(identities, rates=rates, **options)
    facts = {"model": model.name, "model_sha256": sha256_of(model)}
    start = time.perf_counter()
    retrieval_set = Embeddings(split, config).retrieval_set(load_embedder(model))
    # Without cameras these number the images, which here would be as many cameras.
    retrieval_set = retrieval_set._replace(**identities._asdict())
    embedded = time.perf_counter()
    options["metric"] = config.evaluation.metric
    with progress_bar("judging pairs") as progress:
        calibrated = calibration_of(
            retrieval_set, rates=rates, progress=progress, **options
        )
    facts |= facts_of_data(dataset, config.data.dataset) | options
    seconds = {
        "embedding": embedded - start,
        "judging": time.perf_counter() - embedded,
    }
    return _write(run, {**facts, **calibrated.to_dict(), "seconds": seconds})


def read_calibration(run: RunFolder) -> dict:
    """Returns what `calibrate` wrote for a run's model as it is now.

    Raises:
        FileNotFoundError: If the run was not calibrated, or its model is gone.
        ValueError: If the file is damaged, or the model is no longer the one whose
            distances were judged.
    """
    if not run.calibration.is_file():
        raise FileNotFoundError(
            f"{run.path} has no {run.calibration.name}, so no threshold is known. "
            f"Find one with `topdb-tf calibrate {run.path}`."
        )
    again = f"Run `topdb-tf calibrate {run.path}` again."
    try:
        calibration = json.loads(run.calibration.read_text(encoding="utf-8"))
        is_known = calibration["format"] == _FORMAT and all(
            name in calibration for name in _FIELDS
        )
    except (ValueError, KeyError, TypeError):
        is_known = False
    if not is_known:
        raise ValueError(f"{run.calibration} is damaged or of another version. {again}")
    model = run.path / calibration["model"]
    if not model.is_file():
        raise FileNotFoundError(f"There is no model at {model}.")
    if sha256_of(model) != calibration["model_sha256"]:
        raise ValueError(
            f"{model} is not the model that {run.calibration.name} was made for: it "
            f"has changed since, and its distances with it. {again}"
        )
    return calibration


def calibration_lines(calibration: dict) -> list[str]:
    """Returns a calibration for people."""
    found, measured = calibration["found_on"], calibration["measured_on"]
    seconds = calibration["seconds"]
    lines = [
        f"{calibration['model']} on {calibration['dataset']}, {calibration['metric']} "
        "distance",
        f"thresholds found on {_half_text(found)},",
        f"rates measured on {_half_text(measured)}",
    ]
    if calibration["num_left_out"]:
        lines.append(
            f"{calibration['num_left_out']:,} images of nobody known were left out"
        )
    for place, point in enumerate(calibration["operating_points"]):
        lines += _point_lines(point, place, calibration["camera_pairs"])
    return [
        *lines,
        f"intervals hold the true value in {calibration['confidence']:.0%} of cases; "
        f"embedded in {duration_text(seconds['embedding'])}, judged in "
        f"{duration_text(seconds['judging'])}",
    ]


def share_text(share: dict) -> str:
    """Returns a share with its interval for people."""
    value, low, high = (rate_text(share[name]) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _without_queries_in_gallery(split):
    """Returns a split in which no image is compared with itself."""
    queries = {record.path for record in split.query}
    gallery = tuple(one for one in split.gallery if one.path not in queries)
    return replace(split, gallery=gallery)


def _write(run, facts):
    now = datetime.datetime.now(datetime.timezone.utc)
    calibration = {
        "format": _FORMAT,
        "topdb_tf": __version__,
        "date": now.isoformat(timespec="seconds"),
        **facts,
    }
    write_whole(run.calibration, json.dumps(calibration, indent=2) + "\n")
    return calibration


def _half_text(half):
    return (
        f"{half['persons']:,} persons, {half['impostor_pairs']:,} pairs of two "
        f"persons and {half['genuine_pairs']:,} of one"
    )


def _point_lines(point, place, camera_pairs):
    lines = [
        f"false-match rate {rate_text(point['wanted_false_match_rate'])}: threshold "
        f"{point['threshold']:.6g}",
        f"  measured: {share_text(point['false_match_rate'])} false matches, "
        f"{share_text(point['true_match_rate'])} of the true matches found",
    ]
    own = point["same_camera_false_match_rate"]
    if own is not None:
        lines.append(f"  two persons by one camera: {rate_text(own)}")
    worst = point["worst_cameras"]
    if worst is None:
        return lines
    one, other = worst["cameras"]
    rate = rate_text(worst["false_match_rate"])
    lines.append(f"  worst cameras: {one} and {other}, {rate}")
    others = sorted(
        (
            (row["false_matches"][place] / row["pairs"], row["cameras"])
            for row in camera_pairs
            if row["counted"] and row["cameras"] != worst["cameras"]
        ),
        reverse=True,
    )
    texts = [
        f"{one} and {other} {rate_text(rate)}"
        for rate, (one, other) in others[:_SHOWN_CAMERAS]
    ]
    return [*lines, *([f"  then: {', '.join(texts)}"] if texts else [])]
