"""Embedding by workers, part by part: what one process gives, whatever happens."""

import json
import os
import pickle
import signal
import socket
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest

from tests.serving.test_embed import (
    GALLERY,
    QUERY,
    refused,
    topdb,
    write_images,
)
from topdb_tf.embed.cluster import cluster
from topdb_tf.embed.cluster.cluster import Workers, embed_images
from topdb_tf.embed.cluster.part_writer import PartWriter
from topdb_tf.embed.errors import ServingError
from topdb_tf.embed.places import images_at
from topdb_tf.embed.source import Source
from topdb_tf.parquet_files import read_arrays

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def photos(tmp_path):
    """Seven images, of which one is none."""
    colours = {f"{n:04d}_c{n % 2 + 1}s1_01_00.png": (n * 30, 0, 9) for n in range(7)}
    folder = write_images(tmp_path / "photos", colours)
    (folder / "0003_c2s1_01_00.png").write_bytes(b"no image")
    (folder / "notes.txt").touch()
    return folder


@pytest.fixture
def source(model_folder):
    return Source(model=model_folder / "2", batch_size=2)


@pytest.fixture
def here(monkeypatch):
    """Parts are written in this process; the numbers of those that were."""
    written = []

    def run_parts(ray, source, tasks, out, codes, workers):
        writer = PartWriter(source, out, codes, out.parent, 2, [])
        for number in sorted(tasks, reverse=True):  # in any order
            task = pickle.dumps(tasks[number])
            written.append(writer({"part": [number], "task": [task]})["part"][0])
            yield number

    class Connected:
        def __init__(self, *_):
            pass

        def __enter__(self):
            pass

        def __exit__(self, *_):
            pass

    for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "2")  # and as it was, afterwards
    monkeypatch.setattr(cluster, "run_parts", run_parts)
    monkeypatch.setattr(cluster, "_connected", Connected)
    monkeypatch.setattr(cluster, "_load_ray", lambda: None)
    return written


def alone(photos, source, tmp_path):
    """Returns what one process writes of the good images."""
    out = tmp_path / "alone.parquet"
    words = "embed", photos, "--model", source.model, "--skip-bad", "--out", out
    assert topdb(*words).exit_code == 0
    return read_arrays(out)


def assert_same(folder, expected):
    found = read_arrays(folder)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, name)


def test_parts_hold_what_one_process_writes(photos, source, here, tmp_path):
    out = tmp_path / "all.parquet"
    words = "embed", photos, "--model", source.model, "--batch-size", 2, "--out", out
    answer = topdb(*words, "--workers", "ray", "--num-workers", 2)
    assert answer.exit_code == 0, answer.output
    assert "7 images in 4 parts; 1 bad ones" in answer.stdout
    assert "skipped, as no images: notes.txt" in answer.stderr
    assert here == [3, 2, 1, 0]
    assert_same(out, alone(photos, source, tmp_path))
    bad = parquet.read_table(out / "part-000001.parquet").to_pylist()[1]
    assert bad["path"].endswith("0003_c2s1_01_00.png")
    assert (bad["pid"], bad["embedding"]) == (3, None)
    assert "no JPEG or PNG" in bad["error"]


def test_what_is_done_is_kept(photos, source, here, tmp_path):
    out, say = tmp_path / "all.parquet", []
    embed_images(source, [photos], out, Workers(count=2))
    before = read_arrays(out)
    (out / "part-000002.parquet").unlink()
    # Another number of workers does not move the images between the parts.
    result = embed_images(source, [photos], out, Workers(count=1), say=say.append)
    assert (result.num_kept, here[4:]) == (3, [2])
    assert say[-1] == f"{out}: 3 of 4 parts are there"
    assert_same(out, before)
    result = embed_images(source, [photos], out, Workers())
    assert (result.num_kept, here[5:]) == (4, [])


