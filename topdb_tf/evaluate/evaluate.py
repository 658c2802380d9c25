"""Scoring a model on the query and gallery of a data set."""

import functools
from dataclasses import replace
from os import PathLike
from pathlib import Path

from topdb_tf.data.checks.split import check_test
from topdb_tf.evaluate.embedding import Embedder, embed_run, scored_camids
from topdb_tf.evaluate.scores import (
    Scores,
    read_scores_file,
    score_set,
    scores_file,
    write_scores,
)
from topdb_tf.files import user_path
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.postprocessing import CameraNormalization, check_cameras
from topdb_tf.runs.data import origin_of, read_data
from topdb_tf.runs.folder import Run, open_run
from topdb_tf.runs.machine import load_tensorflow
from topdb_tf.runs.models import check_model, find_model
from topdb_tf.runs.settings import Config
from topdb_tf.texts import Say, silent


def evaluate(
    run: Run | str | PathLike,
    dataset: str | None = None,
    *,
    best: bool = False,
    rerank: bool = False,
    validation: bool = False,
    normalize_cameras: bool | CameraNormalization = False,
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
        normalize_cameras: As of `topdb_tf.score`; such scores have a file of their own.
        say: Function that shows a line to the user.

    Raises:
        FileNotFoundError: If the run has no model yet, or the data is missing.
        ValueError: If the data cannot be scored.
    """
    if not isinstance(run, Run):
        run = open_run(user_path(run), say=say)
    normalize = CameraNormalization.of(normalize_cameras)
    check = functools.partial(_check, config=run.config, normalize=normalize)
    embedded = embed_run(
        run, dataset, best=best, validation=validation, check=check, say=say
    )
    scores = replace(
        _scores_of(embedded.images, run.config, rerank, normalize),
        identities=embedded.images.identities,
        origin=embedded.origin,
        model=embedded.model.name,
        model_sha256=embedded.model_sha256,
        part=embedded.part,
        choice=embedded.choice,
    )
    chosen = {"best": best, "validation": validation, "normalize_cameras": normalize}
    file = scores_file(run, dataset, **chosen)
    if scores.reranked is None:
        scores = replace(scores, reranked=_reranked_before(file, scores))
    write_scores(file, scores)
    return scores


def evaluate_weights(
    weights: Path,
    config: Config,
    dataset: str,
    *,
    rerank: bool = False,
    normalize_cameras: bool | CameraNormalization = False,
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
    _check(split, config, normalize)
    load_tensorflow()
    from topdb_tf.model.extraction import load_embedder

    images = Embedder(split, config).retrieval_set(load_embedder(model))
    return replace(
        _scores_of(images, config, rerank, normalize),
        origin=origin_of(dataset, None),
        model=weights.name,
    )


def _check(split, config, normalize):
    """Checks what can be known before images are embedded."""
    ignore_cameras = config.evaluation.ignore_cameras
    check_test(split, ignore_cameras=ignore_cameras)
    if normalize is not None:
        check_cameras(scored_camids(split, ignore_cameras=ignore_cameras))


def _scores_of(images: RetrievalSet, config: Config, rerank: bool, normalize) -> Scores:
    chosen = {"normalize_cameras": normalize}
    plain, reranked = score_set(images, config, **chosen), None
    if rerank or config.evaluation.rerank:
        reranked = score_set(images, config, rerank=True, **chosen)
    return Scores(plain, reranked)


def _reranked_before(file, scores):
    """Returns the re-ranked result that a file holds of the same ranking, if any."""
    try:
        before = read_scores_file(file)
    except ValueError:
        return None  # it is about to be replaced
    if before is None or before.plain.protocol != scores.plain.protocol:
        return None
    if before.model_sha256 is None:  # written by an older version
        is_same = before.plain.scores.mean_ap == scores.plain.scores.mean_ap
    else:
        is_same = before.model_sha256 == scores.model_sha256
    return before.reranked if is_same and before.model == scores.model else None
