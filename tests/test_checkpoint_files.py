import builtins
import errno
import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from topdb_tf.training.checkpoint_files import (
    BestEpoch,
    Position,
    TrainingRecord,
    _sum_of,
    newest_checkpoint,
    positions,
    prune,
    read_checkpoint,
    read_record,
    write_checkpoint,
)
from topdb_tf.training.errors import CheckpointError

ARRAYS = {
    "weights": np.arange(6.0, dtype="float32").reshape(2, 3),
    "count": np.int64(7),
}


def write(folder, *position, **told):
    record = TrainingRecord(**told)
    write_checkpoint(folder, Position(*position), record, ARRAYS.items())


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def fill_disk(monkeypatch, number):
    """Lets the disk be full at one of the writes of arrays."""
    calls = []
    write_array = np.lib.format.write_array

    def failing(*args, **options):
        calls.append(args)
        if len(calls) == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_array(*args, **options)

    monkeypatch.setattr(np.lib.format, "write_array", failing)


def test_a_checkpoint_gives_back_what_was_written(tmp_path):
    record = TrainingRecord(
        precision="float32 (as asked)",
        training_images="abc",
        num_replicas=2,
        best=BestEpoch(3, 0.5),
        log="epoch,loss\n",
    )
    write(tmp_path, 3, 14, **record._asdict())
    checkpoint = read_checkpoint(tmp_path, Position(3, 14))
    assert checkpoint.record == record
    assert checkpoint.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(checkpoint.arrays[name], array)
        assert checkpoint.arrays[name].dtype == array.dtype
    assert read_record(tmp_path, Position(3, 14)) == record


def test_numpy_reads_the_arrays_too(tmp_path):
    write(tmp_path, 1, 0)
    with np.load(tmp_path / "00001-0000000" / "arrays.npz") as arrays:
        np.testing.assert_array_equal(arrays["weights"], ARRAYS["weights"])


def test_the_newest_position_is_the_farthest_not_the_last_written(tmp_path):
    for position in ((2, 0), (10, 3), (9, 800), (10, 0)):
        write(tmp_path, *position)
    (tmp_path / ".partial-00110000").mkdir()
    (tmp_path / "best-notes").mkdir()
    (tmp_path / "1-2").write_text("no folder")
    assert positions(tmp_path) == [(10, 3), (10, 0), (9, 800), (2, 0)]
    assert newest_checkpoint(tmp_path, say=pytest.fail).position == (10, 3)
    assert positions(tmp_path / "none") == []


@pytest.mark.parametrize("name", ["arrays.npz", "facts.json", "manifest.json"])
def test_a_damaged_file_is_noticed(name, tmp_path):
    write(tmp_path, 1, 0, log="some text")
    damage(tmp_path / "00001-0000000" / name)
    with pytest.raises(ValueError, match="00001-0000000 is damaged"):
        read_checkpoint(tmp_path, Position(1, 0))


@pytest.mark.parametrize("name", ["arrays.npz", "facts.json", "manifest.json"])
def test_a_missing_file_is_noticed(name, tmp_path):
    write(tmp_path, 1, 0)
    (tmp_path / "00001-0000000" / name).unlink()
    with pytest.raises(ValueError, match="00001-0000000 is damaged"):
        read_checkpoint(tmp_path, Position(1, 0))


def test_the_checkpoint_before_a_damaged_one_is_taken_and_this_is_said(tmp_path):
    lines = []
    write(tmp_path, 1, 0)
    write(tmp_path, 1, 5)
    damage(tmp_path / "00001-0000005" / "arrays.npz")
    assert newest_checkpoint(tmp_path, say=lines.append).position == (1, 0)
    assert "00001-0000005 is damaged" in lines[0]
    assert lines[1].endswith("going on from 00001-0000000")
    write(tmp_path, 1, 5)  # its place is free
    assert newest_checkpoint(tmp_path, say=pytest.fail).position == (1, 5)