def test_a_part_that_ends_its_workers_is_told(photos, source, here, tmp_path):
    out = tmp_path / "all.parquet"
    writer = PartWriter(source, tmp_path, "float32", tmp_path, 2, [])
    task = {"part": [4], "task": [b"no part"]}  # nobody is there to die
    for _ in range(3):
        with pytest.raises(pickle.UnpicklingError):
            writer(task)
    with pytest.raises(ServingError, match="part 4 has ended 3 workers"):
        writer(task)
    embed_images(source, [photos], out, Workers())
    assert not list(out.glob("_tries*"))


def test_parts_of_another_job_are_left_alone(photos, source, here, tmp_path):
    out = tmp_path / "all.parquet"
    embed_images(source, [photos], out, Workers())
    other = Source(model=source.model.parent / "1", batch_size=2)
    with pytest.raises(ValueError, match="another job, with other model. Name"):
        embed_images(other, [photos], out, Workers())
    (photos / "0000_c1s1_01_00.png").unlink()
    with pytest.raises(ValueError, match="with other images, codes. Name"):
        embed_images(source, [photos], out, Workers(), codes="int8")
    (out / "_job.json").unlink()
    with pytest.raises(ValueError, match="must be new, or hold parts"):
        embed_images(source, [photos], out, Workers())


def test_a_part_may_hold_nothing_but_bad_images(photos, source, here, tmp_path):
    for path in photos.glob("*.png"):
        path.write_bytes(b"")
    images = [photos, tmp_path / "gone.parquet"]
    table = {"path": ["photos/gone.png", "photos/0001_c2s1_01_00.png"]}
    parquet.write_table(pyarrow.table(table), images[1])
    for place, reason in zip(images, ("empty", "No such file"), strict=True):
        out = tmp_path / f"{place.stem}-out.parquet"
        result = embed_images(source, [place], out, Workers())
        assert result.num_bad == result.num_images
        first = parquet.read_table(out / "part-000000.parquet").to_pylist()[0]
        assert reason in first["error"]


def test_queries_and_gallery_are_scored_from_parts(source, here, tmp_path):
    query = write_images(tmp_path / "query", QUERY)
    gallery = write_images(tmp_path / "gallery", GALLERY)
    out = tmp_path / "pair.parquet"
    words = "embed", "--query", query, "--gallery", gallery, "--model", source.model
    answer = topdb(*words, "--workers", "ray:", "--out", out, "--codes", "float16")
    assert answer.exit_code == 0, answer.output
    scores = json.loads(topdb("score", out, "--json").stdout)
    assert scores["mean_ap"] == 0.75  # as by one process, see test_embed


def test_a_table_names_images_and_people(photos, tmp_path):
    columns = {
        "path": ["photos/b.png", "s3://crops/a.png"],
        "pid": ["anna", None],
        "camid": [3, 4],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "list.parquet")
    images = images_at([tmp_path / "list.parquet"])
    first, second = images.records
    assert first.path == photos / "b.png"
    assert images.names.persons[first.pid] == "anna"
    assert (first.camid, second.camid) == (3, 4)
    assert second.pid < -1
    parquet.write_table(pyarrow.table({"file": ["a"]}), tmp_path / "list.parquet")
    with pytest.raises(ValueError, match="must have the column `path`.* columns file"):
        images_at([tmp_path / "list.parquet"])


def test_images_in_an_object_store_are_listed_and_read(photos, source, here, tmp_path):
    # A store of pyarrow that is a folder here.
    out, address = tmp_path / "all.parquet", f"file://{photos}"
    words = "embed", address, "--model", source.model, "--out", out
    refused(topdb(*words), "read by workers: --workers ray")
    answer = topdb(*words, "--workers", "ray")
    assert answer.exit_code == 0, answer.output
    found, expected = read_arrays(out), alone(photos, source, tmp_path)
    np.testing.assert_array_equal(found["features"], expected["features"])
    assert found["pids"].tolist() == expected["pids"].tolist()
    assert found["paths"][0] == f"{address}/0000_c1s1_01_00.png"
    answer = topdb("embed", f"{address}/none", *words[2:], "--workers", "ray")
    refused(answer, "There is no image file or folder file:///")


