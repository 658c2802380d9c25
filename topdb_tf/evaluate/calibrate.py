"""Distance thresholds of a run's model, and the false-match rates that they give.

The benchmarks have no validation split. So the test identities are drawn into two
halves: the thresholds are found on the pairs of the first, and the rates that they
give are measured on the pairs of the second, whose persons are others.
"""

import datetime
import json
import time
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from topdb_tf import __version__
from topdb_tf.data.records import Split, camids_of, pids_of
from topdb_tf.evaluate.embedding import Embedded, embed_run
from topdb_tf.evaluate.feature_files import files_at
from topdb_tf.files import plain, sha256_of, write_whole
from topdb_tf.json_files import read_json, record_of
from topdb_tf.progress import progress_bar
from topdb_tf.retrieval.distances import METRICS
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.identities import Identities
from topdb_tf.retrieval.pairs.calibration import (
    Calibrated,
    OperatingPoint,
    calibration_of,
)
from topdb_tf.retrieval.pairs.halves import check_rates, checked_halves, smallest_rate
from topdb_tf.retrieval.pairs.intervals import Share
from topdb_tf.runs.data import DataOrigin
from topdb_tf.runs.folder import Run, RunFolder
from topdb_tf.texts import Say, check_one_of, duration_text, rate_text, silent

_FORMAT = 1
_SHOWN_CAMERAS = 5
_USUAL_RATE, _LARGEST_RATE = 0.001, 0.5  # where none is named
_TOLD = "model model_sha256 ignore_cameras seed metric date topdb_tf".split()


@dataclass(frozen=True)
class ModelCalibration:
    """The thresholds of a run's model: what `calibration.json` holds.

    The seed is that of the two halves of the persons, the date is in UTC, and cameras
    have their owner's names by their number as text.
    """

    model: str
    model_sha256: str
    origin: DataOrigin
    ignore_cameras: bool
    seed: int
    metric: str
    pairs: Calibrated
    embedding_seconds: float
    judging_seconds: float
    date: str
    topdb_tf: str = __version__
    camera_names: Mapping[str, str] = field(default_factory=dict)

    def operating_point(self, rate: float | None) -> OperatingPoint:
        """Returns the operating point of a calibrated rate, or the first one."""
        points = self.pairs.operating_points
        if rate is None:
            return points[0]
        for point in points:
            if point.wanted_false_match_rate == rate:
                return point
        known = ", ".join(str(point.wanted_false_match_rate) for point in points)
        raise ValueError(
            f"The false-match rate must be one that was calibrated: {known}. For "
            f"another one run `topdb-tf calibrate --false-match-rate {rate}`. "
            f"Received: {rate}"
        )

    def to_dict(self) -> dict:
        """Returns what `calibration.json` holds."""
        return {
            "format": _FORMAT,
            "topdb_tf": self.topdb_tf,
            "date": self.date,
            "model": self.model,
            "model_sha256": self.model_sha256,
            **self.origin.to_dict(),
            "ignore_cameras": self.ignore_cameras,
            "seed": self.seed,
            "metric": self.metric,
            "camera_names": dict(self.camera_names),
            **plain(self.pairs),
            "seconds": {
                "embedding": self.embedding_seconds,
                "judging": self.judging_seconds,
            },
        }

    @classmethod
    def from_dict(cls, record) -> "ModelCalibration":
        """Returns the calibration that `to_dict` made a record of."""
        if record["format"] != _FORMAT:
            raise ValueError(f"format {record['format']}")
        seconds = record_of(dict[str, float], record["seconds"], "seconds")
        kinds = typing.get_type_hints(cls)
        own = {name: record_of(kinds[name], record[name], name) for name in _TOLD}
        check_one_of("metric", own["metric"], METRICS)
        return cls(
            origin=DataOrigin.from_dict(record),
            pairs=_checked(record_of(Calibrated, record)),
            embedding_seconds=seconds["embedding"],
            judging_seconds=seconds["judging"],
            camera_names=record_of(
                dict[str, str], record.get("camera_names", {}), "camera_names"
            ),
            **own,
        )


