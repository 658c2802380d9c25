"""Means and deviations of the scores of several seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from topdb_tf.evaluate.scores import METRICS
from topdb_tf.retrieval.protocol import RetrievalResult
from topdb_tf.texts import percent


class Spread(NamedTuple):
    """A score of some seeds.

    Args:
        mean: Its mean.
        deviation: Its sample standard deviation, of n - 1; `None` of a single seed.
        num_seeds: Number of seeds, where it is known.
    """

    mean: float
    deviation: float | None
    num_seeds: int | None

    def __str__(self):
        """Returns the mean with its deviation, if there is one, in percent."""
        if self.deviation is None:
            return percent(self.mean)
        return f"{percent(self.mean)} ± {percent(self.deviation)}"


def spread(values: Sequence[float]) -> Spread:
    """Returns mean, sample standard deviation and number of the values.

    Example:
        >>> from topdb_tf.evaluate.averages import spread
        >>> spread([0.25, 0.75, 0.5])  # the squares of the deviations: 2 / 16, over 2
        Spread(mean=0.5, deviation=0.25, num_seeds=3)
        >>> str(spread([0.8583, 0.8561])), str(spread([0.5]))
        ('85.7 ± 0.2', '50.0')
    """
    if not all(map(math.isfinite, values)):  # an older version did not score so
        return Spread(math.nan, None, len(values))
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), deviation, len(values))


def check_same_protocol(results: Mapping[str, RetrievalResult]) -> None:
    """Checks that scores may be averaged: a mean over protocols means nothing.

    Args:
        results: Results by the folder of their run.

    Raises:
        ValueError: If two of them were obtained by different protocols.
    """
    (first, result), *others = results.items()
    for path, other in others:
        keys = result.protocol.differences(other.protocol)
        if keys:
            raise ValueError(
                f"{first} and {path} have the same settings, but were scored by "
                f"different protocols ({', '.join(keys)}). Score them again with "
                "`topdb-tf evaluate RUN`, or name one of them alone."
            )


def mean_metrics(results: Mapping[str, RetrievalResult]) -> dict[str, Spread]:
    """Returns the scores of some seeds by the names of `METRICS`.

    Args:
        results: Results by the folder of their run.

    Raises:
        ValueError: If they were obtained by different protocols.
    """
    check_same_protocol(results)
    return {
        metric.name: spread([metric.of(result) for result in results.values()])
        for metric in METRICS
    }


class MeanCmc(NamedTuple):
    """The CMC of some seeds.

    Args:
        cmc: Means, shares by rank.
        deviation: Their sample standard deviations; `None` of a single seed.
    """

    cmc: np.ndarray
    deviation: np.ndarray | None


def mean_cmc(results: Mapping[str, RetrievalResult]) -> MeanCmc:
    """Returns the mean CMC of some seeds.

    Args:
        results: Results by the folder of their run.

    Raises:
        ValueError: If they were obtained by different protocols.
    """
    check_same_protocol(results)
    cmcs = [result.scores.cmc for result in results.values()]
    num_ranks = min(map(len, cmcs))
    by_rank = list(zip(*(cmc[:num_ranks].tolist() for cmc in cmcs), strict=True))
    deviation = None
    if len(cmcs) > 1:
        deviation = np.array([statistics.stdev(shares) for shares in by_rank])
    return MeanCmc(
        np.array([statistics.fmean(shares) for shares in by_rank]), deviation
    )
