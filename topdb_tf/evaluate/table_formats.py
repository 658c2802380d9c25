"""The paper's tables, and scores of features, as text, Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from topdb_tf.evaluate.published import TITLES
from topdb_tf.evaluate.scores import METRICS, PAPER_METRICS, Scores
from topdb_tf.evaluate.table import PaperTables
from topdb_tf.texts import NOTHING, Table

_CAPTION = "in percent; mean ± sample standard deviation over the seeds"
FORMATS = ("text", "markdown", "csv", "latex")


def table_lines(tables: PaperTables, form: str) -> list[str]:
    """Returns the lines of both tables in one of `FORMATS`; CSV has no notes."""
    if form == "csv":
        return _csv(tables)
    return _formatted(map(_table, tables.tables), list(tables.notes), form)


class NamedScores(NamedTuple):
    """Scores, and the name of what they are of, such as a file of features."""

    name: str
    scores: Scores


class ScoreTable(NamedTuple):
    """Scores of several rankings, and lines on which are not to be compared."""

    rows: Sequence[NamedScores]
    notes: Sequence[str]

    def lines(self, form: str) -> list[str]:
        """Returns the lines of the table in one of `FORMATS`; CSV has no notes."""
        head = ["", *(metric.name for metric in METRICS), "queries"]
        rows = [
            [
                name if kind == "plain" else f"{name}, {kind}",
                *_texts(result, digits=2 if form == "csv" else 1),
            ]
            for name, scores in self.rows
            for kind, result in scores.results
        ]
        if form == "csv":
            keys = [metric.key for metric in METRICS]
            return _csv_lines([["name", *keys, "num_valid_queries"], *rows])
        return _formatted([Table("Scores, in percent", head, rows)], self.notes, form)


def score_table(rows: Sequence[NamedScores]) -> ScoreTable:
    """Returns the table of some rankings, each of them held against the first."""
    (first, scores), *others = rows
    notes = [
        f"{row.name} knows no cameras: every image of the person is a match."
        for row in rows
        if row.scores.plain.protocol.cameras == "none"
    ]
    for name, other in others:
        differing = scores.plain.protocol.differences(other.plain.protocol)
        if differing:
            notes.append(
                f"{first} and {name} are not comparable: they differ in "
                f"{', '.join(differing)}."
            )
    return ScoreTable(rows, notes)


def _texts(result, digits):
    shares = [f"{100 * metric.of(result):.{digits}f}" for metric in METRICS]
    return [*shares, str(result.scores.num_valid_queries)]


def _formatted(tables: Iterable[Table], notes: list[str], form: str) -> list[str]:
    lines = []
    for table in tables:
        lines += [*getattr(table, form)(), ""]
    if form == "text":
        return lines + [f"Note: {note}" for note in notes]
    if form == "markdown":
        return lines + [f"- {note}" for note in notes]
    return [f"% {note}" for note in notes] + lines


def _table(paper_table):
    names = [metric.name for metric in PAPER_METRICS]
    return Table(
        caption=f"{paper_table.title} ({_CAPTION})",
        head=["Method", "Seeds", *names * len(paper_table.columns)],
        rows=[_cells(row, paper_table.columns) for row in paper_table.rows],
        groups=[(TITLES.get(name, name), len(names)) for name in paper_table.columns],
    )


def _cells(row, columns):
    texts = []
    for name in columns:
        cell = row.cells.get(name, {})
        texts += [str(cell.get(metric.key, NOTHING)) for metric in PAPER_METRICS]
    return [row.label, _seeds_text(row, columns), *texts]


def _seeds_text(row, columns):
    """Returns the number of seeds, or those of each data set if they differ."""
    cells = [row.cells[name] for name in columns if name in row.cells]
    counts = [next(iter(cell.values())).num_seeds for cell in cells]
    shown = counts if len(set(counts)) > 1 else counts[:1]
    return ", ".join("" if count is None else str(count) for count in shown)


def _csv(tables):
    """Returns a line for each row and data set."""
    keys = [metric.key for metric in PAPER_METRICS]
    columns = [f"{key}{end}" for key in keys for end in ("", "_deviation")]
    lines = [["reranked", "method", "source", "dataset", "num_seeds", *columns]]
    for table in tables.tables:
        for row in table.rows:
            for dataset, cell in row.cells.items():
                num_seeds = next(iter(cell.values())).num_seeds
                line = [str(table.reranked).lower(), row.label, row.source, dataset]
                line.append(num_seeds)
                for key in keys:
                    score = cell.get(key)
                    line += (
                        _percents(score.mean, score.deviation) if score else ["", ""]
                    )
                lines.append(line)
    return _csv_lines(lines)


def _csv_lines(rows):
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue().splitlines()


def _percents(*shares):
    return ["" if share is None else f"{100 * share:.2f}" for share in shares]
