import importlib
import os

import pytest

from topdb_tf.files import write_whole
from topdb_tf.runs.folder import RunFolder, held, new_folder, new_run, open_run
from topdb_tf.runs.recipes import read_recipe
from topdb_tf.texts import silent


def test_a_new_run_leaves_nothing_before_it_begins(tmp_path):
    run = new_run(tmp_path / "runs" / "first")
    assert run.config_file.parts[-3:] == ("runs", "first", "config.yaml")
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_can_be_used(tmp_path):
    assert new_run(tmp_path).path == tmp_path


def test_a_folder_that_holds_something_is_never_overwritten(tmp_path):
    (tmp_path / "weights").write_text("precious")
    with pytest.raises(FileExistsError, match="never overwritten.*--run-dir"):
        new_run(tmp_path)
    assert (tmp_path / "weights").read_text() == "precious"


def test_the_newest_run_is_opened_when_none_is_named(tmp_path):
    for age, name in ((30, "b"), (10, "a"), (20, "c")):
        run = new_run(tmp_path / name)
        run.path.mkdir()
        run.config_file.write_text("")
        os.utime(run.config_file, (1_000_000 - age, 1_000_000 - age))
    assert open_run(None, runs=tmp_path).path.name == "a"


def test_a_missing_run_is_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="topdb-tf fit"):
        open_run(None, runs=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no config.yaml"):
        open_run(tmp_path)


def test_a_failed_write_leaves_the_file_before(tmp_path):
    path = tmp_path / "scores.json"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "new \ud800")
    assert path.read_text() == "old"


def test_a_folder_is_held_for_one_training_at_a_time(tmp_path):
    run = RunFolder(tmp_path)
    with held(run):
        with pytest.raises(ValueError, match="Another process is training in"):
            with held(run):
                pass
    with held(run):
        assert not list(tmp_path.iterdir())


def test_a_run_that_another_process_finished_meanwhile_is_kept(tmp_path, monkeypatch):
    fit = importlib.import_module("topdb_tf.fit.fit")
    run = RunFolder(tmp_path / "run")

    def prepared(*arguments):
        run.path.mkdir()
        write_whole(run.config_file, "of the other process")
        write_whole(run.embedder, "its model")

    monkeypatch.setattr(fit, "_begun", lambda *arguments: ((), None))  # reads no data
    monkeypatch.setattr(fit, "_prepared", prepared)
    with pytest.raises(FileExistsError, match="never overwritten"):
        fit.fit(read_recipe("demo"), run.path, say=silent)
    assert run.config_file.read_text() == "of the other process"


def test_what_a_killed_process_left_is_no_run_and_nothing_in_the_way(tmp_path):
    left = tmp_path / "runs" / "a" / ".partial-01234567"
    left.mkdir(parents=True)
    (left / "new.yaml").write_text("half")
    assert new_run(left.parent).path == left.parent
    with pytest.raises(FileNotFoundError, match="topdb-tf fit"):
        open_run(runs=tmp_path / "runs")


def begin_and_fail(run, *names):
    """Begins a run, writes some files of it, and fails."""

    def fail():
        for name in ("config.yaml", "split.csv", "log.csv", *names):
            (run.path / name).parent.mkdir(parents=True, exist_ok=True)
            (run.path / name).write_text("")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"), new_folder(run):
        fail()


def test_a_run_that_fails_before_its_first_checkpoint_leaves_nothing(tmp_path):
    run = new_run(tmp_path / "runs" / "first")
    begin_and_fail(run, "tensorboard/events", "checkpoints/.partial-1/arrays.npz")
    assert not list(tmp_path.iterdir())
    run.path.mkdir(parents=True)
    begin_and_fail(new_run(run.path), "embedder.keras")
    assert not list(run.path.iterdir())  # the folder was there before


def test_a_run_with_a_checkpoint_stays_when_it_fails(tmp_path):
    run = new_run(tmp_path / "first")
    checkpoint = "checkpoints/00001-0000000/manifest.json"
    begin_and_fail(run, checkpoint, "embedder.keras")
    assert (run.path / checkpoint).exists()
    assert run.holds_run
    with pytest.raises(FileExistsError):
        new_run(run.path)


def test_what_was_killed_before_its_first_checkpoint_is_begun_anew(tmp_path):
    left = RunFolder(tmp_path)
    for path in (left.config_file, left.log):
        path.write_text("old")
    with new_folder(new_run(tmp_path)):
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["embedder.keras", "scores.json", "notes.txt"])
def test_what_else_a_folder_holds_is_not_taken_for_a_killed_start(tmp_path, name):
    for path in (tmp_path / "config.yaml", tmp_path / name):
        path.write_text("")
    with pytest.raises(FileExistsError):
        new_run(tmp_path)


def test_a_run_that_begins_beside_another_leaves_it_alone(tmp_path):
    run = new_run(tmp_path / "run")
    with new_folder(run):
        run.config_file.write_text("")
        with pytest.raises(ValueError, match="Another process"), new_folder(run):
            pass
        assert run.holds_run
