"""Fixtures that more than one test module uses."""

import contextlib
import gc
import os
import shutil
import signal

import numpy as np
import pytest

collect_ignore = ["typed_program.py"]  # is read by a type checker, and not run

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

# A shell's "&" has Ctrl-C ignored, and some tests send it, to their commands too.
signal.signal(signal.SIGINT, signal.default_int_handler)

gc.disable()  # until the tests' modules and TensorFlow are imported


def pytest_collection_finish(session):
    """Spares the collector of cycles what was imported, a million objects."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    """Lets Hypothesis see the random generators that it looks after."""
    gc.unfreeze()


# Settings of a training that is over in seconds: it traces no bottlenecks.
SMALL = (
    "data.check_counts=false",
    "data.image_height=32",
    "data.image_width=16",
    "data.batch_size=8",
    "data.images_per_pid=2",
    "model.num_bottlenecks=0",
    "train.epochs=2",
    "train.warmup_epochs=1",
)


def draw_people(root, *, train, test, images=4, seed=0):
    """Draws people, seen by 2 cameras, as the synthetic data set of a data root.

    Args:
        root: The data root, which is returned.
        train: Number of people for training.
        test: Number of the others.
        images: Number of images of each.
        seed: Seed of what they look like.
    """
    from topdb_tf.data.drawn.synthetic import write_synthetic

    write_synthetic(
        root / "synthetic",
        num_train_pids=train,
        num_test_pids=test,
        images_per_pid=images,
        num_cameras=2,
        seed=seed,
    )
    return root


@pytest.fixture(scope="session")
def small_data_root(tmp_path_factory):
    """A data root with 8 drawn people, 4 images each by 2 cameras; not to be changed.

    5 people are for training; the others have 3 queries and 9 gallery images.
    """
    return draw_people(tmp_path_factory.mktemp("data"), train=5, test=3)


@pytest.fixture(scope="session")
def small_run(small_data_root, tmp_path_factory):
    """The folder of a finished run of two epochs; not to be changed, but to be copied.

    It was trained on the synthetic data set below `small_data_root`.
    """
    from topdb_tf.fit import fit, loop
    from topdb_tf.runs.recipes import read_recipe

    folder = tmp_path_factory.mktemp("runs") / "small"
    own = ["model.num_bottlenecks=2", f"data.root={small_data_root}"]
    config = read_recipe("demo", [*SMALL, *own])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "train", loop.train)  # whatever module asks first
        fit.fit(config, folder, say=lambda line: None)
    return folder


@contextlib.contextmanager
def without_graphs():
    """Trains step by step: to trace one takes longer than a test's few steps.

    Test modules whose trainings ask for more keep the graphs, which users train by.
    """
    from topdb_tf.fit import fit

    train = fit.train

    def step_by_step(training, *arguments, **options):
        training.trainer.run_eagerly = True
        train(training, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "train", step_by_step)
        yield


@pytest.fixture(scope="module")
def step_by_step():
    """All trainings of a module are `without_graphs`."""
    with without_graphs():
        yield


@pytest.fixture(scope="session")
def run_of_two(small_run, tmp_path_factory):
    """A copy of the run with a checkpoint after epoch 1: the last, other kernels."""
    from topdb_tf.training.checkpoint_files import (
        Position,
        read_checkpoint,
        write_checkpoint,
    )

    folder = shutil.copytree(small_run, tmp_path_factory.mktemp("runs") / "two")
    checkpoint = read_checkpoint(folder / "checkpoints", Position(2))
    arrays = {
        name: np.flip(array, axis=-1) if array.ndim == 4 else array
        for name, array in checkpoint.arrays.items()
    }
    record = checkpoint.record
    write_checkpoint(folder / "checkpoints", Position(1), record, arrays.items())
    return folder


@pytest.fixture
def features(tmp_path):
    """Features of two queries and three gallery images on a line."""
    np.savez(
        tmp_path / "features.npz",
        query_features=np.array([[0.0], [10.0]]),
        gallery_features=np.array([[1.0], [9.0], [12.0]]),
        query_pids=[1, 2],
        gallery_pids=[1, 3, 2],
        query_camids=[1, 1],
        gallery_camids=[2, 2, 2],
    )
    return tmp_path / "features.npz"
