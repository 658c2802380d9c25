"""How far the embeddings of an exported file are from the model's, and its scores."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from topdb_tf.data.decoding import decode_images
from topdb_tf.data.pipeline import evaluation_dataset
from topdb_tf.data.records import Split, pids_of
from topdb_tf.evaluate.embedding import retrieval_set_of
from topdb_tf.evaluate.scores import score_set
from topdb_tf.export.formats import load_file
from topdb_tf.export.probes import compare, draw_probes
from topdb_tf.model.extraction import inference_function
from topdb_tf.model.folding import in_precision
from topdb_tf.progress import progress_bar
from topdb_tf.runs.machine import without_notes
from topdb_tf.runs.settings import Config

_TIMED_BATCH = 32
_TIMED_RUNS = 3

Embed = Callable[[np.ndarray], np.ndarray]


def report(
    embedder,
    path: Path,
    *,
    least_cosine: float,
    scored: tuple[Split, Config] | None,
    max_pids: int | None = None,
) -> dict:
    """Compares an exported file with the model that it was made of.

    Args:
        embedder: `keras.Model` from pixels to embeddings.
        path: The file.
        least_cosine: How alike the embeddings of drawn images must be.
        scored: A data set whose query and gallery are ranked, and its settings.
        max_pids: Most query identities that are ranked; all if it is `None`.

    Returns:
        `mebibytes`; `height`, `width` and `dim`; `source_precision` and `reference`, in
        words; `probes`, on drawn images, with `num_images`, `max_difference` (of an
        embedding's components, absolute), `min_cosine` and `mean_cosine`; `retrieval`
        as of `retrieval_report`, or `None`; `images_per_second` with `source` (Keras,
        in the source's precision and folded as in an evaluation), `file`, `batch_size`
        and `threads`.

    Raises:
        ValueError: If a cosine is below `least_cosine`.
    """
    reference = _reference(embedder)
    probes = _probes(tuple(embedder.input_shape[1:3]))
    with without_notes():
        model = load_file(path)
        # One image alone and the others together: the batch must be free.
        found = np.concatenate([model(probes[:1]), model(probes[1:])])
    differences = compare(found, reference(probes))
    if not differences["min_cosine"] >= least_cosine:
        raise ValueError(
            "The file must give the embeddings of the model: their cosine must be at "
            f"least {least_cosine}. Nothing was written. Try another --precision. "
            f"Received: cosine={differences['min_cosine']:.6f}, largest difference "
            f"{differences['max_difference']:.3g}"
        )
    _, height, width, _ = embedder.input_shape
    retrieval = None
    if scored is not None:
        retrieval = retrieval_report(
            reference,
            model,
            *scored,
            image_size=(height, width),
            max_pids=max_pids,
        )
    return {
        "mebibytes": round(path.stat().st_size / 2**20, 2),
        "height": height,
        "width": width,
        "dim": embedder.output_shape[-1],
        "source_precision": _precision_of(embedder),
        "reference": "the source computed in float32, batch normalisation not folded",
        "probes": {"num_images": len(probes), **differences},
        "retrieval": retrieval,
        "images_per_second": _speeds(embedder, model, probes),
    }


def retrieval_report(
    reference: Embed,
    model: Embed,
    split: Split,
    config: Config,
    *,
    image_size: tuple[int, int],
    max_pids: int | None = None,
) -> dict:
    """Scores two models on the query and gallery of a data set.

    Args:
        reference: Function from pixels to embeddings before.
        model: The one after.
        split: The data set.
        config: Settings of the evaluation.
        image_size: `(height, width)` of their images, in pixels.
        max_pids: Most query identities. Beyond it some are drawn, always the same, and
            only their images are in the gallery: no distractors, so that the scores
            are higher than those of the whole set.

    Returns:
        `dataset`, `max_pids` (`None` where all were ranked), `num_pids`,
        `num_query_images`, `num_gallery_images`, the differences of `compare`, and
        `before`, `after` and `change` with `rank_1` and `mean_ap`, shares.
    """
    pids = np.unique(pids_of(split.query))
    is_limited = max_pids is not None and len(pids) > max_pids
    if is_limited:
        rng = np.random.default_rng(0)
        pids = np.sort(rng.choice(pids, max_pids, replace=False))
        split = _only(split, pids)
    features = _features((reference, model), split, config, image_size)
    options = {"ignore_cameras": config.evaluation.ignore_cameras}
    before, after = (
        _scores(score_set(retrieval_set_of(part, split, **options), config))
        for part in features
    )
    return {
        "dataset": split.name,
        "max_pids": max_pids if is_limited else None,
        "num_pids": len(pids),
        "num_query_images": len(split.query),
        "num_gallery_images": len(split.gallery),
        **compare(features[1], features[0]),
        "before": before,
        "after": after,
        "change": {name: after[name] - before[name] for name in before},
    }


def _reference(embedder):
    """Returns the function of a model, as it was built but computed in float32."""
    model = in_precision(embedder, "float32")
    in_graph = tf.function(model, autograph=False)
    return lambda pixels: in_graph(pixels, training=False).numpy()


def _probes(image_size):
    """Returns the pixels of a few drawn images."""
    with tempfile.TemporaryDirectory() as folder:
        paths = draw_probes(Path(folder))
        batches = evaluation_dataset(paths, image_size=image_size, batch_size=64)
        return np.concatenate([pixels.numpy() for pixels in batches])


def _only(split, pids):
    query, gallery = (
        tuple(record for record in records if record.pid in set(pids.tolist()))
        for records in (split.query, split.gallery)
    )
    return replace(split, query=query, gallery=gallery)


def _features(models, split, config, image_size):
    """Returns the embeddings of queries and gallery by each of the models."""
    paths = [record.path for record in split.query + split.gallery]
    with progress_bar("reading test images") as progress:
        images = decode_images(paths, progress=progress)
    batches = evaluation_dataset(
        images, image_size=image_size, batch_size=config.evaluation.batch_size
    )
    parts, done = [[] for _ in models], 0
    with progress_bar("embedding") as progress:
        for pixels in batches:
            for model, found in zip(models, parts, strict=True):
                found.append(model(pixels.numpy()))
            done += len(pixels)
            progress(done, len(paths))
    return [np.concatenate(found) for found in parts]


def _scores(result):
    scores = result.scores
    return {"rank_1": float(scores.cmc[0]), "mean_ap": float(scores.mean_ap)}


def _precision_of(embedder):
    """Returns the precision of the feature maps, as the model was trained."""
    maps = [layer for layer in embedder.layers if len(layer.output.shape) == 4]
    return maps[-1].compute_dtype


def _speeds(embedder, model, probes):
    pixels = np.resize(probes, (_TIMED_BATCH, *probes.shape[1:]))
    source = inference_function(embedder)
    return {
        "source": _images_per_second(lambda: source(pixels).numpy()),
        "file": _images_per_second(lambda: model(pixels)),
        "batch_size": _TIMED_BATCH,
        "threads": os.cpu_count(),
    }


def _images_per_second(embed):
    embed()  # the first run prepares
    seconds = []
    for _ in range(_TIMED_RUNS):
        start = time.perf_counter()
        embed()
        seconds.append(time.perf_counter() - start)
    return round(_TIMED_BATCH / statistics.median(seconds), 1)
