"""The rooms of the package: who may import whom, and how large things may grow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "topdb_tf"
MODULES = sorted(PACKAGE.rglob("*.py"))

# What each room may import of the package. The rest of the package builds on these.
ALLOWED = {
    "config": set(),
    "progress": set(),
    "run_folder": set(),
    "recipe_files": {"config"},
    "data": {"data"},
    "model": {"model"},
    "retrieval": {"retrieval"},
    "search": {"search", "run_folder"},
    "figures": {"figures"},
    "pages": {"pages"},
    "serving": {"serving", "model", "data", "progress"},
    "training": {"training", "model", "data", "run_folder", "progress"},
}
# Rooms whose every module does without these libraries.
FORBIDDEN = {
    "retrieval": {"tensorflow", "keras", "keras_hub", "scipy", "sklearn", "click"},
    "search": {"tensorflow", "keras", "keras_hub", "sklearn", "click"},
    "figures": {"tensorflow", "keras", "keras_hub", "sklearn", "PIL", "click"},
    "pages": {"tensorflow", "keras", "keras_hub", "sklearn", "matplotlib", "click"},
    "config": {"tensorflow", "keras", "numpy"},
    "data": {"keras", "keras_hub", "click"},
    "model": {"click"},
    "serving": {"click"},
    "training": {"click"},
}


def room_of(path):
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports_of(path):
    """Yields the dotted names that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    room = room_of(path)
    own = {n.split(".")[1] for n in imports_of(path) if n.startswith("topdb_tf.")}
    foreign = {name.split(".")[0] for name in imports_of(path)}
    if room in ALLOWED:
        assert own <= ALLOWED[room]
    assert not foreign & FORBIDDEN.get(room, set())


def test_what_must_answer_at_once_imports_no_tensorflow():
    light = ["cli", "config", "recipe_files", "data.records", "data.check"]
    light += ["data.benchmarks", "data.sampler", "retrieval.protocol", "recipe.scoring"]
    code = (
        f"import sys, {', '.join(f'topdb_tf.{name}' for name in light)}\n"
        "sys.exit(str({'tensorflow', 'keras'} & set(sys.modules) or ''))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert answer.stderr.strip() in ("", "set()"), answer.stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_and_functions_read_in_one_sitting(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 65, node.name


def test_the_package_neither_asserts_nor_prints():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.Assert), path
            is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            assert not (is_call and node.func.id == "print"), path
