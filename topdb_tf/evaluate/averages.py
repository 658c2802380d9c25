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
    """Mean and sample standard deviation (n - 1; `None` of one) of a score of seeds."""

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
    """Raises a `ValueError` where runs, by their folder, differ in the protocol."""
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
    """Returns the scores of some seeds of one protocol by the names of `METRICS`."""
    check_same_protocol(results)
    return {
        metric.name: spread([metric.of(result) for result in results.values()])
        for metric in METRICS
    }


class MeanCmc(NamedTuple):
    """The CMC of some seeds, means by rank, and their deviations as in a `Spread`."""

    cmc: np.ndarray
    deviation: np.ndarray | None


def mean_cmc(results: Mapping[str, RetrievalResult]) -> MeanCmc:
    """Returns the mean CMC of some seeds of one protocol."""
    check_same_protocol(results)
    cmcs = [result.scores.cmc for result in results.values()]
    cmcs = np.stack([cmc[: min(map(len, cmcs))] for cmc in cmcs])
    deviation = cmcs.std(axis=0, ddof=1) if len(cmcs) > 1 else None
    return MeanCmc(cmcs.mean(axis=0), deviation)
