"""The images that a figure shows: those that are named, or some queries of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.data.image_files import list_images
from topdb_tf.data.market import DISTRACTOR_PID
from topdb_tf.data.records import ImageRecord, Split
from topdb_tf.drawing.heat import activation_maps
from topdb_tf.runs.data import read_data
from topdb_tf.runs.folder import Run
from topdb_tf.runs.machine import load_tensorflow
from topdb_tf.runs.settings import Config
from topdb_tf.texts import Say, silent


class ImageChoice(NamedTuple):
    """Which images a figure shows: files and folders of them.

    Without any these are drawn queries of the run's or another data set, each of
    another person.
    """

    places: Sequence[Path] = ()
    dataset: str | None = None
    num: int = 4
    seed: int = 1


class ShownImages(NamedTuple):
    """Images, uint8 of shape `(height, width, 3)`, and what is written below each."""

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    images: list[np.ndarray]


def shown_images(run: Run, choice: ImageChoice, *, say: Say = silent) -> ShownImages:
    """Returns the images of some places, or a drawn choice of the queries."""
    if choice.places:
        paths = list_images(choice.places).paths
        labels = tuple(path.name for path in paths)
    else:
        dataset = choice.dataset or run.config.data.dataset
        split = read_data(dataset, run.config, run=run, say=say)
        records = drawn_queries(split, num=choice.num, seed=choice.seed)
        paths = tuple(record.path for record in records)
        labels = tuple(", ".join(names_of(split, record)) for record in records)
    load_tensorflow()
    from topdb_tf.data.decoding import decode_image

    return ShownImages(paths, labels, [decode_image(path) for path in paths])


def drawn_queries(split: Split, *, num: int, seed: int) -> tuple[ImageRecord, ...]:
    """Returns one drawn query each of drawn persons, in the order of the data set.

    There are as many as `num` says, or as there are persons.
    """
    if num < 1:
        raise ValueError(f"At least one image must be shown. Received: {num=}")
    rng = np.random.default_rng(seed)
    place_of_pid = {}
    for place in rng.permutation(len(split.query)):
        pid = split.query[place].pid
        if len(place_of_pid) < num:
            place_of_pid.setdefault(pid, place)
    return tuple(split.query[place] for place in sorted(place_of_pid.values()))


def names_of(split: Split, record: ImageRecord) -> tuple[str, ...]:
    """Returns whom an image shows, and the camera where one is known."""
    if record.pid in split.pid_names:
        person = split.pid_names[record.pid]
    else:
        is_distractor = record.pid == DISTRACTOR_PID
        person = "distractor" if is_distractor else f"pid {record.pid}"
    if not split.has_cameras:
        return (person,)
    return person, split.camera_names.get(record.camid, f"cam {record.camid}")


def loaded_model(run: Run, *, best: bool = False):
    """Returns a run's model from pixels to embeddings, the last or the best one."""
    file = run.model(best=best)
    load_tensorflow()
    from topdb_tf.model.extraction import load_embedder

    return load_embedder(file)


def aspect_of(model) -> float:
    """Returns height over width of the images that a model takes."""
    height, width = model.input_shape[1:3]
    return height / width


def activation_of(
    model, config: Config, images: Sequence[np.ndarray], map_name: str
) -> np.ndarray:
    """Returns activation maps of images, shape `(num_images, rows, columns)`."""
    from topdb_tf.model.feature_maps import feature_maps

    batches = batches_of(model, config, images)
    return activation_maps(feature_maps(model, batches, name=map_name))


def batches_of(model, config: Config, images: Sequence[np.ndarray]):
    """Returns the `tf.data.Dataset` of images, of any sizes, for a model."""
    from topdb_tf.data.pipeline import evaluation_dataset

    return evaluation_dataset(
        images,
        image_size=tuple(model.input_shape[1:3]),
        batch_size=config.evaluation.batch_size,
    )
