import os
import subprocess
import sys

import keras
import pytest

from topdb_tf.runs import machine as environments
from topdb_tf.runs.machine import environment, set_precision


@pytest.fixture
def float32_afterwards():
    yield
    keras.config.set_dtype_policy("float32")


def test_another_backend_is_refused_with_the_way_out():
    command = [sys.executable, "-m", "topdb_tf.cli", "fit"]
    answer = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    assert answer.returncode != 0
    assert "Set KERAS_BACKEND=tensorflow" in answer.stderr
    assert "Traceback" not in answer.stderr


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
    assert set_precision(precision) == f"{precision} (as asked)"
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
    assert set_precision("auto").startswith(expected)


def test_the_environment_names_versions_device_and_facts():
    facts = environment(seed=7)
    assert facts["packages"]["keras"] == keras.__version__
    assert facts["device"].startswith("CPU")
    assert facts["seed"] == 7


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
