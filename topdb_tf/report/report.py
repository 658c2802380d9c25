"""A run on one page: what it is, how good, what it finds, what it confuses."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from topdb_tf.evaluate.measured import Measured, Stopwatch, measure
from topdb_tf.evaluate.trainings import RunGroup
from topdb_tf.files import write_whole
from topdb_tf.fit.info import run_info
from topdb_tf.progress import progress_bar
from topdb_tf.report import score_tables as report_scores
from topdb_tf.report import words as facts
from topdb_tf.report.lists import (
    HIGHEST,
    LOWEST,
    RANDOM,
    WRONG,
    chosen_queries,
    filters_of,
    lists_data,
)
from topdb_tf.report.maps import activation_pictures, epochs_pictures
from topdb_tf.report.page import render_page
from topdb_tf.report.page_files import (
    PRIVACY,
    Contents,
    check_page,
    page_facts,
    people_notice,
    seconds_line,
    seconds_of,
    shows_people,
)
from topdb_tf.runs.folder import RunFolder
from topdb_tf.runs.machine import current_environment
from topdb_tf.runs.recipes import fit_command, nearest_recipe
from topdb_tf.runs.settings import Config
from topdb_tf.texts import size_text

_NUM_MAPS = 12
_NUM_TRAINED = 3  # queries that are followed through the training


def write_report(
    run: RunFolder, config: Config, out: Path, contents: Contents, **options
) -> dict:
    """Embeds, scores and ranks a data set, and writes all of it as one page.

    Args:
        run: Folder of the run.
        config: Its settings.
        out: The HTML file; an older one is replaced when the new one is whole.
        contents: What the page holds.
        **options: `dataset`, `best` and `rerank`, of
            `topdb_tf.evaluate.measured.measure`.

    Returns:
        `out`, `bytes`, `run`, `dataset`, `model`, `mean_ap`, `rank_1`, `reranked` with
        the same two, `queries_shown`, `queries`, `holds_real_people`, `warnings`,
        `seconds` by part and `total_seconds`.

    Raises:
        FileNotFoundError: If the run has no model, the data is missing, or there is
            no folder for the file.
        ValueError: If the data cannot be scored, or `contents` is out of range.
    """
    check_page(out, contents)
    measured = measure(run, config, top=contents.top, **options)
    watch = Stopwatch()
    page = _page(measured, contents, watch.lap)
    write_whole(out, page.text)
    watch.lap("writing")
    return {
        "out": str(out),
        "bytes": out.stat().st_size,
        "run": str(run.path),
        "dataset": measured.split.name,
        "model": measured.model.name,
        **_scores(measured),
        "queries_shown": page.num_shown,
        "queries": len(measured.split.query),
        "holds_real_people": bool(page.num_shown) and shows_people(measured.split.name),
        "warnings": facts.warnings_of(measured),
        **seconds_of(measured.seconds | watch.seconds),
    }


def report_lines(result: dict) -> list[str]:
    """Returns what was written, for people."""
    lines = [
        f"{result['out']}, {size_text(result['bytes'])}: ranked lists of "
        f"{result['queries_shown']:,} of {result['queries']:,} queries",
        f"mAP {result['mean_ap']:.1%}, rank-1 {result['rank_1']:.1%}",
    ]
    if result["reranked"]:
        again = result["reranked"]
        lines[-1] += f"; re-ranked {again['mean_ap']:.1%}, {again['rank_1']:.1%}"
    lines += [f"warning: {line}" for line in result["warnings"]]
    if result["holds_real_people"]:
        lines.append(PRIVACY)
    return [*lines, seconds_line(result)]


class _Page(NamedTuple):
    text: str
    num_shown: int


def _page(measured: Measured, contents: Contents, lap: Callable[[str], None]) -> _Page:
    from topdb_tf.report.run_parts import drawn_parts

    training = RunGroup("this run", (measured.run,))
    parts = drawn_parts(measured, training)
    lap("figures")
    chosen, data, lists, maps = {}, None, None, None
    if contents.images:
        chosen = chosen_queries(measured.plain.lists, contents.queries)
        data, lists = _lists(measured, chosen, contents)
        lap("pictures")
        maps = _maps(measured, chosen)
        lap("activation maps")
    sections = [("summary", "Summary"), ("scores", "Scores and protocol")]
    sections += [(part["id"], part["title"]) for part in parts]
    sections += [("ranked-lists", "Ranked lists")] * bool(lists)
    sections += [("activation", "Where the network looks")] * bool(maps)
    sections.append(("settings", "Settings and environment"))
    page = {
        **page_facts("topdb-tf report", measured.run.path.resolve().name, sections),
        **_words(measured, contents, len(chosen)),
        "drawn": parts,
        "lists": lists,
        "maps": maps,
    }
    return _Page(render_page("report.html", page, data), len(chosen))


def _words(measured, contents, num_shown):
    dataset, config = measured.split.name, measured.config
    near = nearest_recipe(config)
    own = current_environment().to_dict()
    count = measured.scores["num_valid_queries"]
    trained = run_info(measured.run)["environment"] or {}
    shown = (
        f"{num_shown:,} of {count:,} valid queries"
        if contents.images
        else "left out (--no-images)"
    )
    return {
        "subtitle": f"{facts.title_of(dataset)}, recipe {facts.recipe_text(near)}",
        "notice": people_notice(dataset, contents.images),
        "warnings": facts.warnings_of(measured),
        "tiles": report_scores.tiles(measured),
        "summary": facts.summary(measured),
        "scores": report_scores.score_table(measured),
        "comparison": report_scores.comparison_notes(measured),
        "protocol": facts.protocol_facts(measured.scores["protocol"]),
        "commands": _commands(measured),
        "settings": facts.settings_table(near),
        "environment": facts.environment_facts(trained),
        "about": [("Ranked lists", shown), *facts.environment_facts(own)[:4]],
        "config": config.to_yaml(),
    }


def _commands(measured):
    run = os.fspath(measured.run.path)
    return [
        fit_command(measured.config, measured.run.path),
        f"topdb-tf evaluate {run} --rerank",
        f"topdb-tf report {run}",
    ]


def _lists(measured, chosen, contents):
    with progress_bar("making pictures") as progress:
        data = lists_data(
            measured.split,
            chosen,
            {ranking.name: ranking.lists for ranking in measured.rankings},
            top=contents.top,
            progress=progress,
        )
    reasons = (LOWEST, WRONG, HIGHEST, RANDOM)
    count = measured.scores["num_valid_queries"]
    lead = (
        f"{len(chosen):,} of the {count:,} valid queries with the first "
        f"{contents.top} images that are ranked for them"
    )
    if len(chosen) < count:
        lead += (
            ": those of the lowest average precision, others that are wrong at rank 1, "
            "some of the highest, and others drawn at random, which alone are typical"
        )
    return data, {**filters_of(data, reasons=reasons), "lead": f"{lead}."}


def _maps(measured, chosen):
    from topdb_tf.model.extraction import load_embedder

    by_reason = {}
    for query, reason in chosen.items():
        by_reason.setdefault(reason, []).append(query)
    groups = list(by_reason.values())
    taken = []  # one of each reason after the other
    while groups and len(taken) < min(_NUM_MAPS, len(chosen)):
        taken += [group.pop(0) for group in groups]
        groups = [group for group in groups if group]
    embedder = load_embedder(measured.model)
    maps = activation_pictures(measured, embedder, taken[:_NUM_MAPS])
    return maps and maps | {"epochs": epochs_pictures(measured, taken[:_NUM_TRAINED])}


def _scores(measured):
    results = [ranking.result.to_dict() for ranking in measured.rankings]
    figures = [{"mean_ap": r["mean_ap"], "rank_1": r["cmc"]["1"]} for r in results]
    return {**figures[0], "reranked": figures[1] if len(figures) > 1 else None}
