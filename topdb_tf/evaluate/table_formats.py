"""The paper's tables as text, Markdown, CSV and LaTeX."""

import csv
import io

from topdb_tf.evaluate.published import TITLES
from topdb_tf.evaluate.scores import PAPER_METRICS
from topdb_tf.evaluate.table import PaperTables
from topdb_tf.texts import NOTHING, Table

_CAPTION = "in percent; mean ± sample standard deviation over the seeds"
FORMATS = ("text", "markdown", "csv", "latex")


def table_lines(tables: PaperTables, form: str) -> list[str]:
    """Returns the lines of both tables and of the notes.

    Args:
        tables: The tables.
        form: A name in `FORMATS`; in `csv` there are no notes.
    """
    if form == "csv":
        return _csv(tables)
    notes = list(tables.notes)
    lines = []
    for paper_table in tables.tables:
        table = _table(paper_table)
        if form == "text":
            lines += [*table.text(), ""]
        elif form == "markdown":
            lines += [*table.markdown(), ""]
        else:
            lines += [*table.latex(), ""]
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
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    keys = [metric.key for metric in PAPER_METRICS]
    columns = [f"{key}{end}" for key in keys for end in ("", "_deviation")]
    writer.writerow(["reranked", "method", "source", "dataset", "num_seeds", *columns])
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
                writer.writerow(line)
    return file.getvalue().splitlines()


def _percents(*shares):
    return ["" if share is None else f"{100 * share:.2f}" for share in shares]
