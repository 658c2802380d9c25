"""The scores of a report, and whether they can be held against the paper's."""

from collections.abc import Mapping
from typing import NamedTuple

from topdb_tf.evaluate import published
from topdb_tf.evaluate.comparability import differences_from_published
from topdb_tf.evaluate.measured import Measured
from topdb_tf.evaluate.scores import METRICS
from topdb_tf.evaluate.table import printed_scores
from topdb_tf.figures.run_curves import published_rank_1
from topdb_tf.report.words import recipe_text, title_of
from topdb_tf.runs.nearest import NearestRecipe, nearest_recipe
from topdb_tf.texts import NOTHING, Table, percent, signed


class Tile(NamedTuple):
    """One of the few scores at the top of a report, and more of its re-ranked one."""

    name: str
    value: str
    more: str


def tiles(measured: Measured) -> list[Tile]:
    """Returns the main scores, each with the re-ranked one where there is one."""
    plain, *others = measured.rankings
    shown = []
    for metric in METRICS:
        if not metric.in_tile:
            continue
        share, more = metric.of(plain.result), ""
        for other in others:
            again = metric.of(other.result)
            more = f"{other.name} {percent(again)} ({signed(again - share)})"
        shown.append(Tile(metric.name, percent(share), more))
    return shown


def score_table(measured: Measured) -> Table:
    """Returns the scores, and beside them what the paper printed."""
    dataset, rows = measured.split.name, []
    for name, result in measured.scores.results:
        title = "this run" if name == "plain" else f"this run, {name}"
        rows.append([title, *(percent(metric.of(result)) for metric in METRICS)])
    for one in measured.data_sets:
        for name, result in one.results:
            title = f"{title_of(one.origin.dataset)} alone"
            title += "" if name == "plain" else f", {name}"
            rows.append([title, *(percent(metric.of(result)) for metric in METRICS)])
    method = method_of(nearest_recipe(measured.config)) or published.METHOD
    printed_rows = []
    for end, printed in published.printed_of(method, dataset):
        scores = printed_scores(printed)
        cells = [str(scores.get(metric.key, NOTHING)) for metric in METRICS]
        printed_rows.append([f"{method}{end}, published", *cells])
    return Table(
        caption=f"Scores on {title_of(dataset)}, in percent.",
        head=["", *(metric.name for metric in METRICS)],
        rows=rows + printed_rows,
        strong=range(len(rows)),
    )


def method_of(near: NearestRecipe) -> str | None:
    """Returns the method of the paper that a recipe is, where nothing departs."""
    return None if near.departures else published.METHOD_OF_RECIPE.get(near.name)


def notes_on_paper(measured: Measured) -> list[str]:
    """Returns lines on whether the scores can be held against the paper's."""
    dataset = measured.split.name
    if dataset not in published.TITLES:
        title = title_of(dataset)
        return [f"The paper reports nothing on {title}: there is no comparison."]
    reasons = _reasons_against(measured)
    source = "Published: Quispe and Pedrini, ICPR 2020, Tables I and II."
    notes = [published.NOTES[dataset]] if dataset in published.NOTES else []
    if reasons:
        text = "; ".join(reasons)
        return [f"Not comparable with the published figures: {text}.", source, *notes]
    return [f"Settings and protocol are the paper's. {source}", *notes]


def references_of(measured: Measured) -> Mapping[str, float]:
    """Returns the paper's rank-1 by name, where this run may be held against it."""
    dataset = measured.split.name
    if dataset not in published.TITLES or _reasons_against(measured):
        return {}
    method = method_of(nearest_recipe(measured.config))
    return published_rank_1(method, dataset, rerank=len(measured.rankings) > 1)


def _reasons_against(measured):
    """Returns why the scores cannot be held against the paper's on its data sets."""
    protocol = measured.plain.result.protocol
    reasons = differences_from_published(measured.split.name, protocol)
    near = nearest_recipe(measured.config)
    if method_of(near) is None:
        reasons.append(f"the settings are no method of the paper ({recipe_text(near)})")
    if not measured.embedded.is_own:
        trained_on = title_of(measured.embedded.origin.trained_on)
        reasons.append(f"the network was trained on {trained_on}")
    return reasons
