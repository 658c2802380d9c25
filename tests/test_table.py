"""The paper's tables, from scores written by hand."""

import csv
import json
import os

import pytest

from tests.test_cli import refused, topdb
from topdb_tf.evaluate.table import paper_tables
from topdb_tf.evaluate.table_formats import table_lines
from topdb_tf.runs.folder import RunFolder
from topdb_tf.runs.recipes import read_recipe
from topdb_tf.texts import NOTHING, Table

PROTOCOL = {
    "metric": "sqeuclidean",
    "ignore_cameras": False,
    "num_queries": 3368,
    "num_gallery": 15913,
    "split_sha256": "00",
    "reranking": None,
}
CUHK03 = {"num_queries": 1400, "num_gallery": 5328}


def write_run(
    path, mean_ap, rank_1, *settings, recipe="paper", reranked=None, **protocol
):
    """Writes what a finished run leaves, with scores in percent."""
    path.mkdir(parents=True)
    run = RunFolder(path)
    run.config_file.write_text(read_recipe(recipe, settings).to_yaml())
    run.environment.write_text(json.dumps({"precision": "float32 (as asked)"}))
    protocol = {**PROTOCOL, **protocol}
    scores = record(mean_ap, rank_1, protocol)
    if reranked:
        scores["reranked"] = record(*reranked, {**protocol, "reranking": {"k1": 20}})
    run.scores.write_text(json.dumps(scores))
    return run


def record(mean_ap, rank_1, protocol):
    cmc = {"1": rank_1 / 100, "5": 0.999}
    return {"mean_ap": mean_ap / 100, "cmc": cmc, "protocol": protocol}


def texts_of(result, title="Table I:"):
    """Returns the cells of a table's text by the label of the row."""
    lines = table_lines(result, "text")
    start = next(n for n, line in enumerate(lines) if line.startswith(title))
    rows = {}
    for line in lines[start + 2 :]:
        if not line:
            return rows
        label, *cells = [cell for cell in line.split("  ") if cell.strip()]
        rows[label] = [cell.strip() for cell in cells]
    raise AssertionError(lines)


@pytest.fixture
def three_seeds(tmp_path):
    for seed, mean_ap, rank_1 in ((1, 85.0, 94.0), (2, 86.0, 94.6), (3, 87.0, 94.0)):
        write_run(
            tmp_path / "market" / f"seed-{seed}",
            mean_ap,
            rank_1,
            f"train.seed={seed}",
            f"data.root=/elsewhere/{seed}",
            reranked=(mean_ap + 8, rank_1 + 1),
        )
    return tmp_path


def test_seeds_become_a_mean_and_a_sample_deviation(three_seeds):
    # mAP 85, 86, 87: squares 1 + 0 + 1 = 2, over 2: deviation 1.
    # Rank-1 94, 94.6, 94: mean 94.2, squares 0.04 + 0.16 + 0.04 = 0.24, over 2: 0.12,
    # deviation 0.3464.
    result = paper_tables([three_seeds])
    assert texts_of(result)["Top-DB-Net, recipe paper"] == [
        "3",
        "86.0 ± 1.0",
        "94.2 ± 0.3",
    ]
    row = texts_of(result, "Table II:")["Top-DB-Net, recipe paper"]
    assert row == ["3", "94.0 ± 1.0", "95.2 ± 0.3"]
    assert result.notes == []


def test_published_figures_stand_behind_those_of_their_method(three_seeds):
    write_run(three_seeds / "bdb", 84.0, 93.0, recipe="bdb")
    result = paper_tables([three_seeds])
    rows = texts_of(result)
    assert list(rows) == [
        "Baseline (BDB), recipe bdb",
        "Baseline (BDB), published",
        "no-drop, published",
        "no-reg, published",
        "Top-DB-Net, recipe paper",
        "Top-DB-Net, published",
    ]
    assert rows["Baseline (BDB), published"] == ["85.2", "94.1"]
    assert rows["Top-DB-Net, published"] == ["5", "85.8 ± 0.1", "94.9 ± 0.1"]
    rows = texts_of(result, "Table II:")
    assert rows["Top-DB-Net, published"] == ["94.1", "95.5"]
    assert "Baseline (BDB), recipe bdb" not in rows
    assert any("Not in Table II:" in note and "bdb" in note for note in result.notes)


