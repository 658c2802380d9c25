"""Scoring a model on the query and gallery of a data set."""

import functools
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.data.checks.split import check_test
from topdb_tf.data.records import Split, tracklets_of
from topdb_tf.data.sightings import check_tracks
from topdb_tf.evaluate.embedding import (
    Embedder,
    embed_run,
    retrieval_set_of,
    scored_camids,
)
from topdb_tf.evaluate.scores import (
    Scores,
    read_scores_file,
    score_set,
    scores_file,
    write_scores,
)
from topdb_tf.files import user_path
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.postprocessing import (
    POOLS,
    CameraNormalization,
    check_cameras,
    pool,
)
from topdb_tf.retrieval.protocol import RetrievalResult
from topdb_tf.runs.data import DataOrigin, origin_of, read_data
from topdb_tf.runs.folder import Run, open_run
from topdb_tf.runs.machine import load_tensorflow
from topdb_tf.runs.models import check_model, find_model
from topdb_tf.runs.settings import Config
from topdb_tf.texts import Say, check_one_of, counted, listed, silent


def evaluate(
    run: Run | str | PathLike,
    dataset: str | None = None,
    *,
    best: bool = False,
    rerank: bool = False,
    validation: bool = False,
    normalize_cameras: bool | CameraNormalization = False,
    tracklets: str | None = None,
    say: Say = silent,
) -> Scores:
    """Scores a run's model and writes the scores into its folder.

    Re-ranked scores that the folder holds of the same model, images and protocol stay
    where they are not computed anew.

    Args:
        run: The run, or its folder.
        dataset: Another data set than the one it was trained on.
        best: Whether to take the model of the best epoch instead of the last.
        rerank: Whether to compute the re-ranked scores too, which the setting
            `evaluation.rerank` asks for as well.
        validation: Whether to take the identities that the run held out of its training
            (`data.validation_share`) instead of the test.
        normalize_cameras: As of `topdb_tf.score`.
        tracklets: How test images are pooled by track first, as of `topdb_tf.pool`.
            Scores by either have a file of their own.
        say: Function that shows a line to the user.

    Raises:
        FileNotFoundError: If the run has no model yet, or the data is missing.
        ValueError: If the data cannot be scored.
    """
    if not isinstance(run, Run):
        run = open_run(user_path(run), say=say)
    normalize = CameraNormalization.of(normalize_cameras)
    chosen = {"normalize_cameras": normalize, "tracklets": tracklets}
    check = functools.partial(_check, config=run.config, **chosen)
    embedded = embed_run(
        run, dataset, best=best, validation=validation, check=check, say=say
    )
    scores = replace(
        scores_of(embedded.images, embedded.split, run.config, rerank=rerank, **chosen),
        origin=embedded.origin,
        model=embedded.model.name,
        model_sha256=embedded.model_sha256,
        part=embedded.part,
        choice=embedded.choice,
    )
    file = scores_file(
        run,
        dataset,
        best=best,
        validation=validation,
        changes=scores.plain.protocol.changes(),
    )
    if scores.reranked is None:
        scores = _with_reranked_before(file, scores)
    write_scores(file, scores)
    return scores


def evaluate_weights(
    weights: Path,
    config: Config,
    dataset: str,
    *,
    rerank: bool = False,
    normalize_cameras: bool | CameraNormalization = False,
    tracklets: str | None = None,
    say: Say = silent,
) -> Scores:
    """Returns the scores of a model by its name; writes nothing.

    Names are those of `topdb_tf.runs.models.find_model`. The re-ranked scores may be
    asked for by `rerank` or by the setting `evaluation.rerank`.
    """
    model = find_model(weights)
    check_model(weights if model is None else model)
    split = read_data(dataset, config, say=say)
    normalize = CameraNormalization.of(normalize_cameras)
    _check(split, config, normalize, tracklets)
    load_tensorflow()
    from topdb_tf.model.extraction import load_embedder

    scores = scores_of(
        Embedder(split, config).retrieval_set(load_embedder(model)),
        split,
        config,
        rerank=rerank,
        normalize_cameras=normalize,
        tracklets=tracklets,
    )
    return replace(scores, origin=origin_of(dataset, None), model=weights.name)


def scores_of(
    images: RetrievalSet,
    split: Split,
    config: Config,
    *,
    rerank: bool = False,
    plain: RetrievalResult | None = None,
    **chosen,
) -> Scores:
    """Returns the scores of a data set, or of several as one and of each by itself.

    Args:
        images: The test images of the data set.
        split: The data set.
        config: Settings that it is scored by; `evaluation.rerank` asks for re-ranking.
        rerank: Whether to compute the re-ranked scores too.
        plain: The plain ones, where they are there already.
        **chosen: `normalize_cameras` and `tracklets` of `evaluate`.
    """
    rerank, reranked = rerank or config.evaluation.rerank, None
    data_sets = scores_by_data_set(images, split, config, rerank=rerank, **chosen)
    if how := chosen.get("tracklets"):
        features = np.concatenate(images[:2])
        features, pooled, chosen["tracklets"] = pool_split(features, split, how)
        ignore_cameras = config.evaluation.ignore_cameras
        images = retrieval_set_of(features, pooled, ignore_cameras=ignore_cameras)
    plain = plain or score_set(images, config, **chosen)
    if rerank:
        reranked = score_set(images, config, rerank=True, **chosen)
    return Scores(plain, reranked, identities=images.identities, data_sets=data_sets)


