"""The paper's tables as text, Markdown, CSV and LaTeX."""

import csv
import io

from topdb_tf.evaluate.published import TITLES
from topdb_tf.evaluate.scores import FIGURES
from topdb_tf.texts import spread_text

_METRICS = {"mean_ap": "mAP", "rank_1": "rank-1"}
_CAPTION = "in percent; mean ± sample standard deviation over the seeds"
_LATEX = {"_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#", "±": r"$\pm$", "–": "--"}


def table_lines(result: dict, form: str) -> list[str]:
    """Returns the lines of both tables and of the notes.

    Args:
        result: What `topdb_tf.evaluate.table.paper_tables` returns.
        form: A name in `FORMATS`.
    """
    return FORMATS[form](result)


def _text(result):
    lines = []
    for table in result["tables"]:
        grid = [_header(table), *(_texts(row, table) for row in table["rows"])]
        widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
        lines.append(f"{table['title']} ({_CAPTION})")
        for texts in grid:
            cells = (
                text.ljust(width) for text, width in zip(texts, widths, strict=True)
            )
            lines.append("  ".join(cells).rstrip())
        lines.append("")
    return lines + [f"Note: {note}" for note in result["notes"]]


def _markdown(result):
    lines = []
    for table in result["tables"]:
        grid = [_header(table), *(_texts(row, table) for row in table["rows"])]
        grid.insert(1, ["---"] * len(grid[0]))
        lines += [f"**{table['title']}** ({_CAPTION})", ""]
        for texts in grid:
            cells = " | ".join(text.replace("|", r"\|") for text in texts)
            lines.append(f"| {cells} |")
        lines.append("")
    return lines + [f"- {note}" for note in result["notes"]]


def _latex(result):
    lines = [f"% {note}" for note in result["notes"]]
    for table in result["tables"]:
        count = len(table["columns"])
        titles = " & ".join(
            rf"\multicolumn{{2}}{{c}}{{{_escaped(TITLES.get(name, name))}}}"
            for name in table["columns"]
        )
        metrics = " & ".join(list(_METRICS.values()) * count)
        lines += [
            f"% {table['title']} ({_CAPTION})",
            rf"\begin{{tabular}}{{ll{'cc' * count}}}",
            r"\hline",
            rf" & & {titles} \\",
            rf"Method & Seeds & {metrics} \\",
            r"\hline",
        ]
        for row in table["rows"]:
            cells = " & ".join(map(_escaped, _texts(row, table)))
            lines.append(rf"{cells} \\")
        lines += [r"\hline", r"\end{tabular}", ""]
    return lines


def _csv(result):
    """Returns a line for each row and data set; the notes are not among them."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    spreads = [f"{name}{end}" for name in FIGURES for end in ("", "_deviation")]
    writer.writerow(["reranked", "method", "source", "dataset", "num_seeds", *spreads])
    for table in result["tables"]:
        for row in table["rows"]:
            for dataset, cell in row["cells"].items():
                facts = [str(table["reranked"]).lower(), row["label"], row["source"]]
                facts += [dataset, cell["mean_ap"]["num_seeds"]]
                for name in FIGURES:
                    facts += [
                        _percent(cell[name][key]) for key in ("mean", "deviation")
                    ]
                writer.writerow(facts)
    return file.getvalue().splitlines()


def _header(table):
    cells = [
        f"{TITLES.get(name, name)} {metric}"
        for name in table["columns"]
        for metric in _METRICS.values()
    ]
    return ["", "seeds", *cells]


def _texts(row, table):
    cells = [row["cells"].get(name) for name in table["columns"]]
    texts = [
        spread_text(cell[name]) if cell else "–" for cell in cells for name in FIGURES
    ]
    return [row["label"], _seeds_text(row, table), *texts]


def _seeds_text(row, table):
    """Returns the number of seeds, or those of each data set if they differ."""
    cells = [row["cells"].get(name) for name in table["columns"]]
    counts = [cell["mean_ap"]["num_seeds"] for cell in cells if cell]
    shown = counts if len(set(counts)) > 1 else counts[:1]
    return ", ".join("" if count is None else str(count) for count in shown)


def _percent(share):
    return "" if share is None else f"{100 * share:.2f}"


def _escaped(text):
    return "".join(_LATEX.get(character, character) for character in text)


FORMATS = {"text": _text, "markdown": _markdown, "csv": _csv, "latex": _latex}
