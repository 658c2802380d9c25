"""Distances and cameras of a run's test images: numbers, and figures of them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from topdb_tf.config import Config
from topdb_tf.data.records import Split
from topdb_tf.figures.distances import Threshold, distance_figure
from topdb_tf.figures.matrices import camera_pair_figure
from topdb_tf.progress import progress_bar
from topdb_tf.recipe.calibrate import rate_text, read_calibration
from topdb_tf.recipe.datasets import Say, facts_of_data, is_own, read_data
from topdb_tf.recipe.environment import load_tensorflow
from topdb_tf.recipe.scoring import Embeddings
from topdb_tf.retrieval.camera_pairs import camera_pair_scores
from topdb_tf.retrieval.distance_bins import bin_edges, binned, pair_histograms
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.operating_points import compact_roc
from topdb_tf.run_folder import RunFolder, model_file

_ROC_POINTS = 200
_THRESHOLDS = "found on half of the persons, rates measured on the others:"
_SCORES = {"rank-1": "rank_1", "mAP": "mean_ap"}


class Embedded(NamedTuple):
    """The test images of a data set, embedded by a run's model.

    Args:
        images: Features and identities. Where no cameras are known their camids are
            negative, one an image.
        split: The data set.
        facts: `run`, `model`, `dataset` and what else
            `topdb_tf.recipe.datasets.facts_of_data` tells.
    """

    images: RetrievalSet
    split: Split
    facts: dict


def embed_run(
    run: RunFolder,
    config: Config,
    *,
    dataset: str | None = None,
    best: bool = False,
    choose: Callable[[Split], Split] = lambda split: split,
    say: Say | None = None,
) -> Embedded:
    """Returns the embeddings of test images by a run's model, and what they are of.

    Args:
        run: Folder of the run.
        config: Its settings.
        dataset: Another data set than the one it was trained on: a benchmark, or the
            path of one's own images.
        best: Whether to take the model of the best epoch instead of the last.
        choose: Function from the split to the one that is embedded.
        say: Function that shows a line to the user. Defaults to silence.

    Raises:
        FileNotFoundError: If the run has no model yet, or the data is missing.
    """
    model = model_file(run, best=best)
    if is_own(dataset, run):
        dataset = config.data.split
    split = choose(read_data(dataset, config, run=run, say=say))
    load_tensorflow()
    from topdb_tf.model.extraction import load_embedder

    images = Embeddings(split, config).retrieval_set(load_embedder(model))
    facts = {"run": str(run.path), "model": model.name}
    return Embedded(images, split, facts | facts_of_data(dataset, config.data.split))


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
        in them by kind, `roc` of the pairs by two cameras (as
        `topdb_tf.retrieval.operating_points.compact_roc`), `num_left_out`,
        `thresholds` (the operating points of `calibration.json`) and `notes`, such as
        why there is none.

    Raises:
        FileNotFoundError: As `embed_run`.
        ValueError: If there are no pairs of one person by two cameras, or of two.
    """
    images, split, facts = embed_run(run, config, **options)
    facts["metric"] = config.evaluation.metric
    numbers = distances_of(images, run, facts, num_bins=num_bins)
    if not split.has_cameras:  # then only an image and itself are by one camera
        for kind in ("same_person_same_camera", "different_persons_same_camera"):
            numbers["counts"][kind] = [0] * len(numbers["edges"][1:])
        numbers["notes"].append(
            "No cameras are known: all pairs of two images count as by two."
        )
    return numbers