def scores_by_data_set(
    images: RetrievalSet, split: Split, config: Config, **chosen
) -> tuple[Scores, ...]:
    """Returns the scores of each of several data sets by itself; none of one alone.

    What can be chosen is as of `scores_of`.
    """
    scores, queries, gallery = [], 0, 0
    for part in split.parts:
        ends = queries + len(part.query), gallery + len(part.gallery)
        own = images.take(slice(queries, ends[0]), slice(gallery, ends[1]))
        of_part = scores_of(own, part, config, **chosen)
        scores.append(replace(of_part, origin=DataOrigin(part.name)))
        queries, gallery = ends
    return tuple(scores)


class PooledSplit(NamedTuple):
    """Test images by track, with features, and what the protocol says of it, if so."""

    features: np.ndarray
    split: Split
    protocol: str | None


def pool_split(features: np.ndarray, split: Split, how: str | None) -> PooledSplit:
    """Returns the test images of a data set pooled by track, queries and gallery apart.

    An image of no track is one by itself. Where the gallery has no tracks, queries
    alone are pooled: the multi-query protocol.

    Args:
        features: Of the queries and then of the gallery.
        split: The data set.
        how: One of `topdb_tf.retrieval.postprocessing.POOLS`; `None` leaves all as is.
    """
    if how is None:
        return PooledSplit(features, split, None)
    count, is_of_both = len(split.query), any(one.tracklet for one in split.gallery)
    vectors, records = [], []
    for own, part in (features[:count], split.query), (features[count:], split.gallery):
        tracks = pool(own, tracklets_of(part), how=how)
        vectors.append(tracks.features)
        records.append(tuple(part[row] for row in tracks.rows))
    split = replace(split, query=records[0], gallery=records[1])
    protocol = f"{'tracks' if is_of_both else 'multi-query'}, {how}"
    return PooledSplit(np.concatenate(vectors), split, protocol)


def check_pooling(
    split: Split, how: str | None, *, ignore_cameras: bool = False
) -> None:
    """Raises `ValueError` unless the test images of a data set can be pooled by track.

    A track in both parts is no match of itself as long as cameras count.
    """
    if how is None:
        return
    check_one_of("tracklets", how, POOLS)
    test = split.query + split.gallery
    tracks = [{one.tracklet for one in part} for part in (split.query, split.gallery)]
    if tracks[0] | tracks[1] <= {None}:
        raise ValueError(
            "To be pooled, images must be of tracks: a column `tracklet` in a CSV "
            "file, or a level of folders, as --layout person/tracklet. "
            f"Received: {split.name}, {counted(len(test), 'image')} of no track"
        )
    check_tracks(
        ((one.tracklet, one.pid, one.camid, one.path.name) for one in test), split.name
    )
    both = tracks[0] & tracks[1] - {None}
    if both and (ignore_cameras or not split.has_cameras):
        raise ValueError(
            f"{split.name}: without cameras a track must be a query or in the gallery, "
            f"as it would find itself. Received in both: {listed(sorted(both))}"
        )


def _check(split, config, normalize_cameras, tracklets):
    """Checks what can be known before images are embedded."""
    ignore_cameras = config.evaluation.ignore_cameras
    check_test(split, ignore_cameras=ignore_cameras)
    if normalize_cameras is not None:
        check_cameras(scored_camids(split, ignore_cameras=ignore_cameras))
    for part in split.data_sets:
        check_pooling(part, tracklets, ignore_cameras=ignore_cameras)


def _with_reranked_before(file, scores):
    """Returns scores with the re-ranked ones of a file of the same ranking, if any."""
    try:
        before = read_scores_file(file)
    except ValueError:
        return scores  # it is about to be replaced
    if before is None or before.plain.protocol != scores.plain.protocol:
        return scores
    if before.model_sha256 is None:  # written by an older version
        is_same = before.plain.scores.mean_ap == scores.plain.scores.mean_ap
    else:
        is_same = before.model_sha256 == scores.model_sha256
    if not is_same or before.model != scores.model:
        return scores
    data_sets = tuple(
        replace(one, reranked=of_before.reranked)
        for one, of_before in zip(scores.data_sets, before.data_sets, strict=True)
    )
    return replace(scores, reranked=before.reranked, data_sets=data_sets)
