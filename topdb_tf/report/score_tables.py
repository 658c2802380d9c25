"""The scores of a report, and whether they can be held against the paper's."""

from topdb_tf.evaluate import published
from topdb_tf.evaluate.comparability import differences_from_published
from topdb_tf.evaluate.measured import Measured
from topdb_tf.evaluate.scores import figures_of_scores
from topdb_tf.report.words import recipe_text, title_of
from topdb_tf.runs.recipes import nearest_recipe
from topdb_tf.runs.settings import Config
from topdb_tf.texts import percent


def tiles(measured: Measured) -> list[dict]:
    """Returns the main scores, each with the re-ranked one where there is one."""
    rows = [
        figures_of_scores(ranking.result.to_dict()) for ranking in measured.rankings
    ]
    made = []
    for name, value in rows[0].items():
        if name not in ("mAP", "rank-1", "rank-5", "mINP"):
            continue
        more = ""
        if len(rows) > 1:
            change = 100 * (rows[1][name] - value)
            signed = f"{change:+.1f}".replace("-", "\u2212")
            more = f"re-ranked {percent(rows[1][name])} ({signed})"
        made.append({"name": name, "value": percent(value), "more": more})
    return made


def score_table(measured: Measured) -> dict:
    """Returns the scores, and beside them what the paper printed."""
    dataset = measured.split.name
    rows = []
    for ranking in measured.rankings:
        figures = figures_of_scores(ranking.result.to_dict())
        name = "this run" if ranking.name == "plain" else f"this run, {ranking.name}"
        rows.append([name, *map(percent, figures.values())])
    strong = list(range(len(rows)))
    rows += _printed_rows(dataset, method_of(measured.config), len(figures))
    return {
        "caption": f"Scores on {title_of(dataset)}, in percent.",
        "head": ["", *figures],
        "rows": rows,
        "strong": strong,
    }


def method_of(config: Config) -> str | None:
    """Returns the method of the paper that the settings are those of, if any."""
    near = nearest_recipe(config)
    return None if near.departures else published.METHOD_OF_RECIPE.get(near.name)


def comparison_notes(measured: Measured) -> list[str]:
    """Returns lines on whether the scores can be held against the paper's."""
    config, dataset = measured.config, measured.split.name
    title = title_of(dataset)
    if dataset not in published.TITLES:
        return [f"The paper reports nothing on {title}: there is no comparison."]
    reasons = differences_from_published(dataset, measured.scores["protocol"])
    near = nearest_recipe(config)
    if method_of(config) is None:
        reasons.append(f"the settings are no method of the paper ({recipe_text(near)})")
    if not measured.is_own:
        reasons.append(f"the network was trained on {title_of(measured.trained_on)}")
    source = "Published: Quispe and Pedrini, ICPR 2020, Tables I and II."
    notes = [published.NOTES[dataset]] if dataset in published.NOTES else []
    if reasons:
        text = "; ".join(reasons)
        return [f"Not comparable with the published figures: {text}.", source, *notes]
    return [f"Settings and protocol are the paper's. {source}", *notes]


def published_rank_1(measured: Measured) -> dict[str, float]:
    """Returns the paper's rank-1 by name, where this run may be held against it."""
    method, dataset = method_of(measured.config), measured.split.name
    protocol = measured.scores["protocol"]
    if (
        method is None
        or dataset not in published.TITLES
        or not measured.is_own
        or differences_from_published(dataset, protocol)
    ):
        return {}
    printed = {f"{method} in the paper": published.TABLE_1.get(method, {})}
    if len(measured.rankings) > 1:
        again = f"{method} in the paper, re-ranked"
        printed[again] = published.TABLE_2.get(method, {})
    return {
        name: table[dataset].rank_1 / 100
        for name, table in printed.items()
        if dataset in table
    }


def _printed_rows(dataset, method, num_columns):
    method = method or "Top-DB-Net"
    rows = []
    for table, text in (
        (published.TABLE_1, ""),
        (published.TABLE_2, ", re-ranked"),
    ):
        printed = table.get(method, {}).get(dataset)
        if printed is not None:
            cells = [
                _printed_text(printed.mean_ap, printed.mean_ap_deviation),
                _printed_text(printed.rank_1, printed.rank_1_deviation),
            ]
            cells += ["–"] * (num_columns - len(cells))
            rows.append([f"{method}{text}, published", *cells])
    return rows


def _printed_text(value, deviation):
    return f"{value:.1f}" if deviation is None else f"{value:.1f} ± {deviation:.1f}"
