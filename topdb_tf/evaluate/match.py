"""Whether two images show one person, by the threshold that `calibrate` found."""

import csv
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.evaluate.calibrate import read_calibration, share_text
from topdb_tf.evaluate.embedding import features_of
from topdb_tf.files import user_path
from topdb_tf.model.preset_files import WEIGHTS
from topdb_tf.retrieval.distances import pairwise_distances
from topdb_tf.retrieval.pairs.intervals import Share
from topdb_tf.retrieval.pairs.operating_points import CompactRoc
from topdb_tf.runs.machine import load_tensorflow
from topdb_tf.texts import rate_text

_BATCH_SIZE = 64


class JudgedPair(NamedTuple):
    """Two images, and whether they show one person.

    The rate is the share of the pairs of two persons that are as near as some distance
    just above theirs: an upper bound by a few percent.
    """

    images: tuple[Path, Path]
    distance: float
    is_same_person: bool
    is_same_file: bool
    false_match_rate_at_distance: float


class Judgement(NamedTuple):
    """Pairs of images, judged by one threshold of the calibration of a run or preset.

    The rates are those that were measured at the threshold on the data set.
    """

    run: Path
    model: str
    dataset: str
    metric: str
    wanted_false_match_rate: float
    threshold: float
    false_match_rate: Share
    true_match_rate: Share
    pairs: tuple[JudgedPair, ...]


def match(
    path: Path,
    pairs: Sequence[tuple[Path, Path]],
    *,
    false_match_rate: float | None = None,
) -> Judgement:
    """Decides for pairs of images whether they show one person.

    They are by the calibration of a run's folder, or of a preset's. The rate is one of
    those that it was calibrated for, by default the first.
    """
    if not pairs:
        raise ValueError("There must be a pair of images.")
    calibration = read_calibration(path)
    point = calibration.operating_point(false_match_rate)
    paths = list(dict.fromkeys(image for pair in pairs for image in pair))
    for image in paths:
        if not image.is_file():
            raise FileNotFoundError(f"There is no image file {image}.")
    load_tensorflow()
    from topdb_tf.data.decoding import decode_image
    from topdb_tf.model.extraction import load_embedder

    images = [decode_image(image) for image in paths]
    is_preset = calibration.model == WEIGHTS
    model = load_embedder(path if is_preset else path / calibration.model)
    embeddings = features_of(model, images, batch_size=_BATCH_SIZE)
    features = dict(zip(paths, embeddings, strict=True))
    judged = []
    for pair in pairs:
        one, other = (features[path][np.newaxis] for path in pair)
        distances = pairwise_distances(one, other, metric=calibration.metric)
        distance = float(distances[0, 0])
        judged.append(
            JudgedPair(
                images=tuple(pair),
                distance=distance,
                is_same_person=distance <= point.threshold,
                is_same_file=pair[0].samefile(pair[1]),
                false_match_rate_at_distance=_rate_at(calibration.pairs.roc, distance),
            )
        )
    return Judgement(
        run=path,
        model=calibration.model,
        dataset=calibration.origin.dataset,
        metric=calibration.metric,
        wanted_false_match_rate=point.wanted_false_match_rate,
        threshold=point.threshold,
        false_match_rate=point.false_match_rate,
        true_match_rate=point.true_match_rate,
        pairs=tuple(judged),
    )


def read_pairs(path: Path) -> list[tuple[Path, Path]]:
    """Returns the pairs that a CSV file of two columns, without a header, names.

    Paths are as from the current folder.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of pairs {path}.")
    pairs = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        for row in rows:
            if row and (len(row) != 2 or not all(row)):
                raise ValueError(
                    "Every row must name two image files, IMAGE,IMAGE. "
                    f"Received: {path}, line {rows.line_num}: {','.join(row)}"
                )
            if row:
                pairs.append((user_path(row[0].strip()), user_path(row[1].strip())))
    if not pairs:
        raise ValueError(f"{path} must name a pair of images, IMAGE,IMAGE a row.")
    return pairs


def match_lines(judgement: Judgement) -> list[str]:
    """Returns the decisions for people."""
    lines = []
    for pair in judgement.pairs:
        verdict = "same person" if pair.is_same_person else "different persons"
        names = " and ".join(map(str, pair.images))
        same = " (one and the same file)" if pair.is_same_file else ""
        lines.append(f"{verdict}: {names}{same}")
        lines.append(
            f"  distance {pair.distance:.6g}, threshold {judgement.threshold:.6g}; "
            f"at most {rate_text(pair.false_match_rate_at_distance)} of the pairs "
            "of two persons are as near"
        )
    return [
        *lines,
        f"decided at a false-match rate of "
        f"{rate_text(judgement.wanted_false_match_rate)}; on {judgement.dataset} it "
        f"was {share_text(judgement.false_match_rate)}, and "
        f"{share_text(judgement.true_match_rate)} of the true matches were found",
    ]


def _rate_at(roc: CompactRoc, distance: float) -> float:
    """Returns the rate at the first distance of the ROC that is not below another."""
    place = bisect_left(roc.distances, distance)
    rates = roc.false_match_rates
    return rates[place] if place < len(rates) else 1.0