def calibrate(
    run: Run,
    dataset: str | None = None,
    *,
    rates: Sequence[float] = (),
    best: bool = False,
    seed: int = 1,
    say: Say = silent,
) -> ModelCalibration:
    """Finds thresholds for a run's model and writes `calibration.json`.

    Metric and cameras are those of the run's settings. Of the wanted false-match rates,
    each in (0, 1), the first is the one that `topdb_tf.evaluate.match` takes where none
    is named. It defaults to 0.001, or the smallest that the persons can state. Whether
    the rates can be measured on so few pairs is found before anything is embedded.
    """
    rates = tuple(rates)
    check_rates(rates or (_USUAL_RATE,))
    evaluation = run.config.evaluation

    def check(split):
        nonlocal rates
        rates = _stated_rates(split, rates, evaluation.ignore_cameras, seed, say)

    start = time.perf_counter()
    embedded = embed_run(run, dataset, best=best, check=check, say=say)
    seconds = time.perf_counter() - start
    calibration = _calibration(embedded, rates, seed, seconds)
    write_calibration(run.folder.calibration, calibration)
    return calibration


def calibrate_features(
    embedded: Embedded,
    *,
    rates: Sequence[float] = (),
    seed: int = 1,
    say: Say = silent,
) -> ModelCalibration:
    """Returns thresholds as `calibrate` finds them for features of `embed_file`."""
    check_rates(rates or (_USUAL_RATE,))
    ignore_cameras = embedded.evaluation.ignore_cameras
    rates = _stated_rates(embedded.split, tuple(rates), ignore_cameras, seed, say)
    file, *others = files_at(embedded.model)
    sha256 = "" if others else sha256_of(file)
    return _calibration(replace(embedded, model_sha256=sha256), rates, seed, 0.0)


def _calibration(embedded, rates, seed, embedding_seconds) -> ModelCalibration:
    metric = embedded.evaluation.metric
    images, ignore_cameras = _judged_set(embedded)
    start = time.perf_counter()
    with progress_bar("judging pairs") as progress:
        pairs = calibration_of(
            images,
            rates=rates,
            metric=metric,
            ignore_cameras=ignore_cameras,
            seed=seed,
            progress=progress,
        )
    return ModelCalibration(
        model=embedded.model.name,
        model_sha256=embedded.model_sha256,
        origin=embedded.origin,
        ignore_cameras=ignore_cameras,
        seed=seed,
        metric=metric,
        pairs=pairs,
        embedding_seconds=embedding_seconds,
        judging_seconds=time.perf_counter() - start,
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        camera_names={str(n): t for n, t in embedded.split.camera_names.items()},
    )


def write_calibration(file: Path, calibration: ModelCalibration) -> None:
    """Writes `calibration.json`."""
    write_whole(file, json.dumps(calibration.to_dict(), indent=2) + "\n")


def read_calibration(path: Path) -> ModelCalibration:
    """Returns what `calibrate` found for the model in a run's or preset's folder.

    The model must still be the one whose distances were judged.
    """
    folder = RunFolder(path)
    file, again = folder.calibration, f"Run `topdb-tf calibrate {path}`."
    if not folder.holds_run:
        again = "A preset has one if its run was calibrated before it was published."
    if not file.is_file():
        raise FileNotFoundError(
            f"{path} has no {file.name}, so no threshold is known. {again}"
        )
    advice = f"is damaged or of another version. {again}"
    calibration = read_json(file, ModelCalibration.from_dict, advice)
    model = path / calibration.model
    if not model.is_file():
        raise FileNotFoundError(f"There is no model at {model}.")
    if sha256_of(model) != calibration.model_sha256:
        raise ValueError(
            f"{model} is not the model that {file.name} was made for: it has changed "
            f"since, and its distances with it. {again}"
        )
    return calibration


def _checked(pairs):
    """Returns the calibration of a file if its numbers can be those of one."""
    points, roc = pairs.operating_points, pairs.roc
    shares = [*roc.false_match_rates, *roc.true_match_rates]
    for point in points:
        shares.append(point.wanted_false_match_rate)
        for share in (point.false_match_rate, point.true_match_rate):
            shares += [share.low, share.value, share.high]
    if not all(0 <= share <= 1 for share in shares):
        raise ValueError("the rates must be shares, in [0, 1]")
    lengths = {len(values) for values in vars(roc).values()}
    if not points or len(lengths) > 1 or roc.distances != sorted(roc.distances):
        raise ValueError(
            "there must be an operating point, and a ROC with ascending distances and "
            "two rates at each"
        )
    return pairs