def distances_of(
    retrieval_set: RetrievalSet, run: RunFolder, facts: dict, *, num_bins: int = 80
) -> dict:
    """Returns what `distance_numbers` does, from embeddings that are there already.

    Args:
        retrieval_set: The embeddings.
        run: Folder of the run, which may be calibrated.
        facts: `run`, `dataset`, `model` and `metric`.
        num_bins: Most number of bins of the histograms.

    Raises:
        ValueError: As `distance_numbers`.
    """
    with progress_bar("counting pairs") as progress:
        found = pair_histograms(
            retrieval_set, metric=facts["metric"], progress=progress
        )
    _check_pairs(found.by_two_cameras)
    edges = bin_edges(found, num_bins=num_bins)
    kinds = {
        "same_person": found.by_two_cameras.genuine,
        "different_persons": found.by_two_cameras.impostors,
        "same_person_same_camera": found.by_one_camera.genuine,
        "different_persons_same_camera": found.by_one_camera.impostors,
    }
    thresholds, notes = _thresholds(run, facts)
    return {
        **facts,
        "edges": edges.tolist(),
        "counts": {name: binned(own, edges).tolist() for name, own in kinds.items()},
        "roc": compact_roc(found.by_two_cameras, num_points=_ROC_POINTS, fewest=1),
        "num_left_out": found.num_left_out,
        "thresholds": thresholds,
        "notes": notes,
    }


def distance_picture(numbers: dict, **options) -> Figure:
    """Returns the figure of what `distance_numbers` returns.

    Args:
        numbers: The numbers.
        **options: `width`, of `topdb_tf.figures.distances.distance_figure`.
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


def camera_numbers(run: RunFolder, config: Config, **options) -> dict:
    """Returns the scores of a run by the cameras of the query and of the gallery.

    Args:
        run: Folder of the run.
        config: Its settings; metric and cameras are those of `config.evaluation`.
        **options: `dataset`, `best` and `say`, of `embed_run`.

    Returns:
        The facts of `Embedded`, `metric`, `ignore_cameras`, `camids` and their names
        (`cameras`), and by the camera of the query, then that of the gallery,
        `rank_1`, `mean_ap` (none without a valid query) and `num_valid_queries`, as
        `topdb_tf.retrieval.camera_pairs.camera_pair_scores`.

    Raises:
        FileNotFoundError: As `embed_run`.
        ValueError: If no cameras are known.
    """
    images, split, facts = embed_run(run, config, **options)
    if not split.has_cameras:
        raise ValueError(
            f"Scores by camera need test images of known cameras. Received: "
            f"{split.name}, of which none is known, or one alone"
        )
    numbers = cameras_of(images, config, facts)
    if split.camera_names:
        numbers["cameras"] = [split.camera_names[camid] for camid in numbers["camids"]]
    return numbers


def cameras_of(retrieval_set: RetrievalSet, config: Config, facts: dict) -> dict:
    """Returns what `camera_numbers` does, from embeddings that are there already.

    Args:
        retrieval_set: The embeddings.
        config: Settings of the run; metric and cameras are those of its evaluation.
        facts: `run`, `dataset` and `model`.
    """
    protocol = {
        "metric": config.evaluation.metric,
        "ignore_cameras": config.evaluation.ignore_cameras,
    }
    with progress_bar("ranking by camera") as progress:
        found = camera_pair_scores(retrieval_set, progress=progress, **protocol)
    scores = {
        name: [
            [None if np.isnan(share) else share for share in row]
            for row in getattr(found, name).tolist()
        ]
        for name in _SCORES.values()
    }
    return {
        **facts,
        **protocol,
        "camids": found.camids.tolist(),
        "cameras": [f"c{camid}" for camid in found.camids],
        **scores,
        "num_valid_queries": found.num_valid_queries.tolist(),
    }


def camera_picture(numbers: dict, *, score: str = "rank-1", **options) -> Figure:
    """Returns the figure of what `camera_numbers` returns.

    Args:
        numbers: The numbers.
        score: `rank-1` or `mAP`.
        **options: `width`, of `topdb_tf.figures.matrices.camera_pair_figure`.
    """
    return camera_pair_figure(
        np.array(numbers[_SCORES[score]], float),
        np.array(numbers["num_valid_queries"]),
        numbers["cameras"],
        title=f"{score}, %",
        **options,
    )


def _check_pairs(histogram):
    counts = {"two persons": histogram.impostors.sum()}
    counts["one person"] = histogram.genuine.sum()
    for kind, count in counts.items():
        if not count:
            raise ValueError(
                f"There must be pairs of {kind}, a query and a gallery image by two "
                "cameras. Received: none"
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
