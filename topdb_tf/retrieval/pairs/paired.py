"""Two rankings of the same queries: how far apart their scores are, and how surely."""

from typing import NamedTuple

import numpy as np

from topdb_tf.retrieval.pairs.intervals import REACH


class PairedDifference(NamedTuple):
    """The mean difference of two scores of the same queries, with its 95 % interval.

    It is the second less the first; queries are better where the second is higher.
    """

    mean: float
    low: float
    high: float
    num_better: int
    num_worse: int
    num_queries: int


def paired_difference(
    first: np.ndarray, second: np.ndarray, query_pids: np.ndarray
) -> PairedDifference:
    """Returns how much higher the second ranking scores, with a 95 % interval.

    Queries of one person are alike, so persons and not queries are taken for
    independent: the variance of the mean is the sum over the persons of the squared
    sum of their queries' deviations, over the square of the number of queries (a
    cluster-robust variance, with the factor persons / (persons - 1)). The interval
    tells how the difference would vary with other test persons; it knows nothing of
    other seeds.

    Source: Liang and Zeger, Longitudinal Data Analysis Using Generalized Linear
    Models, Biometrika 1986 (the variance).

    Args:
        first: Score of each query, such as its average precision, shape
            `(num_queries,)`; NaN where it does not count.
        second: The same of the other ranking.
        query_pids: Shape `(num_queries,)`.

    Returns:
        The difference; the interval is infinite where there is one person only.

    Raises:
        ValueError: If the shapes do not fit, or no query counts in both.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.retrieval.pairs.paired import paired_difference
        >>> found = paired_difference(
        ...     np.array([0.2, 0.4]), np.array([0.6, 0.4]), np.array([1, 2]))
        >>> round(found.mean, 6), found.num_better, found.num_worse
        (0.2, 1, 0)
    """
    first, second, query_pids = map(np.asarray, (first, second, query_pids))
    if not first.shape == second.shape == query_pids.shape:
        raise ValueError(
            "Both rankings must score the same queries. Received: shapes "
            f"{first.shape}, {second.shape} and {query_pids.shape}"
        )
    counted = np.isfinite(first) & np.isfinite(second)
    if not counted.any():
        raise ValueError("At least one query must count in both rankings.")
    differences = (second - first)[counted]
    mean = float(differences.mean())
    persons, places = np.unique(query_pids[counted], return_inverse=True)
    sums = np.bincount(places, weights=differences - mean)
    half = np.inf
    if len(persons) > 1:
        factor = len(persons) / (len(persons) - 1)
        half = REACH * np.sqrt(factor * np.square(sums).sum()) / len(differences)
    return PairedDifference(
        mean,
        float(mean - half),
        float(mean + half),
        int((differences > 0).sum()),
        int((differences < 0).sum()),
        len(differences),
    )
