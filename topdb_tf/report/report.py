"""A run on one page: what it is, how good, what it finds, what it confuses."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from topdb_tf.evaluate.measured import Measured, Stopwatch, measure
from topdb_tf.evaluate.scores import PAPER_METRICS
from topdb_tf.figures.images import loaded_model
from topdb_tf.files import plain
from topdb_tf.fit.info import run_info
from topdb_tf.report import words
from topdb_tf.report.lists import QueryLists, queries_of_page
from topdb_tf.report.maps import (
    activation_pictures,
    epochs_pictures,
    some_of_each_reason,
)
from topdb_tf.report.page import Contents, WrittenPage, check_page, write_page
from topdb_tf.report.parts import Part, parts_of_run
from topdb_tf.report.score_tables import notes_on_paper, score_table, tiles
from topdb_tf.runs.folder import Run
from topdb_tf.runs.machine import current_environment
from topdb_tf.runs.nearest import fit_command, nearest_recipe

_NUM_MAPS = 12
_NUM_TRAINED = 3  # queries that are followed through the training


@dataclass(frozen=True)
class ReportResult:
    """A run, the page that was written of it, and what its readers must know."""

    page: WrittenPage
    measured: Measured
    warnings: Sequence[str]

    def to_dict(self) -> dict:
        """Returns what belongs in JSON; scores are shares in [0, 1]."""
        scores, *others = (
            {metric.key: metric.of(ranking.result) for metric in PAPER_METRICS}
            for ranking in self.measured.rankings
        )
        return {
            **plain(self.page),
            "run": str(self.measured.run.path),
            "dataset": self.measured.split.name,
            "model": self.measured.embedded.model.name,
            **scores,
            "reranked": others[0] if others else None,
            "queries": len(self.measured.split.query),
            "warnings": list(self.warnings),
        }


def write_report(
    run: Run,
    out: Path,
    contents: Contents,
    dataset: str | None = None,
    *,
    best: bool = False,
    rerank: bool = True,
) -> ReportResult:
    """Embeds, scores and ranks a data set, and writes all of it as one page.

    An older page is replaced when the new one is whole. The data set is the one that
    the run was trained on, unless another is named.
    """
    check_page(out, contents)
    measured = measure(run, dataset, best=best, rerank=rerank, top=contents.top)
    watch, info = Stopwatch(measured.seconds), run_info(run)
    parts = parts_of_run(measured)
    watch.lap("figures")
    lists, maps, epochs = None, None, None
    if contents.images:
        lists = _lists(measured, contents)
        queries = some_of_each_reason(lists.reasons, _NUM_MAPS)
        maps = activation_pictures(measured, loaded_model(run, best=best), queries)
        epochs = epochs_pictures(measured, queries[:_NUM_TRAINED])
        watch.lap("activation maps")
    near, warnings = nearest_recipe(run.config), words.warnings_of(measured, info)
    page = write_page(
        out,
        "report.html",
        contents,
        watch,
        datasets=[measured.split.name],
        lists=lists,
        program="topdb-tf report",
        title=run.name,
        subtitle=f"{words.title_of(measured.split.name)}, recipe "
        f"{words.recipe_text(near)}",
        warnings=warnings,
        sections=_sections(parts, contents),
        tiles=tiles(measured),
        summary=words.summary(measured, info),
        scores=score_table(measured),
        comparison=notes_on_paper(measured),
        protocol=words.protocol_in_full(measured.plain.result.protocol),
        drawn_parts=parts,
        maps=maps,
        epochs=epochs,
        commands=[
            fit_command(run.config, run.path),
            f"topdb-tf evaluate {run.path} --rerank",
            f"topdb-tf report {run.path}",
        ],
        settings=words.settings_beside_recipe(near),
        environment=words.whole_environment(run.environment),
        about=_about_page(measured, lists),
        config=run.config.to_yaml(),
    )
    return ReportResult(page, measured, warnings)


def report_lines(result: ReportResult) -> list[str]:
    """Returns what was written, for people."""
    scores = [
        ", ".join(f"{one.name} {one.of(ranking.result):.1%}" for one in PAPER_METRICS)
        for ranking in result.measured.rankings
    ]
    num_queries = len(result.measured.split.query)
    return [
        result.page.size_line(f"of {num_queries:,} queries"),
        "; re-ranked: ".join(scores),
        *(f"warning: {line}" for line in result.warnings),
        *result.page.last_lines(),
    ]


def _lists(measured: Measured, contents: Contents) -> QueryLists:
    reasons = queries_of_page(measured.plain.lists, contents.queries)
    count = measured.plain.result.scores.num_valid_queries
    lead = (
        f"{len(reasons):,} of the {count:,} valid queries with the first "
        f"{contents.top} images that are ranked for them"
    )
    if len(reasons) < count:
        lead += (
            ": those of the lowest average precision, others that are wrong at rank 1, "
            "some of the highest, and others drawn at random, which alone are typical"
        )
    return QueryLists(
        split=measured.split,
        lead=f"{lead}.",
        reasons=reasons,
        rankings={ranking.name: ranking.lists for ranking in measured.rankings},
        top=contents.top,
    )


def _sections(parts: Sequence[Part], contents: Contents) -> list[tuple[str, str]]:
    """Returns names and titles of the sections, from top to bottom."""
    sections = [("summary", "Summary"), ("scores", "Scores and protocol")]
    sections += [(part.name, part.title) for part in parts]
    if contents.images:
        sections.append(("ranked-lists", "Ranked lists"))
        sections.append(("activation", "Where the network looks"))
    return [*sections, ("settings", "Settings and environment")]


def _about_page(measured: Measured, lists: QueryLists | None) -> words.NamesAndValues:
    shown = "left out (--no-images)"
    if lists is not None:
        count = measured.plain.result.scores.num_valid_queries
        shown = f"{len(lists.reasons):,} of {count:,} valid queries"
    return [("Ranked lists", shown), *words.program_and_device(current_environment())]
