"""Scores of a run by the cameras of query and gallery."""

import numpy as np
from matplotlib.figure import Figure

from topdb_tf.drawing.matrices import camera_pair_figure
from topdb_tf.evaluate.embedding import embed_run
from topdb_tf.progress import progress_bar
from topdb_tf.retrieval.camera_pairs import camera_pair_scores
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.runs.folder import RunFolder
from topdb_tf.runs.settings import Config


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
        **options: `width`, of `topdb_tf.drawing.matrices.camera_pair_figure`.
    """
    return camera_pair_figure(
        np.array(numbers[_SCORES[score]], float),
        np.array(numbers["num_valid_queries"]),
        numbers["cameras"],
        title=f"{score}, %",
        **options,
    )


_SCORES = {"rank-1": "rank_1", "mAP": "mean_ap"}
