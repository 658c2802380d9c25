"""Training curves, CMC and average precision of a page."""

from collections.abc import Callable

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from topdb_tf.drawing.precision import precision_figure
from topdb_tf.drawing.style import svg_of
from topdb_tf.evaluate.measured import Measured
from topdb_tf.evaluate.scores import mean_cmc
from topdb_tf.evaluate.trainings import RunGroup
from topdb_tf.figures.run_curves import cmc_picture, training_numbers, training_picture
from topdb_tf.report.drawings import inline_drawing
from topdb_tf.report.score_tables import published_rank_1
from topdb_tf.texts import percent

WIDE, NARROW = 9.6, 4.6  # inches: of the whole page, and of a column or a telephone
_SHOWN_RANKS = (1, 5, 10, 20, 50)


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


def part_of_page(name, title, *, lead="", figures=(), matrix=None, notes=()):
    """Returns a part of a page with its figures, its matrix and notes."""
    return {
        "id": name,
        "title": title,
        "lead": lead,
        "figures": list(figures),
        "matrix": matrix,
        "notes": list(notes),
    }


def training_part(trainings: list[RunGroup]) -> dict:
    """Returns the curves of the training, each stream's losses on their own."""
    try:
        numbers = training_numbers(trainings)
    except FileNotFoundError as error:
        return part_of_page("training", "Training", notes=[str(error)])
    log = numbers["trainings"][0]["logs"][0]
    epochs = log["epoch"][-1]
    last = {name: column[-1] for name, column in log.items() if column[-1] is not None}
    several = any(len(training.runs) > 1 for training in trainings)
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
    return part_of_page("training", "Training", figures=[figure])


def ranking_part(measured: Measured) -> dict:
    """Returns the CMC and how the average precision is spread over the queries."""
    results = {r.name: r.result.scores for r in measured.rankings}
    curves = [
        {"label": name, "cmc": scores.cmc, "deviation": None}
        for name, scores in results.items()
    ]
    numbers = {"curves": curves, "references": published_rank_1(measured)}
    cmc = _cmc_drawing("cmc", "Cumulative match characteristic", numbers)
    precisions = {n: s.queries.average_precision for n, s in results.items()}
    return part_of_page(
        "ranking",
        "Ranking",
        figures=[cmc, precision_drawing(precisions)],
    )


def overlaid_ranking_part(labels: list[str], compared: list) -> dict:
    """Returns CMC and average precision of several trainings over one another.

    Args:
        labels: What they are called in figures.
        compared: Records of `topdb_tf.report.differences.Compared`.
    """
    figures = []
    for again in (False, True):
        scores = [
            [own.get("reranked") if again else own for own in one.scores]
            for one in compared
        ]
        if None not in [own for group in scores for own in group]:
            curves = [
                {**mean_cmc(group), "label": label}
                for label, group in zip(labels, scores, strict=True)
            ]
            name, title = (
                ("cmc-reranked", "CMC, re-ranked") if again else ("cmc", "CMC")
            )
            numbers = {"curves": curves, "references": {}}
            figures.append(_cmc_drawing(name, title, numbers))
    precisions = {
        label: one.measured.plain.lists.average_precision
        for label, one in zip(labels, compared, strict=True)
    }
    figures.append(precision_drawing(precisions))
    return part_of_page("ranking", "Ranking", figures=figures)


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
            "head": ["", *(name.replace(r"\$", "$") for name in precisions)],
            "rows": rows,
        },
    )


def _cmc_drawing(name, title, numbers):
    curves = numbers["curves"]
    labels = [curve["label"].replace(r"\$", "$") for curve in curves]
    ranks = [r for r in _SHOWN_RANKS if r <= min(len(c["cmc"]) for c in curves)]
    firsts = (percent(curve["cmc"][0]) for curve in curves)
    return drawn(
        name,
        lambda width: cmc_picture(numbers, width=width),
        title=title,
        caption="Share of the valid queries with a match up to a rank. The axis does "
        "not begin at zero.",
        alt="; ".join(
            f"{label}: rank-1 {first} %"
            for label, first in zip(labels, firsts, strict=True)
        ),
        table={
            "caption": "In percent.",
            "head": ["rank", *labels],
            "rows": [
                [str(rank), *(percent(curve["cmc"][rank - 1]) for curve in curves)]
                for rank in ranks
            ],
        },
    )


def _svg(figure, name):
    with mpl.rc_context({"svg.fonttype": "none"}):
        return inline_drawing(svg_of(figure), name)
