import hashlib
import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from PIL import Image

from tests.test_folding import SIZE, trained_embedder
from topdb_tf.data.benchmarks import read_split
from topdb_tf.data.pipeline import evaluation_dataset
from topdb_tf.embed.embedder import Embedder
from topdb_tf.export import check, formats
from topdb_tf.export.accuracy import HeadlineScores
from topdb_tf.export.formats import load_file
from topdb_tf.export.one_file import ReportData, export_file, file_lines
from topdb_tf.export.serving import Source, find_source
from topdb_tf.files import plain
from topdb_tf.model.extraction import load_embedder
from topdb_tf.runs.folder import RunFolder
from topdb_tf.runs.settings import Config


@pytest.fixture(scope="module")
def images(small_data_root):
    """The overrides that name the drawn data, of three test identities."""
    overrides = (
        "data.dataset=synthetic",
        f"data.root={small_data_root}",
        "data.check_counts=false",
    )
    return ReportData(overrides)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run with a trained model, whose data are not at hand."""
    run = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    run.path.mkdir()
    settings = Config().to_yaml().replace("root: null", f"root: {run.path}/no_data")
    run.config_file.write_text(settings)
    trained_embedder().save(run.embedder)
    return run


@pytest.fixture(scope="module")
def exported(run, images):
    """The facts of an int8 file: the one whose scores could differ."""
    return export_file(
        find_source(run.path), "litert", precision="int8", report_data=images, say=str
    )


@pytest.fixture(scope="module")
def onnx_file(run, tmp_path_factory):
    """An ONNX file of the run, written without its data; what was said; the facts."""
    path, said = tmp_path_factory.mktemp("files") / "a.onnx", []
    facts = export_file(find_source(run.path), "onnx", path, say=said.append)
    return path, said, facts


@pytest.fixture
def converted(onnx_file, monkeypatch):
    """Saves the time of converting the same model again."""
    contents = onnx_file[0].read_bytes()
    monkeypatch.setattr(formats, "file_bytes", lambda *args, **kwargs: contents)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def pixels_of(records):
    paths = [record.path for record in records]
    batches = evaluation_dataset(paths, image_size=SIZE, batch_size=len(paths))
    return next(iter(batches)).numpy()


def first_match_and_average_precision(query, gallery, query_record, records):
    """Ranks one query by hand: the same camera's images of the person are left out."""
    distances = np.sum((gallery - query) ** 2, axis=1)
    hits = [
        records[index].pid == query_record.pid
        for index in np.argsort(distances, kind="stable")
        if (records[index].pid, records[index].camid)
        != (query_record.pid, query_record.camid)
    ]
    ranks = np.flatnonzero(hits) + 1
    return hits[0], np.mean(np.arange(1, len(ranks) + 1) / ranks)


def test_the_file_and_its_report_lie_beside_the_model(exported, run):
    path = run.path / "embedder-int8.tflite"
    assert exported.path == path
    assert exported.mebibytes == pytest.approx(path.stat().st_size / 2**20, abs=0.01)
    report = path.with_name("embedder-int8.tflite.report.json")
    record = json.loads(report.read_text())
    assert record == plain(exported)
    assert set(record) == {
        *("path", "format", "precision", "num_calibration_images", "mebibytes"),
        *("height", "width", "dim", "source_precision", "reference", "probes"),
        *("retrieval", "images_per_second", "seconds", "sha256"),
    }
    differences = {"max_difference", "min_cosine", "mean_cosine"}
    assert set(record["probes"]) == {"num_images", *differences}
    assert set(record["retrieval"]) == differences | {
        *("dataset", "max_pids", "num_pids", "num_query_images"),
        *("num_gallery_images", "before", "after", "change"),
    }
    assert not [name for name in names_in(run.path) if "partial" in name]


