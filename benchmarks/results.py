"""The scores that pages and recipes state, from the tables in `results/`.

    python benchmarks/results.py             # writes them into pages and recipes
    python benchmarks/results.py --check     # names the files that differ, status 1

A table of a page takes its figures from the rows that the comment above it names, one
for each of its lines: `<!-- scores: light, light:reranked -->`. Columns are told by
their heads ("rank-1", "mAP", "re-ranked mAP"); other cells stay as they are written.
The line "Ours" of a recipe is made from the row with the recipe's name.
"""

import argparse
import csv
import re
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
RECIPES = sorted((ROOT / "configs").glob("*.yaml"))

_HEADS = {
    "mAP": "mean_ap",
    "rank-1": "rank_1",
    "re-ranked mAP": "reranked_mean_ap",
    "re-ranked rank-1": "reranked_rank_1",
}
_TABLE = re.compile(r"<!-- scores: (?P<names>[^>]+?) -->\n\n(?P<table>(?:\|.*\n)+)")
_OURS = re.compile(r"^# Ours:.*\n(?:#  .*\n)*", re.M)


class Row(NamedTuple):
    """A row of `results/`.

    Args:
        name: Its name.
        figures: Scores as they are printed, by their column: "36.1 ± 0.6".
        origin: When, on what machine and how long.
    """

    name: str
    figures: dict[str, str]
    origin: str = ""

    def reranked(self) -> "Row":
        """Returns the row with the re-ranked scores in the place of the plain ones."""
        first = ("mean_ap", "rank_1")
        return Row(self.name, {key: self.figures[f"reranked_{key}"] for key in first})


def read_rows() -> dict[str, Row]:
    """Returns our scores and the published ones, by their names."""
    rows = [
        *map(_row, _read(ROOT / "results" / "scores.csv")),
        *map(_row, _read(ROOT / "results" / "published.csv")),
        *_rows_of_the_paper(),
    ]
    by_name = {}
    for row in rows:
        if row.name in by_name:
            raise ValueError(f"A name must be that of one row. Received: {row.name!r}")
        by_name[row.name] = row
    return by_name


def _read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _row(record):
    figures = {}
    for column in _HEADS.values():
        deviation = record.get(f"{column}_deviation")
        figures[column] = record.get(column) or ""
        figures[column] += f" ± {deviation}" if deviation else ""
    origin = [record.get("date"), record.get("machine")]
    origin += [f"{record['minutes']} minutes"] if record.get("minutes") else []
    return Row(record["name"], figures, ", ".join(filter(None, origin)))


def _rows_of_the_paper():
    from topdb_tf.evaluate.published import TABLE_1, TABLE_2

    for method, table in TABLE_1.items():
        for dataset, plain in table.items():
            again = TABLE_2.get(method, {}).get(dataset)
            record = plain._asdict()
            if again:
                record |= {f"reranked_{k}": v for k, v in again._asdict().items()}
            record = {key: str(value or "") for key, value in record.items()}
            yield _row({"name": f"{method}/{dataset}", **record})


def page_with_scores(text: str, rows: dict[str, Row]) -> str:
    """Returns a page with the figures of the rows in its tables."""
    return _TABLE.sub(lambda match: _filled(match, rows), text)


def _filled(match, rows):
    names = [name.strip() for name in match["names"].split(",")]
    head, rule, *lines = match["table"].splitlines()
    columns = [_HEADS.get(cell) for cell in _cells(head)]
    if len(names) != len(lines) or not any(columns):
        raise ValueError(
            "A comment must name a row for each line of its table, which has a column "
            f"of {', '.join(_HEADS)}. Received: {match['names']}"
        )
    filled = []
    for name, line in zip(names, lines, strict=True):
        name, _, kind = name.partition(":")
        row = rows[name].reranked() if kind == "reranked" else rows[name]
        cells = [
            cell if column is None else _cell(row.figures[column], cell)
            for column, cell in zip(columns, _cells(line), strict=True)
        ]
        filled.append(f"| {' | '.join(cells)} |")
    table = "\n".join((head, rule, *filled))
    return f"<!-- scores: {match['names']} -->\n\n{table}\n"


def _cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _cell(figure, before):
    return f"{figure} %" if before.endswith("%") else figure


def recipe_with_scores(text: str, row: Row | None) -> str:
    """Returns a recipe with the figures of a row, if there is one, in its header."""
    ours = "not measured yet."
    if row is not None:
        ours = _said(row)
        if row.figures["reranked_rank_1"]:
            ours += "; re-ranked " + _said(row.reranked(), names=("", ""))
        ours += f" ({row.origin})."
    indented = {"initial_indent": "# Ours:   ", "subsequent_indent": "#         "}
    lines = textwrap.wrap(ours, 88, break_on_hyphens=False, **indented)
    return _OURS.sub("\n".join(lines) + "\n", text, count=1)


def _said(row, names=("rank-1 ", "mAP ")):
    figures = (row.figures["rank_1"], row.figures["mean_ap"])
    return ", ".join(map("".join, zip(names, figures, strict=True)))


def written() -> dict[Path, str]:
    """Returns the pages and recipes as they are to be."""
    rows = read_rows()
    pages = {page: page_with_scores(page.read_text(), rows) for page in PAGES}
    recipes = {
        path: recipe_with_scores(path.read_text(), rows.get(path.stem))
        for path in RECIPES
    }
    return pages | recipes


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = {path: text for path, text in written().items() if path.read_text() != text}
    for path, text in stale.items():
        print(path.relative_to(ROOT), "differs" if check else "is written")
        if not check:
            path.write_text(text)
    sys.exit(check and bool(stale))


if __name__ == "__main__":
    main()
