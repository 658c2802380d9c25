"""The scripts of `benchmarks/` start with their defaults, and the quick one runs."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ci

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = [
    path.name for path in sorted(FOLDER.glob("*.py")) if "__main__" in path.read_text()
]

# Runs scripts without arguments, up to where these have been read.
STARTER = """
import argparse, runpy, sys

class Started(Exception):
    pass

read = argparse.ArgumentParser.parse_args

def stop_after_reading(*arguments):
    read(*arguments)
    raise Started

argparse.ArgumentParser.parse_args = stop_after_reading
folder, *names = sys.argv[1:]
sys.path.insert(0, folder)  # as of a script
for name in names:
    sys.argv = [name]
    try:
        runpy.run_path(f"{folder}/{name}", run_name="__main__")
    except Started:
        print(name, flush=True)
"""


def run_python(*arguments):
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_each_script_starts_without_arguments():
    pytest.importorskip("tensorflow")
    done = run_python("-c", STARTER, str(FOLDER), *SCRIPTS)
    assert done.stdout.split() == SCRIPTS, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_scoring_is_timed_beside_the_bare_product():
    done = run_python(str(FOLDER / "retrieval.py"), "small", "--repeats", "1")
    assert done.returncode == 0, done.stderr
    assert "small: Size(num_queries=200" in done.stdout
    for work in ("bare product", "scores", "re-ranking + scores"):
        assert f"\n{work} " in done.stdout


def test_an_unknown_size_is_answered_with_the_known_ones():
    done = run_python(str(FOLDER / "retrieval.py"), "huge")
    assert done.returncode == 2
    assert (
        "must be one of small, market, market-1024, market-1536, msmt17" in done.stderr
    )
