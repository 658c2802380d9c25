"""Whether two images show one person, by the threshold that `calibrate` found."""

import csv
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from topdb_tf.evaluate.calibrate import read_calibration, share_text
from topdb_tf.progress import progress_bar
from topdb_tf.retrieval.distances import pairwise_distances
from topdb_tf.runs.folder import RunFolder
from topdb_tf.runs.machine import load_tensorflow
from topdb_tf.texts import rate_text

_BATCH_SIZE = 64


def match(
    run: RunFolder,
    pairs: Sequence[tuple[Path, Path]],
    *,
    false_match_rate: float | None = None,
) -> dict:
    """Decides for pairs of images whether they show one person.

    Args:
        run: Folder of a run that was calibrated.
        pairs: The two files of each pair.
        false_match_rate: One of the rates that were calibrated. Defaults to the first.

    Returns:
        `run`, `model`, `dataset` and `metric` of the calibration; the operating point:
        `wanted_false_match_rate`, `threshold`, and the measured `false_match_rate` and
        `true_match_rate`; and `pairs`, each with `images`, `distance`,
        `is_same_person`, `is_same_file`, and `false_match_rate_at_distance`, which is
        the share of the pairs of two persons that are as near as some distance just
        above its own: an upper bound by a few percent.

    Raises:
        FileNotFoundError: If the run was not calibrated, or an image does not exist.
        ValueError: If the calibration is not of this model, the rate is not one of
            its rates, there is no pair, or an image is damaged.
    """
    if not pairs:
        raise ValueError("There must be a pair of images.")
    calibration = read_calibration(run)
    point = operating_point(calibration, false_match_rate)
    paths = list(dict.fromkeys(path for pair in pairs for path in pair))
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"There is no image file {path}.")
    features = dict(
        zip(paths, _embed(run.path / calibration["model"], paths), strict=True)
    )
    metric = calibration["metric"]
    judged = []
    for pair in pairs:
        one, other = (features[path][np.newaxis] for path in pair)
        distance = float(pairwise_distances(one, other, metric=metric)[0, 0])
        judged.append(
            {
                "images": [str(path) for path in pair],
                "distance": distance,
                "is_same_person": distance <= point["threshold"],
                "is_same_file": pair[0].samefile(pair[1]),
                "false_match_rate_at_distance": _rate_at(calibration["roc"], distance),
            }
        )
    names = (
        "wanted_false_match_rate",
        "threshold",
        "false_match_rate",
        "true_match_rate",
    )
    return {
        "run": str(run.path),
        **{name: calibration[name] for name in ("model", "dataset", "metric")},
        **{name: point[name] for name in names},
        "pairs": judged,
    }


def read_pairs(path: Path) -> list[tuple[Path, Path]]:
    """Returns the pairs of image files that the rows of a CSV file name.

    Args:
        path: File of two columns without a header, paths as from the current folder.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a row has not two columns, or there is none.
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
                pairs.append((Path(row[0].strip()), Path(row[1].strip())))
    if not pairs:
        raise ValueError(f"{path} must name a pair of images, IMAGE,IMAGE a row.")
    return pairs


def operating_point(calibration: dict, rate: float | None) -> dict:
    """Returns the operating point of a calibrated rate, or of the first.

    Raises:
        ValueError: If the rate is not one of the calibration.
    """
    points = calibration["operating_points"]
    if rate is None:
        return points[0]
    for point in points:
        if point["wanted_false_match_rate"] == rate:
            return point
    known = [str(point["wanted_false_match_rate"]) for point in points]
    raise ValueError(
        f"The false-match rate must be one that was calibrated: {', '.join(known)}. "
        f"For another one run `topdb-tf calibrate --false-match-rate {rate}`. "
        f"Received: {rate}"
    )


def match_lines(result: dict) -> list[str]:
    """Returns the decisions for people."""
    lines = []
    for pair in result["pairs"]:
        verdict = "same person" if pair["is_same_person"] else "different persons"
        names = " and ".join(pair["images"])
        lines.append(f"{verdict}: {names}{_of_one_file(pair)}")
        lines.append(
            f"  distance {pair['distance']:.6g}, threshold {result['threshold']:.6g}; "
            f"at most {rate_text(pair['false_match_rate_at_distance'])} of the pairs "
            "of two persons are as near"
        )
    return [
        *lines,
        f"decided at a false-match rate of "
        f"{rate_text(result['wanted_false_match_rate'])}; on {result['dataset']} it "
        f"was {share_text(result['false_match_rate'])}, and "
        f"{share_text(result['true_match_rate'])} of the true matches were found",
    ]


def _embed(model, paths):
    load_tensorflow()
    from topdb_tf.data.decoding import decode_image
    from topdb_tf.data.pipeline import evaluation_dataset
    from topdb_tf.model.extraction import extract_embeddings, load_embedder

    images = []
    for path in paths:
        try:
            images.append(decode_image(path))
        except ValueError:
            raise ValueError(
                f"An image must be a whole JPEG or PNG file. Received: {path}"
            ) from None
    embedder = load_embedder(model)
    batches = evaluation_dataset(
        images, image_size=tuple(embedder.input_shape[1:3]), batch_size=_BATCH_SIZE
    )
    with progress_bar("embedding") as progress:
        return extract_embeddings(
            embedder, batches, num_images=len(images), progress=progress
        )


def _rate_at(roc, distance):
    """Returns the rate at the first distance of the ROC that is not below another."""
    place = bisect_left(roc["distances"], distance)
    rates = roc["false_match_rates"]
    return rates[place] if place < len(rates) else 1.0


def _of_one_file(pair):
    return " (one and the same file)" if pair["is_same_file"] else ""