def calibration_lines(calibration: ModelCalibration) -> list[str]:
    """Returns a calibration for people."""
    pairs = calibration.pairs
    lines = [
        f"{calibration.model} on {calibration.origin.dataset}, {calibration.metric} "
        "distance",
        f"thresholds found on {_half_text(pairs.found_on)},",
        f"rates measured on {_half_text(pairs.measured_on)}",
    ]
    if pairs.warning:
        lines.append(f"warning: {pairs.warning}")
    if pairs.num_left_out:
        lines.append(f"{pairs.num_left_out:,} images of nobody known were left out")
    for place, point in enumerate(pairs.operating_points):
        lines += _point_lines(calibration, point, place)
    took = f"judged in {duration_text(calibration.judging_seconds)}"
    if calibration.embedding_seconds:
        took = f"embedded in {duration_text(calibration.embedding_seconds)}, {took}"
    share = f"{pairs.confidence:.0%}"
    return [*lines, f"intervals hold the true value in {share} of cases; {took}"]


def share_text(share: Share) -> str:
    """Returns a share with its interval for people."""
    return (
        f"{rate_text(share.value)} ({rate_text(share.low)} to {rate_text(share.high)})"
    )


def _stated_rates(split, rates, ignore_cameras, seed, say):
    """Returns the rates that are wanted, which the persons suffice for."""
    _, identities, ignore_cameras = _judged_images(split, ignore_cameras)
    halves = checked_halves(
        identities, rates=rates, ignore_cameras=ignore_cameras, seed=seed
    )
    smallest = smallest_rate(halves)
    if not rates and smallest > _LARGEST_RATE:
        persons = sum(len(half.totals.pids) for half in halves)
        pairs = min(half.totals.num_impostors for half in halves)
        raise ValueError(
            "There must be more test persons to find a threshold: it is found on one "
            "half of them and measured on the other, by the false matches there. Add "
            f"persons, or name another data set with --dataset. Received: {persons} "
            f"persons, with {pairs} pairs of two persons in a half"
        )
    if not rates and smallest > _USUAL_RATE:
        say(f"so few persons can state a false-match rate of {smallest:g}")
    return rates or (max(_USUAL_RATE, smallest),)


def _judged_images(split: Split, ignore_cameras: bool):
    """Returns which gallery images are judged, all identities, and the camera rule.

    Where cameras do not tell pairs apart, an image must not be compared with itself.
    """
    ignore_cameras = ignore_cameras or not split.has_cameras
    queries = {record.path for record in split.query} if ignore_cameras else set()
    is_judged = np.array([record.path not in queries for record in split.gallery], bool)
    parts = split.query, split.gallery
    identities = Identities(*map(pids_of, parts), *map(camids_of, parts))
    identities = identities.take(slice(None), is_judged)
    return is_judged, identities, ignore_cameras


def _judged_set(embedded: Embedded) -> tuple[RetrievalSet, bool]:
    """Returns what is judged, with the cameras of the data set, and the camera rule."""
    is_judged, identities, ignore_cameras = _judged_images(
        embedded.split, embedded.evaluation.ignore_cameras
    )
    features = embedded.images.gallery_features[is_judged]
    images = RetrievalSet(embedded.images.query_features, features, *identities)
    return images, ignore_cameras


def _half_text(half):
    return (
        f"{half.persons:,} persons, {half.impostor_pairs:,} pairs of two persons and "
        f"{half.genuine_pairs:,} of one"
    )


def _point_lines(calibration, point, place):
    def named(cameras):
        return [calibration.camera_names.get(str(n), str(n)) for n in cameras]

    lines = [
        f"false-match rate {rate_text(point.wanted_false_match_rate)}: threshold "
        f"{point.threshold:.6g}",
        f"  measured: {share_text(point.false_match_rate)} false matches, "
        f"{share_text(point.true_match_rate)} of the true matches found",
    ]
    rate = point.same_camera_false_match_rate
    if rate is not None:
        lines.append(f"  two persons by one camera: {rate_text(rate)}")
    worst = point.worst_cameras
    if worst is None:
        return lines
    one, other = named(worst.cameras)
    rate = rate_text(worst.false_match_rate)
    lines.append(f"  worst cameras: {one} and {other}, {rate}")
    others = sorted(
        (
            (pair.false_matches[place] / pair.pairs, tuple(pair.cameras))
            for pair in calibration.pairs.camera_pairs
            if pair.counted and tuple(pair.cameras) != tuple(worst.cameras)
        ),
        reverse=True,
    )
    texts = [
        f"{' and '.join(named(cameras))} {rate_text(rate)}"
        for rate, cameras in others[:_SHOWN_CAMERAS]
    ]
    return [*lines, *([f"  then: {', '.join(texts)}"] if texts else [])]