def test_a_worker_gets_its_share_of_the_cluster():
    def shares(count, cpus, gpus, num_parts=100, nodes=1):
        ray = SimpleNamespace(
            cluster_resources=lambda: {"CPU": cpus, "GPU": gpus},
            nodes=lambda: [{"Alive": True, "Resources": {"CPU": cpus / nodes}}] * nodes,
        )
        return cluster._shares(ray, Workers(count=count), num_parts)

    assert shares(None, 8, 0) == (8, 1, 0)
    assert shares(2, 8, 0) == (2, 4, 0)
    assert shares(2, 16, 0, nodes=4) == (2, 4, 0)  # no node has 8 cores
    assert shares(None, 16, 2) == (2, 8, 1)
    assert shares(None, 8, 0, num_parts=3) == (3, 1, 0)
    with pytest.raises(
        ValueError, match="core for each worker. Received: 9 workers, 8"
    ):
        shares(9, 8, 0)


def test_what_workers_cannot_do_is_told(photos, source, tmp_path):
    words = "embed", photos, "--model", source.model, "--workers"
    answer = topdb(*words, "dask", "--out", tmp_path / "a.parquet")
    assert "must be ray or ray:ADDRESS. Received: dask" in answer.stderr
    refused(topdb(*words, "ray", "--out", tmp_path / "a.npz"), "folder of parts")
    answer = topdb(*words, "ray", "--timeout", 9, "--out", tmp_path / "a.parquet")
    refused(answer, "Workers have no --timeout")
    words = *words[:-1], "--num-workers", 2
    refused(topdb(*words), "--num-workers goes with --workers ray")


def test_an_address_where_nobody_answers_is_told_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    ray = SimpleNamespace(is_initialized=lambda: False, data=MagicMock())
    refusal = f"127.0.0.1:{port}; .*Connection refused"
    connected = cluster._connected(ray, Workers(f"127.0.0.1:{port}"))
    with pytest.raises(ServingError, match=refusal), connected:
        pass


class Deadly:
    """A part that ends each process that reads it."""

    def __reduce__(self):
        return os._exit, (1,)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray's own making
def test_a_part_that_ends_its_workers_ends_the_job(photos, source, tmp_path):
    pytest.importorskip("ray")
    ray, out = cluster._load_ray(), tmp_path / "all.parquet"
    tables = [cluster._table_of(*images_at([photos])[:2])]
    tasks = dict(enumerate(cluster._parts_of(tables, 4))) | {7: Deadly()}
    out.mkdir()
    workers = Workers(count=1)
    refusal = r"\d of 3 parts were written into .* part 7 has ended 3 workers"
    with cluster._connected(ray, workers), pytest.raises(ServingError, match=refusal):
        list(cluster.run_parts(ray, source, tasks, out, "float32", workers))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray's own making
def test_a_worker_that_is_killed_is_started_again(photos, source, tmp_path):
    pytest.importorskip("ray")
    ray = cluster._load_ray()
    tables = [cluster._table_of(*images_at([photos])[:2])]
    tasks = dict(enumerate(cluster._parts_of(tables, 1)))
    out, workers, killed = tmp_path / "all.parquet", Workers(count=2), set()
    out.mkdir()
    with cluster._connected(ray, workers):
        done = []
        for part in cluster.run_parts(ray, source, tasks, out, "float32", workers):
            done.append(part.part)
            if not killed:
                killed.add(part.process)
                os.kill(part.process, signal.SIGKILL)
    assert sorted(done) == list(range(7))
    assert killed
    assert_same(out, alone(photos, source, tmp_path))
    say = []
    whole = tmp_path / "whole.parquet"
    result = embed_images(source, [photos], whole, workers, say=say.append)
    assert (result.num_images, result.num_bad) == (7, 1)
    assert_same(whole, alone(photos, source, tmp_path))
