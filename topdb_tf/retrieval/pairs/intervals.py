"""Shares with an interval that knows pairs and queries are not independent."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95
REACH = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
"""Half the width of such an interval, in standard deviations: 1.96."""
_DRAWS = 256  # at a time


@dataclass(frozen=True)
class Share:
    """A share in [0, 1] and the ends of the interval that holds its true value."""

    value: float
    low: float
    high: float


def share_of_pairs(
    accepted: int, total: int, *, accepted_with: np.ndarray, total_with: np.ndarray
) -> Share:
    """Returns a share of pairs with its 95 % interval over identities.

    Millions of pairs come from a few hundred persons, and one person who looks like
    many others makes many false matches: pairs are not independent, but persons are.
    So the spread is that of the share when one person after the other is left out with
    all of their pairs (the jackknife), and the interval is symmetric in the logarithm
    of the odds, which keeps it within [0, 1]. The rules of three and of thirty would
    take every pair for a trial of its own, and give far too narrow intervals. Where
    no pair is accepted, or every one is, the jackknife sees no spread; then the rule
    of three bounds the share of persons with another answer: at most 3 / persons.

    Source: Efron and Stein, The Jackknife Estimate of Variance, Annals of Statistics
    1981: for such statistics the estimate tends to be too large rather than too small.

    Args:
        accepted: Number of pairs that are accepted.
        total: Number of pairs.
        accepted_with: Number of accepted pairs in which each person takes part.
        total_with: Number of pairs in which each person takes part.

    Returns:
        The share; its interval is [0, 1] where there are fewer than three persons.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.retrieval.pairs.intervals import share_of_pairs
        >>> persons = np.ones(300, int)
        >>> share_of_pairs(0, 300, accepted_with=0 * persons, total_with=persons)
        Share(value=0.0, low=0.0, high=0.01)
    """
    if total < 1:
        raise ValueError(f"There must be a pair. Received: {total=}")
    value = accepted / total
    some = total_with > 0
    num_persons = int(np.count_nonzero(some))
    rest = total - total_with[some]
    if num_persons < 3 or not rest.all():
        return Share(value, 0.0, 1.0)
    if accepted in (0, total):
        bound = min(1.0, 3 / num_persons)
        return Share(value, *((0.0, bound) if accepted == 0 else (1 - bound, 1.0)))
    without = (accepted - accepted_with[some]) / rest
    variance = np.sum((without - without.mean()) ** 2) * (num_persons - 1) / num_persons
    reach = REACH * math.sqrt(variance) / (value * (1 - value))
    odds = math.log(value / (1 - value))
    return Share(value, _share_of_odds(odds - reach), _share_of_odds(odds + reach))


def means_over_persons(
    scores: np.ndarray, pids: np.ndarray, *, num_draws: int = 2000, seed: int = 1
) -> list[Share]:
    """Returns the means of scores of queries with 95 % intervals over other persons.

    Queries of one person are alike, so whole persons are drawn, as many as there are,
    with replacement, and the ends are the percentiles of the means of the draws (the
    bootstrap of clusters). Where every query scores 0, or every one 1, no draw differs;
    then the rule of three bounds the share of persons of another score: at most
    3 / persons.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993 (percentiles).

    Args:
        scores: A column for each score, in [0, 1], shape `(num_queries, num_scores)`.
        pids: Person of each query, shape `(num_queries,)`.
        num_draws: How often the persons are drawn.
        seed: Seed of the draws.

    Returns:
        A share for each column; the interval is [0, 1] where there are fewer than
        three persons.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.retrieval.pairs.intervals import means_over_persons
        >>> means_over_persons(np.ones((300, 1)), np.arange(300))
        [Share(value=1.0, low=0.99, high=1.0)]
    """
    scores = np.asarray(scores, np.float64)
    persons, owners = np.unique(pids, return_inverse=True)
    sums = np.zeros((len(persons), scores.shape[1] + 1))
    np.add.at(sums, owners, np.column_stack([scores, np.ones(len(scores))]))
    rng, share = np.random.default_rng(seed), np.full(len(persons), 1 / len(persons))
    means = []
    for start in range(0, num_draws, _DRAWS):
        size = min(_DRAWS, num_draws - start)
        totals = rng.multinomial(len(persons), share, size=size) @ sums
        means.append(totals[:, :-1] / totals[:, -1:])
    tails = 100 * np.array([1 - CONFIDENCE, 1 + CONFIDENCE]) / 2
    ends = np.percentile(np.concatenate(means), tails, axis=0)
    return [
        _with_bound(float(value), low, high, len(persons))
        for value, low, high in zip(scores.mean(axis=0), *ends.tolist(), strict=True)
    ]


def share_of_trials(share: float, number: int) -> Share:
    """Returns a share of independent trials with its 95 % interval.

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical
    Inference, Journal of the American Statistical Association 1927.

    Args:
        share: The share that was measured, in [0, 1].
        number: Number of trials.

    Example:
        >>> from topdb_tf.retrieval.pairs.intervals import share_of_trials
        >>> share_of_trials(1.0, 6).low  # 6 / (6 + 1.96²)
        0.609...
    """
    square = REACH**2
    middle = (share + square / (2 * number)) / (1 + square / number)
    spread = share * (1 - share) / number + square / (4 * number**2)
    half = REACH * math.sqrt(spread) / (1 + square / number)
    return Share(share, max(0.0, middle - half), min(1.0, middle + half))


def _with_bound(value, low, high, num_persons):
    if num_persons < 3:
        return Share(value, 0.0, 1.0)
    if value == 0:
        high = 3 / num_persons
    if value == 1:
        low = 1 - 3 / num_persons
    return Share(value, low, high)


def _share_of_odds(odds):
    # The form that cannot overflow on either side.
    return 0.5 * (1 + math.tanh(odds / 2))
