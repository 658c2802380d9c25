"""The folder in which a page's blocks are run, as the pages suppose it.

There are: all data sets below `$TOPDB_DATA`, as links to images of a few drawn people,
a finished and calibrated run `runs/NAME` and its copy `runs/OTHER`, a folder `photos`
of images named as Market-1501 names them, a folder `people` with a folder for each
person, `query` and `gallery`, the images `A.jpg`, `B.jpg` and `photo.jpg`, `pairs.csv`,
`features.npz`, checkpoints of other programs, and a copy of `serving`.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import yaml

from topdb_tf.data.benchmarks import DATASETS
from topdb_tf.data.records import load_card

ROOT = Path(__file__).parents[2]
RUNS = ("runs/NAME", "runs/OTHER")


def make_place(folder, *, data_root, run, checkpoints):
    """Fills the folder of a page, and returns the root of its data sets."""
    data = folder / "data"
    # Two data sets may lie in one folder, as market1501 and market1501-multi.
    for first in dict.fromkeys(data / load_card(n).folders[0] for n in DATASETS):
        shutil.copytree(data_root / "synthetic", first, copy_function=os.link)
    for name in reversed(RUNS):  # the first is the newest
        shutil.copytree(run, folder / name)
        _own_data(folder / name / "config.yaml", data)
    _images(folder, data / "synthetic")
    for name in ("features", "theirs"):
        _features(folder / f"{name}.npz")
    for checkpoint in checkpoints.iterdir():
        (folder / checkpoint.name).symlink_to(checkpoint)
    no_models = shutil.ignore_patterns("models", "__pycache__")
    shutil.copytree(ROOT / "serving", folder / "serving", ignore=no_models)
    return data


def _own_data(config, data):
    settings = yaml.safe_load(config.read_text())
    settings["data"]["root"] = str(data)
    config.write_text(yaml.safe_dump(settings))


def _images(folder, split):
    queries = sorted((split / "query").iterdir())
    gallery = sorted((split / "bounding_box_test").glob("[0-9]*"))
    shutil.copytree(split / "query", folder / "query")
    shutil.copytree(split / "bounding_box_test", folder / "gallery")
    (folder / "photos").mkdir()
    for path in [*queries, *(p for p in gallery if not p.name.startswith("0000"))]:
        if path.name < "0009":  # a figure is drawn of all
            shutil.copy(path, folder / "photos")
        person = folder / "people" / path.name.partition("_")[0]
        person.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, person)
    for name, path in (("A", queries[0]), ("B", queries[1]), ("photo", queries[0])):
        shutil.copy(path, folder / f"{name}.jpg")
    (folder / "pairs.csv").write_text("A.jpg,B.jpg\n")


def _features(path):
    rng = np.random.default_rng(1)
    gallery_pids = np.repeat(np.arange(1, 9), 5)
    np.savez(
        path,
        query_features=rng.normal(size=(8, 4)).astype("float32"),
        gallery_features=rng.normal(size=(40, 4)).astype("float32"),
        query_pids=np.arange(1, 9),
        gallery_pids=gallery_pids,
        query_camids=np.ones(8, int),
        gallery_camids=np.full(40, 2),
    )
