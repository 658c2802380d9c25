"""Fixtures that more than one test module uses."""

import os

import pytest

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

# Settings of a training that is over in seconds.
SMALL = (
    "data.check_counts=false",
    "data.image_height=32",
    "data.image_width=16",
    "data.batch_size=8",
    "data.images_per_pid=2",
    "train.epochs=2",
    "train.warmup_epochs=1",
)


@pytest.fixture(scope="session")
def small_data_root(tmp_path_factory):
    """A data root with 8 drawn people, 4 images each by 2 cameras; not to be changed.

    5 people are for training; the others have 3 queries and 9 gallery images.
    """
    from topdb_tf.data.synthetic import write_synthetic

    root = tmp_path_factory.mktemp("data")
    write_synthetic(
        root / "synthetic",
        num_train_pids=5,
        num_test_pids=3,
        images_per_pid=4,
        num_cameras=2,
    )
    return root


@pytest.fixture(scope="session")
def small_run(small_data_root, tmp_path_factory):
    """The folder of a finished run of two epochs; not to be changed, but to be copied.

    It was trained on the synthetic data set below `small_data_root`.
    """
    from topdb_tf.recipe.fit import fit
    from topdb_tf.recipe_files import read_recipe

    folder = tmp_path_factory.mktemp("runs") / "small"
    config = read_recipe("demo", [*SMALL, f"data.root={small_data_root}"])
    fit(config, folder, say=lambda line: None)
    return folder
