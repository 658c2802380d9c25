"""The drawn parts of a report: curves, distances, cameras, places of images."""

from collections.abc import Callable

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from topdb_tf.figures.precision import precision_figure
from topdb_tf.figures.style import BLACK, svg_of
from topdb_tf.pages.drawings import inline_drawing
from topdb_tf.progress import progress_bar
from topdb_tf.recipe.curve_figures import (
    Training,
    cmc_picture,
    training_numbers,
    training_picture,
)
from topdb_tf.recipe.embedding_figures import (
    cameras_of,
    distance_picture,
    distances_of,
)
from topdb_tf.recipe.embedding_map import map_picture, most_seen, places_of
from topdb_tf.recipe.measured import Measured, percent
from topdb_tf.recipe.report_scores import published_rank_1
from topdb_tf.retrieval.features import RetrievalSet

WIDE, NARROW = 9.6, 4.6  # inches: of the whole page, and of a column or a telephone
_SHOWN_RANKS = (1, 5, 10, 20, 50)
_NUM_PERSONS = 12
_NEARLY_BLACK = "#010101"  # stays dark on a dark page


def drawn(name: str, draw: Callable[..., Figure], *, wide: bool = False, **facts):
    """Returns what a page shows of a figure.

    Args:
        name: Its name, unique in the page.
        draw: Function of `width` that returns it.
        wide: Whether it takes the whole width of a page; it is then drawn for a
            telephone as well.
        **facts: `title`, `caption`, `alt`, and `table` with its numbers.
    """
    svg = _svg(draw(width=WIDE if wide else NARROW), name)
    narrow = _svg(draw(width=NARROW), f"{name}-narrow") if wide else None
    return {"id": name, "svg": svg, "narrow": narrow, "table": None, **facts}


def drawn_parts(measured: Measured, training: Training) -> list[dict]:
    """Returns all drawn parts of a report, in their order."""
    found = measured.retrieval_set
    distances = distances_of(found, measured.run, _facts(measured))
    cameras = cameras_of(found, measured.config, _facts(measured))
    makers = [
        lambda: training_part([training]),
        lambda: ranking_part(measured),
        lambda: distance_part(distances),
        lambda: camera_part(measured, cameras),
        lambda: map_part(measured),
    ]
    parts = []
    with progress_bar("drawing figures") as progress:
        for number, make in enumerate(makers, 1):
            parts.append(make())
            progress(number, len(makers))
    return parts


def training_part(trainings: list[Training]) -> dict:
    """Returns the curves of the training, each stream's losses on their own."""
    numbers = training_numbers(trainings)
    log = numbers["trainings"][0]["logs"][0]
    epochs = log["epoch"][-1]
    last = {name: column[-1] for name, column in log.items() if column[-1] is not None}
    several = len(trainings) > 1
    words = ", ".join(f"{name} {value:.4g}" for name, value in last.items())
    figure = drawn(
        "training",
        lambda width: training_picture(numbers, width=width),
        wide=True,
        title="Training by epoch",
        caption="Losses of every stream, accuracy of the classifiers on the training "
        "images, learning rate, and retrieval scores where they were computed."
        + (" A band is the sample standard deviation of several seeds." * several),
        alt=f"Curves over {epochs} epochs. At the end of the first: {words}.",
    )
    return _part("training", "Training", figures=[figure])


def ranking_part(measured: Measured) -> dict:
    """Returns the CMC and how the average precision is spread over the queries."""
    results = {r.name: r.result.scores for r in measured.rankings}
    curves = [
        {"label": name, "cmc": scores.cmc, "deviation": None}
        for name, scores in results.items()
    ]
    numbers = {"curves": curves, "references": published_rank_1(measured)}
    ranks = [rank for rank in _SHOWN_RANKS if rank <= len(curves[0]["cmc"])]
    rows = [
        [str(rank), *(percent(curve["cmc"][rank - 1]) for curve in curves)]
        for rank in ranks
    ]
    cmc = drawn(
        "cmc",
        lambda width: cmc_picture(numbers, width=width),
        title="Cumulative match characteristic",
        caption="Share of the valid queries with a match up to a rank. The axis does "
        "not begin at zero.",
        alt="; ".join(f"{n}: rank-1 {percent(s.cmc[0])} %" for n, s in results.items()),
        table={
            "caption": "CMC, in percent.",
            "head": ["rank", *results],
            "rows": rows,
        },
    )
    precisions = {n: s.queries.average_precision for n, s in results.items()}
    return _part(
        "ranking",
        "Ranking",
        figures=[cmc, precision_drawing(precisions)],
    )


def precision_drawing(precisions: dict[str, np.ndarray]) -> dict:
    """Returns the histogram of the queries' average precision, by ranking."""
    shares = [0.05, 0.25, 0.5, 0.75, 0.95]
    rows = [
        [f"{share:.0%} of the queries are below"]
        + [percent(np.nanquantile(own, share)) for own in precisions.values()]
        for share in shares
    ]
    return drawn(
        "precision",
        lambda width: precision_figure(precisions, width=width),
        title="Average precision of single queries",
        caption="Its mean, the vertical line, is the mAP. A hill on the left is people "
        "who are not found at all; one on the right, people who are found whole.",
        alt="Histogram of the average precision of the queries.",
        table={
            "caption": "Average precision, in percent.",
            "head": ["", *precisions],
            "rows": rows,
        },
    )


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
    return _part("distances", "Same person or not", figures=[figure], notes=notes)


def camera_part(measured: Measured, numbers: dict) -> dict:
    """Returns the scores by the cameras of the query and of the gallery, as cells."""
    names = measured.split.camera_names
    cameras = [names.get(camid, f"camera {camid}") for camid in numbers["camids"]]
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
    return _part(
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
    return _part("map", "Embedding map", figures=[figure])


def images_of_persons(found: RetrievalSet, pids: list[int]) -> RetrievalSet:
    """Returns the images of some persons alone, in the same order."""
    query, gallery = np.isin(found.query_pids, pids), np.isin(found.gallery_pids, pids)
    return RetrievalSet(
        query_features=found.query_features[query],
        gallery_features=found.gallery_features[gallery],
        query_pids=found.query_pids[query],
        gallery_pids=found.gallery_pids[gallery],
        query_camids=found.query_camids[query],
        gallery_camids=found.gallery_camids[gallery],
    )


def _part(name, title, *, lead="", figures=(), matrix=None, notes=()):
    return {
        "id": name,
        "title": title,
        "lead": lead,
        "figures": list(figures),
        "matrix": matrix,
        "notes": list(notes),
    }


def _svg(figure, name):
    with mpl.rc_context({"svg.fonttype": "none"}):
        return inline_drawing(svg_of(figure), name)


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
