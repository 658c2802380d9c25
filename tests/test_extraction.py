import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from topdb_tf.model.backbones import build_backbone
from topdb_tf.model.extraction import (
    extract_embeddings,
    inference_function,
    load_embedder,
)
from topdb_tf.model.keras_defaults import keras_defaults
from topdb_tf.model.layers import TopDropBlock
from topdb_tf.model.network import build_network, embedder


def small_embedder():
    network = build_network(
        build_backbone("tiny", (32, 16)), num_pids=3, drop_block=TopDropBlock(0.3)
    )
    return embedder(network)


def test_embeddings_keep_the_order_over_batches_of_any_size():
    model = small_embedder()
    pixels = np.random.default_rng(0).uniform(0, 255, (5, 32, 16, 3)).astype("float32")
    seen = []
    embeddings = extract_embeddings(
        model,
        [pixels[:3], pixels[3:]],
        num_images=5,
        progress=lambda *state: seen.append(state),
    )
    one_by_one = np.concatenate([model(pixels[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(embeddings, one_by_one, rtol=1e-4, atol=1e-5)
    assert embeddings.dtype == np.float32
    assert seen == [(3, 5), (5, 5)]


def test_the_first_calls_may_come_from_several_threads_and_trace_nothing():
    # Two threads that traced the same function at once crashed TensorFlow.
    embed = inference_function(small_embedder())
    assert isinstance(embed, tf.types.experimental.ConcreteFunction)
    pixels = np.full((2, 32, 16, 3), 100.0, "float32")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: embed(pixels).numpy(), range(8)))
    for answer in answers:
        np.testing.assert_array_equal(answer, answers[0])


class Saved(NamedTuple):
    """A model in a file, and what the model itself makes of pixels in three ways."""

    path: Path
    pixels: np.ndarray
    called: np.ndarray
    predicted: np.ndarray
    fast: np.ndarray


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = small_embedder()
    path = tmp_path_factory.mktemp("saved") / "embedder.keras"
    model.save(path)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 16, 3)).astype("float32")
    fast = inference_function(model)(tf.constant(pixels))
    return Saved(path, pixels, model(pixels), model.predict(pixels, verbose=0), fast)


@pytest.mark.parametrize(
    "change",
    [
        partial(keras.config.set_floatx, "float16"),
        partial(keras.config.set_floatx, "float64"),
        partial(keras.config.set_image_data_format, "channels_first"),
        partial(keras.config.set_epsilon, 0.1),
        partial(keras.config.set_dtype_policy, "mixed_bfloat16"),
        partial(keras.config.set_dtype_policy, "float64"),
    ],
    ids=lambda change: f"{change.func.__name__}-{change.args[0]}",
)
def test_the_settings_of_another_program_neither_matter_nor_change(change, saved):
    def settings():
        own = keras.config
        return own.floatx(), own.epsilon(), own.image_data_format(), own.dtype_policy()

    with keras_defaults("float32"):
        change()
        before = settings()
        loaded = load_embedder(saved.path)
        np.testing.assert_array_equal(loaded(saved.pixels), saved.called)
        predicted = loaded.predict(saved.pixels, verbose=0)
        fast = inference_function(loaded)(tf.constant(saved.pixels))
        assert settings() == before
    assert loaded.input.dtype == "float32"
    np.testing.assert_array_equal(predicted, saved.predicted)
    np.testing.assert_array_equal(fast, saved.fast)


@pytest.mark.parametrize("backbone", ["tiny", "mobilenet_v2"])
def test_a_network_is_built_alike_whatever_another_program_set(backbone):
    configs = []
    for floatx, data_format in [
        ("float32", "channels_last"),
        ("float16", "channels_first"),
        ("float64", "channels_first"),
    ]:
        with keras_defaults("float32"):
            keras.config.set_floatx(floatx)
            keras.config.set_image_data_format(data_format)
            network = build_network(build_backbone(backbone, (32, 32)), num_pids=2)
            assert keras.config.image_data_format() == data_format
        assert network.input.dtype == "float32"
        layers = [layer.get_config() for layer in network._flatten_layers()]
        # Keras numbers what has no name of its own.
        configs.append(re.sub(r"_\d+\b", "", repr(layers)))
    assert configs[1] == configs[0]
    assert configs[2] == configs[0]


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_model_whose_weights_are_not_finite_is_refused(value, tmp_path):
    model, path = small_embedder(), tmp_path / "embedder.keras"
    weights = model.get_layer("global_neck").moving_variance
    weights.assign(np.full(weights.shape, value))
    model.save(path)
    with pytest.raises(ValueError, match="must hold finite weights.*moving_variance"):
        load_embedder(path)


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.keras"):
        load_embedder(tmp_path / "none.keras")


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "text.keras"
    path.write_text("not a model")
    with pytest.raises(ValueError, match=r"text.keras must be a .keras file"):
        load_embedder(path)


def test_a_model_of_something_else_is_refused(tmp_path):
    path = tmp_path / "dense.keras"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(path)
    with pytest.raises(ValueError, match=r"pixels.*input_shape=\(None, 2\)"):
        load_embedder(path)


def test_embeddings_are_those_of_the_weights_at_the_time():
    model = small_embedder()
    pixels = np.full((1, 32, 16, 3), 100.0, "float32")
    before = extract_embeddings(model, [pixels], num_images=1)
    kernel = model.get_layer("backbone").get_layer("stem_conv").kernel
    kernel.assign(-kernel)
    after = extract_embeddings(model, [pixels], num_images=1)
    np.testing.assert_allclose(after, model(pixels), rtol=1e-4, atol=1e-5)
    assert np.abs(after - before).max() > 0.01
