"""Several runs on one page: where they differ, and on which images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.evaluate.evaluate import evaluate
from topdb_tf.evaluate.measured import Stopwatch, measure
from topdb_tf.evaluate.scores import read_scores
from topdb_tf.evaluate.trainings import RunGroup, grouped, trainings_of
from topdb_tf.files import write_whole
from topdb_tf.progress import progress_bar
from topdb_tf.report import differences as facts
from topdb_tf.report.differences import Compared
from topdb_tf.report.lists import filters_of, lists_data
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
from topdb_tf.report.words import title_of
from topdb_tf.runs.recipes import read_config
from topdb_tf.texts import size_text

_SECTIONS = (
    ("scores", "Scores"),
    ("settings", "What differs"),
    ("training", "Training"),
    ("ranking", "Ranking"),
    ("ranked-lists", "Where they differ most"),
)


def write_comparison(
    folders: Sequence[Path],
    out: Path,
    contents: Contents,
    *,
    overrides: Sequence[str] = (),
    rerank: bool = True,
    **options,
) -> dict:
    """Scores several trainings and writes how they differ as one page.

    Runs of the same settings from different seeds are one training. Its scores are
    means; its ranked lists are those of its first seed.

    Args:
        folders: Folders of runs, or of seeds.
        out: The HTML file; an older one is replaced when the new one is whole.
        contents: What the page holds.
        overrides: Settings of the data, for all runs.
        rerank: Whether the re-ranked scores are compared too.
        **options: `dataset` and `best`, of `topdb_tf.evaluate.measured.measure`.

    Returns:
        `out`, `bytes`, `trainings` and `reranked` (records of
        `topdb_tf.report.differences.score_rows`), `queries` (of `query_differences`
        there), `settings` that differ, `notes`, `queries_shown`, `holds_real_people`,
        `seconds` by part and `total_seconds`.

    Raises:
        FileNotFoundError: If a folder is no run, has no model, or the data is missing.
        ValueError: If there are fewer than two trainings, or they cannot be scored.
    """
    check_page(out, contents)
    trainings = grouped(trainings_of(folders)) if folders else []
    if not 2 <= len(trainings) <= facts.MOST:
        raise ValueError(
            f"There must be from 2 to {facts.MOST} trainings to compare; runs that "
            f"differ in the seed alone are one. Received: {len(trainings)}"
        )
    watch = Stopwatch()
    compared = [
        _compared(letter, training, list(overrides), contents, rerank, options)
        for letter, training in zip(
            facts.letters(len(trainings)), trainings, strict=True
        )
    ]
    watch.lap("scoring")
    found = _found(compared, rerank)
    page = _page(compared, found, contents, watch.lap)
    write_whole(out, page.text)
    watch.lap("writing")
    people = any(shows_people(one.measured.split.name) for one in compared)
    return {
        "out": str(out),
        "bytes": out.stat().st_size,
        **found,
        "queries_shown": page.num_shown,
        "holds_real_people": bool(page.num_shown) and people,
        **seconds_of(watch.seconds),
    }


def compare_lines(result: dict) -> list[str]:
    """Returns a comparison for people."""
    lines = _grid(facts.score_table(result["trainings"], "Scores"))
    if result["reranked"]:
        lines += ["", *_grid(facts.score_table(result["reranked"], "Re-ranked"))]
    if result["queries"]:
        lines += ["", *_grid(facts.difference_table(result["queries"]))]
    if result["settings"]["rows"]:
        lines += ["", *_grid(result["settings"])]
    lines += ["", *(f"note: {note}" for note in result["notes"])]
    lines.append(
        f"{result['out']}, {size_text(result['bytes'])}: ranked lists of "
        f"{result['queries_shown']:,} queries"
    )
    if result["holds_real_people"]:
        lines.append(PRIVACY)
    return [*lines, seconds_line(result)]


class _Page(NamedTuple):
    text: str
    num_shown: int


def _compared(letter, training, overrides, contents, rerank, options):
    first, *others = training.runs
    config = read_config(first.config, overrides)
    measured = measure(first, config, rerank=rerank, top=contents.top, **options)
    scores = [measured.scores]
    if rerank:
        scores[0]["reranked"] = measured.rankings[1].result.to_dict()
    for run in others:
        config = read_config(run.config, overrides)
        own = read_scores(run, config, **options)
        if own is None or (rerank and "reranked" not in own):
            own = evaluate(run, config, rerank=rerank, **options)
        scores.append(own)
    return Compared(letter, training, measured, tuple(scores))


def _found(compared, rerank):
    return {
        "trainings": facts.score_rows(compared, reranked=False),
        "reranked": facts.score_rows(compared, reranked=True) if rerank else [],
        "queries": facts.query_differences(compared),
        "settings": facts.settings_table(compared),
        "notes": facts.comparison_notes(compared),
    }


def _page(compared, found, contents: Contents, lap: Callable[[str], None]) -> _Page:
    from topdb_tf.report.curve_parts import overlaid_ranking_part, training_part

    labels = [one.label.replace("$", r"\$") for one in compared]
    trainings = [
        RunGroup(label, one.training.runs)
        for label, one in zip(labels, compared, strict=True)
    ]
    with progress_bar("drawing figures") as progress:
        parts = [training_part(trainings)]
        progress(1, 2)
        parts.append(overlaid_ranking_part(labels, compared))
        progress(2, 2)
    lap("figures")
    num_shown, data, lists = 0, None, None
    alike = [one for one in compared if facts.is_comparable(compared[0], one)]
    if contents.images and len(alike) > 1:
        data, lists = _lists(alike, contents)
        num_shown = len(data["queries"]) if data else 0
        lap("pictures")
    names = [one.measured.split.name for one in compared]
    people = next((name for name in names if shows_people(name)), names[0])
    sections = [pair for pair in _SECTIONS if lists or pair[0] != "ranked-lists"]
    title = " and ".join(one.training.label for one in compared)
    page = {
        **page_facts("topdb-tf compare", title, sections),
        "subtitle": f"{len(compared)} trainings on "
        + ", ".join(dict.fromkeys(map(title_of, names))),
        "notice": people_notice(people, contents.images),
        "warnings": found["notes"],
        "scores": facts.score_table(found["trainings"], "Scores"),
        "reranked": facts.score_table(found["reranked"], "Re-ranked scores")
        if found["reranked"]
        else None,
        "differences": facts.difference_table(found["queries"])
        if found["queries"]
        else None,
        "settings": found["settings"],
        "drawn": parts,
        "lists": lists,
    }
    return _Page(render_page("compare.html", page, data), num_shown)


def _lists(alike, contents):
    """Returns the queries whose AP differs most, for the script and for the page.

    Both are none where every query has the same AP.
    """
    precisions = np.stack([m.measured.plain.lists.average_precision for m in alike])
    spreads = np.where(np.isnan(precisions).any(axis=0), -1.0, np.ptp(precisions, 0))
    order = np.argsort(-spreads, kind="stable")
    chosen = {}
    for query in order[: contents.queries].tolist():
        if spreads[query] > 0:
            best = alike[int(np.argmax(precisions[:, query]))].letter
            chosen[query] = f"highest AP in {best}"
    if not chosen:
        return None, None
    with progress_bar("making pictures") as progress:
        data = lists_data(
            alike[0].measured.split,
            chosen,
            {one.label: one.measured.plain.lists for one in alike},
            top=contents.top,
            progress=progress,
        )
    differ = int((spreads > 0).sum())
    lead = (
        f"{len(chosen):,} of the {differ:,} queries whose average precision differs, "
        "those that differ most first. The lists are not re-ranked, and those of the "
        "first seed where there are several."
    )
    reasons = [f"highest AP in {one.letter}" for one in alike]
    return data, {**filters_of(data, reasons=reasons), "lead": lead}


def _grid(table):
    grid = [table["head"], *table["rows"]]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    lines = [table["caption"]]
    for texts in grid:
        cells = (text.ljust(width) for text, width in zip(texts, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
    return lines
