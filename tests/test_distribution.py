import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from topdb_tf.cli import main
from topdb_tf.data.drawn.synthetic import write_synthetic
from topdb_tf.fit import workers
from topdb_tf.runs.recipes import read_recipe
from topdb_tf.training.distribution import (
    Cluster,
    Distribution,
    explained_losses,
    read_cluster,
)
from topdb_tf.training.errors import WorkerLostError

ROOT = Path(__file__).parents[1]
STEPS = ["-m", "tests.distributed_steps"]
SMALL = [
    "data.check_counts=false",
    "data.image_height=32",
    "data.image_width=16",
    "data.batch_size=8",
    "data.images_per_pid=2",
    "model.streams=[top_drop]",
    "model.num_bottlenecks=0",
    "train.warmup_epochs=1",
    "train.evaluate_every=1",
    "train.strategy=multiworker",
]


def tf_config(addresses, index, **roles):
    cluster = {"worker": addresses, **roles}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})


def free_addresses():
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for each in sockets:
        each.close()
    return addresses


def start_workers(arguments):
    """Starts a command as two processes that train together."""
    addresses = free_addresses()
    return [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env={**os.environ, "TF_CONFIG": tf_config(addresses, index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for index in range(2)
    ]


def finish(processes, timeout=550):
    """Returns the status, the output and the errors of each."""
    answers = []
    for process in processes:
        out, err = process.communicate(timeout=timeout)
        answers.append((process.returncode, out, err))
    return answers


def check_as_one_replica(results):
    """Checks the figures of three steps, and weights and moments after them."""
    assert results["num_replicas"] == 2
    np.testing.assert_allclose(
        results["two_figures"], results["one_figures"], rtol=1e-5, atol=1e-6
    )
    names = [name for name in results.files if name.startswith("one_weight")]
    assert len(names) > 50
    for name in names:
        other = results[name.replace("one", "two")]
        np.testing.assert_allclose(
            other, results[name], rtol=1e-5, atol=1e-5, err_msg=name
        )


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mirrored")
    command = [sys.executable, *STEPS, "mirrored", str(folder)]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr
    return np.load(folder / "results-0.npz")


@pytest.mark.ci
def test_two_replicas_train_as_one_with_the_whole_batch(mirrored):
    check_as_one_replica(mirrored)


@pytest.mark.ci
def test_with_mining_by_replica_the_loss_is_the_mean_of_those_of_the_parts(mirrored):
    loss = mirrored["replica_loss"][0]
    assert loss == pytest.approx(mirrored["halves_loss"], rel=1e-5)
    assert abs(loss - mirrored["one_figures"][0, 0]) > 1e-3 * loss


@pytest.mark.ci
def test_the_copies_of_the_weights_stay_the_same(mirrored):
    assert mirrored["copies"] == 0


@pytest.mark.ci
def test_an_overflow_of_float16_skips_the_step_on_every_replica(mirrored):
    assert mirrored["overflow_scale"] == pytest.approx(0.5e30)
    assert mirrored["overflow_moved"] == 0
    np.testing.assert_allclose(
        mirrored["half_figures"][0, 0], mirrored["one_figures"][0, 0], rtol=0.02
    )


@pytest.mark.ci
def test_two_devices_embed_as_one_in_the_same_order(mirrored):
    assert mirrored["one_embeddings"].std() > 0
    np.testing.assert_allclose(
        mirrored["two_embeddings"], mirrored["one_embeddings"], atol=1e-6
    )


def test_workers_are_counted_from_the_chief(monkeypatch):
    addresses = ["a:1", "b:2"]
    monkeypatch.setenv("TF_CONFIG", tf_config(addresses, 1))
    assert read_cluster("multiworker") == Cluster(("a:1", "b:2"), 1)
    monkeypatch.setenv("TF_CONFIG", tf_config(addresses, 1, chief=["c:3"]))
    cluster = read_cluster("multiworker")
    assert cluster == Cluster(("c:3", "a:1", "b:2"), 2)
    assert not cluster.is_chief
    assert read_cluster("mirrored") == Cluster()
    parts = [
        Distribution(None, cluster._replace(index=i)).own_part(7) for i in (0, 1, 2)
    ]
    assert parts == [slice(0, 2), slice(2, 4), slice(4, 7)]


@pytest.mark.parametrize(
    "text",
    [
        None,
        "no JSON",
        "[]",
        tf_config(["a:1"], 0),
        tf_config(["a:1", "b:2"], 2),
        tf_config(["a:1", "b:2"], -1),
        tf_config(["a", "b"], 0),
        tf_config(["a:1", "b:2"], 0, ps=["c:3"]),
    ],
)
def test_a_wrong_tf_config_is_refused_before_anything_is_written(
    text, monkeypatch, tmp_path
):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    run_dir = tmp_path / "run"
    arguments = ["fit", "--strategy", "multiworker", "--run-dir", str(run_dir)]
    answer = CliRunner().invoke(main, arguments)
    assert answer.exit_code == 1
    assert "needs the environment variable TF_CONFIG" in answer.stderr
    assert not run_dir.exists()


def test_mirrored_needs_two_devices(tmp_path):
    run_dir = tmp_path / "run"
    arguments = ["fit", "--strategy", "mirrored", "--run-dir", str(run_dir)]
    answer = CliRunner().invoke(main, arguments)
    assert answer.exit_code == 1
    assert "mirrored needs two GPUs or more" in answer.stderr
    assert "Received: 0 GPUs" in answer.stderr
    assert not run_dir.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.xla=true"], "train.xla=False"),
        (["train.ema=0.9", "train.accumulate_steps=2"], "ema=0.0.*accumulate_steps=1"),
        (["data.batch_size=12"], "multiple of 2 replicas x 4 images.*batch_size=12"),
    ],
)
def test_settings_that_do_not_go_with_replicas_are_refused(
    settings, message, monkeypatch
):
    replicas = SimpleNamespace(num_replicas=2)
    monkeypatch.setattr(workers, "start", lambda name, cluster: replicas)
    config = read_recipe("demo", ["train.strategy=mirrored", *settings])
    with pytest.raises(ValueError, match=message):
        workers.begin(config, Cluster(), pytest.fail)


