"""Exports in the C++ loader of TensorFlow Serving, beside a session of Python's."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tests.commands import topdb
from tests.test_export import read_warm_up_requests
from tests.test_folding import trained_embedder
from topdb_tf.export import cpp_loader, serving
from topdb_tf.export.check import drawn_probes
from topdb_tf.export.cpp_loader import WARM_UP_FILE, libraries, load_in_cpp
from topdb_tf.export.session import SessionModel
from topdb_tf.model.extraction import inference_function

pytestmark = pytest.mark.skipif(
    not libraries(), reason="this TensorFlow has no C libraries under their usual names"
)
PREDICT = "tensorflow/serving/predict"
SIGNATURES = ("serving_default", "pixels", "activation_map")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A trained embedder in a file, and the embedder."""
    path = tmp_path_factory.mktemp("models") / "embedder.keras"
    embedder = trained_embedder()
    embedder.save(path)
    return path, embedder


@pytest.fixture(scope="module")
def version(model, tmp_path_factory):
    return exported(model[0], tmp_path_factory.mktemp("versions"))


def exported(path, folder, **options):
    source = serving.find_source(path)
    export = serving.export_saved_model(source, folder, say=print, **options)
    assert export.loader == options.get("loader", "cpp")
    return export.path


def write_requests(path, *requests):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests:
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            writer.write(log.SerializeToString())
    return path


def check_answers(version):
    """Checks that the loader answers each warm-up request with the session's bits."""
    loaded = load_in_cpp(version)
    assert loaded.unknown_ops == []
    assert {loaded.methods[name] for name in SIGNATURES} == {PREDICT}
    requests = read_warm_up_requests(version)
    assert 6 == len(requests) == len(loaded.answers)
    with SessionModel(version) as session:
        for (signature, inputs), answer in zip(requests, loaded.answers, strict=True):
            assert (answer.signature, answer.error) == (signature, "")
            np.testing.assert_array_equal(
                answer.output, session.run(signature, **inputs)
            )
    return loaded


def test_the_loader_gives_the_bits_of_a_session_and_evaluate_s_embeddings(
    version, model
):
    loaded = check_answers(version)
    _, embedder = model
    pixels = drawn_probes(embedder.input_shape[1:3]).pixels
    expected = np.asarray(inference_function(embedder)(pixels))
    of_eight = [a for a in loaded.answers if len(a.output) == 8]
    assert [a.signature for a in of_eight] == list(SIGNATURES)
    for answer in of_eight[:2]:
        np.testing.assert_allclose(answer.output, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.ci
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_exports_of_lower_precision_are_loaded_too(precision, model, tmp_path):
    check_answers(
        exported(model[0], tmp_path / "models", precision=precision, loader="session")
    )


@pytest.mark.ci
def test_a_server_in_bfloat16_gives_nearly_the_same_embeddings(version):
    exact = load_in_cpp(version).answers[3].output
    rounded = load_in_cpp(version, mixed_precision="bfloat16").answers[3].output
    norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(rounded, axis=1)
    cosines = (exact * rounded).sum(axis=1) / norms
    assert cosines.min() > 0.999
    assert (exact != rounded).any()  # the option does something


def test_a_refusal_names_the_place_and_the_reason(version, tmp_path):
    files = drawn_probes((32, 16)).files
    records = write_requests(
        tmp_path / "records",
        ("serving_default", {"image_bytes": [files[0], b"no image", files[1]]}),
        ("pixels", {"images": np.zeros((1, 0, 16, 3), np.uint8)}),
        ("serving_default", {"image_bytes": [files[0]]}),
    )
    bad, empty, good = load_in_cpp(version, records).answers
    assert bad.output is None
    assert "image_bytes[1]" in bad.error
    assert empty.output is None
    assert empty.error
    assert good.error == ""  # the version goes on answering
    assert good.output.shape == (1, 192)


def test_the_process_of_the_loader_has_no_tensorflow_of_python(version, tmp_path):
    code = """
import sys
from pathlib import Path
from topdb_tf.export import cpp_loader
cpp_loader._serve(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), "")
libraries = Path("/proc/self/maps").read_text()
assert "libtensorflow_cc" in libraries
assert "_pywrap_tensorflow" not in libraries
assert "tensorflow.python" not in sys.modules
"""
    arguments = [version, version / WARM_UP_FILE, tmp_path / "answers.npz"]
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)


def test_what_a_server_would_not_load_is_refused(version, model, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="Could not find SavedModel"):
        load_in_cpp(tmp_path / "nothing", version / WARM_UP_FILE)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    graph = (version / "saved_model.pb").read_bytes()
    assert b"AddV2" in graph
    graph = graph.replace(b"AddV2", b"AddX2")
    (foreign / "saved_model.pb").write_bytes(graph)
    with pytest.raises(ValueError, match="AddX2"):
        load_in_cpp(foreign, version / WARM_UP_FILE)
    answer = cpp_loader.Answer("pixels", None, "no")
    monkeypatch.setattr(
        serving, "load_in_cpp", lambda _: cpp_loader.Loaded({}, [], [answer])
    )
    out = tmp_path / "models"
    refused = topdb("export", model[0], "--out", out)
    assert refused.exit_code == 1
    assert "answer its warm-up requests. Nothing was written" in refused.stderr
    assert "pixels: no" in refused.stderr
    assert not out.exists() or not list(out.iterdir())


def test_a_session_checks_where_it_is_asked_to_or_the_libraries_are_missing(
    model, tmp_path, monkeypatch
):
    exported(model[0], tmp_path / "asked", loader="session")
    answer = topdb("export", model[0], "--format", "onnx", "--loader", "cpp")
    assert answer.exit_code == 2
    assert "--loader does not apply" in answer.stderr
    monkeypatch.setattr(cpp_loader, "_LIBRARIES", ("libnone.so.2",))
    assert libraries() == []
