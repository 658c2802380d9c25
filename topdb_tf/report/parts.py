"""The drawn parts of a page: curves, distances, cameras, places of images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from matplotlib.text import Annotation

from topdb_tf.data.records import Split
from topdb_tf.drawing.precision import precision_figure
from topdb_tf.drawing.style import BLACK
from topdb_tf.evaluate.measured import Measured
from topdb_tf.evaluate.trainings import Training
from topdb_tf.figures import camera_pairs, pair_distances, places, run_curves
from topdb_tf.figures.run_curves import Curve
from topdb_tf.figures.view import View
from topdb_tf.progress import progress_bar
from topdb_tf.report.differences import Compared
from topdb_tf.report.drawings import NARROW, Drawing, inline_svg, wide_drawing
from topdb_tf.report.score_tables import references_of
from topdb_tf.report.words import camera_name
from topdb_tf.texts import Table, percent

_NUM_PERSONS = 12
_MOST_CAMERAS = 24
_SHOWN_RANKS = (1, 5, 10, 20, 50)
_SHOWN_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
_NEARLY_BLACK = "#010101"  # stays dark on a dark page


class Cell(NamedTuple):
    """A share of a number of queries, in percent, and how deep it is coloured."""

    value: str
    count: str
    shade: int


@dataclass(frozen=True)
class Matrix:
    """Shares by the camera of the query and that of the gallery, each with a name.

    A cell is `None` where there is no query.
    """

    caption: str
    names: Sequence[str]
    rows: Sequence[Sequence[Cell | None]]


@dataclass(frozen=True)
class Part:
    """A part of a page, its name unique there, with a lead above and notes below."""

    name: str
    title: str
    lead: str = ""
    drawings: Sequence[Drawing] = ()
    matrix: Matrix | None = None
    notes: Sequence[str] = ()


def parts_of_run(measured: Measured) -> list[Part]:
    """Returns all drawn parts of a report, in their order."""
    distances = pair_distances.distances_of(measured.embedded)
    cameras = None
    if _has_few_cameras(measured.split):
        cameras = camera_pairs.cameras_of(measured.embedded)
    num_parts, parts = 4 if cameras is None else 5, []
    with progress_bar("drawing figures") as progress:
        for part in _drawn_parts(measured, distances, cameras):
            parts.append(part)
            progress(len(parts), num_parts)
    return parts


def parts_of_comparison(compared: Sequence[Compared]) -> list[Part]:
    """Returns the drawn parts of a comparison, in their order."""
    trainings = [replace(one.training, label=one.label) for one in compared]
    with progress_bar("drawing figures") as progress:
        curves = training_part(trainings)
        progress(1, 2)
        ranking = overlaid_ranking_part(compared)
        progress(2, 2)
    return [curves, ranking]


def training_part(trainings: Sequence[Training]) -> Part:
    """Returns the curves of the training, each stream's losses on their own."""
    trainings = [replace(one, label=_in_figures(one.label)) for one in trainings]
    try:
        view = run_curves.training(trainings)
    except FileNotFoundError as error:
        return Part("training", "Training", notes=[str(error)])
    log = view.facts.logs[0][0]
    num_epochs = log.columns["epoch"][-1]
    last = ", ".join(f"{name} {value:.4g}" for name, value in log.last)
    caption = (
        "Losses of every stream, accuracy of the classifiers on the training images, "
        "learning rate, and retrieval scores where they were computed."
    )
    if any(len(training.runs) > 1 for training in trainings):
        caption += " A band is the sample standard deviation of several seeds."
    drawing = wide_drawing(
        "training",
        view.picture,
        title="Training by epoch",
        caption=caption,
        alt=f"Curves over {num_epochs} epochs. At the end of the first: {last}.",
    )
    return Part("training", "Training", drawings=[drawing])


def ranking_part(measured: Measured) -> Part:
    """Returns the CMC and how the average precision is spread over the queries."""
    curves, precisions = [], {}
    for ranking in measured.rankings:
        results = {measured.run.path: ranking.result}
        curves.append(Curve(ranking.name, measured.split.name, results))
        precisions[ranking.name] = ranking.lists.average_precision
    title = "Cumulative match characteristic"
    cmc = cmc_drawing("cmc", title, curves, references=references_of(measured))
    return Part("ranking", "Ranking", drawings=[cmc, _precision_drawing(precisions)])


def overlaid_ranking_part(compared: Sequence[Compared]) -> Part:
    """Returns CMC and average precision of several trainings over one another."""
    names = [("cmc", "CMC", False)]
    if compared[0].has_reranked:
        names.append(("cmc-reranked", "CMC, re-ranked", True))
    drawings, precisions = [], {}
    for name, title, reranked in names:
        curves = []
        for one in compared:
            dataset, results = one.measured.split.name, one.results(reranked=reranked)
            curves.append(Curve(one.label, dataset, results, reranked))
        drawings.append(cmc_drawing(name, title, curves))
    for one in compared:
        precisions[one.label] = one.measured.plain.lists.average_precision
    return Part(
        "ranking", "Ranking", drawings=[*drawings, _precision_drawing(precisions)]
    )


