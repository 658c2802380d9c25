"""Two halves of the persons of a set, large enough to state rates of errors."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from topdb_tf.retrieval.identities import Identities
from topdb_tf.retrieval.matches import MatchIndex, of_known_persons
from topdb_tf.retrieval.pairs.pair_counts import PairTotals, pair_totals

MIN_FALSE_MATCHES = 10
"""False matches that must be expected in each half for a rate to be stated."""


class Half(NamedTuple):
    """One half of the persons: their images, as ascending numbers among all."""

    queries: np.ndarray
    gallery: np.ndarray
    totals: PairTotals


def checked_halves(
    identities: Identities,
    *,
    rates: Sequence[float],
    ignore_cameras: bool = False,
    seed: int = 1,
) -> tuple[Half, Half]:
    """Returns two halves of the persons that suffice for the rates.

    No person is in both. Those with queries are drawn into halves, and those without
    likewise. Images of pid -1 are left out, and so are distractors (pid 0 where no
    query has it): nobody knows whom they show. There may be no rates.
    """
    MatchIndex(identities, ignore_cameras=ignore_cameras).check_any()
    halves = []
    for pids in _halves_of_pids(identities, seed):
        queries = np.flatnonzero(np.isin(identities.query_pids, pids))
        gallery = np.flatnonzero(np.isin(identities.gallery_pids, pids))
        half = identities.take(queries, gallery)
        totals = pair_totals(half, ignore_cameras=ignore_cameras)
        halves.append(Half(queries, gallery, totals))
    _check_enough(halves, rates)
    return tuple(halves)


def smallest_rate(halves: Sequence[Half]) -> float:
    """Returns the smallest false-match rate that both halves can state, rounded up."""
    num_impostors = min(half.totals.num_impostors for half in halves)
    return float(_rounded_up(MIN_FALSE_MATCHES / num_impostors))


def check_rates(rates: Sequence[float]) -> None:
    """Raises `ValueError` unless there is a rate and all are in (0, 1)."""
    if not rates or not all(0 < rate < 1 for rate in rates):
        raise ValueError(
            "A false-match rate must be a share of the pairs, in (0, 1). "
            f"Received: rates={list(rates)}"
        )


def _halves_of_pids(identities, seed):
    rng = np.random.default_rng(seed)
    query_pids, gallery_pids = identities.query_pids, identities.gallery_pids
    queries, gallery = of_known_persons(query_pids, gallery_pids)
    persons = np.unique(query_pids[queries])
    others = np.setdiff1d(gallery_pids[gallery], persons)
    firsts, seconds = [], []
    for pids in (persons, others):
        drawn = rng.permutation(pids)
        middle = (len(drawn) + 1) // 2
        firsts.append(drawn[:middle])
        seconds.append(drawn[middle:])
    return np.concatenate(firsts), np.concatenate(seconds)


def _check_enough(halves, rates):
    num_genuine = min(half.totals.num_genuine for half in halves)
    num_impostors = min(half.totals.num_impostors for half in halves)
    counts = {"one person": num_genuine, "different persons": num_impostors}
    for kind, count in counts.items():
        if not count:
            raise ValueError(
                f"Each half of the persons must have pairs of {kind}, a query and a "
                "gallery image by two cameras (by any with --ignore-cameras). "
                f"Received: {', '.join(str(len(half.totals.pids)) for half in halves)} "
                "persons in the halves, and a half without such a pair"
            )
    smallest = MIN_FALSE_MATCHES / num_impostors
    too_small = [rate for rate in rates if rate < smallest]
    if too_small:
        raise ValueError(
            f"At least {MIN_FALSE_MATCHES} false matches must be expected in each half "
            f"of the persons. With {num_impostors:,} pairs of different "
            "persons the smallest false-match rate that can be stated is "
            f"{_rounded_up(smallest)}. Name such a rate, or none. "
            f"Received: {', '.join(map(str, too_small))}"
        )


def _rounded_up(share):
    """Returns a share with two digits that is not smaller."""
    step = 10.0 ** (math.floor(math.log10(share)) - 1)
    return f"{math.ceil(share / step) * step:.2g}"
