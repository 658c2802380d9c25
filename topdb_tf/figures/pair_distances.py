"""Distances and cameras of a run's test images: numbers, and figures of them."""

from dataclasses import asdict

import numpy as np
from matplotlib.figure import Figure

from topdb_tf.drawing.distances import Threshold, distance_figure
from topdb_tf.evaluate.calibrate import read_calibration
from topdb_tf.evaluate.embedding import embed_run
from topdb_tf.progress import progress_bar
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.pairs.distance_bins import bin_edges, binned, pair_histograms
from topdb_tf.retrieval.pairs.operating_points import compact_roc
from topdb_tf.runs.folder import RunFolder
from topdb_tf.runs.settings import Config
from topdb_tf.texts import rate_text

_ROC_POINTS = 200
_THRESHOLDS = "found on half of the persons, rates measured on the others:"


def distance_numbers(
    run: RunFolder, config: Config, *, num_bins: int = 80, **options
) -> dict:
    """Returns how far apart the test images of one person and of two persons are.

    Args:
        run: Folder of the run.
        config: Its settings; the metric is `config.evaluation.metric`.
        num_bins: Most number of bins of the histograms.
        **options: `dataset`, `best` and `say`, of `embed_run`.

    Returns:
        The facts of `Embedded`, `metric`, `edges` of the bins and `counts` of pairs
        in them by kind (all are of the first two kinds where cameras are ignored),
        `roc` of the first two kinds (as
        `topdb_tf.retrieval.pairs.operating_points.CompactRoc`), `num_left_out`,
        `thresholds` (the operating points of `calibration.json`) and `notes`, such as
        why there is none.

    Raises:
        FileNotFoundError: As `embed_run`.
        ValueError: If there are no pairs of one person that count, or of two.
    """
    images, split, facts = embed_run(run, config, **options)
    facts["metric"] = config.evaluation.metric
    ignore_cameras = config.evaluation.ignore_cameras
    numbers = distances_of(
        images, run, facts, ignore_cameras=ignore_cameras, num_bins=num_bins
    )
    if not split.has_cameras:
        numbers["notes"].append(
            "No cameras are known: all pairs of two images count as by two."
        )
    return numbers


def distances_of(
    retrieval_set: RetrievalSet,
    run: RunFolder,
    facts: dict,
    *,
    ignore_cameras: bool = False,
    num_bins: int = 80,
) -> dict:
    """Returns what `distance_numbers` does, from embeddings that are there already.

    Args:
        retrieval_set: The embeddings.
        run: Folder of the run, which may be calibrated.
        facts: `run`, `dataset`, `model` and `metric`.
        ignore_cameras: Whether pairs by one camera count as well.
        num_bins: Most number of bins of the histograms.

    Raises:
        ValueError: As `distance_numbers`.
    """
    with progress_bar("counting pairs") as progress:
        found = pair_histograms(
            retrieval_set,
            metric=facts["metric"],
            ignore_cameras=ignore_cameras,
            progress=progress,
        )
    _check_pairs(found.counted)
    edges = bin_edges(found, num_bins=num_bins)
    kinds = {
        "same_person": found.counted.genuine,
        "different_persons": found.counted.impostors,
        "same_person_same_camera": found.by_one_camera.genuine,
        "different_persons_same_camera": found.by_one_camera.impostors,
    }
    thresholds, notes = _thresholds(run, facts)
    return {
        **facts,
        "edges": edges.tolist(),
        "counts": {name: binned(own, edges).tolist() for name, own in kinds.items()},
        "roc": asdict(compact_roc(found.counted, num_points=_ROC_POINTS, fewest=1)),
        "num_left_out": found.num_left_out,
        "thresholds": thresholds,
        "notes": notes,
    }


def distance_picture(numbers: dict, **options) -> Figure:
    """Returns the figure of what `distance_numbers` returns.

    Args:
        numbers: The numbers.
        **options: `width`, of `topdb_tf.drawing.distances.distance_figure`.
    """
    thresholds = [
        Threshold(point["threshold"], _threshold_text(point))
        for point in numbers["thresholds"]
    ]
    return distance_figure(
        np.array(numbers["edges"]),
        {name: np.array(own) for name, own in numbers["counts"].items()},
        numbers["roc"],
        thresholds=thresholds,
        thresholds_title=_THRESHOLDS,
        metric=numbers["metric"],
        **options,
    )


def _check_pairs(histogram):
    counts = {"two persons": histogram.impostors.sum()}
    counts["one person"] = histogram.genuine.sum()
    for kind, count in counts.items():
        if not count:
            raise ValueError(
                f"There must be pairs of {kind}, a query and a gallery image by two "
                "cameras (by any with --ignore-cameras). Received: none"
            )


def _thresholds(run, facts):
    """Returns the calibrated thresholds that hold for these distances, and notes."""
    try:
        calibration = read_calibration(run)
    except (FileNotFoundError, ValueError) as error:
        return [], [f"No threshold is drawn. {error}"]
    differences = [
        f"{name} {calibration[name]}, not {facts[name]}"
        for name in ("dataset", "model", "metric")
        if calibration[name] != facts[name]
    ]
    if differences:
        made_for = "; ".join(differences)
        return [], [
            f"No threshold is drawn: {run.calibration} was made for {made_for}."
        ]
    return calibration["operating_points"], []


def _threshold_text(point):
    false, true = (point[f"{kind}_match_rate"]["value"] for kind in ("false", "true"))
    return (
        f"threshold {point['threshold']:.4g}: {rate_text(false)} false matches, "
        f"{rate_text(true)} of the true ones"
    )
