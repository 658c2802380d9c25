"""Errors of the system, and signals, are told in one line by every command."""

import builtins
import contextlib
import datetime
import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from topdb_tf.cli import main
from topdb_tf.cli.options import new_run_dir, say
from topdb_tf.data.decoding import decode_image
from topdb_tf.data.image_files import list_images
from topdb_tf.evaluate.feature_files import load_features
from topdb_tf.files import os_error_text
from topdb_tf.fit.histogram import color_histograms
from topdb_tf.model.extraction import load_embedder
from topdb_tf.progress import progress_bar


@pytest.fixture
def ask(monkeypatch):
    """Returns a function that runs a command which does what a function does."""

    def run(act, *options):
        @click.command()
        def try_it():
            act()

        monkeypatch.setitem(main.commands, "try-it", try_it)
        return CliRunner().invoke(main, [*options, "try-it"])

    return run


def raising(error):
    def act():
        raise error

    return act


@pytest.mark.parametrize(
    "number",
    [
        *(errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EISDIR),
        *(errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.EIO, errno.ESTALE),
        *(errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT, errno.EPERM, errno.EXDEV),
    ],
)
def test_an_error_of_the_system_is_one_line_with_the_path(number, ask):
    answer = ask(raising(OSError(number, os.strerror(number), "a/b.npz")))
    assert (answer.exit_code, answer.stdout) == (1, "")
    (line,) = answer.stderr.splitlines()
    assert line.startswith(f"Error: a/b.npz: {os.strerror(number)}. ")
    assert line.endswith(".")


def test_an_error_without_a_path_is_one_line_too(ask):
    line = ask(raising(OSError(errno.EIO, "Input/output error"))).stderr
    assert line.startswith("Error: A file: Input/output error. Check the disk")
    assert ask(raising(OSError("no GIF"))).stderr == "Error: no GIF\n"
    assert os_error_text(PermissionError(errno.EACCES, "", b"a\xff")).startswith(
        "a\udcff"
    )


def test_a_traceback_is_shown_if_asked_for(ask):
    answer = ask(raising(PermissionError(errno.EACCES, "denied", "a")), "--traceback")
    assert isinstance(answer.exception, PermissionError)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has /dev/full")
@pytest.mark.parametrize("options", [["--version"], ["completion", "bash"]])
def test_a_full_standard_output_is_named(options):
    command = [sys.executable, "-m", "topdb_tf.cli", *options]
    with Path("/dev/full").open("w") as full:
        answer = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert answer.returncode == 1
    assert answer.stderr == (
        "Error: standard output: No space left on device. Make room there, or name "
        "another place.\n"
    )


def test_what_cannot_be_told_stops_no_work(ask, monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self):
            self.write("")

    def act():
        say("a line")
        with progress_bar("working") as progress:
            progress(1, 1)
        click.echo("the result")

    full = property(lambda self: Full(), lambda self, stream: None)
    monkeypatch.setattr("topdb_tf.progress._Forgiving._stream", full, raising=False)
    answer = ask(act)
    assert (answer.exit_code, answer.stdout) == (0, "the result\n")


@contextlib.contextmanager
def handled(number, handler):
    """Handles a signal so, whatever the parent of the tests had it be."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cleans_up_as_ctrl_c_does(number, ask):
    cleaned = []

    def act():
        try:
            os.kill(os.getpid(), number)
        finally:
            cleaned.append(signal.getsignal(number))

    with handled(number, signal.SIG_DFL):  # `nohup` has it ignored
        answer = ask(act)
        assert signal.getsignal(number) == signal.SIG_DFL
    assert answer.exit_code == 128 + number
    assert answer.stderr.startswith(f"Stopped by {number.name}.")
    assert cleaned == [signal.SIG_DFL]  # a second one ends at once


def test_ctrl_c_is_told_as_the_shell_tells_it(ask):
    answer = ask(raising(KeyboardInterrupt))
    assert (answer.exit_code, answer.stdout) == (130, "")
    assert answer.stderr.startswith("Stopped by SIGINT.")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_signal_that_the_parent_ignores_stays_ignored(ask):
    with handled(signal.SIGTERM, signal.SIG_IGN):
        answer = ask(lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert answer.exit_code == 0


def test_a_home_is_found_where_no_shell_has_put_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    answer = CliRunner().invoke(main, ["compare", "--out=~/a/b.html", "run"])
    assert str(tmp_path / "a") in answer.stderr
    monkeypatch.chdir(tmp_path)
    answer = CliRunner().invoke(main, ["info", "~nosuchuser/run"])
    assert "no user ~nosuchuser. For a folder here, write ./" in answer.stderr
    (tmp_path / "~nosuchuser").mkdir()
    answer = CliRunner().invoke(main, ["info", "~nosuchuser/run"])
    assert answer.stderr.startswith("Error: ~nosuchuser/run is not the folder of a run")


def write_features(path):
    names = ("features", "pids", "camids")
    arrays = {f"{part}_{n}": np.ones(2) for part in ("query", "gallery") for n in names}
    np.savez(path, **arrays)
    return path


def write_model(path):
    pixels = keras.Input((8, 8, 3))
    keras.Model(pixels, keras.layers.GlobalMaxPooling2D()(pixels)).save(path)
    return path


def write_image(path):
    Image.new("RGB", (8, 16)).save(path)
    return path


READERS = [
    (write_features, "a.npz", load_features),
    (write_model, "a.keras", load_embedder),
    (write_image, "a.png", lambda path: color_histograms([path])),
    (write_image, "a.png", decode_image),
]


@pytest.mark.parametrize(("write", "name", "read"), READERS)
@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE])
def test_what_cannot_be_read_now_is_not_called_damaged(
    number, write, name, read, tmp_path, monkeypatch
):
    path = write(tmp_path / name)

    def failing(function):
        def fails(file, *arguments, **options):
            if str(file) == str(path):
                raise OSError(number, os.strerror(number), str(path))
            return function(file, *arguments, **options)

        return fails

    for owner in (io, builtins, Path):
        monkeypatch.setattr(owner, "open", failing(owner.open))
    with pytest.raises(OSError, match="a\\.") as caught:
        read(path)
    assert caught.value.errno == number


def test_a_folder_that_may_not_be_read_is_not_left_out(tmp_path, monkeypatch):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_image(tmp_path / folder / "1.png")
    assert len(list_images([tmp_path]).paths) == 2
    iterdir = Path.iterdir

    def denied(path):
        if path.name == "b":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(PermissionError):
        list_images([tmp_path])


def test_two_runs_of_the_same_second_have_folders_of_their_own(
    ask, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)

    class Now(datetime.datetime):
        @classmethod
        def now(cls):
            return cls(2026, 5, 4, 3, 2, 1)

    monkeypatch.setattr("datetime.datetime", Now)
    names = []

    def act():
        names.extend(new_run_dir("a").name for _ in range(3))
        (tmp_path / "runs" / names[1] / "config.yaml").touch()

    assert ask(act).exit_code == 0
    assert names == [f"a-20260504-030201{end}" for end in ("", "-2", "-3")]
    left = [path.name for path in (tmp_path / "runs").iterdir()]
    assert left == [names[1]]  # what stayed empty is gone