def test_one_seed_has_no_deviation(tmp_path):
    write_run(tmp_path / "run", 85.04, 94.06)
    result = paper_tables([tmp_path])
    assert texts_of(result)["Top-DB-Net, recipe paper"] == ["1", "85.0", "94.1"]
    (row,) = [row for row in result.tables[0].rows if row.source == "ours"]
    assert row.cells["market1501"]["mean_ap"].deviation is None


def test_data_sets_are_columns_in_the_order_of_the_paper(three_seeds):
    labeled = "data.dataset=cuhk03-labeled"
    write_run(three_seeds / "cuhk", 75.0, 79.0, labeled, **CUHK03)
    synthetic = "data.dataset=synthetic"
    write_run(three_seeds / "drawn", 60.0, 70.0, synthetic, num_gallery=9)
    result = paper_tables([three_seeds])
    columns = ["market1501", "cuhk03-labeled", "synthetic"]
    assert result.tables[0].columns == columns
    rows = texts_of(result)
    means = ["86.0 ± 1.0", "94.2 ± 0.3", "75.0", "79.0", "60.0", "70.0"]
    assert rows["Top-DB-Net, recipe paper"] == ["3, 1, 1", *means]
    published = ["85.8 ± 0.1", "94.9 ± 0.1", "75.4 ± 0.2", "79.4 ± 0.5", "–", "–"]
    assert rows["Top-DB-Net, published"] == ["5", *published]


def test_the_two_published_figures_of_cuhk03_detected_are_both_told(tmp_path):
    detected = "data.dataset=cuhk03-detected"
    write_run(tmp_path / "r", 73, 77, detected, num_queries=1400, num_gallery=5332)
    result = paper_tables([tmp_path])
    assert texts_of(result)["Top-DB-Net, published"][1] == "73.2 ± 0.1"
    (note,) = [note for note in result.notes if "74.2" in note]
    assert "73.2" in note


def test_other_settings_are_another_row_named_by_the_folder(three_seeds):
    folder = three_seeds / "short"
    for seed in (1, 2):
        settings = [f"train.seed={seed}", "train.epochs=60"]
        write_run(folder / f"seed-{seed}", 80.0 + seed, 90.0, *settings)
    result = paper_tables([three_seeds])
    # 81 and 82: the difference over the root of 2.
    assert texts_of(result)[str(folder)] == ["2", "81.5 ± 0.7", "90.0 ± 0.0"]
    assert texts_of(result)["Top-DB-Net, recipe paper"][0] == "3"
    assert f"{folder}: recipe paper with train.epochs=60." in result.notes


def test_every_recipe_is_recognized(tmp_path):
    for recipe in ("bdb", "no_drop", "no_reg", "authors", "light"):
        write_run(tmp_path / recipe, 50.0, 60.0, recipe=recipe)
    rows = texts_of(paper_tables([tmp_path]))
    assert set(rows) > {
        "Baseline (BDB), recipe bdb",
        "no-drop, recipe no_drop",
        "no-reg, recipe no_reg",
        "Top-DB-Net, recipe authors",
        "recipe light",
    }


def test_the_newer_of_two_runs_of_the_same_seed_counts(three_seeds):
    again = write_run(three_seeds / "again", 90.0, 94.0, "train.seed=3")
    old = three_seeds / "market" / "seed-3"
    os.utime(old / "scores.json", (1, 1))
    result = paper_tables([three_seeds])
    # 85, 86, 90: mean 87, squares 4 + 1 + 9 = 14, over 2: 7, deviation 2.6458.
    assert texts_of(result)["Top-DB-Net, recipe paper"][:2] == ["3", "87.0 ± 2.6"]
    assert any(str(old) in n and str(again.path) in n for n in result.notes)


def test_a_run_named_twice_counts_once(three_seeds):
    result = paper_tables([three_seeds, three_seeds / "market" / "seed-1"])
    assert texts_of(result)["Top-DB-Net, recipe paper"][0] == "3"
    assert result.notes == []


