"""The commands, run as a user runs them, on a handful of drawn people."""

import contextlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.commands import topdb
from tests.conftest import SMALL, without_graphs
from topdb_tf.fit import fit as fit_room
from topdb_tf.training import schedules


@pytest.fixture
def own_data_root(small_data_root, tmp_path):
    """A copy of the data set that a test may spoil."""
    shutil.copytree(small_data_root, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture(scope="module")
def run(small_data_root, tmp_path_factory):
    """A finished run of two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    answer = fit(small_data_root, folder, "model.num_bottlenecks=2")
    assert answer.exit_code == 0, answer.output
    assert answer.stdout == f"{folder}\n"
    return folder


def fit(data_root, run_dir, *settings, recipe="demo"):
    sets = [part for setting in (*SMALL, *settings) for part in ("--set", setting)]
    paths = ["--data-root", data_root, "--run-dir", run_dir]
    return topdb("fit", "--recipe", recipe, *paths, *sets)


def refused(answer, *words):
    """Checks for one line of explanation with the words, and no traceback."""
    assert answer.exit_code != 0
    line = answer.stderr.strip().splitlines()[-1]
    assert line.startswith("Error: ")
    assert isinstance(answer.exception, SystemExit)
    for word in words:
        assert word in line


def test_a_run_leaves_all_its_files(run):
    for name in (
        "config.yaml",
        "environment.json",
        "log.csv",
        "embedder.keras",
        "embedder_best.keras",
        "scores.json",
        "checkpoints/00002-0000000/manifest.json",
        "checkpoints/00002-0000000/arrays.npz",
    ):
        assert (run / name).is_file(), name
    assert list((run / "tensorboard").rglob("events*"))
    header, *rows = (run / "log.csv").read_text().splitlines()
    assert len(rows) == 2
    for stream in ("global", "top_drop", "regularization"):
        assert f"{stream}_cross_entropy" in header
        assert f"{stream}_triplet" in header


def test_evaluate_repeats_the_scores_of_fit_as_json_alone(run):
    trained = json.loads((run / "scores.json").read_text())
    answer = topdb("evaluate", run, "--rerank", "--json")
    scores = json.loads(answer.stdout)
    assert scores["mean_ap"] == trained["mean_ap"]
    assert scores["cmc"] == trained["cmc"]
    assert scores["protocol"] == trained["protocol"]
    assert 0 <= scores["reranked"]["mean_ap"] <= 1
    assert json.loads((run / "scores.json").read_text()) == scores


def test_evaluate_prints_the_scores_for_people(run):
    answer = topdb("evaluate", run, "--best")
    for word in ("mAP", "mINP", "rank-1", "rank-20", "6 valid queries"):
        assert word in answer.stdout
    assert (run / "scores-synthetic-best.json").is_file()


def test_a_run_with_settings_by_their_old_names_is_evaluated(run, tmp_path):
    old = shutil.copytree(run, tmp_path / "run")
    text = (old / "config.yaml").read_text()
    for new, before in (
        ("dataset:", "split:"),
        ("division_seed:", "split_seed:"),
        ("decay_epochs:", "drop_epochs:"),
    ):
        assert text.count(f"  {new}") == 1
        text = text.replace(f"  {new}", f"  {before}")
    (old / "config.yaml").write_text(text)
    trained = json.loads((run / "scores.json").read_text())
    answer = topdb("evaluate", old, "--json")
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["cmc"] == trained["cmc"]
    for words in ("`data.split` is now called `data.dataset`", "`train.decay_epochs`"):
        assert answer.stderr.count(words) == 1


def test_evaluate_takes_the_newest_run(run, monkeypatch):
    (run.parent / "runs").mkdir()
    (run.parent / "runs" / "link").symlink_to(run)
    monkeypatch.chdir(run.parent)
    assert json.loads(topdb("evaluate", "--json").stdout)["num_valid_queries"] == 6


def test_info_tells_settings_progress_and_scores(run):
    answer = topdb("info", run)
    for word in ("2 of 2 done", "train.epochs=2", "float32", "mAP"):
        assert word in answer.stdout
    facts = json.loads(topdb("info", run, "--json").stdout)
    assert facts["settings"]["model.backbone"] == "tiny"
    assert facts["environment"]["seed"] == 1


def test_the_same_seed_gives_the_same_model(run, small_run):
    first, second = (
        np.genfromtxt(folder / "log.csv", delimiter=",", names=True)["loss"]
        for folder in (run, small_run)
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("recipe", ["bdb", "no_drop", "no_reg", "authors"])
def test_every_variant_trains(recipe, small_data_root, tmp_path):
    settings = ["data.dataset=synthetic", "model.backbone=tiny", "model.weights=none"]
    settings += ["train.epochs=1", "train.precision=float32"]
    # Graphs of other networks are trained elsewhere.
    with contextlib.nullcontext() if recipe == "authors" else without_graphs():
        answer = fit(small_data_root, tmp_path / "run", *settings, recipe=recipe)
    assert answer.exit_code == 0, answer.output
    assert (tmp_path / "run" / "scores.json").is_file()


def test_score_reads_features_of_other_programs(features):
    # Query 0 at 0: its match at 1 comes first. Query 1 at 10: the other's image at 9
    # comes before its match at 12. AP 1 and 1/2, so mAP 3/4 and rank-1 1/2.
    scores = json.loads(topdb("score", features, "--json").stdout)
    assert scores["mean_ap"] == 0.75
    assert scores["cmc"]["1"] == 0.5
    assert scores["load_seconds"] > 0
    assert "mAP 75.0%" in topdb("score", features).stdout
    assert topdb("score", features, "--rerank", "--k1", 1, "--k2", 1).exit_code == 0


def test_score_judges_pairs_and_averages_neighbours(features):
    # Genuine pairs are at 1 and 4, impostors at 144, 81, 81 and 1: one of four comes
    # as near as the first genuine pair, so FPR 0.25 and FNR 0.5 there, 0.25 and 0 at
    # the second. Between them false positives equal false negatives at 0.25.
    answer = topdb("score", features, "--verify", "--expand", 1, "--json")
    scores = json.loads(answer.stdout)
    assert scores["mean_ap"] == 0.75  # each image's nearest is itself
    assert scores["protocol"]["query_expansion"] == 1
    verification = scores["verification"]
    assert verification["equal_error_rate"] == pytest.approx(0.25)
    assert verification["num_genuine"] == 2
    assert verification["num_impostors"] == 4
    assert verification["threshold_at_fpr"]["0.01"] is None
    assert "equal error rate 25.00%" in topdb("score", features, "--verify").stdout
    draws = topdb("score", features, "--single-shot", 3, "--json")
    assert json.loads(draws.stdout)["num_valid_queries"] == 2


def test_score_names_the_metrics(features):
    refused(topdb("score", features, "--metric", "l1"), "sqeuclidean, euclidean", "l1")


def test_score_explains_what_it_cannot_read(tmp_path):
    refused(topdb("score", tmp_path / "none.npz"), "none.npz")
    np.savez(tmp_path / "half.npz", query_features=np.zeros((1, 2)))
    refused(topdb("score", tmp_path / "half.npz"), "gallery_features")


def test_a_data_set_that_is_missing_is_explained(tmp_path):
    answer = fit(tmp_path, tmp_path / "run", "data.dataset=market1501")
    refused(answer, "Market-1501-v15.09.15", "datasets/README.md", "--data-root")
    assert not (tmp_path / "run").exists()


def test_a_data_set_that_is_half_extracted_is_counted(small_data_root, tmp_path):
    answer = fit(small_data_root, tmp_path / "run", "data.check_counts=true")
    refused(
        answer, "20 images of 5", "expected 1,440 of 120", "data.check_counts=false"
    )


def test_a_truncated_image_is_named(own_data_root, tmp_path):
    path = sorted((own_data_root / "synthetic/bounding_box_train").iterdir())[3]
    path.write_bytes(path.read_bytes()[:400])
    refused(fit(own_data_root, tmp_path / "run"), path.name)
    assert not (tmp_path / "run").exists()


def test_one_camera_alone_is_explained(own_data_root, tmp_path):
    for path in (own_data_root / "synthetic").rglob("*_c2*"):
        path.unlink()
    refused(fit(own_data_root, tmp_path / "run"), "camera 1", "--ignore-cameras")


def test_an_identity_with_one_image_is_warned_of(own_data_root, tmp_path, monkeypatch):
    def enough(*args, **options):
        raise ValueError("Enough is seen.")

    monkeypatch.setattr(fit_room, "train", enough)
    for path in (own_data_root / "synthetic/bounding_box_train").glob("0001_*_0[2-9]*"):
        path.unlink()
    answer = fit(own_data_root, tmp_path / "run")
    refused(answer, "Enough is seen.")
    assert "have a single image (pid 1)" in answer.stderr


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("data.dataset=market", ["market1501", "Did you mean"]),
        ("train.epoch=1", ["Did you mean `train.epochs`"]),
        ("data.batch_size=7", ["multiple of `data.images_per_pid`"]),
        (
            "data.batch_size=12",
            ["data.batch_size", "data.images_per_pid", "--set data.batch_size="],
        ),
        ("data.image_height=8", ["row", "height"]),
        ("model.backbone=resnet18", ["resnet50", "resnet18"]),
        ("model.streams=[global, part]", ["part", "top_drop"]),
        ("model.drop=tops", ["top, batch", "Did you mean `top`"]),
        ("model.weights=imagenet", ["tiny", "model.weights=none"]),
    ],
)
def test_a_setting_that_cannot_be_is_explained(
    setting, words, small_data_root, tmp_path
):
    refused(fit(small_data_root, tmp_path / "run", setting), *words)
    assert not (tmp_path / "run").exists()


def test_an_unknown_recipe_names_the_nearest(small_data_root, tmp_path):
    refused(
        fit(small_data_root, tmp_path / "run", recipe="demos"), "Did you mean `demo`"
    )


def test_a_folder_that_holds_a_run_is_not_overwritten(run, small_data_root):
    before = (run / "embedder.keras").read_bytes()
    refused(fit(small_data_root, run), "already exists", "--run-dir")
    assert (run / "embedder.keras").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(
    small_data_root, tmp_path, monkeypatch
):
    # The first step throws the weights away.
    monkeypatch.setattr(schedules, "scaled_learning_rate", lambda rate, **_: 1e30)
    answer = fit(small_data_root, tmp_path / "run", "train.warmup_epochs=0")
    refused(answer, "The loss is not finite at step", "train.learning_rate")
    assert "There is no checkpoint before it" in answer.stderr
    assert "--resume" not in answer.stderr
    assert not (tmp_path / "run" / "embedder.keras").exists()


def test_evaluate_without_a_run_is_explained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(topdb("evaluate"), "topdb-tf fit")
    refused(topdb("evaluate", tmp_path), "not the folder of a run")


def test_a_run_whose_first_epoch_has_not_ended_is_explained(run, tmp_path):
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    refused(topdb("evaluate", tmp_path), "no embedder.keras")


def test_help_needs_no_heavy_import():
    code = (
        "import sys, topdb_tf.cli; "
        "heavy = {'tensorflow', 'keras', 'numba', 'matplotlib'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_scores_may_be_of_features_normalised_by_camera(features):
    plain = json.loads(topdb("score", features, "--json").stdout)["protocol"]
    score = ["score", features, "--normalize-cameras"]
    assert topdb(*score, "--verify").stdout.startswith("cameras normalised: mAP ")
    answer = topdb(*score, "--camera-statistics", "gallery", "--json")
    protocol = json.loads(answer.stdout)["protocol"]
    assert protocol.pop("camera_normalization")["statistics"] == "gallery"
    assert protocol == plain
    refused(topdb("score", features, "--camera-statistics", "all"), "goes with --norm")
