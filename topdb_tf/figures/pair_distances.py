"""How far apart a run's test images of one person and of two persons are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from topdb_tf.drawing.distances import Threshold, distance_figure
from topdb_tf.evaluate.calibrate import ModelCalibration, read_calibration
from topdb_tf.evaluate.embedding import Embedded
from topdb_tf.figures.view import View
from topdb_tf.files import plain
from topdb_tf.progress import progress_bar
from topdb_tf.retrieval.pairs.calibration import OperatingPoint
from topdb_tf.retrieval.pairs.distance_bins import (
    PairHistograms,
    bin_edges,
    binned,
    pair_histograms,
)
from topdb_tf.retrieval.pairs.operating_points import CompactRoc, compact_roc
from topdb_tf.texts import rate_text

_ROC_POINTS = 200
_THRESHOLDS = "found on half of the persons, rates measured on the others:"


@dataclass(frozen=True)
class DistancesOfPairs:
    """The pairs of a run's test images by their distance.

    Edges of the bins have the shape `(num_bins + 1,)`; counts are by the kind of the
    pair, all of the first two kinds where no cameras are known or cameras are ignored.
    The ROC is of these two. Images of nobody known are left out.
    """

    embedded: Embedded
    edges: np.ndarray
    counts: Mapping[str, list[int]]
    roc: CompactRoc
    num_left_out: int
    calibration: ModelCalibration | None
    notes: tuple[str, ...]

    @property
    def metric(self) -> str:
        """The distance."""
        return self.embedded.evaluation.metric

    @property
    def thresholds(self) -> Sequence[OperatingPoint]:
        """The thresholds that hold for these distances, if there are any."""
        return self.calibration.pairs.operating_points if self.calibration else ()

    def to_dict(self) -> dict:
        """Returns what `--json` prints of it."""
        return {
            **self.embedded.to_dict(),
            "metric": self.metric,
            "edges": self.edges.tolist(),
            "counts": self.counts,
            "roc": plain(self.roc),
            "num_left_out": self.num_left_out,
            "thresholds": plain(self.thresholds),
            "notes": list(self.notes),
        }


def distances_of(embedded: Embedded, *, num_bins: int = 80) -> View:
    """Returns how far apart the test images of one person and of two persons are.

    Metric and cameras are those of the run's settings. There are at most `num_bins`.
    """
    evaluation = embedded.evaluation
    with progress_bar("counting pairs") as progress:
        pairs = pair_histograms(
            embedded.images,
            metric=evaluation.metric,
            ignore_cameras=evaluation.ignore_cameras,
            progress=progress,
        )
    _check_pairs(pairs)
    edges = bin_edges(pairs, num_bins=num_bins)
    calibration, notes = _calibration(embedded)
    if pairs.warning:
        notes.append(f"Warning: {pairs.warning}")
    if not embedded.split.has_cameras:
        notes.append("No cameras are known: all pairs of two images count as by two.")
    facts = DistancesOfPairs(
        embedded=embedded,
        edges=edges,
        counts=_counts(pairs, edges),
        roc=compact_roc(pairs.counted, num_points=_ROC_POINTS, fewest=1),
        num_left_out=pairs.num_left_out,
        calibration=calibration,
        notes=tuple(notes),
    )
    return View(facts, lambda width: _picture(facts, width))


def _counts(pairs: PairHistograms, edges: np.ndarray) -> Mapping[str, list[int]]:
    counts = {
        "same_person": pairs.counted.genuine,
        "different_persons": pairs.counted.impostors,
        "same_person_same_camera": pairs.by_one_camera.genuine,
        "different_persons_same_camera": pairs.by_one_camera.impostors,
    }
    return {kind: binned(cells, edges).tolist() for kind, cells in counts.items()}


def _picture(facts: DistancesOfPairs, width: float):
    return distance_figure(
        facts.edges,
        {kind: np.array(numbers) for kind, numbers in facts.counts.items()},
        facts.roc,
        thresholds=[
            Threshold(one.threshold, _threshold_text(one)) for one in facts.thresholds
        ],
        thresholds_title=_THRESHOLDS,
        metric=facts.metric,
        width=width,
    )


def _check_pairs(pairs: PairHistograms) -> None:
    counted = pairs.counted
    for kind, counts in (
        ("two persons", counted.impostors),
        ("one person", counted.genuine),
    ):
        if not counts.sum():
            raise ValueError(
                f"There must be pairs of {kind}, a query and a gallery image by two "
                "cameras (by any with --ignore-cameras). Received: none"
            )


def _calibration(embedded: Embedded) -> tuple[ModelCalibration | None, list[str]]:
    """Returns the calibration that holds for these distances, or why there is none."""
    run = embedded.run
    if run is None:
        return None, []
    try:
        calibration = read_calibration(run.path)
    except (FileNotFoundError, ValueError) as error:
        return None, [f"No threshold is drawn. {error}"]
    pairs = {
        "dataset": (calibration.origin.dataset, embedded.origin.dataset),
        "model": (calibration.model, embedded.model.name),
        "metric": (calibration.metric, embedded.evaluation.metric),
    }
    made_for = "; ".join(
        f"{name} {theirs}, not {ours}"
        for name, (theirs, ours) in pairs.items()
        if theirs != ours
    )
    if made_for:
        file = run.folder.calibration
        return None, [f"No threshold is drawn: {file} was made for {made_for}."]
    return calibration, []


def _threshold_text(point):
    false, true = point.false_match_rate.value, point.true_match_rate.value
    return (
        f"threshold {point.threshold:.4g}: {rate_text(false)} false matches, "
        f"{rate_text(true)} of the true ones"
    )
