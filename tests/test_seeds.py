"""Training from several seeds: one folder each, gone on with, summed up."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from tests.conftest import SMALL, draw_people
from tests.test_cli import refused, topdb
from topdb_tf.cli import main
from topdb_tf.evaluate.averages import spread
from topdb_tf.evaluate.measured import measure
from topdb_tf.fit.info import run_info
from topdb_tf.fit.seeds import (
    SeedScores,
    SeedsSummary,
    fit_seeds,
    read_seeds,
    seeds_lines,
    summary_of_seeds,
)
from topdb_tf.report import words
from topdb_tf.runs.folder import RunFolder, new_run, open_run
from topdb_tf.runs.recipes import read_config, read_recipe
from topdb_tf.training.checkpoint_files import Position

pytestmark = pytest.mark.usefixtures("step_by_step")

# One stream, one epoch: every fit builds and compiles a network anew.
SETTINGS = [*SMALL, "model.streams=global", "train.epochs=1", "train.warmup_epochs=0"]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return draw_people(tmp_path_factory.mktemp("data"), train=5, test=4, images=6)


@pytest.fixture(scope="module")
def two_seeds(data_root, tmp_path_factory):
    """Folder and answer of a training from two seeds."""
    folder = tmp_path_factory.mktemp("runs") / "seeds"
    return folder, fit(data_root, folder, "--seeds", 2)


@pytest.fixture
def own_seeds(two_seeds, tmp_path):
    """A copy of the folder that a test may change."""
    shutil.copytree(two_seeds[0], tmp_path / "seeds")
    return tmp_path / "seeds"


class Fitted:
    """Stands for the training: seed n scores n / 100, re-ranked n / 10."""

    def __init__(self):
        self.seeds, self.resumed, self.lines = [], [], []

    def say(self, line):
        self.lines.append(line)

    def fit(self, config, run_dir, *, say):
        run = new_run(run_dir)
        self.seeds.append(config.train.seed)
        run.path.mkdir(parents=True)
        run.config_file.write_text(config.to_yaml())
        self._finish(run, config)

    def resume(self, run_dir, *, overrides, say):
        run = RunFolder(run_dir)
        config = read_config(run.config_file, overrides)
        self.resumed.append((config.train.seed, config.data.root))
        self._finish(run, config)

    def _finish(self, run, config):
        seed = config.train.seed
        position = Position(config.train.epochs, 0)
        (run.checkpoints / position.name).mkdir(parents=True, exist_ok=True)
        scores = scores_of(seed / 100, 0.5, reranked=scores_of(seed / 10, 0.75))
        run.scores.write_text(json.dumps(scores))


@pytest.fixture
def fitted(monkeypatch):
    fitted = Fitted()
    monkeypatch.setattr("topdb_tf.fit.seeds.fit", fitted.fit)
    monkeypatch.setattr("topdb_tf.fit.seeds.resume", fitted.resume)
    return fitted


def fit(data_root, run_dir, *options, settings=()):
    sets = [part for setting in (*SETTINGS, *settings) for part in ("--set", setting)]
    paths = ["--data-root", data_root, "--run-dir", run_dir]
    arguments = ["fit", "--recipe", "demo", *paths, *sets, *options]
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def losses_of(run):
    return np.genfromtxt(run / "log.csv", delimiter=",", names=True)["loss"]


def scores_of(mean_ap, rank_1, reranked=None):
    scores = {"mean_ap": mean_ap, "cmc": {"1": rank_1}, "protocol": {}}
    return {**scores, "reranked": reranked} if reranked else scores


@pytest.mark.slow
def test_each_seed_is_a_run_of_its_own(two_seeds, data_root, tmp_path):
    folder, answer = two_seeds
    alone = fit(data_root, tmp_path / "alone", settings=["train.seed=2"])
    assert alone.exit_code == 0, alone.output
    # Whatever seed 1 left behind in the process has no part in seed 2.
    assert losses_of(folder / "seed-2") == losses_of(tmp_path / "alone")


def test_seeds_differ(two_seeds):
    folder, answer = two_seeds
    assert answer.exit_code == 0, answer.output
    assert losses_of(folder / "seed-1") != losses_of(folder / "seed-2")


def test_the_summary_is_written_and_printed(two_seeds):
    folder, answer = two_seeds
    summary = json.loads((folder / "seeds.json").read_text())
    scores = [
        json.loads((folder / f"seed-{n}/scores.json").read_text()) for n in (1, 2)
    ]
    mean_aps = [record["mean_ap"] for record in scores]
    assert summary["mean_ap"]["mean"] == pytest.approx(sum(mean_aps) / 2)
    # Of two values the sample deviation is their difference over the root of 2.
    assert summary["mean_ap"]["deviation"] == pytest.approx(
        abs(mean_aps[0] - mean_aps[1]) / 2**0.5
    )
    rank_1s = [record["reranked"]["cmc"]["1"] for record in scores]
    assert summary["reranked"]["rank_1"]["mean"] == pytest.approx(sum(rank_1s) / 2)
    assert [record["seed"] for record in summary["seeds"]] == [1, 2]
    for word in ("seed 2: mAP", "mean of 2 seeds ± sample standard deviation", "re-"):
        assert word in answer.stdout


def test_the_summary_is_read_as_it_was_written(two_seeds, tmp_path):
    folder, _ = two_seeds
    summary = read_seeds(folder)
    assert summary.to_dict() == json.loads((folder / "seeds.json").read_text())
    assert read_seeds(tmp_path) is None
    (tmp_path / "seeds.json").write_text("{}")
    with pytest.raises(ValueError, match="must be what `topdb-tf fit --seeds` wrote"):
        read_seeds(tmp_path)


def test_a_report_tells_of_the_other_seeds(two_seeds, data_root):
    folder, _ = two_seeds
    run = open_run(folder / "seed-2", [f"data.root={data_root}"])
    measured = measure(run, rerank=False, top=1)
    spreads = read_seeds(folder).plain
    assert dict(words.summary(measured, run_info(run)))["Seed"] == [
        "2",
        f"one of 2 seeds: mAP {spreads['mean_ap']}, rank-1 {spreads['rank_1']} "
        "(sample standard deviation, of n - 1)",
    ]


def test_finished_seeds_are_skipped(own_seeds, data_root):
    before = {path: path.stat().st_mtime_ns for path in own_seeds.rglob("*.keras")}
    answer = fit(data_root, own_seeds, "--seeds", 2)
    assert answer.exit_code == 0, answer.output
    assert answer.stderr.count("is finished already") == 2
    assert before == {p: p.stat().st_mtime_ns for p in own_seeds.rglob("*.keras")}


def test_an_interrupted_seed_is_gone_on_with(own_seeds, data_root):
    scores = own_seeds / "seed-2" / "scores.json"
    before = json.loads(scores.read_text())
    scores.unlink()
    answer = fit(data_root, own_seeds, "--seeds", 2, "--json")
    assert answer.exit_code == 0, answer.output
    assert "resumed after 1 epochs" in answer.stderr
    for name in ("mean_ap", "cmc"):
        assert json.loads(scores.read_text())[name] == before[name]
    assert json.loads(answer.stdout)["seeds"][1]["mean_ap"] == before["mean_ap"]


def test_seeds_begin_where_nothing_is_saved_and_more_can_be_added(tmp_path, fitted):
    folder, last = tmp_path / "seeds", ["train.seed=4"]
    fit_seeds(read_recipe("demo", last), folder, num_seeds=3, say=fitted.say)
    shutil.rmtree(folder / "seed-5" / "checkpoints")
    (folder / "seed-6" / "scores.json").unlink()
    fitted.seeds.clear()
    config = read_recipe("demo", [*last, "data.root=/moved"])
    summary = fit_seeds(config, folder, num_seeds=4, say=fitted.say)
    assert fitted.seeds == [5, 7]
    assert any("seed-5 was interrupted" in line for line in fitted.lines)
    assert fitted.resumed == [(6, "/moved")]
    # Seeds 4 … 7 scored 0.04 … 0.07, mean 0.055. The squares of the deviations, in
    # 1e-4: 2.25 + 0.25 + 0.25 + 2.25 = 5, over 3.
    assert summary.plain["mean_ap"].mean == pytest.approx(0.055)
    assert summary.plain["mean_ap"].deviation == pytest.approx((5e-4 / 3) ** 0.5)
    assert summary.reranked["mean_ap"].mean == pytest.approx(0.55)


def test_scores_of_an_unfinished_run_do_not_finish_it(tmp_path, fitted):
    config, folder = read_recipe("demo"), tmp_path / "seeds"
    fit_seeds(config, folder, num_seeds=1, say=fitted.say)
    checkpoints = folder / "seed-1" / "checkpoints"
    last = Position(config.train.epochs, 0).name
    (checkpoints / last).rename(checkpoints / Position(1, 0).name)
    fit_seeds(config, folder, num_seeds=1, say=fitted.say)
    assert fitted.resumed == [(1, None)]


def test_the_scores_of_seeds_are_re_ranked_too(tmp_path, fitted):
    config = read_recipe("demo")
    assert not config.evaluation.rerank
    fit_seeds(config, tmp_path / "seeds", num_seeds=1, say=fitted.say)
    assert read_config(tmp_path / "seeds/seed-1/config.yaml").evaluation.rerank


def test_evaluate_keeps_the_re_ranked_scores_of_a_seed(own_seeds):
    before = json.loads((own_seeds / "seed-1" / "scores.json").read_text())
    answer = topdb("evaluate", own_seeds / "seed-1", "--json")
    assert answer.exit_code == 0, answer.output
    scores = json.loads(answer.stdout)
    assert scores["reranked"]["mean_ap"] == before["reranked"]["mean_ap"]


def test_other_settings_in_the_folder_are_named(own_seeds, data_root):
    answer = fit(data_root, own_seeds, "--seeds", 3, settings=["train.l2=0"])
    refused(answer, "seed-1", "train.l2=0.0005 there, 0.0 now", "--run-dir")
    assert not (own_seeds / "seed-3").exists()


def test_a_single_run_is_not_taken_for_a_folder_of_seeds(two_seeds, data_root):
    refused(fit(data_root, two_seeds[0] / "seed-1", "--seeds", 2), "single run")


def test_a_folder_with_something_else_is_left_alone(data_root, tmp_path):
    note = tmp_path / "runs" / "seed-2" / "note"
    note.parent.mkdir(parents=True)
    note.write_text("mine")
    refused(fit(data_root, tmp_path / "runs", "--seeds", 2), "seed-2", "no run")
    assert note.read_text() == "mine"
    assert not (tmp_path / "runs" / "seed-1").exists()


def test_the_number_of_seeds_is_at_least_one(data_root, tmp_path):
    assert fit(data_root, tmp_path / "runs", "--seeds", 0).exit_code != 0


def test_the_deviation_is_that_of_a_sample():
    # 0.1, 0.2, 0.6: mean 0.3; squares 0.04 + 0.01 + 0.09 = 0.14, over 2: 0.07.
    result = spread([0.1, 0.2, 0.6])
    assert result.mean == pytest.approx(0.3)
    assert result.deviation == pytest.approx(0.07**0.5)
    assert str(result) == "30.0 ± 26.5"  # 0.07 ** 0.5 = 0.26458


def test_one_seed_has_no_deviation():
    plain, reranked = (
        {"mean_ap": mean_ap, "rank_1": rank_1}
        for mean_ap, rank_1 in ((0.5, 0.75), (0.625, 0.875))
    )
    one = SeedScores(7, "runs/x/seed-7", plain, reranked)
    summary = SeedsSummary("runs/x", "market1501", (one,), {}, {})
    assert seeds_lines(summary) == [
        "seed 7: mAP 50.0, rank-1 75.0; re-ranked: mAP 62.5, rank-1 87.5",
        "all in percent; the runs are in runs/x",
    ]


def test_seeds_of_different_protocols_are_not_averaged(own_seeds):
    file = own_seeds / "seed-2" / "scores.json"
    scores = json.loads(file.read_text())
    for record in (scores, scores["reranked"]):
        record["protocol"]["ignore_cameras"] = True
    file.write_text(json.dumps(scores))
    runs = [open_run(own_seeds / f"seed-{seed}") for seed in (1, 2)]
    with pytest.raises(ValueError, match=r"different protocols \(ignore_cameras\)"):
        summary_of_seeds(own_seeds, runs)


def test_scores_by_another_protocol_have_a_file_of_their_own(own_seeds):
    run = own_seeds / "seed-1"
    before = (run / "scores.json").read_text()
    answer = topdb("evaluate", run, "--ignore-cameras", "--json")
    assert answer.exit_code == 0, answer.output
    assert (run / "scores.json").read_text() == before
    scores = json.loads((run / "scores-synthetic-ignore-cameras.json").read_text())
    assert scores["protocol"]["ignore_cameras"] is True
