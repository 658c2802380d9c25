"""The test images of a data set, embedded by a model."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from topdb_tf.data.records import Split, camids_of, pids_of
from topdb_tf.progress import progress_bar
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.matches import image_numbers
from topdb_tf.runs.data import Say, facts_of_data, is_own, read_data
from topdb_tf.runs.folder import RunFolder, model_file
from topdb_tf.runs.machine import load_tensorflow
from topdb_tf.runs.settings import Config
from topdb_tf.training.distribution import Distribution, sum_of_workers


class Embeddings:
    """Makes the embeddings of a split's test images, decoding them only once.

    Args:
        split: The split whose query and gallery are embedded.
        config: Settings of the images and the batch.
        distribution: The devices that embed, each worker its part of the images.
    """

    def __init__(
        self, split: Split, config: Config, distribution: Distribution | None = None
    ):
        self.split = split
        self.config = config
        self.distribution = distribution or Distribution()
        self._images = None

    def retrieval_set(self, embedder) -> RetrievalSet:
        """Returns the features of query and gallery with their pids and cameras."""
        from topdb_tf.data.decoding import decode_images

        split = self.split
        paths = [record.path for record in split.query + split.gallery]
        own = self.distribution.own_part(len(paths))
        if self._images is None:
            with progress_bar("reading test images") as progress:
                self._images = decode_images(paths[own], progress=progress)
        features = np.zeros((len(paths), embedder.output_shape[-1]), np.float32)
        features[own] = self._features(embedder)
        features = sum_of_workers(self.distribution, features)
        return retrieval_set_of(
            features,
            split,
            ignore_cameras=self.config.evaluation.ignore_cameras,
        )

    def _features(self, embedder):
        from topdb_tf.data.pipeline import evaluation_dataset
        from topdb_tf.model.extraction import extract_embeddings

        batches = evaluation_dataset(
            self._images,
            image_size=tuple(embedder.input_shape[1:3]),
            batch_size=self.config.evaluation.batch_size,
        )
        with progress_bar("embedding") as progress:
            return extract_embeddings(
                embedder,
                batches,
                num_images=len(self._images),
                devices=self.distribution.devices,
                progress=progress,
            )


def retrieval_set_of(
    features: np.ndarray, split: Split, *, ignore_cameras: bool = False
) -> RetrievalSet:
    """Returns what is scored.

    Where no cameras are known, or where they are ignored and a query is in the gallery
    as well, images are numbered instead, so that none is its own match.

    Args:
        features: Of the queries and then the gallery, shape `(num_images, dim)`.
        split: The data set.
        ignore_cameras: Whether matches by the query's own camera count.
    """
    query, gallery = split.query, split.gallery
    paths = [record.path for record in query + gallery]
    camids = camids_of(query + gallery)
    is_twice = not {*paths[: len(query)]}.isdisjoint(paths[len(query) :])
    if not split.has_cameras or (ignore_cameras and is_twice):
        camids = image_numbers(paths)
    return RetrievalSet(
        query_features=features[: len(query)],
        gallery_features=features[len(query) :],
        query_pids=pids_of(query),
        gallery_pids=pids_of(gallery),
        query_camids=camids[: len(query)],
        gallery_camids=camids[len(query) :],
    )


class Embedded(NamedTuple):
    """The test images of a data set, embedded by a run's model.

    Args:
        images: Features and identities. Where no cameras are known their camids are
            negative, one an image.
        split: The data set.
        facts: `run`, `model`, `dataset` and what else
            `topdb_tf.runs.data.facts_of_data` tells.
    """

    images: RetrievalSet
    split: Split
    facts: dict


def embed_run(
    run: RunFolder,
    config: Config,
    *,
    dataset: str | None = None,
    best: bool = False,
    choose: Callable[[Split], Split] = lambda split: split,
    say: Say | None = None,
) -> Embedded:
    """Returns the embeddings of test images by a run's model, and what they are of.

    Args:
        run: Folder of the run.
        config: Its settings.
        dataset: Another data set than the one it was trained on: a benchmark, or the
            path of one's own images.
        best: Whether to take the model of the best epoch instead of the last.
        choose: Function from the split to the one that is embedded.
        say: Function that shows a line to the user. Defaults to silence.

    Raises:
        FileNotFoundError: If the run has no model yet, or the data is missing.
    """
    model = model_file(run, best=best)
    if is_own(dataset, run):
        dataset = config.data.dataset
    split = choose(read_data(dataset, config, run=run, say=say))
    load_tensorflow()
    from topdb_tf.model.extraction import load_embedder

    images = Embeddings(split, config).retrieval_set(load_embedder(model))
    facts = {"run": str(run.path), "model": model.name}
    return Embedded(images, split, facts | facts_of_data(dataset, config.data.dataset))