def test_unfinished_runs_are_told(three_seeds):
    unfinished = write_run(three_seeds / "market" / "seed-4", 1, 1, "train.seed=4")
    unfinished.scores.unlink()
    result = paper_tables([three_seeds])
    (note,) = result.notes
    assert note.startswith(f"Left out: {unfinished.path}")


def test_seeds_of_different_protocols_are_not_averaged(three_seeds):
    write_run(three_seeds / "s", 99, 99, "train.seed=5", split_sha256="11")
    with pytest.raises(ValueError, match=r"different protocols \(split_sha256\)"):
        paper_tables([three_seeds])


def test_rows_of_different_protocols_are_noted(three_seeds):
    settings = {"recipe": "authors", "num_gallery": 100, "split_sha256": "11"}
    write_run(three_seeds / "subset", 99.0, 99.0, **settings)
    notes = paper_tables([three_seeds]).notes
    assert any("(num_gallery, split_sha256)" in note for note in notes)
    comparison = "recipe authors on market1501 is not comparable with the published"
    assert any(
        comparison in note and "num_gallery=100 instead of 15913" in note
        for note in notes
    )


def test_seeds_of_different_precision_are_noted(three_seeds):
    path = three_seeds / "market" / "seed-2" / "environment.json"
    path.write_text(json.dumps({"precision": "bfloat16 (a convolution is faster)"}))
    (note,) = paper_tables([three_seeds]).notes
    assert "different precision (bfloat16, float32)" in note


def test_csv_has_a_line_for_each_row_and_data_set(three_seeds):
    answer = topdb("table", three_seeds, "--format", "csv")
    assert answer.exit_code == 0, answer.output
    lines = list(csv.DictReader(answer.stdout.splitlines()))
    (ours,) = [
        line
        for line in lines
        if line["source"] == "ours" and line["reranked"] == "false"
    ]
    assert ours == {
        "reranked": "false",
        "method": "Top-DB-Net, recipe paper",
        "source": "ours",
        "dataset": "market1501",
        "num_seeds": "3",
        "mean_ap": "86.00",
        "mean_ap_deviation": "1.00",
        "rank_1": "94.20",
        "rank_1_deviation": "0.35",
    }
    assert len(lines) == 7  # ours and 4 published in Table I, ours and 1 in Table II


def test_csv_keeps_notes_out_of_the_table(three_seeds):
    write_run(three_seeds / "x", 1, 1, "train.epochs=3")
    answer = topdb("table", three_seeds, "--format", "csv")
    assert "recipe paper with train.epochs=3" in answer.stderr
    assert "Note" not in answer.stdout


