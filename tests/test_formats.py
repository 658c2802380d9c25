import importlib.util

import keras
import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter

from tests.test_folding import SIZE, trained_embedder
from topdb_tf.export import formats
from topdb_tf.export.formats import FORMATS, check_format, file_bytes, load_file

KINDS = [(name, p) for name, format in FORMATS.items() for p in format.precisions]
METADATA = {"description": "A model of two words", "terms": "Nur für Forschung"}
# Least cosine and largest difference as a share of the largest component. Measured:
# 1 - 6e-8 and 9e-7; 1 - 2e-7 and 4e-4 (maps) or 5e-4 (weights alone); 0.9997 and 0.022.
BOUNDS = {"float32": (0.999999, 1e-5), "float16": (0.9999, 5e-3), "int8": (0.99, 0.1)}


def images(seed, count):
    """Images whose neighbouring pixels are alike, as in photographs."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 2, 3))
    return coarse.repeat(8, axis=1).repeat(8, axis=2).astype("float32")


def cosines(first, second):
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.sum(first * second, axis=1) / norms


@pytest.fixture(scope="module")
def model():
    return trained_embedder()


@pytest.fixture(scope="module")
def pixels():
    return images(0, 5)


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """The file of the model in each format and precision."""
    folder, paths = tmp_path_factory.mktemp("files"), {}
    for name, precision in KINDS:
        contents = file_bytes(
            model,
            name,
            precision=precision,
            metadata=METADATA,
            calibration=images(1, 40)[:, None] if precision == "int8" else None,
        )
        path = folder / f"{precision}{FORMATS[name].suffix}"
        path.write_bytes(contents)
        paths[name, precision] = path
    return paths


@pytest.mark.parametrize(("name", "precision"), KINDS)
def test_a_file_gives_the_embeddings_of_the_model(
    name, precision, files, model, pixels
):
    found = load_file(files[name, precision])(pixels)
    expected = model(pixels, training=False).numpy()
    assert found.dtype == np.float32
    cosine, share = BOUNDS[precision]
    assert cosines(found, expected).min() > cosine
    np.testing.assert_allclose(found, expected, atol=share * np.abs(expected).max())


@pytest.mark.parametrize(("name", "precision"), KINDS)
def test_batches_of_any_size_give_the_same(name, precision, files, pixels):
    embed = load_file(files[name, precision], num_threads=1)
    together = embed(pixels)
    parts = [embed(pixels[:1]), embed(pixels[1:3]), embed(pixels[3:])]
    scale = np.abs(together).max()
    np.testing.assert_allclose(np.concatenate(parts), together, atol=1e-3 * scale)


@pytest.mark.parametrize("precision", FORMATS["onnx"].precisions)
def test_onnx_runtime_sees_named_float32_ends_and_the_texts(precision, files):
    session = onnxruntime.InferenceSession(files["onnx", precision])
    (inputs,), (outputs,) = session.get_inputs(), session.get_outputs()
    assert (inputs.name, inputs.type) == ("pixels", "tensor(float)")
    assert inputs.shape == ["batch", *SIZE, 3]
    assert (outputs.name, outputs.type) == ("embedding", "tensor(float)")
    assert outputs.shape == ["batch", 192]
    facts = session.get_modelmeta()
    assert facts.custom_metadata_map == METADATA
    assert facts.description == METADATA["description"]


@pytest.mark.parametrize("precision", FORMATS["litert"].precisions)
def test_litert_sees_named_float32_ends(precision, files, model, pixels):
    interpreter = Interpreter(str(files["litert", precision]))
    (inputs,) = interpreter.get_input_details()
    (outputs,) = interpreter.get_output_details()
    assert inputs["shape_signature"].tolist() == [-1, *SIZE, 3]
    assert outputs["shape_signature"].tolist() == [-1, 192]
    assert inputs["dtype"] == outputs["dtype"] == np.float32
    run = interpreter.get_signature_runner()
    found = run(pixels=pixels[:1])["embedding"]
    expected = model(pixels[:1], training=False).numpy()
    assert cosines(found, expected).min() > BOUNDS[precision][0]


@pytest.mark.parametrize(("name", "precision"), KINDS)
def test_a_file_keeps_the_texts(name, precision, files):
    assert load_file(files[name, precision]).metadata == METADATA


def test_a_smaller_precision_makes_a_smaller_file(files):
    size = {kind: path.stat().st_size for kind, path in files.items()}
    assert size["onnx", "float16"] < 0.6 * size["onnx", "float32"]
    assert size["litert", "float16"] < 0.6 * size["litert", "float32"]
    assert size["litert", "int8"] < 0.35 * size["litert", "float32"]


def test_int8_computes_in_whole_numbers(files):
    interpreter = Interpreter(str(files["litert", "int8"]))
    interpreter.allocate_tensors()
    floats = [
        tensor["name"]
        for tensor in interpreter.get_tensor_details()
        if tensor["dtype"] == np.float32 and tensor["shape"].size
    ]
    assert len(floats) == 2, floats  # the two ends


def test_normalisation_is_in_the_file(files, pixels):
    # Grey levels shifted by a tenth of the range must not give the same embedding.
    embed = load_file(files["onnx", "float32"])
    assert not np.allclose(embed(pixels), embed(pixels + 25.5), atol=1e-3)


def test_a_model_trained_in_half_precision_is_written_in_float32(
    pixels, model, tmp_path
):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = trained_embedder()
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(model.get_weights())
    path = tmp_path / "half.onnx"
    path.write_bytes(file_bytes(half, "onnx", metadata={}))
    expected = model(pixels, training=False).numpy()
    assert np.abs(half(pixels, training=False).numpy() - expected).max() > 1e-3
    np.testing.assert_allclose(load_file(path)(pixels), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "precision"),
    [("onnx", "float32"), ("litert", "float32"), ("litert", "int8")],
)
def test_other_poolings_and_bottlenecks_are_written(name, precision, tmp_path, pixels):
    model = trained_embedder(pool="gem", bottleneck_channels=32)
    model.get_layer("global_pool").exponent.assign(4.5)
    path = tmp_path / f"gem{FORMATS[name].suffix}"
    calibration = images(1, 40)[:, None] if precision == "int8" else None
    path.write_bytes(
        file_bytes(
            model, name, precision=precision, metadata={}, calibration=calibration
        )
    )
    found, expected = load_file(path)(pixels), model(pixels, training=False).numpy()
    assert cosines(found, expected).min() > BOUNDS[precision][0]


@pytest.mark.slow
def test_mobilenet_is_written_with_its_paddings(tmp_path, pixels):
    model, path = trained_embedder("mobilenet_v2"), tmp_path / "light.onnx"
    path.write_bytes(file_bytes(model, "onnx", metadata={}))
    expected = model(pixels, training=False).numpy()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(load_file(path)(pixels), expected, atol=1e-4 * scale)


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match=r"one of onnx, litert.*format='coreml'"):
        check_format("coreml", "float32")


def test_a_precision_that_a_format_lacks_is_refused_with_those_it_has():
    words = r"onnx: float32, float16; litert: float32, float16, int8.*precision='int8'"
    with pytest.raises(ValueError, match=words):
        check_format("onnx", "int8")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("onnx", r"onnxruntime: pip install 'tf2onnx>=.+' 'onnx>=.+' 'onnxruntime>="),
        ("litert", r"ai-edge-litert: pip install 'ai-edge-litert>="),
    ],
)
def test_packages_that_are_missing_are_named(name, words, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=words):
        check_format(name, "float32")


def test_int8_without_images_is_refused(model):
    with pytest.raises(ValueError, match="int8 needs training images"):
        file_bytes(model, "litert", precision="int8", metadata={})


def test_a_file_that_is_missing_or_of_another_format_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.onnx"):
        load_file(tmp_path / "none.onnx")
    (tmp_path / "model.pb").write_bytes(b"")
    with pytest.raises(ValueError, match=r"one of \.onnx, \.tflite.*model\.pb"):
        load_file(tmp_path / "model.pb")


def test_every_format_has_an_extra_of_its_name():
    setup = (formats.Path(__file__).parents[1] / "setup.py").read_text()
    for name in FORMATS:
        assert f'"{name}": [' in setup