def test_the_reports_figures_are_those_of_the_file(
    exported, run, images, small_data_root
):
    split = read_split("synthetic", small_data_root, check_counts=False)
    records = split.query + split.gallery
    pixels = pixels_of(records)
    expected = load_embedder(run.embedder)(pixels, training=False).numpy()
    found = load_file(exported.path)(pixels)
    scores = exported.retrieval
    assert (scores.dataset, scores.max_pids, scores.num_pids) == (
        "synthetic",
        None,
        3,
    )
    assert scores.num_query_images == len(split.query)
    assert scores.num_gallery_images == len(split.gallery)
    cosines = [
        a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(found, expected, strict=True)
    ]
    # Whether one level of int8 is reached may hang on the last bit of the batch.
    assert scores.min_cosine == pytest.approx(min(cosines), abs=1e-4)
    assert scores.mean_cosine == pytest.approx(np.mean(cosines), abs=1e-5)
    largest = np.abs(found - expected).max()
    assert scores.max_difference == pytest.approx(largest, rel=0.05)
    for headline, features in ((scores.before, expected), (scores.after, found)):
        queries, gallery = np.split(features, [len(split.query)])
        hits, precisions = zip(
            *(
                first_match_and_average_precision(query, gallery, record, split.gallery)
                for query, record in zip(queries, split.query, strict=True)
            ),
            strict=True,
        )
        assert headline.rank_1 == pytest.approx(np.mean(hits))
        assert headline.mean_ap == pytest.approx(np.mean(precisions))
    before, after = scores.before, scores.after
    assert scores.change.rank_1 == after.rank_1 - before.rank_1
    assert scores.change.mean_ap == after.mean_ap - before.mean_ap


def test_the_probes_are_compared_in_float32(exported):
    probes = exported.probes
    assert probes.num_images == 8
    assert 0.95 < probes.min_cosine <= probes.mean_cosine < 1
    assert exported.source_precision == "float32"
    assert exported.num_calibration_images == 20  # all that there are
    speeds = exported.images_per_second
    assert min(speeds.source, speeds.file) > 0


def test_the_lines_tell_size_differences_scores_and_speed(exported):
    lines = "\n".join(file_lines(exported))
    for words in ("MiB, int8", "8 drawn images", "mAP", "points", "images/s"):
        assert words in lines
    assert "Only images of these identities" not in lines
    limited = replace(exported, retrieval=replace(exported.retrieval, max_pids=3))
    limited = file_lines(limited)
    assert any("Only images of these identities" in line for line in limited)


def test_a_limit_ranks_the_images_of_some_identities_alone(
    run, images, converted, tmp_path
):
    facts = export_file(
        find_source(run.path),
        "onnx",
        tmp_path / "few.onnx",
        report_data=ReportData(images.overrides, max_pids=2),
        say=str,
    )
    scores = facts.retrieval
    assert (scores.max_pids, scores.num_pids) == (2, 2)
    # Three identities of four images each, and distractors in the whole gallery.
    assert scores.num_query_images + scores.num_gallery_images == 8
    assert scores.min_cosine > 0.99999
    assert scores.change == HeadlineScores(rank_1=0, mean_ap=0)


def test_a_run_without_its_data_is_exported_and_not_scored(onnx_file):
    path, said, facts = onnx_file
    assert facts.retrieval is None
    assert any("not scored" in line and "no_data" in line for line in said)
    assert facts.probes.min_cosine > 0.99999
    assert names_in(path.parent) == ["a.onnx", "a.onnx.report.json", "a.yaml"]
    texts = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert texts["input"].startswith("pixels: float32 RGB in [0, 255], (batch, 32, 16")
    assert texts["training_data"] == "market1501"
    assert texts["terms"].startswith("Market-1501: Research only")
    assert "consented" in texts["consent"]


def test_a_model_without_a_run_is_scored_on_the_data_named(run, images, tmp_path):
    source, path = Source(run.embedder, None), tmp_path / "a.onnx"
    facts = export_file(source, "onnx", path, report_data=images, say=str)
    assert facts.retrieval.dataset == "synthetic"
    # What it was trained on is not known from that.
    texts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert texts["training_data"] == "unknown"


def test_a_model_without_a_run_says_that_it_is_not_scored(run, converted, tmp_path):
    said = []
    source = Source(run.embedder, None)
    facts = export_file(source, "onnx", tmp_path / "a.onnx", say=said.append)
    assert facts.retrieval is None
    assert any("not scored: a model without a run" in line for line in said)


def test_a_file_is_replaced_only_when_told(run, converted, tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"a\.onnx already exists.*--force"):
        export_file(find_source(run.path), "onnx", path, say=str)
    assert path.read_bytes() == b"mine"
    export_file(find_source(run.path), "onnx", path, force=True, say=str)
    onnx.checker.check_model(path)


def test_a_file_that_fails_the_check_is_not_left_behind(
    run, converted, tmp_path, monkeypatch
):
    monkeypatch.setitem(check.LEAST_COSINE, "float32", 1.01)
    with pytest.raises(ValueError, match=r"at least 1\.01\. Nothing was written"):
        export_file(find_source(run.path), "onnx", tmp_path / "a.onnx", say=str)
    assert names_in(tmp_path) == []


