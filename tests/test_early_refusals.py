"""What arguments and files decide is said before TensorFlow is imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topdb_tf.runs.recipes import read_recipe

# Runs commands, one a line, in a process that cannot import TensorFlow or Keras.
REFUSALS = """
import json, shlex, sys

class Nobody:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "keras", "keras_hub"):
            raise RuntimeError(f"{name} was imported")

sys.meta_path.insert(0, Nobody())
from click.testing import CliRunner
from topdb_tf.cli import main

answers = {}
for line in sys.stdin.read().splitlines():
    result = CliRunner().invoke(main, shlex.split(line))
    error = str(result.exception) if result.exit_code == 0 else ""
    if not isinstance(result.exception, (SystemExit, type(None))):
        error = repr(result.exception)
    answers[line] = result.exit_code, error, result.output
print(json.dumps(answers))
"""
COMMANDS = {
    "fit --dataset nothing --run-dir new": "The data set must be one of",
    "fit --dataset synthetic --run-dir run": "run already exists",
    "evaluate run --dataset nothing": "The data set must be one of",
    "evaluate --weights text.txt --dataset synthetic": "must be a .keras file",
    "calibrate run --false-match-rate 1e-9 --dataset people": "pairs",
    "export text.txt": "must be in a .keras file",
    "export text.keras": "must be a .keras file",
    "export run --out full": "nothing but the versions",
    "export run --out text.txt": "must be a folder",
    "export run --format onnx --precision int8": "The precisions are",
    "export run --format litert --out text.txt": "must end in .tflite",
    "export run --format litert --out there.tflite": "already exists",
    "export run --format litert --precision int8 --dataset nothing": "must be one of",
    "embed photos --model text.txt": "must be a .keras file",
    "embed photos --model full": "must hold a model",
    "index build photos --model run --out full": "already exists",
    "index build photos --model run --out new --metric nothing": "must be one of",
    "index build photos --model run --out new --set nprobe=4": "A parameter must be",
    "index query found photos --model run --set nprobe=4": "A parameter must be",
    "index query found photos --model run --false-match-rate 0.1": "calibrated",
    "index query found photos --model run --picture a.txt": ".png, .svg or .pdf",
    "index query found photos --model run --picture none/a.png": "There is no folder",
    "figure rankings run --out a.txt": ".png, .svg or .pdf",
    "match a.jpg b.jpg --run run": "calibration.json",
    "report run --out none/a.html": "There is no folder",
    "score text.txt": "must be an NPZ file",
}
"""Commands, and what each is refused by."""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("early")
    for name in ("photos", "full", "run", "people"):
        (folder / name).mkdir()
    (folder / "full" / "other").touch()
    for name in ("text.txt", "text.keras", "there.tflite"):
        (folder / name).write_text("no model")
    config = read_recipe("demo", ["data.dataset=synthetic"])
    (folder / "run" / "config.yaml").write_text(config.to_yaml())
    np.savez(folder / "features.npz", features=np.eye(5, dtype="f4"))
    (folder / "features.npz").rename(folder / "run" / "embedder.keras")
    np.savez(folder / "features.npz", features=np.eye(5, dtype="f4"))
    for person in range(20):
        for camera in (1, 2):
            path = folder / "people" / f"p{person}" / f"{person:04}_c{camera}s1_00.png"
            path.parent.mkdir(exist_ok=True)
            pixels = np.full((8, 4, 3), 10 * person + camera, "u1")
            Image.fromarray(pixels).save(path)
    path.rename(folder / "photos" / path.name)
    lines = ["index build features.npz --out found", *COMMANDS]
    answer = subprocess.run(
        [sys.executable, "-c", REFUSALS],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_refusal_comes_before_tensorflow(answers, command):
    status, error, output = answers[command]
    assert not error
    assert status in (1, 2), output
    assert "Error: " in output
    is_missing = "litert" in command and "needs ai-edge-litert" in output
    assert COMMANDS[command] in output or is_missing