def test_what_looks_damaged_is_kept_under_another_name(tmp_path):
    write(tmp_path, 1, 0)
    for _ in range(2):  # the second does not take the place of the first
        write(tmp_path, 1, 5)
        damage(tmp_path / "00001-0000005" / "arrays.npz")
        lines = []
        newest_checkpoint(tmp_path, say=lines.append)
        prune(tmp_path, keep=1)
    names = ["00001-0000000", "00001-0000005.damaged", "00001-0000005.damaged-1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert all((tmp_path / name / "arrays.npz").is_file() for name in names)
    assert f"kept as {tmp_path / names[2]}" in lines[1]


@pytest.mark.parametrize("place", ["scandir", "manifest.json", "arrays.npz", "facts"])
@pytest.mark.parametrize(
    "number", [errno.EIO, errno.EMFILE, errno.EACCES, errno.ESTALE, errno.ETIMEDOUT]
)
def test_a_passing_error_is_no_damage(number, place, tmp_path, monkeypatch):
    write(tmp_path, 1, 0)
    write(tmp_path, 2, 0)

    def failing(function):
        def fails(path, *arguments, **options):
            if place == "scandir" or place in str(path):
                raise OSError(number, os.strerror(number), str(path))
            return function(path, *arguments, **options)

        return fails

    with monkeypatch.context() as patch:
        if place == "scandir":
            patch.setattr(os, "scandir", failing(os.scandir))
        else:
            patch.setattr(Path, "open", failing(Path.open))
            patch.setattr(Path, "stat", failing(Path.stat))
            patch.setattr(builtins, "open", failing(open))
            patch.setattr(io, "open", failing(io.open))
        words = f"{re.escape(str(tmp_path))}.* could not be read: .*repeat the command"
        with pytest.raises(CheckpointError, match=words):
            newest_checkpoint(tmp_path, say=pytest.fail)
    assert len(list(tmp_path.iterdir())) == 2
    assert newest_checkpoint(tmp_path, say=pytest.fail).position == (2, 0)


def test_a_whole_checkpoint_of_another_version_is_no_damaged_one(tmp_path):
    write(tmp_path, 1, 0)
    write(tmp_path, 2, 0)
    newest = tmp_path / "00002-0000000"
    (newest / "facts.json").write_text('{"best": [3]}')
    manifest = {name: _sum_of(newest / name) for name in ("arrays.npz", "facts.json")}
    (newest / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="is whole, but not as this version writes it"):
        newest_checkpoint(tmp_path, say=pytest.fail)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_state_that_is_not_finite_is_not_gone_on_with(tmp_path):
    write(tmp_path, 1, 0)
    arrays = {"network/0000/kernel": np.array([1.0, np.nan], "float32")}
    write_checkpoint(tmp_path, Position(2), TrainingRecord(), arrays.items())
    lines = []
    assert newest_checkpoint(tmp_path, say=lines.append).position == (1, 0)
    assert "network/0000/kernel is not finite" in lines[0]
    arrays = {"figures/0000/mean_ap": np.array(np.nan)}  # of an epoch without a score
    write_checkpoint(tmp_path, Position(3), TrainingRecord(), arrays.items())
    assert newest_checkpoint(tmp_path, say=pytest.fail).position == (3, 0)


def test_where_none_is_whole_nothing_is_removed(tmp_path):
    write(tmp_path, 1, 0)
    damage(tmp_path / "00001-0000000" / "arrays.npz")
    with pytest.raises(FileNotFoundError, match="only damaged.*topdb-tf fit"):
        newest_checkpoint(tmp_path, say=lambda line: None)
    assert (tmp_path / "00001-0000000" / "arrays.npz").exists()
    with pytest.raises(FileNotFoundError, match="no checkpoint.*topdb-tf fit"):
        newest_checkpoint(tmp_path / "none", say=pytest.fail)


@pytest.mark.parametrize("number", [1, 2])
def test_a_full_disk_leaves_the_checkpoint_before_and_says_what_to_do(
    number, tmp_path, monkeypatch
):
    write(tmp_path, 1, 0)
    fill_disk(monkeypatch, number)
    with pytest.raises(CheckpointError, match="No space left.*MiB are free"):
        write(tmp_path, 2, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["00001-0000000"]
    assert newest_checkpoint(tmp_path, say=pytest.fail).position == (1, 0)


def test_the_newest_and_the_best_are_kept(tmp_path):
    for epoch in range(1, 6):
        write(tmp_path, epoch, 0)
    (tmp_path / ".partial-00060000").mkdir()  # of a process that was killed
    prune(tmp_path, keep=2, also=[Position(2)])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00002-0000000",
        "00004-0000000",
        "00005-0000000",
    ]


def test_facts_are_json_for_people(tmp_path):
    write(tmp_path, 1, 0, best=BestEpoch(1, 0.5))
    text = (tmp_path / "00001-0000000" / "facts.json").read_text()
    assert json.loads(text) == {
        "precision": "",
        "training_images": "",
        "num_replicas": 1,
        "best": {"epochs_done": 1, "mean_ap": 0.5},
        "log": None,
    }


def test_what_older_versions_did_not_write_is_left_out(tmp_path):
    write(tmp_path, 1, 0)
    file = tmp_path / "00001-0000000" / "facts.json"
    file.write_text(json.dumps({"precision": "float32 (as asked)", "host": "old"}))
    record = read_record(tmp_path, Position(1, 0))
    assert record == TrainingRecord(precision="float32 (as asked)")
    for text in ("[]", '{"best": {"epoch": 3}}', "no JSON"):
        file.write_text(text)
        with pytest.raises(ValueError, match="00001-0000000 is damaged"):
            read_record(tmp_path, Position(1, 0))


def test_a_position_enters_its_own_epoch_late_and_the_others_at_their_start():
    assert [Position(3, 7).first_step(epoch) for epoch in (3, 4)] == [7, 0]
