"""Several runs on one page: where they differ, and on which images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from topdb_tf.evaluate.measured import Stopwatch, measure
from topdb_tf.evaluate.trainings import Training, joined_by_settings, trainings_of
from topdb_tf.figures.run_curves import scores_of_run
from topdb_tf.files import plain
from topdb_tf.report.differences import (
    Compared,
    comparison_notes,
    is_comparable,
    query_differences,
    scores_beside,
    settings_that_differ,
    table_of_differences,
    table_of_scores,
)
from topdb_tf.report.lists import QueryLists
from topdb_tf.report.page import Contents, WrittenPage, check_page, write_page
from topdb_tf.report.parts import parts_of_comparison
from topdb_tf.report.words import title_of
from topdb_tf.texts import Table

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class ComparisonResult:
    """Several trainings, the page of how they differ, and what not to compare."""

    page: WrittenPage
    compared: Sequence[Compared]
    notes: Sequence[str]

    def to_dict(self) -> dict:
        """Returns what belongs in JSON; scores are shares in [0, 1]."""
        settings, reranked = settings_that_differ(self.compared), []
        if self.compared[0].has_reranked:
            reranked = self._scores(reranked=True)
        queries = [
            {
                "letter": other.letter,
                **plain(other.precision),
                "rank_1_gained": other.rank_1_gained,
                "rank_1_lost": other.rank_1_lost,
            }
            for other in query_differences(self.compared)
        ]
        return {
            **plain(self.page),
            "trainings": self._scores(reranked=False),
            "reranked": reranked,
            "queries": queries,
            "settings": {
                "caption": settings.caption,
                "head": settings.head,
                "rows": settings.rows,
                "words": settings.is_words,
            },
            "notes": self.notes,
        }

    def _scores(self, *, reranked):
        return [
            {
                "letter": one.letter,
                "label": one.training.label,
                "num_seeds": len(one.scores),
                "scores": plain(
                    scores_beside(self.compared[0], one, reranked=reranked)
                ),
            }
            for one in self.compared
        ]


def write_comparison(
    folders: Sequence[Path],
    out: Path,
    contents: Contents,
    dataset: str | None = None,
    *,
    overrides: Sequence[str] = (),
    best: bool = False,
    rerank: bool = True,
    force: bool = False,
) -> ComparisonResult:
    """Scores several trainings and writes how they differ as one page.

    Runs of the same settings from different seeds are one training. Its scores are
    means; its ranked lists are those of its first seed. Seeds that were not scored yet,
    or by another protocol than the first, are scored. A page that is there is replaced
    with `force` alone, when the new one is whole.
    """
    check_page(out, contents)
    if out.exists() and not force:
        raise FileExistsError(f"{out} already exists. Name another --out, or --force.")
    trainings, watch = _trainings(folders, overrides), Stopwatch()
    compared = []
    for letter, training in zip(_LETTERS, trainings, strict=False):
        first, *others = training.runs
        measured = measure(first, dataset, best=best, rerank=rerank, top=contents.top)
        scores = {first.path: measured.scores}
        for run in others:
            scores[run.path] = scores_of_run(
                run, dataset, best=best, rerank=rerank, like=measured.scores
            )
        compared.append(Compared(letter, training, measured, scores))
    watch.lap("scoring")
    notes = comparison_notes(compared)
    page = _page(out, compared, contents, notes, watch)
    return ComparisonResult(page, compared, notes)


def compare_lines(result: ComparisonResult) -> list[str]:
    """Returns a comparison for people."""
    tables, lines = _tables(result.compared), []
    settings = settings_that_differ(result.compared)
    if settings.rows:
        tables.append(settings)
    for table in tables:
        lines += [*table.text(), ""]
    return [
        *lines,
        *(f"note: {note}" for note in result.notes),
        result.page.size_line("queries"),
        *result.page.last_lines(),
    ]


def _trainings(folders: Sequence[Path], overrides: Sequence[str]) -> list[Training]:
    trainings = []
    if folders:
        trainings = joined_by_settings(trainings_of(folders, overrides))
    if not 2 <= len(trainings) <= len(_LETTERS):
        raise ValueError(
            f"There must be from 2 to {len(_LETTERS)} trainings to compare; runs that "
            f"differ in the seed alone are one. Received: {len(trainings)}"
        )
    return trainings


def _page(out, compared, contents, notes, watch) -> WrittenPage:
    parts = parts_of_comparison(compared)
    watch.lap("figures")
    lists = _lists(compared, contents) if contents.images else None
    sections = [("scores", "Scores"), ("settings", "What differs")]
    sections += [(part.name, part.title) for part in parts]
    if lists is not None:
        sections.append(("ranked-lists", "Where they differ most"))
    datasets = [one.measured.split.name for one in compared]
    titles = ", ".join(dict.fromkeys(map(title_of, datasets)))
    return write_page(
        out,
        "compare.html",
        contents,
        watch,
        datasets=datasets,
        lists=lists,
        program="topdb-tf compare",
        title=" and ".join(one.training.label for one in compared),
        subtitle=f"{len(compared)} trainings on {titles}",
        warnings=notes,
        sections=sections,
        tables=_tables(compared),
        settings=settings_that_differ(compared),
        drawn_parts=parts,
    )


def _tables(compared: Sequence[Compared]) -> list[Table]:
    """Returns the scores and the differences of queries."""
    tables = [table_of_scores(compared, reranked=False)]
    if compared[0].has_reranked:
        tables.append(table_of_scores(compared, reranked=True))
    differences = query_differences(compared)
    if differences:
        tables.append(table_of_differences(differences))
    return tables


def _lists(compared: Sequence[Compared], contents: Contents) -> QueryLists | None:
    """Returns the queries whose AP differs most, `None` where none can differ."""
    alike = [one for one in compared if is_comparable(compared[0], one)]
    rankings = {one.label: one.measured.plain.lists for one in alike}
    precisions = np.stack([lists.average_precision for lists in rankings.values()])
    spreads = np.where(np.isnan(precisions).any(axis=0), 0, np.ptp(precisions, axis=0))
    count = int((spreads > 0).sum())
    if not count:
        return None
    order = np.argsort(-spreads, kind="stable")
    best = precisions.argmax(axis=0)
    reasons = {
        query: f"highest AP in {alike[best[query]].letter}"
        for query in order[: min(contents.queries, count)].tolist()
    }
    return QueryLists(
        split=compared[0].measured.split,
        lead=f"{len(reasons):,} of the {count:,} queries whose average precision "
        "differs, those that differ most first. The lists are not re-ranked, and those "
        "of the first seed where there are several.",
        reasons=reasons,
        rankings=rankings,
        top=contents.top,
    )
