"""Folders of runs that earlier versions wrote, under the commands of this one.

`old_runs/README.md` tells how they were made.
"""

import csv
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from topdb_tf.cli import main

pytestmark = pytest.mark.ci

ARCHIVES = Path(__file__).parent / "old_runs"
NAMES = ("synthetic", "people")


class OldRun(NamedTuple):
    """A run's folder, its images, and what the version that wrote it answered."""

    run: Path
    data: Path
    answers: dict


def unpack(name, root):
    """Returns an old run; not to be changed, but to be copied."""
    with tarfile.open(ARCHIVES / f"{name}.tar.xz") as archive:
        archive.extractall(root, filter="data")
    for path in (root / "run").iterdir():
        if path.suffix in (".csv", ".json", ".yaml"):
            path.write_text(path.read_text().replace("/old/", f"{root}/"))
    answers = json.loads((ARCHIVES / f"{name}.json").read_text())
    return OldRun(root / "run", root / "data", answers)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return {name: unpack(name, tmp_path_factory.mktemp(name)) for name in NAMES}


@pytest.fixture(scope="module", params=NAMES)
def unpacked(request, both):
    return both[request.param]


@pytest.fixture
def old(unpacked, tmp_path):
    """An old run in a folder that a test may write into."""
    run = shutil.copytree(unpacked.run, tmp_path / "run")
    return unpacked._replace(run=run)


def answer_of(*arguments, status=0):
    """Returns what a command prints, once it has ended as it should."""
    answer = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert answer.exit_code == status, answer.output
    return answer.stdout


def check_scores(scores, expected):
    """Checks that scores say all that the old ones said, to a millionth."""
    for name in expected:
        if name == "reranked":
            check_scores(scores[name], expected[name])
        elif name == "cmc":
            chosen = {rank: scores[name][rank] for rank in expected[name]}
            assert chosen == pytest.approx(expected[name], abs=1e-6)
        elif isinstance(expected[name], float):
            assert scores[name] == pytest.approx(expected[name], abs=1e-6), name
        else:
            assert scores[name] == expected[name], name


def test_an_old_run_has_the_scores_that_it_had(old):
    answer = json.loads(
        answer_of("evaluate", old.run, "--data-root", old.data, "--rerank", "--json")
    )
    check_scores(answer, old.answers["evaluate"])
    check_scores(json.loads((old.run / "scores.json").read_text()), answer)


def test_both_models_are_described_alike(both):
    # What depends on the file of the model alone is tested with one of them.
    described = []
    for old in both.values():
        with zipfile.ZipFile(old.run / "embedder.keras") as file:
            described.append(json.loads(file.read("config.json")))
    assert described[0] == described[1]


def test_a_process_that_did_not_train_reads_an_old_model(both, tmp_path):
    # Another test of this process may have imported the layers that the file names.
    _, data, answers = old = both["people"]
    answer = subprocess.run(
        [sys.executable, "-m", "topdb_tf.cli", "evaluate"]
        + [shutil.copytree(old.run, tmp_path / "run"), "--data-root", data],
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    assert f"mAP {100 * answers['evaluate']['mean_ap']:.1f}%" in answer.stdout


def test_an_old_run_tells_how_far_it_came(old):
    info = json.loads(answer_of("info", old.run, "--json"))
    assert info["last"] == {"epochs_done": 2, "steps_done": 0}
    assert info["best"]["epochs_done"] == 2
    assert (info["epochs"], info["ended_early"]) == (3, False)
    assert info["environment"]["trainable_parameters"] == 374511
    check_scores(info["scores"], old.answers["evaluate"])
    assert "374,511" in answer_of("info", old.run)


def test_an_old_run_stands_in_the_table_with_the_scores_of_its_file(old):
    tables = json.loads(answer_of("table", old.run, "--json"))["tables"]
    expected = old.answers["evaluate"]
    for table, scores in zip(tables, (expected, expected["reranked"]), strict=True):
        cell = table["rows"][-1]["cells"][expected["dataset"]]
        assert cell["mean_ap"]["mean"] == pytest.approx(scores["mean_ap"], abs=1e-6)
        assert cell["rank_1"]["mean"] == pytest.approx(scores["cmc"]["1"], abs=1e-6)
    shown = answer_of("table", old.run)
    assert f"{100 * expected['mean_ap']:.1f}" in shown
    assert "Note: " in shown  # what its settings are beside the recipe's


def test_pairs_are_judged_by_an_old_calibration(old):
    expected = old.answers["match"]
    images = [old.data / name for name in expected["images"]]
    status = 0 if expected["is_same_person"] else 1
    answer = answer_of("match", *images, "--run", old.run, "--json", status=status)
    answer = json.loads(answer)
    assert answer["threshold"] == expected["threshold"]
    (pair,) = answer["pairs"]
    assert pair["distance"] == pytest.approx(expected["distance"], rel=1e-4)
    assert pair["is_same_person"] == expected["is_same_person"]


def test_an_old_run_is_calibrated_as_it_was(old):
    rate = ("--false-match-rate", "0.9", "--data-root", old.data)
    answer = json.loads(answer_of("calibrate", old.run, *rate, "--json"))
    (point,), (expected,) = answer["operating_points"], old.answers["operating_points"]
    assert point["threshold"] == pytest.approx(expected["threshold"], rel=1e-4)
    for name in ("false_match_rate", "true_match_rate"):
        assert point[name] == pytest.approx(expected[name], abs=1e-6)


def test_an_old_run_is_told_on_a_page(old):
    answer_of("report", old.run, "--data-root", old.data, "--queries", 2)
    page = (old.run / "report.html").read_text()
    assert f"{100 * old.answers['evaluate']['mean_ap']:.1f}" in page
    assert "data:image/" in page  # of the ranked lists


@pytest.mark.parametrize("kind", ["cmc", "training"])
def test_curves_of_an_old_run_are_drawn(kind, old, tmp_path):
    where = ("--data-root", old.data) if kind == "cmc" else ()
    answer_of("figure", kind, old.run, *where, "--out", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_an_old_run_is_exported(both, tmp_path):
    answer_of("export", both["people"].run, "--out", tmp_path / "exported")
    assert list((tmp_path / "exported").rglob("saved_model.pb"))


def test_an_old_run_is_gone_on_with_to_its_end(old):
    answer_of("fit", "--resume", old.run, "--data-root", old.data)
    with (old.run / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    expected = old.answers["resumed"]
    for name, value in expected["log"].items():
        if name not in ("mean_ap", "rank_1"):  # those of a rank may turn by rounding
            assert float(rows[-1][name]) == pytest.approx(value, rel=1e-3), name
    scores = json.loads((old.run / "scores.json").read_text())
    assert scores["mean_ap"] == pytest.approx(expected["scores"]["mean_ap"], abs=0.02)
    assert (old.run / "checkpoints" / "00003-0000000" / "manifest.json").is_file()
