import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import prediction_log_pb2

from tests.calibrations import point, write_calibration
from tests.commands import topdb
from tests.test_folding import trained_embedder
from topdb_tf.evaluate.scores import scores_file
from topdb_tf.export import check
from topdb_tf.export.cpp_loader import WARM_UP_FILE
from topdb_tf.export.model_card import ServedExport, model_card
from topdb_tf.export.probes import probe_images
from topdb_tf.export.session import SessionModel
from topdb_tf.runs.folder import RunFolder, open_run
from topdb_tf.runs.settings import Config
from topdb_tf.search.changes import create_index
from topdb_tf.search.index import SearchIndex

SCORES = {
    "dataset": "market1501",
    "model": "embedder.keras",
    "mean_ap": 0.529,
    "mean_inp": 0.205,
    "cmc": {"1": 0.735, "5": 0.899, "10": 0.935, "20": 0.96},
    "num_valid_queries": 3368,
    "protocol": {"metric": "sqeuclidean", "ignore_cameras": False},
}
SERVED = ServedExport(
    path=Path("models/topdb/1"),
    mebibytes=1.0,
    precision="float32",
    normalize=False,
    height=32,
    width=16,
    dim=192,
    max_difference=0.0,
    min_cosine=1.0,
    loader="cpp",
    seconds=1.0,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run with a trained model and made-up scores."""
    run = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    run.path.mkdir()
    run.config_file.write_text(Config().to_yaml())
    facts = {"seed": 3, "precision": "float32 (as asked)", "device": "CPU, 2 cores"}
    run.environment.write_text(json.dumps(facts))
    run.scores.write_text(json.dumps(SCORES))
    trained_embedder().save(run.embedder)
    return run


class Checked(NamedTuple):
    """What the command told, and the answers and embeddings that were compared."""

    told: str
    answers: list
    expected: np.ndarray


def export_spied(*arguments):
    """Exports, and returns what was compared, which must be once."""
    checked, check_export = [], check.check_export

    def spied(answers, expected, *, precision):
        checked.append((answers, expected))
        return check_export(answers, expected, precision=precision)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "check_export", spied)
        answer = topdb("export", *arguments)
    assert answer.exit_code == 0, answer.output
    ((answers, expected),) = checked
    return Checked(answer.stdout, answers, expected)


@pytest.fixture(scope="module")
def served(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "topdb"
    return export_spied(run.path, "--out", out, "--json")


@pytest.fixture(scope="module")
def exported(served):
    """The facts that `export --json` prints."""
    return json.loads(served.told)


@pytest.fixture(scope="module")
def in_onnx(run, tmp_path_factory):
    """The run in a file of another runtime, and what was compared."""
    out = tmp_path_factory.mktemp("files") / "mine.onnx"
    return out, export_spied(run.path, "--format", "onnx", "--out", out)


def version_of(facts):
    return Path(facts["path"])


def read_warm_up_requests(version):
    """The signature and the inputs by name of each request, as NumPy arrays."""
    requests = []
    for record in tf.data.TFRecordDataset(str(version / WARM_UP_FILE)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        inputs = {
            name: tf.make_ndarray(request.inputs[name]) for name in request.inputs
        }
        requests.append((request.model_spec.signature_name, inputs))
    return requests


def test_the_facts_are_those_of_the_files(exported):
    version = version_of(exported)
    assert version.name == "1"
    size = sum(p.stat().st_size for p in version.rglob("*") if p.is_file())
    assert exported["mebibytes"] == pytest.approx(size / 2**20, abs=0.1)
    assert exported["min_cosine"] > 0.9999
    assert 0 < exported["max_difference"] < 1e-3
    assert (exported["height"], exported["width"], exported["dim"]) == (32, 16, 192)


def test_warm_up_requests_are_of_every_signature_and_work(exported):
    requests = read_warm_up_requests(version_of(exported))
    names = {"serving_default", "pixels", "activation_map"}
    assert {name for name, _ in requests} == names
    with SessionModel(version_of(exported)) as model:
        for name, inputs in requests:
            (count,) = {len(values) for values in inputs.values()}
            output = model.run(name, **inputs)
            assert len(output) == count
            assert np.isfinite(output).all()
    assert {len(inputs["images"]) for name, inputs in requests if name == "pixels"} == {
        1,
        8,
    }


def test_the_card_tells_data_scores_limits_and_law(exported):
    card = (version_of(exported) / "README.md").read_text()
    for words in (
        "`embedding`: float32 `(batch, 192)`",
        "resized to 32 x 16 pixels",
        "Market-1501",
        "Research only",
        "mAP 52.9%",
        "metric sqeuclidean",
        "Not calibrated",
        "Seed 3",
        "Consent and law",
    ):
        assert words in card
    assert "{" not in card


def test_the_card_has_the_thresholds_of_the_same_model(run, tmp_path):
    calibrated = RunFolder(tmp_path / "calibrated")
    shutil.copytree(run.path, calibrated.path)
    share = {"value": 0.00147, "low": 0.00109, "high": 0.00199}
    found = {**share, "value": 0.576}
    write_calibration(
        calibrated.path,
        dataset="market1501",
        operating_points=[
            point(0.001, 1062.5, false_match_rate=share, true_match_rate=found)
        ],
    )
    calibrated = open_run(calibrated.path)
    card = model_card(calibrated.model(), calibrated, SERVED)
    assert "| 0.1% | 1062.5 | 0.147% (0.109% to 0.199%) | 57.6% (" in card
    card = model_card(calibrated.model(), calibrated, replace(SERVED, normalize=True))
    assert "unlike these" in card
    trained_embedder(neck="none").save(calibrated.model())
    card = model_card(calibrated.model(), calibrated, SERVED)
    assert "1062.5" not in card
    assert "has changed since" in card


def test_options_of_another_format_are_refused(run, tmp_path):
    answer = topdb("export", run.path, "--max-pids", 3)
    assert "--max-pids does not apply" in answer.stderr
    answer = topdb("export", run.path, "--format", "onnx", "--normalize")
    assert "--normalize does not apply" in answer.stderr
    answer = topdb("export", run.path, "--precision", "int8")
    assert "litert alone" in answer.stderr


def test_the_card_claims_no_scores_of_another_epoch(run):
    normalized = replace(SERVED, normalize=True)
    card = model_card(run.best_embedder, open_run(run.path), normalized)
    assert "52.9" not in card
    assert "unit L2 norm" in card
    card = model_card(run.embedder, None, normalized)
    assert "52.9" not in card
    assert "Market" not in card


def test_the_card_of_the_best_epoch_has_the_scores_of_that_epoch(run, tmp_path):
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(run.path, folder.path)
    opened = open_run(folder.path)
    scores = {**SCORES, "model": "embedder_best.keras", "mean_ap": 0.613}
    scores_file(opened, best=True).write_text(json.dumps(scores))
    card = model_card(folder.best_embedder, opened, SERVED)
    assert "mAP 61.3%" in card
    assert "52.9" not in card


def test_a_second_export_is_the_next_version(run, exported):
    out = version_of(exported).parent
    answer = topdb("export", run.path, "--out", out, "--precision", "bfloat16")
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.startswith(f"{out / '2'}: ")
    smaller = (out / "2" / "saved_model.pb").stat().st_size
    assert smaller < 0.7 * (out / "1" / "saved_model.pb").stat().st_size


def test_a_file_is_exported_beside_itself_with_its_cameras(run, tmp_path):
    model = shutil.copy(run.embedder, tmp_path / "mine.keras")
    lines = ["path,pid,camid"]
    for number, image in enumerate(probe_images(6)):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{number},{'gate' if number % 2 else 'hall'}")
    (tmp_path / "crops.csv").write_text("\n".join(lines))
    build = ["index", "build", tmp_path / "crops.csv", "--model", model]
    by_camera = [*build, "--normalize-cameras", "--out", tmp_path / "cameras.index"]
    answer = topdb(*by_camera, "--metric", "cosine")
    assert answer.exit_code == 0, answer.stderr
    assert topdb(*build, "--out", tmp_path / "plain.index").exit_code == 0

    export = ["export", model, "--normalize", "--json", "--cameras"]
    refused = topdb(*export, tmp_path / "plain.index")
    assert "built with --normalize-cameras" in refused.stderr
    facts = json.loads(topdb(*export, tmp_path / "cameras.index").stdout)
    version = version_of(facts)
    assert version == tmp_path / "mine_saved_model" / "1"
    assert facts["normalize"] is True

    # What a client does with the answers of a server gives the features of the index.
    files = np.array([(tmp_path / f"{n}.png").read_bytes() for n in range(6)], object)
    with SessionModel(version) as served:
        embeddings = served.run("serving_default", image_bytes=files)
    with np.load(version / "assets.extra" / "cameras.npz") as known:
        assert known["metric"] == "cosine"
        assert known["cameras"].tolist() == ["gate", "hall"]
        rows = [1, 0] * 3
        ours = (embeddings - known["means"][rows]) / known["deviations"][rows]
    ours /= np.linalg.norm(ours, axis=1, keepdims=True)
    index = SearchIndex(tmp_path / "cameras.index")
    np.testing.assert_allclose(index.features, ours, atol=2e-4)


def test_cameras_of_another_model_are_refused(run, tmp_path):
    features = np.random.default_rng(0).standard_normal((4, 8))
    camids = np.arange(4) % 2
    given = {"camids": camids, "normalize_cameras": True}
    create_index(tmp_path / "index", features, "abcd", **given)
    answer = topdb("export", run.path, "--cameras", tmp_path / "index")
    assert "by the model that is exported" in answer.stderr
    assert "of an unknown model" in answer.stderr
    onnx = topdb("export", run.path, "--format", "onnx", "--cameras", tmp_path)
    assert "--cameras does not apply" in onnx.stderr


@pytest.mark.parametrize("format", ["saved_model", "onnx"])
def test_an_export_that_differs_fails_and_leaves_nothing(
    format, run, tmp_path, monkeypatch
):
    monkeypatch.setitem(check.LEAST_COSINE, "float32", 1.1)
    suffix = ".onnx" if format == "onnx" else ""
    out = tmp_path / f"topdb{suffix}"
    answer = topdb("export", run.path, "--format", format, "--out", out)
    assert answer.exit_code != 0
    assert "must give the embeddings of its source" in answer.stderr
    assert "at least 1.1. Nothing was written" in answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_formats_of_one_model_are_checked_by_the_same_function(served, in_onnx):
    _, in_file = in_onnx
    assert len(served.answers) == 2  # as files and as pixels
    np.testing.assert_array_equal(served.expected, in_file.expected)
    for answers in (*served.answers, *in_file.answers):
        np.testing.assert_allclose(answers, served.expected, rtol=1e-3, atol=1e-4)


def test_what_was_not_trained_is_refused(run, tmp_path):
    untrained = RunFolder(tmp_path / "untrained")
    untrained.path.mkdir()
    untrained.config_file.write_text(Config().to_yaml())
    answer = topdb("export", untrained.path)
    assert "first epoch has not ended" in answer.stderr
    assert "topdb-tf fit" in answer.stderr
    assert "no config.yaml" in topdb("export", tmp_path).stderr
    assert "no model at" in topdb("export", tmp_path / "none.keras").stderr
    (tmp_path / "broken.keras").write_text("no model")
    answer = topdb("export", tmp_path / "broken.keras")
    assert "broken.keras" in answer.stderr
    answer = topdb("export", run.embedder, "--best")
    assert "--best" in answer.stderr
    assert all(a.exit_code != 0 for a in [answer])


def test_a_file_for_another_runtime_is_written_with_its_report(in_onnx):
    out, checked = in_onnx
    assert str(out) in checked.told
    report = json.loads(Path(f"{out}.report.json").read_text())
    assert report["format"] == "onnx"
    assert out.stat().st_size > 2**20
