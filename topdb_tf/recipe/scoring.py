"""Embedding the query and gallery of a split, and scoring them."""

import json
from pathlib import Path

import numpy as np

from topdb_tf.config import Config
from topdb_tf.data.records import Split, camids_of, pids_of
from topdb_tf.progress import progress_bar
from topdb_tf.recipe.datasets import (
    Say,
    facts_of_data,
    is_own,
    read_data,
    scores_file,
    warn_of_trained_images,
)
from topdb_tf.recipe.environment import load_tensorflow
from topdb_tf.retrieval.protocol import (
    Reranking,
    RetrievalResult,
    RetrievalSet,
    score,
)
from topdb_tf.run_folder import RunFolder, model_file, write_whole
from topdb_tf.training.distribution import Distribution, sum_of_workers

REPORTED_RANKS = (1, 5, 10, 20)


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
        numbers = {path: -number for number, path in enumerate(paths, 1)}
        camids = np.array([numbers[path] for path in paths], np.int64)
    return RetrievalSet(
        query_features=features[: len(query)],
        gallery_features=features[len(query) :],
        query_pids=pids_of(query),
        gallery_pids=pids_of(gallery),
        query_camids=camids[: len(query)],
        gallery_camids=camids[len(query) :],
    )


def score_set(retrieval_set: RetrievalSet, config: Config, *, rerank=False):
    """Returns the result of one ranking under the settings of a run."""
    with progress_bar("re-ranking" if rerank else "scoring") as progress:
        return score(
            retrieval_set,
            metric=config.evaluation.metric,
            rerank=Reranking() if rerank else None,
            ignore_cameras=config.evaluation.ignore_cameras,
            progress=progress,
        )


def evaluate(
    run: RunFolder,
    config: Config,
    *,
    dataset: str | None = None,
    best: bool = False,
    rerank: bool = False,
    say: Say | None = None,
) -> dict:
    """Scores a run's model and writes the scores into its folder.

    Args:
        run: Folder of the run.
        config: Its settings.
        dataset: Another data set than the one it was trained on.
        best: Whether to take the model of the best epoch instead of the last.
        rerank: Whether to compute the re-ranked scores too, which
            `config.evaluation.rerank` asks for as well.
        say: Function that shows a line to the user. Defaults to silence.

    Returns:
        What `scores.json` holds: the result's fields, those of
        `topdb_tf.recipe.datasets.facts_of_data`, `model`, and `reranked` with the
        fields of the re-ranked result.

    Raises:
        FileNotFoundError: If the run has no model yet, or the data is missing.
    """
    path = model_file(run, best=best)
    file = scores_file(run, config, dataset, best)
    if is_own(dataset, run):
        dataset = config.data.split
    scores = evaluate_weights(
        path, config, dataset=dataset, rerank=rerank, run=run, say=say
    )
    write_scores(file, scores)
    return scores


def read_scores(
    run: RunFolder, config: Config, *, dataset: str | None = None, best: bool = False
) -> dict | None:
    """Returns the scores that `evaluate` wrote last; none if it was never called.

    Args:
        run: Folder of the run.
        config: Its settings.
        dataset: Another data set than the one it was trained on.
        best: Whether those of the best epoch are meant instead of the last.

    Raises:
        ValueError: If the file is damaged.
    """
    file = scores_file(run, config, dataset, best)
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is no JSON file: {error}. Remove it.") from error


def evaluate_weights(
    weights: Path,
    config: Config,
    *,
    dataset: str,
    rerank: bool = False,
    run: RunFolder | None = None,
    say: Say | None = None,
) -> dict:
    """Returns the scores of a model in a file, as `evaluate` does; writes nothing.

    Args:
        weights: The `.keras` file of an embedder, which has its image size too.
        config: Settings of the data and the evaluation.
        dataset: A benchmark, or the path of one's own images.
        rerank: Whether to compute the re-ranked scores too, which
            `config.evaluation.rerank` asks for as well.
        run: Folder of the run that the model is of, if there is one.
        say: Function that shows a line to the user. Defaults to silence.

    Raises:
        FileNotFoundError: If the file or the data is missing.
        ValueError: If the file holds no embedder.
    """
    if not weights.is_file():
        raise FileNotFoundError(f"There is no model at {weights}.")
    split = read_data(dataset, config, run=run, say=say)
    if run is not None and say is not None and not is_own(dataset, run):
        warn_of_trained_images(run, split, say)
    load_tensorflow()
    from topdb_tf.model.extraction import load_embedder

    embedder = load_embedder(weights)
    retrieval_set = Embeddings(split, config).retrieval_set(embedder)
    results = [score_set(retrieval_set, config)]
    if rerank or config.evaluation.rerank:
        results.append(score_set(retrieval_set, config, rerank=True))
    trained_on = config.data.split if run is not None else None
    facts = facts_of_data(dataset, trained_on)
    return scores_of(results, **facts, model=weights.name)


def scores_of(results: list[RetrievalResult], **facts) -> dict:
    """Returns the fields of a plain and, if there is one, a re-ranked result."""
    scores = {**facts, **results[0].to_dict()}
    if len(results) > 1:
        scores["reranked"] = results[1].to_dict()
    return scores


def write_scores(path: Path, scores: dict) -> None:
    """Writes scores as JSON, whole or not at all."""
    write_whole(path, json.dumps(scores, indent=2) + "\n")


def score_lines(scores: dict) -> list[str]:
    """Returns the scores for people: a line for each kind of them."""
    lines = []
    if scores.get("trained_on") not in (None, scores.get("dataset")):
        lines.append(
            f"trained on {scores['trained_on']}, tested on {scores['dataset']}"
        )
    lines.append(_score_line("", scores))
    if "reranked" in scores:
        lines.append(_score_line("re-ranked: ", scores["reranked"]))
    if "verification" in scores:
        verification = scores["verification"]
        rates = verification["tpr_at_fpr"].items()
        shares = ", ".join(f"TPR {tpr:.1%} at FPR {fpr}" for fpr, tpr in rates)
        rate = verification["equal_error_rate"]
        lines.append(f"same person or not: equal error rate {rate:.2%}, {shares}")
    if scores["protocol"].get("cameras") == "none":
        lines.append(
            "no cameras: matches by the same camera count; the query image itself does "
            "not"
        )
    return lines


def _score_line(title, scores):
    ranks = [f"rank-{rank} {_share(scores, rank)}" for rank in REPORTED_RANKS]
    return (
        f"{title}mAP {scores['mean_ap']:.1%}, mINP {scores['mean_inp']:.1%}, "
        f"{', '.join(ranks)} ({scores['num_valid_queries']:,} valid queries)"
    )


def _share(scores, rank):
    # A gallery smaller than the rank has found what it can before it ends.
    ranks = [int(text) for text in scores["cmc"] if int(text) <= rank]
    return f"{scores['cmc'][str(max(ranks))]:.1%}"
