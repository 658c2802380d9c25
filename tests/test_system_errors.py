"""Errors of the system, and signals, are told in one line by every command."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from topdb_tf.cli import main
from topdb_tf.files import os_error_text


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


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cleans_up_as_ctrl_c_does(number, ask):
    cleaned = []

    def act():
        try:
            os.kill(os.getpid(), number)
        finally:
            cleaned.append(signal.getsignal(number))

    before = signal.getsignal(number)
    answer = ask(act)
    assert answer.exit_code == 128 + number
    assert answer.stderr.startswith(f"Stopped by {number.name}.")
    assert cleaned == [signal.SIG_DFL]  # a second one ends at once
    assert signal.getsignal(number) == before


def test_ctrl_c_is_told_as_the_shell_tells_it(ask):
    answer = ask(raising(KeyboardInterrupt))
    assert (answer.exit_code, answer.stdout) == (130, "")
    assert answer.stderr.startswith("Stopped by SIGINT.")


def test_a_signal_that_the_parent_ignores_stays_ignored(ask):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        answer = ask(lambda: os.kill(os.getpid(), signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
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
