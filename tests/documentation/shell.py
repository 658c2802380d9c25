"""Runs the lines of bash blocks: `topdb-tf` in this process, others as they can be.

A line that nothing here knows fails, so that none is passed over in silence.
"""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import click
import yaml

from tests.documentation.blocks import words_of
from tests.documentation.place import RUNS
from tests.documentation.shortening import shortened
from topdb_tf.cli import main

ROOT = Path(__file__).parents[2]
_ASSIGNMENT = re.compile(r"^[A-Z_]+=\S*$")
_SHELL = re.compile(r"[|<>;&`]|\$\(")
_SUBSHELL = re.compile(r"^\(cd (?P<folder>\S+) && (?P<command>.+)\)$")
_DECIDES = 1  # `match` tells by it that the persons differ


class LineError(AssertionError):
    """A line of a page that cannot be run, or fails."""


class Shell:
    """Runs lines in a page's folder.

    Args:
        folder: The current folder of the lines.
        environment: Values of the variables that lines may name.
        replacements: What stands for words of the lines, such as `HOST:PORT`.
        exports: Folder that keeps the exports of runs/NAME for the next page.
    """

    # What shows the runs that all folders begin with is shown once, whatever the page.
    shown = set()

    def __init__(self, folder, environment, replacements, exports):
        self.folder = folder
        self.environment = environment
        self.replacements = replacements
        self.exports = exports

    def run(self, line):
        """Runs one line; what is wrong with it is a `LineError`."""
        line = line.partition(" #")[0].rstrip()
        if match := _SUBSHELL.match(line):
            folder = self.folder / match["folder"]
            if not folder.is_dir():
                raise LineError(f"there is no folder {match['folder']}: {line}")
            inner = Shell(folder, self.environment, self.replacements, self.exports)
            inner.run(match["command"])
            return
        words = words_of(self._filled(line))
        while words and _ASSIGNMENT.match(words[0]):
            words.pop(0)  # contracts are held by tests of their own
        if not words:
            raise LineError(f"nothing but settings in: {line}")
        program = Path(words[0]).name
        known = getattr(self, f"_{program.replace('-', '_')}", None)
        if known is None:
            raise LineError(f"no test knows how to run `{program}`: {line}")
        if program not in ("curl", "eval") and _SHELL.search(line):
            raise LineError(f"a line is one command, without shell signs: {line}")
        try:
            known(words[1:], line)
        except LineError:
            raise
        except (click.ClickException, click.exceptions.Exit, Exception) as error:
            message = getattr(error, "message", None) or str(error)
            text = f"{line}\n{type(error).__name__}: {message}"
            raise LineError(text) from error

    def _filled(self, line):
        for name, value in self.environment.items():
            line = line.replace(f"${name}", str(value))
        for word, replacement in self.replacements.items():
            line = line.replace(word, replacement)
        return line

    def _topdb_tf(self, words, line):
        if self._is_kept_export(words) or self._is_shown(words):
            return
        if words[:2] == ["index", "browse"]:
            words = [*words, "--port", "0"]  # and it ends at once, by the fixture
        with _in_folder(self.folder):
            status = main.main(
                shortened(words), prog_name="topdb-tf", standalone_mode=False
            )
        allowed = (0, _DECIDES) if "match" in words else (0,)
        if (status if isinstance(status, int) else 0) not in allowed:
            raise LineError(f"status {status}: {line}")

    def _is_shown(self, words):
        """Returns whether a line of another page has shown the same of the same run."""
        if words[0] not in ("figure", "report") or not set(words) & set(RUNS):
            return False
        known = tuple(words) in self.shown
        self.shown.add(tuple(words))
        return known

    def _is_kept_export(self, words):
        """Copies an export that another line made of the same run, if there is one.

        Otherwise it is made, and kept for the next. All runs of a page's folder that
        were not trained in it are copies of one. Returns whether it was an export.
        """
        if words[:1] != ["export"] or words[1] not in RUNS:
            return False
        options = words[2:]
        out = None
        if "--out" in options:
            place = options.index("--out")
            out = options[place + 1]
            del options[place : place + 2]
        kept = self.exports / (re.sub(r"\W+", "-", " ".join(options)) or "saved_model")
        target = self.folder / (out or words[1])
        if kept.is_dir() and "--format" not in options:
            target = target if out else target / "saved_model"
            versions = [int(path.name) for path in target.glob("[0-9]*")]
            shutil.copytree(kept / "1", target / str(max(versions, default=0) + 1))
        elif kept.is_dir() and not out:
            shutil.copytree(kept, target, dirs_exist_ok=True)
        else:
            before = _files(self.folder)
            with _in_folder(self.folder):
                main.main(words, prog_name="topdb-tf", standalone_mode=False)
            for path in _files(self.folder) - before:
                # Below the folder of versions, or beside the run's other files.
                inside = "saved_model" if "--format" not in options and not out else ""
                copy = kept / path.relative_to(target / inside)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)
        return True

    def _pip(self, words, line):
        if words[0] != "install":
            raise LineError(f"only `pip install` is known: {line}")
        for word in words[1:]:
            package, _, extras = word.rstrip("]").partition("[")
            if word.startswith("-"):
                continue
            if package not in (".", "topdb-tf"):
                raise LineError(f"{package} is no package of this repository: {line}")
            unknown = set(filter(None, extras.split(","))) - extras_of_setup()
            if unknown:
                raise LineError(f"setup.py has no extra {sorted(unknown)}: {line}")

    def _docker(self, words, line):
        folder = self.folder
        if words[0] == "compose":
            files = [folder / name for name in values_of(words, "--file", "-f")]
            for file in files or [folder / "compose.yaml"]:
                check_compose(file)
        elif words[0] == "build":
            if not (ROOT / "Dockerfile").is_file():
                raise LineError("there is no Dockerfile")
        elif words[0] != "run":
            raise LineError(f"only docker build, run and compose are known: {line}")

    def _curl(self, words, line):
        if shutil.which("curl") is None:
            return
        answer = subprocess.run(
            ["bash", "-c", f"{self._filled(line)} --fail-with-body --max-time 60"],
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        if answer.returncode:
            raise LineError(f"{line}\n{answer.stdout}{answer.stderr}")

    def _python(self, words, line):
        script = ROOT / words[0]
        if words[:3] == ["-m", "venv", words[-1]]:
            return
        if not script.is_file():
            raise LineError(f"there is no {words[0]}: {line}")
        words = list(words[1:])
        if "--duration" in words:  # as short as it goes
            words[words.index("--duration") + 1] = "0.2"
        namespace = {"__name__": "script", "__file__": str(script)}
        exec(compile(script.read_text(), str(script), "exec"), namespace)
        run = namespace["main"]
        with _in_folder(self.folder):
            try:
                if isinstance(run, click.Command):
                    run.main(words, standalone_mode=False)
                else:
                    with mock.patch.object(sys, "argv", [str(script), *words]):
                        run()
            except SystemExit as end:
                if end.code:
                    raise LineError(f"status {end.code}: {line}") from end

    _python3 = _python

    def _pytest(self, words, line):
        settings = (ROOT / "pyproject.toml").read_text()
        for marker in values_of(words, "-m"):
            if f'"{marker}: ' not in settings:
                raise LineError(f"there is no marker {marker}: {line}")
        markers = values_of(words, "-m")
        for word in words:
            if not word.startswith("-") and word not in markers:
                if not (ROOT / word).exists():
                    raise LineError(f"there is no {word}: {line}")

    def _mkdocs(self, words, line):
        if words[0] not in ("build", "serve") or not (ROOT / "mkdocs.yml").is_file():
            raise LineError(f"mkdocs builds or serves: {line}")

    def _eval(self, words, line):
        """Shell completion: `eval "$(topdb-tf completion bash)"`."""
        match = re.fullmatch(r"\$\((topdb-tf .+)\)", words[0])
        if match is None:
            raise LineError(f"only the output of topdb-tf is evaluated: {line}")
        self._topdb_tf(shlex.split(match[1])[1:], line)


def extras_of_setup():
    """Returns the names of the package's extras."""
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())):
        if isinstance(node, ast.keyword) and node.arg == "extras_require":
            return {key.value for key in node.value.keys}
    raise LineError("setup.py has no extras")


def check_compose(file):
    """Checks that a compose file names the images and only mounts what is there."""
    if not file.is_file():
        raise LineError(f"there is no {file.name} in {file.parent.name}")
    services = yaml.safe_load(file.read_text())["services"]
    for name, service in services.items():
        if not set(service) & {"image", "build", "extends", "deploy"}:
            raise LineError(f"{file.name}: the service {name} has no image")


def values_of(words, *options):
    """Returns what follows one of the options."""
    pairs = zip(words, words[1:], strict=False)
    return [value for option, value in pairs if option in options]


def _files(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


class _in_folder:  # noqa: N801 - a context manager, as contextlib.chdir of Python 3.11
    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        self.before = Path.cwd()
        os.chdir(self.folder)

    def __exit__(self, *error):
        os.chdir(self.before)