def distance_part(view: View) -> Part:
    """Returns the distances of pairs, and what a threshold would decide."""
    rows = [
        [kind.replace("_", " "), f"{sum(counts):,}"]
        for kind, counts in view.facts.counts.items()
    ]
    drawing = wide_drawing(
        "distances",
        view.picture,
        title="Distances of pairs",
        caption="A query and a gallery image of one person, or of two; every histogram "
        "has the same area. Below: the share of wrong decisions if a distance were the "
        "threshold.",
        alt="Histograms of the distances of pairs of one person and of two persons, "
        "above the rates of errors at each distance.",
        table=Table("Numbers of pairs.", ["pairs", ""], rows),
    )
    notes = list(view.facts.notes)
    if view.facts.num_left_out:
        notes.append(
            f"{view.facts.num_left_out:,} images of nobody known are left out."
        )
    return Part("distances", "Same person or not", drawings=[drawing], notes=notes)


def camera_part(view: View, split: Split) -> Part:
    """Returns the scores by the cameras of the query and of the gallery, as cells."""
    scores = view.facts.scores
    least = np.nanmin(scores.rank_1, initial=1)
    matrix = Matrix(
        caption="Rank-1 in percent, and the number of queries, by camera of the query "
        "(down) and of the gallery (across).",
        names=[camera_name(split, camid) for camid in scores.camids.tolist()],
        rows=[
            [_cell(share, number, least) for share, number in zip(*row, strict=True)]
            for row in zip(scores.rank_1, scores.num_valid_queries, strict=True)
        ],
    )
    return Part(
        "cameras",
        "Cameras",
        lead="Every query of one camera is ranked against the images of one other "
        "camera alone. That is easier than the whole gallery, and cells of galleries "
        "of different sizes are to be compared with care.",
        matrix=matrix,
        notes=view.facts.notes,
    )


def map_part(measured: Measured) -> Part:
    """Returns the places of the images of some persons in a plane."""
    pids = places.most_seen(measured.split, _NUM_PERSONS)
    view = places.map_of(measured.embedded, pids)
    drawing = wide_drawing(
        "map",
        lambda width: _with_dark_digits(view.picture(width)),
        title="Images as points",
        caption=f"The test images of the {len(pids)} persons who have most of them. "
        "Colour and mark tell the person, digits the camera; thin lines lead to a "
        "person's middle. Only what is near is meaningful, not how far.",
        alt="Map of the embeddings: images of one person should lie together.",
    )
    return Part("map", "Embedding map", drawings=[drawing])


def cmc_drawing(
    name: str,
    title: str,
    curves: Sequence[Curve],
    *,
    references: Mapping[str, float] | None = None,
) -> Drawing:
    """Returns some CMC over one another, with published rank-1 by name, shares."""
    drawn = [replace(curve, label=_in_figures(curve.label)) for curve in curves]
    figure = run_curves.cmc_of(drawn, references=references).picture(NARROW)
    caption = "Share of the valid queries with a match up to a rank."
    if (bottom := figure.axes[0].get_ylim()[0]) > 0:
        caption += f" The axis begins at {100 * bottom:.0f} %, not at zero."
    labels = [curve.label for curve in curves]
    cmcs = [curve.mean.cmc for curve in curves]
    last = min(map(len, cmcs))
    firsts = [f"rank-1 {percent(cmc[0])} %" for cmc in cmcs]
    return Drawing(
        name=name,
        title=title,
        caption=caption,
        alt="; ".join(map(": ".join, zip(labels, firsts, strict=True))),
        svg=inline_svg(figure, name),
        table=Table(
            caption="In percent.",
            head=["rank", *labels],
            rows=[
                [str(rank), *(percent(cmc[rank - 1]) for cmc in cmcs)]
                for rank in _SHOWN_RANKS
                if rank <= last
            ],
        ),
    )


def _drawn_parts(measured, distances, cameras) -> Iterator[Part]:
    yield training_part([Training("this run", (measured.run,))])
    yield ranking_part(measured)
    yield distance_part(distances)
    if cameras is not None:
        yield camera_part(cameras, measured.split)
    yield map_part(measured)


def _has_few_cameras(split):
    cameras = {record.camid for record in split.query + split.gallery}
    return split.has_cameras and 1 < len(cameras) <= _MOST_CAMERAS


def _precision_drawing(precisions: Mapping[str, np.ndarray]) -> Drawing:
    """Returns the histogram of the queries' average precision, by ranking."""
    rows = [
        [f"{share:.0%} of the queries are below"]
        + [percent(np.nanquantile(values, share)) for values in precisions.values()]
        for share in _SHOWN_SHARES
    ]
    drawn = {_in_figures(name): values for name, values in precisions.items()}
    return Drawing(
        name="precision",
        title="Average precision of single queries",
        caption="Its mean, the vertical line, is the mAP. A hill on the left is people "
        "who are not found at all; one on the right, people who are found whole.",
        alt="Histogram of the average precision of the queries.",
        svg=inline_svg(precision_figure(drawn, width=NARROW), "precision"),
        table=Table("Average precision, in percent.", ["", *precisions], rows),
    )


def _in_figures(label):
    """Returns a label in which a dollar is no formula to matplotlib."""
    return label.replace("$", r"\$")


def _cell(share, number, least):
    """Returns a cell whose shade goes from the least share of its matrix to 1."""
    if np.isnan(share):
        return None
    shade = 12 + 73 * (share - least) / max(1 - least, 1e-9)
    return Cell(percent(share), f"{number:,}", round(shade))


def _with_dark_digits(figure):
    """Keeps digits dark on light points where black is the page's colour of text."""
    for text in figure.findobj(Annotation):
        if text.get_color() == BLACK:
            text.set_color(_NEARLY_BLACK)
    return figure
