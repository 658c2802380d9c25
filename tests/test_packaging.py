"""The wheel, built from a copy of the tree and used from another folder."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import topdb_tf

pytestmark = pytest.mark.ci

ROOT = Path(__file__).parents[1]
SOURCES = ["topdb_tf", "configs", "datasets"]
FILES = ["setup.py", "pyproject.toml", "README.md", "LICENSE"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder into which the built wheel was installed, without dependencies."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        # The data set folders below datasets/ are the user's, not the package's.
        ignore = shutil.ignore_patterns("__pycache__", "synthetic", "*.egg-info")
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    build = ["-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source]
    run(*build, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    install = ["-m", "pip", "install", "--no-deps", "--quiet", "--target"]
    run(*install, folder / "site", wheel, cwd=folder)
    return folder / "site"


def run(*arguments, cwd, path=None):
    environment = {**os.environ, "PYTHONPATH": str(path or "")}
    answer = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_the_wheel_carries_recipes_and_cards_and_works_anywhere(installed, tmp_path):
    code = (
        "import topdb_tf, topdb_tf.runs.recipes as files\n"
        "from topdb_tf.data.benchmarks import DATASETS\n"
        "from topdb_tf.data.records import load_card\n"
        "print(topdb_tf.__file__)\n"
        "print(files.recipes())\n"
        "print([load_card(name).title for name in DATASETS])\n"
        "print(files.read_recipe('authors').model.mask_from)\n"
    )
    where, recipes, cards, mask_from = run(
        "-c", code, cwd=tmp_path, path=installed
    ).splitlines()
    assert where.startswith(str(installed))
    assert "'paper'" in recipes
    assert "Market-1501" in cards
    assert mask_from == "bottlenecks"


def test_the_installed_command_gives_its_help(installed, tmp_path):
    text = run("-m", "topdb_tf.cli", "fit", "--help", cwd=tmp_path, path=installed)
    assert "authors" in text


def test_the_wheel_holds_the_package_alone(installed):
    names = {path.name for path in installed.iterdir()}
    assert {name for name in names if "dist-info" not in name} <= {"topdb_tf", "bin"}


@pytest.mark.parametrize("parts", ["report/templates", "search/page"])
def test_the_wheel_carries_the_parts_of_pages(installed, parts):
    folder = Path("topdb_tf", parts)
    sources = {path.name for path in (ROOT / folder).iterdir()}
    assert {path.name for path in (installed / folder).iterdir()} == sources
    assert any(name.endswith(".html") for name in sources)


def test_type_checkers_know_every_public_name(installed, tmp_path):
    """The types are those of the wheel, which `py.typed` says it has."""
    program = ROOT / "tests" / "typed_program.py"
    text = program.read_text()
    for name in topdb_tf.__all__:
        assert f"topdb_tf.{name}(" in text, name
    shutil.copy(program, tmp_path)
    settings = {"include": [program.name], "typeCheckingMode": "basic"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    answer = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable]
        + ["--project", tmp_path, "--outputjson"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    told = json.loads(answer.stdout)["generalDiagnostics"]
    errors = {
        entry["range"]["start"]["line"]: f"{entry['rule']}: {entry['message']}"
        for entry in told
        if entry["severity"] == "error"
    }
    lines = text.splitlines()
    wrong = {number for number, line in enumerate(lines) if line.endswith("# wrong")}
    assert errors.keys() == wrong, {
        lines[n]: errors.get(n) for n in errors.keys() ^ wrong
    }


def test_the_wheel_carries_the_demo(installed, tmp_path):
    code = (
        "from topdb_tf.model.preset_files import check_preset, preset_folder\n"
        "check_preset(preset_folder('demo'))\n"
        "print(preset_folder('demo'))"
    )
    folder = run("-c", code, cwd=tmp_path, path=installed).strip()
    assert folder.startswith(str(installed))
