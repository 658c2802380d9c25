import json
import os
import subprocess
import sys

import keras
import pytest

from topdb_tf.runs import machine as environments
from topdb_tf.runs.machine import (
    Environment,
    Precision,
    current_environment,
    set_precision,
)


@pytest.fixture
def float32_afterwards():
    yield
    keras.config.set_dtype_policy("float32")


STATE = """
import contextlib, gc, sys
import topdb_tf.fit.fit, topdb_tf.embed.embed, topdb_tf.search.query
from topdb_tf.progress import Verbosity, telling
from topdb_tf.runs.machine import load_tensorflow
is_command = sys.argv[1] == "command"
with telling(Verbosity.NORMAL) if is_command else contextlib.nullcontext():
    load_tensorflow()
import keras
# In a command the garbage collector passes over what was imported, and Keras does not
# take along what it only has wrappers for.
print(gc.isenabled(), gc.get_freeze_count() > 100_000, "sklearn" in sys.modules)
import matplotlib, sklearn
own = keras.config
print(own.backend(), own.floatx(), own.image_data_format(), own.epsilon(), end=" ")
print(own.dtype_policy().name, own.max_epochs(), own.max_steps_per_epoch())
"""


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            '{"floatx": "float16", "epsilon": 0.1, "image_data_format":'
            ' "channels_first"}',
            "program",
        ),
        # Keras ends at this one.
        ('{"floatx": "bfloat16", "backend": "none"}', "command"),
    ],
)
def test_keras_json_and_variables_of_another_project_do_not_count(text, kind, tmp_path):
    (tmp_path / "keras.json").write_text(text)
    variables = {"KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "jax"}
    variables |= {"KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "many"}
    answer = subprocess.run(
        [sys.executable, "-c", STATE, kind],
        capture_output=True,
        text=True,
        env={**os.environ, **variables, "TF_USE_LEGACY_KERAS": "1"},
    )
    expected = "tensorflow float32 channels_last 1e-07 float32 None None"
    start = f"True {kind == 'command'} {kind == 'program'}"
    assert answer.stdout.splitlines() == [start, expected], answer.stderr
    assert (tmp_path / "keras.json").read_text() == text


def test_a_process_that_has_keras_on_another_backend_is_told(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="Set KERAS_BACKEND=tensorflow before Keras"):
        environments.load_tensorflow()


@pytest.mark.usefixtures("float32_afterwards")
@pytest.mark.parametrize(
    ("precision", "policy"),
    [
        ("float32", "float32"),
        ("bfloat16", "mixed_bfloat16"),
        ("float16", "mixed_float16"),
    ],
)
def test_a_precision_that_is_asked_for_is_set(precision, policy):
    assert str(set_precision(precision)) == f"{precision} (as asked)"
    assert keras.config.dtype_policy().name == policy


@pytest.mark.usefixtures("float32_afterwards")
@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({"float32": 2.0, "bfloat16": 1.0}, "bfloat16 (a convolution takes 2.0 x less"),
        ({"float32": 1.1, "bfloat16": 1.0}, "float32 (no half precision is worth"),
    ],
)
def test_auto_takes_a_half_precision_where_it_is_much_faster(
    seconds, expected, monkeypatch
):
    monkeypatch.setattr(environments, "_seconds_of_convolution", seconds.get)
    assert str(set_precision("auto")).startswith(expected)


def test_the_environment_names_versions_device_and_facts():
    environment = current_environment(seed=7)
    assert environment.packages["keras"] == keras.__version__
    assert environment.device.startswith("CPU")
    assert environment.seed == 7


def test_a_precision_is_read_from_its_text():
    for precision in (Precision("float16", "as asked"), Precision("bfloat16")):
        assert Precision.read(str(precision)) == precision


def test_the_environment_is_read_as_it_was_written(tmp_path):
    precision = Precision("bfloat16", "a convolution takes 2.0 x less time")
    environment = current_environment(seed=7, precision=precision)
    file = tmp_path / "environment.json"
    file.write_text(environment.to_json())
    assert Environment.read(file) == environment
    assert json.loads(file.read_text())["precision"] == str(precision)


def test_an_environment_of_an_older_version_is_read(tmp_path):
    file = tmp_path / "environment.json"
    file.write_text('{"precision": "float32 (as asked)", "host": "old"}')
    assert Environment.read(file) == Environment(
        precision=Precision.read("float32 (as asked)")
    )
    assert Environment.read(tmp_path / "none.json") == Environment()


def test_a_file_that_is_no_environment_is_named(tmp_path):
    file = tmp_path / "environment.json"
    for text in ("", "7", "[]", '{"precision": 32}'):
        file.write_text(text)
        with pytest.raises(ValueError, match="environment.json must be what"):
            Environment.read(file)


def test_native_notes_are_kept_back(capfd, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    with environments.without_notes():
        os.write(2, b"note")
    assert capfd.readouterr().err == ""


def test_native_notes_are_shown_where_something_fails(capfd, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)

    @environments.without_notes()
    def failing():
        os.write(2, b"reason")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert capfd.readouterr().err == "reason"
