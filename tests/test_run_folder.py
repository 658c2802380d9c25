import importlib
import os

import pytest

from topdb_tf.files import write_whole
from topdb_tf.runs.folder import RunFolder, held, new_run, open_run
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

    monkeypatch.setattr(fit, "begin", lambda *arguments: None)
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
