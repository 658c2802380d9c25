"""The drawn parts of a report: curves, distances, cameras, places of images."""

import numpy as np
from matplotlib.text import Annotation

from topdb_tf.drawing.style import BLACK
from topdb_tf.evaluate.measured import Measured
from topdb_tf.evaluate.trainings import RunGroup
from topdb_tf.figures.camera_pairs import cameras_of
from topdb_tf.figures.pair_distances import distance_picture, distances_of
from topdb_tf.figures.places import map_picture, most_seen, places_of
from topdb_tf.progress import progress_bar
from topdb_tf.report.curve_parts import drawn, part_of_page, ranking_part, training_part
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.texts import percent

_NUM_PERSONS = 12
_MOST_CAMERAS = 24
_NEARLY_BLACK = "#010101"  # stays dark on a dark page


def drawn_parts(measured: Measured, training: RunGroup) -> list[dict]:
    """Returns all drawn parts of a report, in their order."""
    makers = [lambda: training_part([training]), lambda: ranking_part(measured)]
    distances = distances_of(
        measured.retrieval_set,
        measured.run,
        _facts(measured),
        ignore_cameras=measured.config.evaluation.ignore_cameras,
    )
    makers.append(lambda: distance_part(distances))
    if _has_few_cameras(measured.split):
        cameras = cameras_of(measured.retrieval_set, measured.config, _facts(measured))
        makers.append(lambda: camera_part(measured, cameras))
    makers.append(lambda: map_part(measured))
    parts = []
    with progress_bar("drawing figures") as progress:
        for number, make in enumerate(makers, 1):
            parts.append(make())
            progress(number, len(makers))
    return parts


def distance_part(numbers: dict) -> dict:
    """Returns the distances of pairs, and what a threshold would decide."""
    pairs = {kind: sum(counts) for kind, counts in numbers["counts"].items()}
    rows = [[kind.replace("_", " "), f"{count:,}"] for kind, count in pairs.items()]
    figure = drawn(
        "distances",
        lambda width: distance_picture(numbers, width=width),
        wide=True,
        title="Distances of pairs",
        caption="A query and a gallery image of one person, or of two; every histogram "
        "has the same area. Below: the share of wrong decisions if a distance were the "
        "threshold.",
        alt="Histograms of the distances of pairs of one person and of two persons, "
        "above the rates of errors at each distance.",
        table={"caption": "Numbers of pairs.", "head": ["pairs", ""], "rows": rows},
    )
    notes = list(numbers["notes"])
    if numbers["num_left_out"]:
        notes.append(
            f"{numbers['num_left_out']:,} images of nobody known are left out."
        )
    return part_of_page(
        "distances", "Same person or not", figures=[figure], notes=notes
    )


def camera_part(measured: Measured, numbers: dict) -> dict:
    """Returns the scores by the cameras of the query and of the gallery, as cells."""
    names = measured.split.camera_names
    cameras = [names.get(camid, str(camid)) for camid in numbers["camids"]]
    shares = [share for row in numbers["rank_1"] for share in row if share is not None]
    low = min(shares, default=0)
    matrix = {
        "caption": "Rank-1 in percent, and the number of queries, by camera of the "
        "query (down) and of the gallery (across).",
        "columns": cameras,
        "rows": [
            {"name": name, "cells": _cells(row, counts, low)}
            for name, row, counts in zip(
                cameras, numbers["rank_1"], numbers["num_valid_queries"], strict=True
            )
        ],
    }
    return part_of_page(
        "cameras",
        "Cameras",
        lead="Every query of one camera is ranked against the images of one other "
        "camera alone. That is easier than the whole gallery, and cells of galleries "
        "of different sizes are to be compared with care.",
        matrix=matrix,
    )


def map_part(measured: Measured) -> dict:
    """Returns the places of the images of some persons in a plane."""
    pids = most_seen(measured.split, _NUM_PERSONS)
    found = images_of_persons(measured.retrieval_set, pids)
    numbers = places_of(found, _facts(measured))
    figure = drawn(
        "map",
        lambda width: _with_dark_digits(map_picture(numbers, width=width)),
        wide=True,
        title="Images as points",
        caption=f"The test images of the {len(set(numbers['pids']))} persons who have "
        "most of them. Colour and mark tell the person, digits the camera; thin lines "
        "lead to a person's middle. Only what is near is meaningful, not how far.",
        alt="Map of the embeddings: images of one person should lie together.",
    )
    return part_of_page("map", "Embedding map", figures=[figure])


def images_of_persons(found: RetrievalSet, pids: list[int]) -> RetrievalSet:
    """Returns the images of some persons alone, in the same order."""
    query, gallery = np.isin(found.query_pids, pids), np.isin(found.gallery_pids, pids)
    return found.take(query, gallery)


def _has_few_cameras(split):
    cameras = {record.camid for record in split.query + split.gallery}
    return split.has_cameras and 1 < len(cameras) <= _MOST_CAMERAS


def _facts(measured):
    return {
        "run": str(measured.run.path),
        "dataset": measured.split.name,
        "model": measured.model.name,
        "metric": measured.config.evaluation.metric,
    }


def _cells(shares, counts, low):
    """Returns cells whose shade goes from the least share of the matrix to 1."""
    return [
        None
        if share is None
        else {
            "value": percent(share),
            "count": f"{count:,}",
            "shade": round(12 + 73 * (share - low) / max(1 - low, 1e-9)),
        }
        for share, count in zip(shares, counts, strict=True)
    ]


def _with_dark_digits(figure):
    """Keeps digits dark on light points where black is the page's colour of text."""
    for text in figure.findobj(Annotation):
        if text.get_color() == BLACK:
            text.set_color(_NEARLY_BLACK)
    return figure
