"""A run's model on a data set, scored and ranked for a report."""

import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from topdb_tf.data.records import Split
from topdb_tf.evaluate.embedding import Embedded, embed_run
from topdb_tf.evaluate.evaluate import scores_by_data_set
from topdb_tf.evaluate.scores import Scores, score_set
from topdb_tf.progress import progress_bar
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.protocol import Reranking, RetrievalResult
from topdb_tf.retrieval.rank_lists import RankLists, ranked_lists
from topdb_tf.runs.folder import Run
from topdb_tf.runs.settings import Config, EvaluationConfig


class Ranking(NamedTuple):
    """One way to rank, `plain` or `re-ranked`, and the first images of its lists.

    Images by the query's own camera are among them, which the protocol does not rank.
    """

    name: str
    result: RetrievalResult
    lists: RankLists


class Measured(NamedTuple):
    """What came out of a run's model, and the seconds that each part took.

    The second ranking, if it was asked for, is the re-ranked one. Of several data sets
    the rankings are of all as one, and the scores of each by itself come besides.
    """

    embedded: Embedded
    rankings: tuple[Ranking, ...]
    seconds: dict[str, float]
    data_sets: tuple[Scores, ...] = ()

    @property
    def run(self) -> Run:
        """The run."""
        return self.embedded.run

    @property
    def config(self) -> Config:
        """Settings that it was measured with."""
        return self.run.config

    @property
    def split(self) -> Split:
        """The data set."""
        return self.embedded.split

    @property
    def images(self) -> RetrievalSet:
        """Embeddings and identities."""
        return self.embedded.images

    @property
    def plain(self) -> Ranking:
        """The ranking by the distances of the embeddings."""
        return self.rankings[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of how the images were read."""
        return tuple(note.removeprefix("warning: ") for note in self.embedded.notes)

    @property
    def scores(self) -> Scores:
        """The scores, as `scores.json` holds them."""
        results = [ranking.result for ranking in self.rankings]
        return Scores(
            *results,
            origin=self.embedded.origin,
            model=self.embedded.model.name,
            model_sha256=self.embedded.model_sha256,
            choice=self.embedded.choice,
            data_sets=self.data_sets,
        )


class Stopwatch:
    """Seconds by part, in the order in which the parts end, after those `before`."""

    def __init__(self, before: Mapping[str, float] | None = None):
        self.seconds = dict(before or {})
        self._start = time.perf_counter()

    def lap(self, part: str) -> None:
        """Ends a part, which began where the last one ended."""
        now = time.perf_counter()
        self.seconds[part] = round(now - self._start, 3)
        self._start = now


def measure(
    run: Run,
    dataset: str | None = None,
    *,
    best: bool = False,
    rerank: bool = True,
    top: int = 10,
) -> Measured:
    """Ranks the test images of a data set by a run's model, under the run's settings.

    A list holds at least `top` ranked images.
    """
    watch = Stopwatch()
    embedded = embed_run(run, dataset, best=best)
    watch.lap("embedding")
    rankings = []
    for name in ("plain", "re-ranked") if rerank else ("plain",):
        rankings.append(_ranking(name, embedded.images, run.config, top))
        watch.lap(f"ranking, {name}")
    by_data_set = scores_by_data_set(
        embedded.images, embedded.split, run.config, rerank=rerank
    )
    return Measured(embedded, tuple(rankings), watch.seconds, by_data_set)


def list_set(
    images: RetrievalSet,
    evaluation: EvaluationConfig,
    *,
    k: int,
    rerank: bool = False,
    with_junk: bool = False,
) -> RankLists:
    """Returns the first `k` images of every ranking by some settings.

    With junk, images of the query's person by its own camera are listed, not ranked.
    """
    title = f"ranked lists, {'re-ranked' if rerank else 'plain'}"
    with progress_bar(title) as progress:
        return ranked_lists(
            images,
            metric=evaluation.metric,
            k=k,
            rerank=Reranking() if rerank else None,
            ignore_cameras=evaluation.ignore_cameras,
            with_junk=with_junk,
            progress=progress,
        )


def _ranking(name, images, config, top):
    again = name == "re-ranked"
    result = score_set(images, config, rerank=again)
    k = top + _most_junk(images, config.evaluation.ignore_cameras)
    lists = list_set(images, config.evaluation, k=k, rerank=again, with_junk=True)
    return Ranking(name, result, lists)


def _most_junk(images, ignore_cameras):
    """Returns the most images that one query's own camera has of its person."""
    if ignore_cameras:
        return 0
    seen, counts = np.unique(
        np.stack([images.gallery_pids, images.gallery_camids], axis=1),
        axis=0,
        return_counts=True,
    )
    by_pair = dict(zip(map(tuple, seen.tolist()), counts.tolist(), strict=True))
    pairs = zip(images.query_pids.tolist(), images.query_camids.tolist(), strict=True)
    return max(by_pair.get(pair, 0) for pair in pairs)