def test_the_parts_of_a_batch_are_told():
    distribution = SimpleNamespace(num_replicas=2)
    (line,) = workers.replica_lines(read_recipe("paper"), distribution)
    assert line.startswith("batches of 64 = 2 replicas x 8 identities x 4 images")
    assert workers.replica_lines(read_recipe("paper"), Distribution()) == []


def test_a_lost_worker_is_named_and_other_errors_are_left_alone():
    import tensorflow as tf

    with socket.create_server(("127.0.0.1", 0)) as listening:
        present = f"127.0.0.1:{listening.getsockname()[1]}"
        cluster = Cluster((present, free_addresses()[0]), 0)
        unavailable = tf.errors.UnavailableError(None, None, "gone")
        with pytest.raises(WorkerLostError, match=r"^Worker 1 \(127.*Start again"):
            with explained_losses(cluster, "Start again."):
                raise unavailable
        whole = Cluster((present, present), 0)
        with pytest.raises(tf.errors.InternalError):
            with explained_losses(whole, "Start again."):
                raise tf.errors.InternalError(None, None, "a bug")


@pytest.mark.slow
def test_two_processes_train_as_one_replica_with_the_whole_batch(tmp_path):
    answers = finish(start_workers([*STEPS, "multiworker", tmp_path]))
    assert [status for status, _, _ in answers] == [0, 0], answers
    for index in range(2):
        results = np.load(tmp_path / f"results-{index}.npz")
        check_as_one_replica(results)
        np.testing.assert_array_equal(results["sum"], [11, 22])
        assert list(results["parts"]) == [[0, 3], [3, 7]][index]


@pytest.mark.slow
def test_when_a_worker_dies_the_other_ends_and_the_run_is_resumed(tmp_path):
    write_synthetic(
        tmp_path / "data" / "synthetic",
        num_train_pids=9,
        num_test_pids=3,
        images_per_pid=4,
        num_cameras=2,
    )
    settings = [*SMALL, f"data.root={tmp_path / 'data'}"]
    sets = [part for setting in settings for part in ("--set", setting)]
    fit = ["-m", "topdb_tf.cli", "fit"]
    run = tmp_path / "run"
    begin = [*fit, "--recipe", "demo", *sets, "--set", "train.epochs=1000"]
    chief, worker = start_workers([*begin, "--run-dir", run])
    try:
        deadline = time.monotonic() + 300
        while not (run / "checkpoints" / "00002-0000000").exists():
            assert time.monotonic() < deadline
            assert chief.poll() is None, chief.communicate()
            time.sleep(0.05)
    finally:
        worker.send_signal(signal.SIGKILL)
    ((status, out, err),) = finish([chief], timeout=120)
    assert (status, out) == (1, "")
    last = err.strip().splitlines()[-1]
    assert last.startswith("Error: Worker 1 (127.0.0.1:")
    assert f"start all workers again, with `topdb-tf fit --resume {run}`" in last
    finish([worker])
    done = max(int(path.name[:5]) for path in (run / "checkpoints").glob("0*"))
    more = ["--force", "--set", f"train.epochs={done + 1}"]
    answers = finish(start_workers([*fit, "--resume", run, *more]))
    assert [status for status, _, _ in answers] == [0, 0], answers
    assert answers[0][1] == f"{run}\n"
    assert answers[1][1] == ""
    assert f"resumed after {done} epochs" in answers[0][2]
    rows = (run / "log.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(1, done + 2))
    scores = json.loads((run / "scores.json").read_text())
    assert 0 < scores["mean_ap"] <= 1
