"""Shares of pairs with an interval that knows the pairs are not independent."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95
REACH = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
"""Half the width of such an interval, in standard deviations: 1.96."""


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
        The share and its interval; the interval is [0, 1] where there are fewer than
        three persons.

    Raises:
        ValueError: If there is no pair.

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


def _share_of_odds(odds):
    # The form that cannot overflow on either side.
    return 0.5 * (1 + math.tanh(odds / 2))
