"""How far apart a run's test images of one person and of two persons are."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from topdb_tf.drawing.distances import Threshold, distance_figure
from topdb_tf.evaluate.calibrate import ModelCalibration, read_calibration
from topdb_tf.evaluate.embedding import Embedded, embed_run
from topdb_tf.figures.view import View
from topdb_tf.progress import progress_bar
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.pairs.distance_bins import (
    PairHistograms,
    bin_edges,
    binned,
    pair_histograms,
)
from topdb_tf.retrieval.pairs.operating_points import Roc, compact_roc
from topdb_tf.runs.folder import Run
from topdb_tf.texts import Say, rate_text, silent

_ROC_POINTS = 200
_THRESHOLDS = "found on half of the persons, rates measured on the others:"


@dataclass(frozen=True)
class DistancesOfPairs:
    """The pairs of a run's test images by their distance.

    Args:
        embedded: The test images.
        edges: Edges of the bins, shape `(num_bins + 1,)`.
        counts: Numbers of pairs in the bins, by the kind of the pair.
        roc: Of the pairs by two cameras.
        num_left_out: Number of images of nobody known.
        calibration: The thresholds that hold for these distances, if there are any.
        notes: What is to be said of them, such as why there is no threshold.
    """

    embedded: Embedded
    edges: np.ndarray
    counts: Mapping[str, np.ndarray]
    roc: Roc
    num_left_out: int
    calibration: ModelCalibration | None
    notes: tuple[str, ...]

    @property
    def metric(self) -> str:
        """The distance."""
        return self.embedded.run.config.evaluation.metric

    def to_dict(self) -> dict:
        """Returns what `--json` prints of it."""
        thresholds = []
        if self.calibration is not None:
            thresholds = self.calibration.to_dict()["operating_points"]
        return {
            **self.embedded.to_dict(),
            "metric": self.metric,
            "edges": self.edges.tolist(),
            "counts": {kind: own.tolist() for kind, own in self.counts.items()},
            "roc": self.roc._asdict(),
            "num_left_out": self.num_left_out,
            "thresholds": thresholds,
            "notes": list(self.notes),
        }


def distances(
    run: Run,
    dataset: str | None = None,
    *,
    num_bins: int = 80,
    best: bool = False,
    say: Say = silent,
) -> View:
    """Returns how far apart the test images of one person and of two persons are.

    Args:
        run: The run; metric and cameras are those of its settings of the evaluation.
        dataset: Another data set than the run's own.
        num_bins: Most number of bins of the histograms.
        best: Whether to take the model of the best epoch instead of the last.
        say: Function that shows a line to the user.

    Raises:
        FileNotFoundError: If the run has no model yet, or the data is missing.
        ValueError: If there are no pairs of one person by two cameras, or of two.
    """
    view = distances_of(embed_run(run, dataset, best=best, say=say), num_bins=num_bins)
    for note in view.facts.notes:
        say(note)
    return view


def distances_of(embedded: Embedded, *, num_bins: int = 80) -> View:
    """Returns the figure of distances of images that are embedded already.

    Where no cameras are known, or cameras are ignored, all pairs of two images count as
    by two cameras.

    Args:
        embedded: The test images.
        num_bins: Most number of bins of the histograms.

    Raises:
        ValueError: If there are no pairs of one person by two cameras, or of two.
    """
    evaluation = embedded.run.config.evaluation
    calibration, notes = _calibration(embedded)
    if not embedded.split.has_cameras:
        notes.append("No cameras are known: all pairs of two images count as by two.")
    elif evaluation.ignore_cameras:
        notes.append("Cameras are ignored: all pairs of two images count as by two.")
    are_ignored = evaluation.ignore_cameras or not embedded.split.has_cameras
    images = _by_two_cameras(embedded.images) if are_ignored else embedded.images
    with progress_bar("counting pairs") as progress:
        pairs = pair_histograms(images, metric=evaluation.metric, progress=progress)
    _check_pairs(pairs)
    edges = bin_edges(pairs, num_bins=num_bins)
    facts = DistancesOfPairs(
        embedded=embedded,
        edges=edges,
        counts=_counts(pairs, edges, are_ignored),
        roc=compact_roc(pairs.by_two_cameras, num_points=_ROC_POINTS, fewest=1),
        num_left_out=pairs.num_left_out,
        calibration=calibration,
        notes=tuple(notes),
    )
    return View(facts, lambda width: _picture(facts, width))


def _by_two_cameras(images: RetrievalSet) -> RetrievalSet:
    """Returns images of which all pairs count as by two cameras.

    Images that are numbered do so as they are, but for an image and itself.
    """
    if images.query_camids.min() < 0:
        return images
    return images._replace(
        query_camids=np.zeros_like(images.query_camids),
        gallery_camids=np.ones_like(images.gallery_camids),
    )


def _counts(pairs: PairHistograms, edges, are_ignored) -> Mapping[str, np.ndarray]:
    """Returns the numbers of pairs in the bins, by the kind of the pair."""
    by_two, by_one = pairs.by_two_cameras, pairs.by_one_camera
    counts = {
        "same_person": binned(by_two.genuine, edges),
        "different_persons": binned(by_two.impostors, edges),
        "same_person_same_camera": binned(by_one.genuine, edges),
        "different_persons_same_camera": binned(by_one.impostors, edges),
    }
    if are_ignored:  # then only an image and itself are by one camera
        for kind in ("same_person_same_camera", "different_persons_same_camera"):
            counts[kind] = np.zeros_like(counts[kind])
    return counts


def _picture(facts: DistancesOfPairs, width: float):
    points = facts.calibration.pairs.operating_points if facts.calibration else ()
    return distance_figure(
        facts.edges,
        facts.counts,
        facts.roc,
        thresholds=[Threshold(one.threshold, _threshold_text(one)) for one in points],
        thresholds_title=_THRESHOLDS,
        metric=facts.metric,
        width=width,
    )


def _check_pairs(pairs: PairHistograms) -> None:
    impostors, genuine = pairs.by_two_cameras
    for kind, counts in (("two persons", impostors), ("one person", genuine)):
        if not counts.sum():
            raise ValueError(
                f"There must be pairs of {kind}, a query and a gallery image by two "
                "cameras. Received: none"
            )


def _calibration(embedded: Embedded) -> tuple[ModelCalibration | None, list[str]]:
    """Returns the calibration that holds for these distances, or why there is none."""
    run = embedded.run
    try:
        calibration = read_calibration(run)
    except (FileNotFoundError, ValueError) as error:
        return None, [f"No threshold is drawn. {error}"]
    pairs = {
        "dataset": (calibration.origin.dataset, embedded.origin.dataset),
        "model": (calibration.model, embedded.model.name),
        "metric": (calibration.metric, run.config.evaluation.metric),
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
