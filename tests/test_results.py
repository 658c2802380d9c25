"""Every score that is stated is a row of `results/`, and reads as it does there."""

import csv
import json
import re
from datetime import date

import pytest

from benchmarks.results import (
    PAGES,
    RECIPES,
    ROOT,
    Row,
    page_with_scores,
    read_rows,
    recipe_with_scores,
    written,
)
from topdb_tf.evaluate.published import METHOD_OF_RECIPE, TABLE_1
from topdb_tf.runs.recipes import recipes

ROWS = read_rows()
FIGURE = r"(\d+\.\d)(?![\d.])"
STATED = re.compile(
    rf"(?:mAP|rank-1)(?: of| is)? {FIGURE}|{FIGURE} ?% mAP|{FIGURE} percent at rank 1"
)


def test_pages_and_recipes_state_the_rows():
    stale = [path.name for path, text in written().items() if path.read_text() != text]
    assert stale == [], "python benchmarks/results.py writes them"


@pytest.mark.parametrize("path", [*PAGES, *RECIPES], ids=lambda path: path.name)
def test_a_score_in_a_sentence_is_one_of_a_row(path):
    known = {
        number
        for row in ROWS.values()
        for figure in row.figures.values()
        for number in figure.split(" ± ")
    }
    text = path.read_text(encoding="utf-8")
    for match in STATED.finditer(text):
        assert next(filter(None, match.groups())) in known, match[0]
    for before, head in re.findall(r"^(.*)\n\n(\|.*\|)\n\|--", text, re.M):
        if {"mAP", "rank-1"} & set(head.split(" | ")):
            assert before.startswith("<!-- scores: "), head


def test_a_recipe_names_what_the_paper_printed():
    for recipe, method in METHOD_OF_RECIPE.items():
        published = TABLE_1[method]["market1501"]
        said = f"rank-1 {published.rank_1}, mAP {published.mean_ap}"
        text = (ROOT / "configs" / f"{recipe}.yaml").read_text()
        assert f"# Source: Market-1501 {said}" in text


def test_each_row_tells_what_was_measured():
    with (ROOT / "results" / "scores.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    for record in records:
        assert record["recipe"] in recipes(), record["name"]
        assert date.fromisoformat(record["date"])
        assert re.fullmatch(r"[0-9a-f]{7,40}", record["commit"])
        assert record["machine"]
        assert record["scored_on"]
        several = len(record["seeds"].split()) > 1
        for column in ("mean_ap", "rank_1", "reranked_mean_ap", "reranked_rank_1"):
            figure, deviation = record[column], record[f"{column}_deviation"]
            assert not figure or re.fullmatch(r"\d?\d\.\d", figure)
            assert bool(deviation) == (several and bool(figure))


def test_the_demo_is_the_model_that_comes_with_the_package():
    path = ROOT / "topdb_tf" / "model" / "demo" / "scores.json"
    scores = json.loads(path.read_text())
    assert ROWS["demo"].figures["mean_ap"] == f"{100 * scores['mean_ap']:.1f}"
    assert ROWS["demo"].figures["rank_1"] == f"{100 * scores['cmc']['1']:.1f}"


PAGE = """<!-- scores: a, b, a:reranked -->

| which | rank-1 | seconds | mAP |
|---|---|---|---|
| first | ? % | 7 | 1.0 % |
| second | 2.0 ± 3.0 | 8 | |
| again | | 9 | % |
"""
BOTH = {
    "a": Row(
        "a",
        {
            "mean_ap": "50.0",
            "rank_1": "60.5",
            "reranked_mean_ap": "70.1",
            "reranked_rank_1": "80.2",
        },
        "2026-11-27, a machine, 7 minutes",
    ),
    "b": Row(
        "b", {"mean_ap": "51.0 ± 0.3", "rank_1": "61.0 ± 1.2", "reranked_rank_1": ""}
    ),
}


def test_a_table_takes_the_figures_of_the_rows_that_it_names():
    assert page_with_scores(PAGE, BOTH).splitlines()[4:] == [
        "| first | 60.5 % | 7 | 50.0 % |",
        "| second | 61.0 ± 1.2 | 8 | 51.0 ± 0.3 |",
        "| again | 80.2 | 9 | 70.1 % |",
    ]
    with pytest.raises(ValueError, match="a row for each line"):
        page_with_scores(PAGE.replace("a, b", "a"), BOTH)
    with pytest.raises(KeyError):
        page_with_scores(PAGE.replace("b,", "c,"), BOTH)


@pytest.mark.parametrize(
    ("row", "line"),
    [
        (None, "# Ours:   not measured yet."),
        (
            BOTH["a"],
            "# Ours:   rank-1 60.5, mAP 50.0; re-ranked 80.2, 70.1 (2026-11-27, a "
            "machine, 7\n#         minutes).",
        ),
    ],
)
def test_the_header_of_a_recipe_is_that_of_its_row(row, line):
    before = "# A recipe.\n#\n# Source: none.\n# Ours:   old,\n#         old.\ndata:\n"
    expected = f"# A recipe.\n#\n# Source: none.\n{line}\ndata:\n"
    assert recipe_with_scores(before, row) == expected
