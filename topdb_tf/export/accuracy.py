"""What an exported model costs: its scores on a data set, and how fast it is."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np

from topdb_tf.data.records import Split, pids_of
from topdb_tf.evaluate.embedding import retrieval_set_of
from topdb_tf.evaluate.scores import score_set
from topdb_tf.export.probes import Differences, compare
from topdb_tf.progress import progress_bar
from topdb_tf.runs.settings import Config

_TIMED_BATCH = 32
_TIMED_RUNS = 3

Embed = Callable[[np.ndarray], np.ndarray]
"""From pixels `(batch, height, width, 3)` to embeddings `(batch, dim)`."""


@dataclass(frozen=True)
class HeadlineScores:
    """The two scores of the paper's tables, as shares or as a change of shares."""

    rank_1: float
    mean_ap: float


@dataclass(frozen=True)
class RetrievalChange(Differences):
    """What an export changes on a data set, from the source in float32.

    `max_pids` is `None` where all query identities were ranked. Otherwise so many were
    drawn, with their images alone in the gallery.
    """

    dataset: str
    max_pids: int | None
    num_pids: int
    num_query_images: int
    num_gallery_images: int
    before: HeadlineScores
    after: HeadlineScores
    change: HeadlineScores


@dataclass(frozen=True)
class Speeds:
    """Images a second from pixels to embeddings, by Keras and by the file's runtime.

    Keras computes in the source's precision, folded as in an evaluation.
    """

    source: float
    file: float
    batch_size: int
    threads: int


def retrieval_change(
    before: Embed,
    after: Embed,
    split: Split,
    config: Config,
    *,
    image_size: tuple[int, int],
    max_pids: int | None,
) -> RetrievalChange:
    """Scores a model before and after its export on the test images of a data set.

    Where there are more than `max_pids` query identities, so many are drawn, always the
    same, and only their images are in the gallery: no distractors, so that the scores
    are higher than those of the whole set.
    """
    pids = np.unique(pids_of(split.query))
    is_limited = max_pids is not None and len(pids) > max_pids
    if is_limited:
        rng = np.random.default_rng(0)
        pids = np.sort(rng.choice(pids, max_pids, replace=False))
        split = _only(split, pids)
    features = _features((before, after), split, config, image_size)
    old, new = (_headline(one, split, config) for one in features)
    return RetrievalChange(
        **asdict(compare(features[1], features[0])),
        dataset=split.name,
        max_pids=max_pids if is_limited else None,
        num_pids=len(pids),
        num_query_images=len(split.query),
        num_gallery_images=len(split.gallery),
        before=old,
        after=new,
        change=HeadlineScores(new.rank_1 - old.rank_1, new.mean_ap - old.mean_ap),
    )


def speeds(embedder, exported: Embed, pixels: np.ndarray) -> Speeds:
    """Times a model and its export on a batch of repeated images."""
    from topdb_tf.model.extraction import inference_function

    pixels = np.resize(pixels, (_TIMED_BATCH, *pixels.shape[1:]))
    source = inference_function(embedder)
    return Speeds(
        source=_images_per_second(lambda: source(pixels).numpy()),
        file=_images_per_second(lambda: exported(pixels)),
        batch_size=_TIMED_BATCH,
        threads=os.cpu_count(),
    )


def _only(split, pids):
    kept = set(pids.tolist())
    query, gallery = (
        tuple(record for record in records if record.pid in kept)
        for records in (split.query, split.gallery)
    )
    return replace(split, query=query, gallery=gallery)


def _features(models, split, config, image_size):
    """Returns the embeddings of queries and gallery by each of the models."""
    from topdb_tf.data.decoding import decode_images
    from topdb_tf.data.pipeline import evaluation_dataset

    paths = [record.path for record in split.query + split.gallery]
    with progress_bar("reading test images") as progress:
        images = decode_images(paths, progress=progress)
    batches = evaluation_dataset(
        images, image_size=image_size, batch_size=config.evaluation.batch_size
    )
    embeddings, done = [[] for _ in models], 0
    with progress_bar("embedding") as progress:
        for pixels in batches:
            for model, parts in zip(models, embeddings, strict=True):
                parts.append(model(pixels.numpy()))
            done += len(pixels)
            progress(done, len(paths))
    return [np.concatenate(parts) for parts in embeddings]


def _headline(features, split, config):
    ignore_cameras = config.evaluation.ignore_cameras
    retrieval_set = retrieval_set_of(features, split, ignore_cameras=ignore_cameras)
    scores = score_set(retrieval_set, config).scores
    return HeadlineScores(rank_1=float(scores.cmc[0]), mean_ap=float(scores.mean_ap))


def _images_per_second(embed):
    embed()  # the first run prepares
    seconds = []
    for _ in range(_TIMED_RUNS):
        start = time.perf_counter()
        embed()
        seconds.append(time.perf_counter() - start)
    return round(_TIMED_BATCH / statistics.median(seconds), 1)
