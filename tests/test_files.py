"""Files and folders that are seen whole or not at all, whoever else writes there."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import topdb_tf
from topdb_tf.damage import is_zip
from topdb_tf.files import (
    contents_of,
    files_below,
    partial_path,
    remove_whole,
    user_path,
    whole_file,
    whole_folder,
    write_whole,
)

SOURCE = str(Path(topdb_tf.__file__).parents[1])
posix = pytest.mark.skipif(os.name != "posix", reason="needs locks of POSIX")
FULL = OSError(errno.ENOSPC, "No space left on device")
KILLED = """
import os, signal, sys
from pathlib import Path
from topdb_tf.files import whole_file, whole_folder
with whole_file(Path("a.npz")) as file, whole_folder(Path("deep/down/b")) as folder:
    file.write_text("half")
    (folder / "part").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_and_the_old_one_stays_until_then(tmp_path):
    path = tmp_path / "a.svg"
    path.write_text("old")
    with whole_file(path) as partial:
        partial.write_text("new")
        assert partial.suffix == ".svg"  # by which libraries choose the format
        assert path.read_text() == "old"
    assert (path.read_text(), names(tmp_path)) == ("new", ["a.svg"])


def test_two_writers_of_a_file_do_not_meet(tmp_path):
    path = tmp_path / "a.csv"
    with whole_file(path) as one, whole_file(path) as other:
        one.write_text("one")
        other.write_text("other")
        assert one.read_text() == "one"
    assert path.read_text() == "one"  # renamed last
    assert names(tmp_path) == ["a.csv"]


def test_two_writers_of_a_folder_do_not_meet(tmp_path):
    def write(text):
        try:
            with whole_folder(tmp_path / "a") as partial:
                for part in "12":
                    barrier.wait()
                    (partial / part).write_text(text)
            published.append(text)
        except OSError as error:
            refused.append(error.filename)

    published, refused, barrier = [], [], threading.Barrier(2, timeout=10)
    threads = [threading.Thread(target=write, args=(text,)) for text in "xy"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (text,) = published
    assert refused == [str(tmp_path / "a")]
    assert [(tmp_path / "a" / part).read_text() for part in "12"] == [text, text]
    assert names(tmp_path) == ["a"]


def failing(whole, path):
    with whole(path) as partial:
        (partial / "x" if partial.is_dir() else partial).write_text("half")
        raise FULL


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_after_an_error_nothing_is_left_and_it_names_what_was_to_be_written(
    whole, tmp_path
):
    path = tmp_path / "new" / "deep" / "a"
    with pytest.raises(OSError, match="No space left on device") as caught:
        failing(whole, path)
    assert caught.value.filename == str(path)
    assert names(tmp_path) == []


@posix
def test_the_next_writer_removes_what_a_killed_one_left(tmp_path):
    command = [sys.executable, "-c", KILLED]
    ended = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": SOURCE})
    assert ended.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2
    assert len(names(tmp_path / "deep" / "down")) == 1
    assert contents_of(tmp_path / "deep" / "down") == []
    write_whole(tmp_path / "other.txt", "whole")
    write_whole(tmp_path / "deep" / "down" / "other.txt", "whole")
    assert names(tmp_path) == ["deep", "other.txt"]
    assert names(tmp_path / "deep" / "down") == ["other.txt"]


def test_the_next_writer_lets_a_living_one_be(tmp_path):
    with whole_folder(tmp_path / "a") as partial:
        (partial / "x").write_text("x")
        write_whole(tmp_path / "b", "b")
        assert (partial / "x").read_text() == "x"


def test_a_folder_of_somebody_else_with_such_a_name_stays(tmp_path):
    mine = tmp_path / ".partial-mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    write_whole(tmp_path / "b", "b")
    assert names(mine) == ["notes.txt"]


@posix
def test_who_was_taken_for_dead_before_the_lock_begins_anew(tmp_path, monkeypatch):
    """Another process removes the new folder just before it is locked."""
    from topdb_tf import files

    is_locked, removed = files._is_locked, []

    def removed_first(descriptor):
        if not removed:
            (partial,) = tmp_path.glob(".partial-*")
            (partial / "lock").unlink()
            partial.rmdir()
            removed.append(partial)
        return is_locked(descriptor)

    monkeypatch.setattr(files, "_is_locked", removed_first)
    write_whole(tmp_path / "a", "a")
    assert removed
    assert (tmp_path / "a").read_text() == "a"


def test_a_folder_is_removed_whole(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("x")
    remove_whole(tmp_path / "a")
    assert names(tmp_path) == []


def test_a_name_can_be_as_long_as_the_system_has_it(tmp_path):
    write_whole(tmp_path / f"{'a' * 251}.txt", "long")
    with partial_path(tmp_path / "x") as partial:
        assert not partial.exists()


def test_a_tilde_is_a_home_where_the_user_has_one_and_a_letter_elsewhere(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert user_path("~/a.csv") == tmp_path / "home" / "a.csv"
    assert user_path("~x.jpg") == Path("~x.jpg")
    assert user_path("~nosuchuser/people") == Path("~nosuchuser/people")
    assert user_path("a~/~b") == Path("a~/~b")
    assert user_path("~", Path("folder")) == tmp_path / "home"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "~").write_text("a file of just that name")
    assert user_path("~", Path("folder")) == Path("folder/~")


def test_without_a_home_there_is_no_error(monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as it then does
    assert user_path("~/a.csv") == Path("~/a.csv")


def test_all_files_below_a_folder_are_listed_those_behind_links_too(tmp_path):
    for name in ("a/1.jpg", "a/b/2.jpg", "c.txt", "a.jpg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "3.jpg").touch()
    (tmp_path / "in" / "d").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "lost.jpg").symlink_to("nowhere")
    (tmp_path / "in" / ".partial-12345678").mkdir()
    (tmp_path / "in" / ".partial-12345678" / "new.jpg").touch()
    found = files_below(tmp_path / "in")
    assert [str(path.relative_to(tmp_path / "in")) for path in found] == [
        "a/1.jpg",
        "a/b/2.jpg",
        "a.jpg",
        "c.txt",
        "d/3.jpg",
        "lost.jpg",
    ]
    (tmp_path / "out" / "up").symlink_to(tmp_path / "in")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        list(files_below(tmp_path / "in"))


def test_an_empty_path_is_not_the_current_folder():
    # As of "$DATA" where the shell has no such variable.
    with pytest.raises(ValueError, match="must not be empty"):
        user_path("")
    assert user_path(".") == Path()


def test_an_error_of_reading_does_not_make_an_archive_none(tmp_path, monkeypatch):
    file = tmp_path / "a.npz"
    file.write_text("no archive")
    assert not is_zip(file)

    def unreadable(path, mode):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(Path, "open", unreadable)
    with pytest.raises(OSError, match="Input/output"):
        is_zip(file)
