"""Scoring a model in a file, without the folder of a run."""

import json

import pytest
from click.testing import CliRunner

from tests.commands import refused
from tests.conftest import draw_people
from topdb_tf.cli import main
from topdb_tf.model.backbones import tiny
from topdb_tf.model.network import build_network, embedder

SUBSET = ["--set", "data.check_counts=false"]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return draw_people(tmp_path_factory.mktemp("data"), train=2, test=3)


@pytest.fixture(scope="module")
def run(data_root, tmp_path_factory):
    """The folder of a run with a model of random weights."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.yaml").write_text(
        f"data: {{split: synthetic, root: {data_root}, check_counts: false}}"
    )
    embedder(build_network(tiny((32, 16)), num_pids=3)).save(folder / "embedder.keras")
    return folder


def evaluate(*arguments):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def test_a_file_scores_as_the_run_that_it_is_of(run, data_root, tmp_path):
    model = tmp_path / "model.keras"
    model.write_bytes((run / "embedder.keras").read_bytes())
    options = ["--dataset", "synthetic", "--data-root", data_root, *SUBSET]
    answer = evaluate("--weights", model, *options, "--rerank", "--json")
    scores = json.loads(answer.stdout)
    assert (scores["model"], scores["dataset"]) == ("model.keras", "synthetic")
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
    own = json.loads(evaluate(run, "--rerank", "--json").stdout)
    assert json.loads((run / "scores.json").read_text()) == own
    assert scores["protocol"] == own["protocol"]
    for ours, runs in ((scores, own), (scores["reranked"], own["reranked"])):
        for name in ("mean_ap", "mean_inp", "cmc"):
            assert ours[name] == runs[name]


def test_scores_by_another_protocol_have_a_file_of_their_own(run, data_root):
    before = json.loads(evaluate(run, "--json").stdout)
    answer = evaluate(run, "--normalize-cameras", "--rerank")
    lines = answer.stdout.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "cameras normalised",
        "re-ranked, cameras normalised",
    ]
    file = run / "scores-synthetic-cameras-normalised.json"
    scores = json.loads(file.read_text())
    wanted = {"statistics": "all", "prior_images": 50}
    for result in (scores, scores["reranked"]):
        assert result["protocol"]["camera_normalization"] == wanted
    assert (
        json.loads((run / "scores.json").read_text())["protocol"]
        == (before["protocol"])
    )
    model = ["--weights", run / "embedder.keras", "--dataset", "synthetic"]
    model += ["--data-root", data_root, *SUBSET, "--normalize-cameras", "--json"]
    alone = json.loads(evaluate(*model).stdout)
    assert (alone["mean_ap"], alone["protocol"]) == (
        scores["mean_ap"],
        scores["protocol"],
    )


@pytest.mark.parametrize("wrong", [["run"], ["--best"]])
def test_a_file_stands_instead_of_a_run(run, wrong):
    wrong = [run if word == "run" else word for word in wrong]
    answer = evaluate(
        *wrong, "--weights", run / "embedder.keras", "--dataset", "synthetic"
    )
    refused(answer, "--weights stands instead of RUN")


def test_a_run_has_its_own_settings(run):
    refused(evaluate(run, *SUBSET), "--set goes with --weights")


def test_a_file_needs_a_data_set(run):
    refused(evaluate("--weights", run / "embedder.keras"), "needs --dataset")


def test_a_file_that_is_no_model_is_named(run, data_root, tmp_path):
    options = ["--dataset", "synthetic", "--data-root", data_root, *SUBSET]
    missing, other = tmp_path / "nowhere.keras", tmp_path / "other.keras"
    other.write_bytes(b"no model at all")
    refused(evaluate("--weights", missing, *options), "no model at", "nowhere.keras")
    refused(evaluate("--weights", other, *options), "other.keras must be a .keras")


def test_a_missing_data_set_is_named(run, tmp_path):
    model = ["--weights", run / "embedder.keras"]
    answer = evaluate(*model, "--dataset", "market1501", "--data-root", tmp_path)
    refused(answer, "market1501", "--data-root")
