"""Whether two images show one person, and the status that tells a script."""

import functools
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.calibrations import point, share, write_calibration
from topdb_tf.cli import main
from topdb_tf.evaluate.calibrate import read_calibration
from topdb_tf.evaluate.match import match, read_pairs
from topdb_tf.model import extraction
from topdb_tf.model.backbones import tiny
from topdb_tf.model.network import build_network, embedder


@pytest.fixture(scope="module")
def made_run(tmp_path_factory):
    """The folder of a run with a model of random weights and three images."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.yaml").write_text("data: {split: synthetic}")
    embedder(build_network(tiny((32, 16)), num_pids=3)).save(folder / "embedder.keras")
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.png"):
        pixels = rng.integers(0, 256, (32, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def load_once():
    return functools.cache(extraction.load_embedder)


@pytest.fixture
def run(made_run, load_once, monkeypatch):
    """The same, calibrated; its model is loaded once for all tests."""
    monkeypatch.setattr(extraction, "load_embedder", load_once)
    write_calibration(made_run)
    return made_run


@pytest.fixture
def own_run(run, tmp_path):
    """A copy of the run that a test may spoil."""
    return shutil.copytree(run, tmp_path / "own")


def ask(*arguments):
    return CliRunner().invoke(main, ["match", *map(str, arguments)])


def refused(answer, *words):
    """Checks for status 2 and a line with the words."""
    assert answer.exit_code == 2, answer.output
    line = answer.stderr.strip().splitlines()[-1]
    assert line.startswith("Error: ")
    for word in words:
        assert word in line
    assert answer.stdout == ""


def test_status_0_is_for_one_person_and_1_for_two(run):
    pair = run / "a.png", run / "b.png", "--run", run
    same = ask(*pair)
    assert same.exit_code == 0, same.output
    assert same.stdout.startswith("same person: ")
    assert "false-match rate of 1%; on synthetic it was 1.25% (0.625% to 2.5%)" in (
        same.stdout
    )
    assert "75% (37.5% to 100%) of the true matches" in same.stdout
    different = ask(*pair, "--false-match-rate", "1e-3")
    assert different.exit_code == 1
    assert different.stdout.startswith("different persons: ")


def test_json_tells_distance_threshold_and_rates(run):
    answer = ask(run / "a.png", run / "b.png", "--run", run, "--json")
    result = json.loads(answer.stdout)
    (pair,) = result["pairs"]
    assert pair["images"] == [str(run / "a.png"), str(run / "b.png")]
    assert 1e-4 < pair["distance"] < 1e9
    assert pair["is_same_person"] is True
    assert pair["is_same_file"] is False
    assert pair["false_match_rate_at_distance"] == 0.01  # that of 1e9, the next
    assert (result["threshold"], result["wanted_false_match_rate"]) == (1e9, 0.01)
    assert result["true_match_rate"] == share(0.75)


def test_the_distance_is_that_of_the_embeddings(run):
    images = [
        np.asarray(Image.open(run / name), "float32") for name in ("a.png", "b.png")
    ]
    one, other = extraction.load_embedder(run / "embedder.keras")(
        np.stack(images)
    ).numpy()
    pairs = [(run / "a.png", run / "b.png")]
    (pair,) = match(run, pairs).pairs
    assert pair.distance == pytest.approx(np.sum((one - other) ** 2), rel=1e-4)
    write_calibration(run, metric="cosine")
    (pair,) = match(run, pairs).pairs
    norms = np.linalg.norm(one) * np.linalg.norm(other)
    assert pair.distance == pytest.approx(1 - one @ other / norms, abs=1e-5)


def test_a_pair_at_the_threshold_is_accepted(run):
    pairs = [(run / "a.png", run / "b.png")]
    (pair,) = match(run, pairs).pairs
    for threshold, verdict in (
        (pair.distance, True),
        (np.nextafter(pair.distance, 0), False),
    ):
        write_calibration(run, operating_points=[point(0.01, float(threshold))])
        (judged,) = match(run, pairs).pairs
        assert judged.is_same_person is verdict


def test_a_file_with_itself_is_told(run):
    answer = ask(run / "a.png", run / ".." / run.name / "a.png", "--run", run)
    assert answer.exit_code == 0
    assert "one and the same file" in answer.stdout


@pytest.mark.parametrize(
    ("distances", "rate"),
    [([1e9, 2e9, 3e9], 0.0001), ([1e-9, 1e-8, 1e-7], 1.0)],
    ids=["nearer than all", "farther than all"],
)
def test_a_distance_beyond_the_roc(run, distances, rate):
    rates = {"false_match_rates": [0.0001, 0.01, 0.02], "true_match_rates": [1, 1, 1]}
    roc = {"distances": distances, **rates}
    write_calibration(run, roc=roc)
    (pair,) = match(run, [(run / "a.png", run / "b.png")]).pairs
    assert pair.false_match_rate_at_distance == rate


def test_several_pairs_come_from_a_file(run, tmp_path):
    a, b, c = (run / name for name in ("a.png", "b.png", "c.png"))
    rows = tmp_path / "pairs.csv"
    rows.write_text(f"{a},{b}\n\n{b}, {c}\n{a},{a}\n")
    answer = ask("--pairs", rows, "--run", run, "--json")
    assert answer.exit_code == 0, answer.output
    pairs = json.loads(answer.stdout)["pairs"]
    names = [[str(path) for path in pair] for pair in ((a, b), (b, c), (a, a))]
    assert [pair["images"] for pair in pairs] == names
    single = match(run, [(b, c)]).pairs[0].distance
    assert pairs[1]["distance"] == pytest.approx(single, rel=1e-4)
    # The last pair is one file: accepted at 1e-4, while the first two are not.
    answer = ask("--pairs", rows, "--run", run, "--false-match-rate", 0.001, "--json")
    assert answer.exit_code == 1
    verdicts = [pair["is_same_person"] for pair in json.loads(answer.stdout)["pairs"]]
    assert verdicts == [False, False, True]


@pytest.mark.parametrize("text", ["a.png\n", "a.png,b.png,c.png\n", "a.png,\n"])
def test_a_row_that_is_no_pair_is_named(run, tmp_path, text):
    (tmp_path / "pairs.csv").write_text(f"a,b\n{text}")
    refused(ask("--pairs", tmp_path / "pairs.csv", "--run", run), "pairs.csv, line 2")


def test_a_file_without_pairs_is_named(tmp_path):
    (tmp_path / "pairs.csv").write_text("\n")
    with pytest.raises(ValueError, match="must name a pair"):
        read_pairs(tmp_path / "pairs.csv")
    with pytest.raises(FileNotFoundError, match="no file of pairs"):
        read_pairs(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="must be a pair"):
        match(None, [])


@pytest.mark.parametrize("names", [[], ["a.png"], ["a.png", "b.png", "c.png"]])
def test_two_images_must_be_named(run, names):
    answer = ask(*(run / name for name in names), "--run", run)
    refused(answer, "Name two images")


def test_images_and_a_file_of_pairs_are_too_much(run):
    answer = ask(run / "a.png", run / "b.png", "--pairs", run / "x.csv", "--run", run)
    refused(answer, "Name two images")


def test_a_bad_image_is_named(run, tmp_path):
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(b"no image")
    good = run / "a.png"
    refused(ask(good, damaged, "--run", run), "JPEG or PNG", str(damaged))
    refused(ask(good, tmp_path / "none.jpg", "--run", run), "none.jpg")
    refused(ask(good, tmp_path, "--run", run), "no image file", str(tmp_path))


def test_a_rate_that_was_not_calibrated_lists_those_that_were(run):
    pair = run / "a.png", run / "b.png", "--run", run
    refused(ask(*pair, "--false-match-rate", 0.02), "0.01, 0.001, 0.5", "calibrate")


def test_a_run_that_was_not_calibrated_says_how(own_run):
    (own_run / "calibration.json").unlink()
    pair = own_run / "a.png", own_run / "b.png", "--run", own_run
    refused(ask(*pair), "topdb-tf calibrate")


def test_a_model_trained_anew_needs_a_new_calibration(own_run):
    with (own_run / "embedder.keras").open("ab") as file:
        file.write(b"\0")
    pair = own_run / "a.png", own_run / "b.png", "--run", own_run
    refused(ask(*pair), "is not the model", "topdb-tf calibrate")


def test_a_run_without_its_model_is_named(own_run):
    (own_run / "embedder.keras").unlink()
    pair = own_run / "a.png", own_run / "b.png", "--run", own_run
    refused(ask(*pair), "no model at", "embedder.keras")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 2}'])
def test_a_damaged_calibration_is_named(own_run, text):
    (own_run / "calibration.json").write_text(text)
    with pytest.raises(ValueError, match=r"calibration\.json is damaged or of another"):
        read_calibration(own_run)


def test_a_folder_that_is_no_run_is_an_error_and_no_answer(run, tmp_path):
    answer = ask(run / "a.png", run / "b.png", "--run", tmp_path)
    refused(answer, "not the folder of a run")


def test_an_unforeseen_error_is_no_answer_either(run, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("topdb_tf.evaluate.match.match", fail)
    answer = ask(run / "a.png", run / "b.png", "--run", run)
    assert answer.exit_code == 2
    assert "RuntimeError: out of memory" in answer.stderr


def test_ctrl_c_is_no_answer_either(run, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("topdb_tf.evaluate.match.match", stop)
    assert ask(run / "a.png", run / "b.png", "--run", run).exit_code == 130


def test_help_tells_the_status():
    answer = ask("--help")
    assert answer.exit_code == 0
    assert "status 0 if they do, 1 if" in answer.stdout
