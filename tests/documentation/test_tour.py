"""The notebook: its code cells, run in order in a fresh folder as Jupyter would."""

import ast
import json

import pytest

from tests.documentation.shell import ROOT
from tests.documentation.test_pages import _in_folder

pytestmark = pytest.mark.ci

NOTEBOOK = json.loads((ROOT / "docs" / "tour.ipynb").read_text(encoding="utf-8"))
CELLS = [
    "".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"
]


def without_magics(cell):
    """Returns a cell as Python: what only Jupyter knows does nothing."""
    lines = cell.splitlines()
    for place, line in enumerate(lines):
        bare = line.lstrip()
        if bare.startswith(("%", "!")):
            lines[place] = line.replace(bare, "pass")
    return "\n".join(lines)


def run_cell(cell, namespace):
    """Runs a cell and returns the value of its last line, if that is one."""
    tree = ast.parse(without_magics(cell))
    last = tree.body[-1]
    if not isinstance(last, ast.Expr):
        exec(compile(tree, "tour.ipynb", "exec"), namespace)
        return None
    tree.body.pop()
    exec(compile(tree, "tour.ipynb", "exec"), namespace)
    return eval(compile(ast.Expression(last.value), "tour.ipynb", "eval"), namespace)


def test_the_tour_runs_and_finds_the_people(tmp_path, monkeypatch, registries):
    import matplotlib.pyplot as plt

    namespace = {"__name__": "__main__"}
    with _in_folder(tmp_path):
        values = [run_cell(cell, namespace) for cell in CELLS]
    plt.close("all")
    nearest = next(value for value in values if isinstance(value, list))
    assert "person00" in [person for person, _ in nearest]
    assert namespace["scores"].plain.scores.mean_ap > 0.5
    other = namespace["other"]
    assert other.config.model.drop == "columns"


def test_the_tour_keeps_no_outputs_and_uses_public_names_alone():
    for cell in NOTEBOOK["cells"]:
        assert not cell.get("outputs")
        assert not cell.get("execution_count")
    text = "\n".join(CELLS)
    assert "from topdb_tf" not in text
    assert "topdb_tf." in text