def test_an_older_file_survives_a_failed_check(run, converted, tmp_path, monkeypatch):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"older")
    monkeypatch.setitem(check.LEAST_COSINE, "float32", float("nan"))
    with pytest.raises(ValueError, match="Nothing was written"):
        export_file(find_source(run.path), "onnx", path, force=True, say=str)
    assert names_in(tmp_path) == ["a.onnx"]
    assert path.read_bytes() == b"older"


def test_int8_needs_training_images(run, tmp_path):
    path = tmp_path / "a.tflite"
    options = {"precision": "int8", "say": str}
    with pytest.raises(ValueError, match="Name the folder of the run, or --dataset"):
        export_file(Source(run.embedder, None), "litert", path, **options)
    with pytest.raises(FileNotFoundError, match="no_data"):
        export_file(find_source(run.path), "litert", path, **options)
    assert names_in(tmp_path) == []


def test_data_that_were_asked_for_must_be_there(run, tmp_path):
    asked = ReportData((f"data.root={tmp_path}",))
    with pytest.raises(FileNotFoundError, match="Market-1501 must lie in"):
        export_file(
            find_source(run.path),
            "onnx",
            tmp_path / "a.onnx",
            report_data=asked,
            say=str,
        )


@pytest.mark.parametrize(
    ("format", "name", "kind", "words"),
    [
        ("onnx", "a.tflite", ValueError, r"must end in \.onnx"),
        ("litert", "a.onnx", ValueError, r"must end in \.tflite"),
        ("onnx", "none/a.onnx", FileNotFoundError, r"no folder .*none"),
        ("pb", "a.pb", ValueError, "one of onnx, litert"),
    ],
)
def test_a_name_that_cannot_be_is_refused(format, name, kind, words, run, tmp_path):
    with pytest.raises(kind, match=words):
        export_file(find_source(run.path), format, tmp_path / name, say=str)


def test_no_identities_are_too_few():
    with pytest.raises(ValueError, match="max_pids=0"):
        ReportData(max_pids=0)


def test_an_onnx_file_runs_by_its_contract_alone(onnx_file, run):
    path, _, facts = onnx_file
    contract = yaml.safe_load(path.with_suffix(".yaml").read_text())
    contents = path.with_name(contract["file"]).read_bytes()
    assert contract["sha256"] == hashlib.sha256(contents).hexdigest()
    told, out = contract["input"], contract["output"]
    session = onnxruntime.InferenceSession(contents)
    rng, sizes = np.random.default_rng(0), [(90, 40), (200, 77), (300, 130), (64, 64)]
    frames = [
        rng.integers(0, 256, (*sizes[place % 4], 3), np.uint8) for place in range(8)
    ]

    def prepared(frame):
        assert told["channel_order"] == "RGB"
        image = Image.fromarray(frame[..., ::-1])  # from OpenCV's BGR
        image = image.resize((told["width"], told["height"]), Image.Resampling.BILINEAR)
        low, high = told["value_range"]
        pixels = low + np.asarray(image, told["dtype"]) / 255 * (high - low)
        pixels = (pixels - told["mean"]) / told["deviation"]
        return pixels if told["layout"] == "NHWC" else pixels.transpose(2, 0, 1)

    assert told["dynamic_batch"]
    answers = []
    for batch in (frames[:1], frames[1:]):
        pixels = np.stack([prepared(frame) for frame in batch])
        inputs = {told["name"]: pixels.astype(told["dtype"])}
        answers.append(session.run([out["name"]], inputs)[0])
    found = np.concatenate(answers)
    assert [len(answer) for answer in answers] == [1, 7]
    assert found.shape == (8, out["dim"])
    assert found.dtype == out["dtype"]
    expected = Embedder(run.embedder, channel_order="BGR")(frames)
    check.check_export([found], expected, precision=facts.precision)
    is_unit = np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-3)
    assert is_unit == out["l2_normalized"]
    assert out["metric"] == Config().evaluation.metric


def test_a_contract_never_takes_the_place_of_another_file(run, converted):
    out = run.path / "config.onnx"
    for force in (False, True):
        with pytest.raises(FileExistsError, match=r"config\.yaml is in the way"):
            export_file(find_source(run.path), "onnx", out, force=force, say=str)
    assert not out.exists()
