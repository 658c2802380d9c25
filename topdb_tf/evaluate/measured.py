"""A run's model on a data set: embedded once, scored and ranked for a report."""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.data.benchmarks import dataset_name
from topdb_tf.data.records import Split
from topdb_tf.evaluate.embedding import Embeddings
from topdb_tf.evaluate.scores import score_set
from topdb_tf.progress import progress_bar
from topdb_tf.retrieval.protocol import Reranking, RetrievalResult, RetrievalSet
from topdb_tf.retrieval.rank_lists import RankLists, ranked_lists
from topdb_tf.runs.data import is_own, read_data, warn_of_trained_images
from topdb_tf.runs.folder import RunFolder, model_file
from topdb_tf.runs.machine import load_tensorflow
from topdb_tf.runs.settings import Config


class Ranking(NamedTuple):
    """One way to rank, its scores and the first images of its lists.

    Args:
        name: `plain` or `re-ranked`.
        result: Scores with their protocol.
        lists: The first images of every query, images by the query's own camera
            among them, which the protocol does not rank.
    """

    name: str
    result: RetrievalResult
    lists: RankLists


class Measured(NamedTuple):
    """What came out of a run's model.

    Args:
        run: Folder of the run.
        config: Its settings.
        model: File of the model.
        split: The data set.
        retrieval_set: Embeddings and identities.
        rankings: The plain one and, if asked for, the re-ranked one.
        is_own: Whether it is the data set that the run was trained on.
        notes: What the user should know of how the images were read.
        seconds: Seconds by part.
    """

    run: RunFolder
    config: Config
    model: Path
    split: Split
    retrieval_set: RetrievalSet
    rankings: tuple[Ranking, ...]
    is_own: bool
    notes: tuple[str, ...]
    seconds: dict[str, float]

    @property
    def plain(self) -> Ranking:
        """The ranking by the distances of the embeddings."""
        return self.rankings[0]

    @property
    def trained_on(self) -> str:
        """Short name of the data set that the run was trained on."""
        return dataset_name(self.config.data.dataset)

    @property
    def scores(self) -> dict:
        """The plain scores, as in `scores.json`."""
        return self.plain.result.to_dict()


class Stopwatch:
    """Seconds by part, in the order in which the parts end."""

    def __init__(self):
        self.seconds = {}
        self._start = time.perf_counter()

    def lap(self, part: str) -> None:
        """Ends a part, which began where the last one ended."""
        now = time.perf_counter()
        self.seconds[part] = round(now - self._start, 3)
        self._start = now


def measure(
    run: RunFolder,
    config: Config,
    *,
    dataset: str | None = None,
    best: bool = False,
    rerank: bool = True,
    top: int = 10,
) -> Measured:
    """Embeds a data set by a run's model, and ranks it.

    Args:
        run: Folder of the run.
        config: Its settings; metric and cameras are those of `config.evaluation`.
        dataset: Another data set than the one it was trained on: a benchmark, or the
            path of one's own images.
        best: Whether to take the model of the best epoch instead of the last.
        rerank: Whether to rank by k-reciprocal re-ranked distances too.
        top: Number of ranked images that a list must hold.

    Raises:
        FileNotFoundError: If the run has no model yet, or the data is missing.
        ValueError: If the data cannot be scored.
    """
    model = model_file(run, best=best)
    watch, notes = Stopwatch(), []
    own = is_own(dataset, run)
    dataset = config.data.dataset if own else dataset
    split = read_data(dataset, config, run=run, say=notes.append)
    if not own:
        warn_of_trained_images(run, split, notes.append)
    load_tensorflow()
    from topdb_tf.model.extraction import load_embedder

    embedder = load_embedder(model)
    watch.lap("loading")
    retrieval_set = Embeddings(split, config).retrieval_set(embedder)
    watch.lap("embedding")
    rankings = []
    for name in ("plain", "re-ranked") if rerank else ("plain",):
        rankings.append(_ranking(name, retrieval_set, config, top))
        watch.lap(f"ranking, {name}")
    return Measured(
        run=run,
        config=config,
        model=model,
        split=split,
        retrieval_set=retrieval_set,
        rankings=tuple(rankings),
        is_own=own,
        notes=tuple(note.removeprefix("warning: ") for note in notes),
        seconds=watch.seconds,
    )


def list_set(
    retrieval_set: RetrievalSet, config: Config, *, rerank=False, **options
) -> RankLists:
    """Returns the first images of every ranking under the settings of a run.

    Args:
        retrieval_set: Features and identities.
        config: Settings of the run.
        rerank: Whether the distances are re-ranked.
        **options: `k` and `with_junk` of `topdb_tf.retrieval.rank_lists.ranked_lists`.
    """
    title = f"ranked lists, {'re-ranked' if rerank else 'plain'}"
    with progress_bar(title) as progress:
        return ranked_lists(
            retrieval_set,
            metric=config.evaluation.metric,
            rerank=Reranking() if rerank else None,
            ignore_cameras=config.evaluation.ignore_cameras,
            progress=progress,
            **options,
        )


def _ranking(name, retrieval_set, config, top):
    again = name == "re-ranked"
    result = score_set(retrieval_set, config, rerank=again)
    k = top + _most_junk(retrieval_set, config.evaluation.ignore_cameras)
    lists = list_set(retrieval_set, config, rerank=again, k=k, with_junk=True)
    return Ranking(name, result, lists)


def _most_junk(retrieval_set, ignore_cameras):
    """Returns the most images that one query's own camera has of its person."""
    if ignore_cameras:
        return 0
    known = retrieval_set.identities
    seen, counts = np.unique(
        np.stack([known.gallery_pids, known.gallery_camids], axis=1),
        axis=0,
        return_counts=True,
    )
    by_pair = dict(zip(map(tuple, seen.tolist()), counts.tolist(), strict=True))
    pairs = zip(known.query_pids.tolist(), known.query_camids.tolist(), strict=True)
    return max(by_pair.get(pair, 0) for pair in pairs)