def test_markdown_and_latex(three_seeds):
    write_run(three_seeds / "no_drop", 84.0, 93.0, recipe="no_drop")
    result = paper_tables([three_seeds])
    markdown = table_lines(result, "markdown")
    assert "| Top-DB-Net, recipe paper | 3 | 86.0 ± 1.0 | 94.2 ± 0.3 |" in markdown
    assert "| --- | --- | --- | --- |" in markdown
    latex = table_lines(result, "latex")
    row = r"Top-DB-Net, recipe paper & 3 & 86.0 $\pm$ 1.0 & 94.2 $\pm$ 0.3 \\"
    assert row in latex
    assert r"no-drop, recipe no\_drop & 1 & 84.0 & 93.0 \\" in latex
    for line in (r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"):
        assert latex.count(line) == 2


def test_json_holds_the_shares_and_the_runs(three_seeds):
    result = json.loads(topdb("table", three_seeds, "--json").stdout)
    ours = result["tables"][1]["rows"][0]
    assert ours["cells"]["market1501"]["mean_ap"] == {
        "mean": pytest.approx(0.94),
        "deviation": pytest.approx(0.01),
        "num_seeds": 3,
    }
    assert len(ours["runs"]) == 3


def test_without_folders_the_runs_are_taken(three_seeds, monkeypatch):
    monkeypatch.chdir(three_seeds)
    refused(topdb("table"), "There is no folder runs")
    (three_seeds / "market").rename("runs")
    assert "86.0 ± 1.0" in topdb("table").stdout


def test_a_folder_without_scores_is_refused(tmp_path):
    refused(topdb("table", tmp_path), "no run with scores", str(tmp_path))


def test_a_broken_file_of_scores_is_named(three_seeds):
    path = three_seeds / "market" / "seed-1" / "scores.json"
    path.write_text("{")
    refused(topdb("table", three_seeds), str(path), "no JSON")


def test_latex_escapes_what_it_would_take_for_its_own():
    groups = [("one", 1), ("two", 1)]
    rows = [[r"x_1\{$~^", "5%", "−1"]]
    lines = Table("", ["a", "b", "c"], rows, groups).latex()
    cell = r"x\_1\textbackslash{}\{\$\textasciitilde{}\textasciicircum{}"
    assert rf"{cell} & 5\% & $-$1 \\" in lines
    assert r"\cmidrule(lr){2-2} \cmidrule(lr){3-3}" in lines


def write_scores_on(run, name, mean_ap, rank_1, *, data_sets=(), **more):
    """Writes scores of a run on another data set, or on several."""
    scores = {"dataset": name, "model": "embedder.keras", **more}
    scores |= record(mean_ap, rank_1, PROTOCOL)
    scores["data_sets"] = [
        {"dataset": part, **record(*figures, PROTOCOL)} for part, *figures in data_sets
    ]
    (run.path / f"scores-{name}.json").write_text(json.dumps(scores))


def test_tests_on_other_data_sets_are_in_a_table_of_their_own(tmp_path):
    names = ("market1501", "cuhk03-detected", "msmt17-v1")
    joint = "+".join(names)
    for seed, mean_ap in ((1, 40.0), (2, 42.0)):
        settings = f"data.dataset={joint}", f"train.seed={seed}"
        run = write_run(tmp_path / f"seed-{seed}", 60.0, 70.0, *settings)
        of_each = zip(names, (80.0, 50.0, 30.0), (90.0, 50.0, 55.0), strict=True)
        write_scores_on(run, joint, 60.0, 70.0, data_sets=of_each)
        run.scores.write_text((run.path / f"scores-{joint}.json").read_text())
        write_scores_on(run, "dukemtmc-reid", mean_ap, 60.0)
        # By another model, of other persons, by another protocol: none of this table.
        write_scores_on(run, "viper-best", 99.0, 99.0, model="embedder_best.keras")
        write_scores_on(run, "viper-validation", 99.0, 99.0, part="validation")
        cosine = record(99.0, 99.0, PROTOCOL | {"metric": "cosine"})
        (run.path / "scores-viper-cosine.json").write_text(json.dumps(cosine))
    single = write_run(tmp_path / "single", 85.0, 94.0)
    write_scores_on(single, "people", 20.0, 35.0)
    result = paper_tables([tmp_path])
    first, second = result.tables
    assert first.columns == ["market1501"]  # the paper has no joint training
    assert second.columns == [
        "market1501",
        "dukemtmc-reid",
        "cuhk03-detected",
        "msmt17-v1",
        "people",
    ]
    rows = texts_of(result, "Trained on the data sets of a row")
    nothing = [NOTHING] * 2
    assert rows[f"{joint}, Top-DB-Net, recipe paper"] == [
        "2",
        *("80.0 ± 0.0", "90.0 ± 0.0"),
        # 40 and 42: squares 1 + 1 = 2, over 1: deviation 1.4.
        *("41.0 ± 1.4", "60.0 ± 0.0"),
        *("50.0 ± 0.0", "50.0 ± 0.0"),
        *("30.0 ± 0.0", "55.0 ± 0.0"),
        *nothing,
    ]
    alone = rows["market1501, Top-DB-Net, recipe paper"]
    assert alone == ["1", "85.0", "94.0", *nothing * 3, "20.0", "35.0"]
    named = [note for note in result.notes if " -> " in note]
    [note] = named
    assert note.startswith(f"{joint} -> dukemtmc-reid: M+C3+MS -> D, leave one of four")
    lines = list(csv.DictReader(table_lines(result, "csv")))
    [line] = [one for one in lines if one["dataset"] == "dukemtmc-reid"]
    assert (line["method"].split(",")[0], line["mean_ap"]) == (joint, "41.00")


def test_runs_that_are_tested_on_their_own_data_set_make_no_other_table(three_seeds):
    assert len(paper_tables([three_seeds]).tables) == 2
