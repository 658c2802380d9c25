"""What a comparison of runs says in words and tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from topdb_tf.evaluate.averages import Spread, mean_metrics
from topdb_tf.evaluate.measured import Measured
from topdb_tf.evaluate.scores import METRICS, Scores
from topdb_tf.evaluate.trainings import Training
from topdb_tf.files import plain
from topdb_tf.fit.info import run_info
from topdb_tf.report.words import warnings_of
from topdb_tf.retrieval.pairs.paired import PairedDifference, paired_difference
from topdb_tf.retrieval.protocol import Protocol, RetrievalResult
from topdb_tf.runs.recipes import FREE_SETTINGS, flat_settings, yaml_text
from topdb_tf.texts import Table, signed

_ENVIRONMENT = ("precision", "device", "topdb_tf", "git_commit")


@dataclass(frozen=True)
class Compared:
    """One of the trainings that are compared, by a letter.

    Its first run was measured; scores are by the folder of each of its runs.
    """

    letter: str
    training: Training
    measured: Measured
    scores: Mapping[Path, Scores]

    @property
    def label(self) -> str:
        """Its short name and the name of its folder."""
        return f"{self.letter}: {self.training.label}"

    @property
    def has_reranked(self) -> bool:
        """Whether there are re-ranked scores too."""
        return self.measured.scores.reranked is not None

    @property
    def protocol(self) -> Protocol:
        """The protocol that its first run was scored by."""
        return self.measured.plain.result.protocol

    def results(self, *, reranked: bool) -> Mapping[Path, RetrievalResult]:
        """Returns the re-ranked or the plain results by the folder of the run."""
        return {
            path: scores.result(reranked=reranked)
            for path, scores in self.scores.items()
        }


class ScoreBeside(NamedTuple):
    """A score of a training, and how far its mean is from the first training's.

    There is no such difference of the first itself, and where it is not comparable.
    """

    spread: Spread
    difference: float | None

    def __str__(self):
        """Returns the mean with deviation and difference, in percent."""
        if self.difference is None:
            return str(self.spread)
        return f"{self.spread} ({signed(self.difference)})"

    def to_dict(self) -> dict:
        """Returns what belongs in JSON."""
        return {**plain(self.spread), "difference": self.difference}


class QueryDifference(NamedTuple):
    """How the queries of the first training fare in another one, told by its letter.

    The other alone is right at rank 1 where it gained, the first where it lost.
    """

    letter: str
    precision: PairedDifference
    rank_1_gained: int
    rank_1_lost: int


def comparison_notes(compared: Sequence[Compared]) -> list[str]:
    """Returns lines on what must not be compared, or only with care."""
    first, *others = compared
    notes = []
    for other in others:
        names = first.protocol.differences(other.protocol)
        if names:
            notes.append(
                f"{first.letter} and {other.letter} are not comparable: they were "
                f"scored on other images or by another protocol ({', '.join(names)})."
            )
        sources = [one.measured.embedded.origin.trained_on for one in (first, other)]
        if len(set(sources)) > 1:
            notes.append(
                f"{first.letter} was trained on {sources[0]}, {other.letter} on "
                f"{sources[1]}."
            )
    letters = {}  # of the trainings that a warning is of
    for one in compared:
        for line in warnings_of(one.measured, run_info(one.measured.run)):
            letters.setdefault(line, []).append(one.letter)
    notes += [f"{', '.join(owners)}: {line}" for line, owners in letters.items()]
    if any(len(one.scores) == 1 for one in compared):
        notes.append(
            "A single run says little of a method: seeds alone move mAP and rank-1. "
            "`topdb-tf fit --seeds 3` trains several."
        )
    return notes


def is_comparable(one: Compared, other: Compared) -> bool:
    """Returns whether two were scored on the same images by the same protocol."""
    return one.protocol == other.protocol


def settings_that_differ(compared: Sequence[Compared]) -> Table:
    """Returns settings and facts of the environment that are not all the same.

    Settings that cannot change a result, such as the folder of the data, are left out.
    """
    columns = [flat_settings(one.measured.config) for one in compared]
    environments = [one.measured.run.environment for one in compared]
    rows = []
    for key in columns[0]:
        values = [column[key] for column in columns]
        if key not in FREE_SETTINGS and len(set(map(str, values))) > 1:
            rows.append([key, *map(yaml_text, values)])
    for key in _ENVIRONMENT:
        texts = [str(getattr(environment, key)) for environment in environments]
        if len(set(texts)) > 1:
            rows.append([key, *texts])
    return Table(
        caption="Settings, and facts of the environment, that are not the same.",
        head=["", *(one.letter for one in compared)],
        rows=rows,
        is_words=True,
    )


def scores_beside(
    first: Compared, one: Compared, *, reranked: bool
) -> Mapping[str, ScoreBeside]:
    """Returns the scores of a training, perhaps the first, by name of the metric."""
    theirs = mean_metrics(first.results(reranked=reranked))
    is_beside = one is not first and is_comparable(first, one)
    scores = {}
    for name, spread in mean_metrics(one.results(reranked=reranked)).items():
        difference = spread.mean - theirs[name].mean if is_beside else None
        scores[name] = ScoreBeside(spread, difference)
    return scores


def table_of_scores(compared: Sequence[Compared], *, reranked: bool) -> Table:
    """Returns the scores of some trainings, or the re-ranked ones, as a table."""
    rows = []
    for one in compared:
        scores = scores_beside(compared[0], one, reranked=reranked)
        cells = [str(scores[metric.name]) for metric in METRICS]
        rows.append([one.label, str(len(one.scores)), *cells])
    title = "Re-ranked scores" if reranked else "Scores"
    return Table(
        caption=f"{title}, in percent; in brackets the difference from A.",
        head=["", "seeds", *(metric.name for metric in METRICS)],
        rows=rows,
    )


def query_differences(compared: Sequence[Compared]) -> list[QueryDifference]:
    """Returns how the queries of the first fare in those comparable with it."""
    first, *others = compared
    before = first.measured.plain.lists
    was_right = before.first_match_rank == 1
    differences = []
    for other in others:
        if not is_comparable(first, other):
            continue
        after = other.measured.plain.lists
        is_right = after.first_match_rank == 1
        precision = paired_difference(
            before.average_precision,
            after.average_precision,
            first.measured.images.query_pids,
        )
        differences.append(
            QueryDifference(
                letter=other.letter,
                precision=precision,
                rank_1_gained=int((is_right & ~was_right).sum()),
                rank_1_lost=int((was_right & ~is_right).sum()),
            )
        )
    return differences


def table_of_differences(differences: Sequence[QueryDifference]) -> Table:
    """Returns what `query_differences` found as a table."""
    rows = []
    for other in differences:
        precision = other.precision
        rows.append(
            [
                other.letter,
                signed(precision.mean),
                f"{signed(precision.low)} to {signed(precision.high)}",
                f"{precision.num_better:,}",
                f"{precision.num_worse:,}",
                f"{other.rank_1_gained:,}",
                f"{other.rank_1_lost:,}",
            ]
        )
    return Table(
        caption="Query by query, beside A: the difference in average precision "
        "with its 95 % interval over the test persons (not over seeds), and at how "
        "many queries.",
        head=["", "mAP", "interval", "AP higher", "lower", "rank 1 won", "lost"],
        rows=rows,
    )
