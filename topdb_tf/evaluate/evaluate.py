"""Embedding the query and gallery of a split, and scoring them."""

from pathlib import Path

from topdb_tf.evaluate.embedding import Embeddings
from topdb_tf.evaluate.scores import score_set, scores_file, scores_of, write_scores
from topdb_tf.runs.data import (
    Say,
    facts_of_data,
    is_own,
    read_data,
    warn_of_trained_images,
)
from topdb_tf.runs.folder import RunFolder, model_file
from topdb_tf.runs.machine import load_tensorflow
from topdb_tf.runs.settings import Config


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
        `topdb_tf.runs.data.facts_of_data`, `model`, and `reranked` with the
        fields of the re-ranked result.

    Raises:
        FileNotFoundError: If the run has no model yet, or the data is missing.
    """
    path = model_file(run, best=best)
    file = scores_file(run, config, dataset, best)
    if is_own(dataset, run):
        dataset = config.data.dataset
    scores = evaluate_weights(
        path, config, dataset=dataset, rerank=rerank, run=run, say=say
    )
    write_scores(file, scores)
    return scores


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
    trained_on = config.data.dataset if run is not None else None
    facts = facts_of_data(dataset, trained_on)
    return scores_of(results, **facts, model=weights.name)
