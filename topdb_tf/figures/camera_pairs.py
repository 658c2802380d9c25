"""Scores of a run by the cameras of query and gallery."""

from dataclasses import dataclass

import numpy as np

from topdb_tf.data.records import Split
from topdb_tf.drawing.matrices import camera_pair_figure
from topdb_tf.evaluate.embedding import Embedded
from topdb_tf.figures.view import View
from topdb_tf.progress import progress_bar
from topdb_tf.retrieval.camera_pairs import CameraPairScores, camera_pair_scores


@dataclass(frozen=True)
class CameraScores:
    """Scores by the camera of the query, down, and that of the gallery, across."""

    embedded: Embedded
    cameras: tuple[str, ...]
    scores: CameraPairScores

    @property
    def notes(self) -> list[str]:
        """What is to be known of them, as that rounding decided."""
        return [f"Warning: {self.scores.warning}"] if self.scores.warning else []

    def to_dict(self) -> dict:
        """Returns what `--json` prints of it; a cell without a query has no score."""
        evaluation = self.embedded.evaluation
        return {
            **self.embedded.to_dict(),
            "metric": evaluation.metric,
            "ignore_cameras": evaluation.ignore_cameras,
            "camids": self.scores.camids.tolist(),
            "cameras": list(self.cameras),
            "rank_1": _without_nan(self.scores.rank_1),
            "mean_ap": _without_nan(self.scores.mean_ap),
            "num_valid_queries": self.scores.num_valid_queries.tolist(),
            "notes": self.notes,
        }


def cameras_of(embedded: Embedded, *, score: str = "rank-1") -> View:
    """Returns the scores of a run by the cameras of the query and of the gallery.

    Metric and cameras are those of the run's settings; drawn is `rank-1` or `mAP`.
    """
    split, evaluation = embedded.split, embedded.evaluation
    check_cameras(split)
    with progress_bar("ranking by camera") as progress:
        scores = camera_pair_scores(
            embedded.images,
            metric=evaluation.metric,
            ignore_cameras=evaluation.ignore_cameras,
            progress=progress,
        )
    names = split.camera_names
    facts = CameraScores(
        embedded,
        tuple(names.get(camid, f"c{camid}") for camid in scores.camids.tolist()),
        scores,
    )

    def picture(width):
        return camera_pair_figure(
            scores.mean_ap if score == "mAP" else scores.rank_1,
            scores.num_valid_queries,
            facts.cameras,
            title=f"{score}, %",
            width=width,
        )

    return View(facts, picture)


def check_cameras(split: Split) -> None:
    """Raises a `ValueError` where no cameras are known."""
    if not split.has_cameras:
        raise ValueError(
            f"Scores by camera need test images of known cameras. Received: "
            f"{split.name}, of which none is known, or one alone"
        )


def _without_nan(scores):
    return [
        [None if np.isnan(share) else share for share in row] for row in scores.tolist()
    ]
