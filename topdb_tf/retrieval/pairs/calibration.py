"""Thresholds found on the pairs of some persons and measured on those of others."""

from collections.abc import Callable, Sequence

import numpy as np

from topdb_tf.progress import adding_up
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.pairs.halves import MIN_FALSE_MATCHES, checked_halves
from topdb_tf.retrieval.pairs.intervals import CONFIDENCE, Share, share_of_pairs
from topdb_tf.retrieval.pairs.operating_points import compact_roc, threshold_at
from topdb_tf.retrieval.pairs.pair_counts import (
    AcceptedPairs,
    PairDistances,
    PairTotals,
)

_ROC_POINTS = 200


def calibration_of(
    retrieval_set: RetrievalSet,
    *,
    rates: Sequence[float],
    metric: str = "sqeuclidean",
    ignore_cameras: bool = False,
    seed: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Returns thresholds, found on one half of the persons and measured on the other.

    A pair is a query and a gallery image by two cameras, or by any where cameras are
    ignored. See `topdb_tf.retrieval.pairs.halves.checked_halves` for whose images, and
    `topdb_tf.retrieval.pairs.intervals.share_of_pairs` for the intervals. The
    distances of the second half are computed twice, some queries at a time.

    Args:
        retrieval_set: Features and identities.
        rates: Wanted false-match rates, each in (0, 1).
        metric: One of `topdb_tf.retrieval.distances.METRICS`.
        ignore_cameras: Whether pairs by one camera count as well.
        seed: Of the halves.
        progress: Called with the number of distances done and of all.

    Returns:
        `operating_points`, one a rate in their order: `wanted_false_match_rate`,
        `threshold` (pairs up to and including it are accepted), the measured
        `false_match_rate`, `true_match_rate` and `false_non_match_rate`, each with
        `value`, `low` and `high`, `worst_cameras` (of those with enough pairs),
        `same_camera_false_match_rate`; `camera_pairs`, with the number of `pairs` of
        two persons and the `false_matches` at each rate; `roc`, measured; `found_on`
        and `measured_on`, what was in the halves; `num_left_out`, images; and the
        `confidence` of the intervals.

    Raises:
        ValueError: As `checked_halves`, or if the features do not fit together.
    """
    identities = retrieval_set.identities
    options = {"ignore_cameras": ignore_cameras}
    halves = checked_halves(identities, rates=rates, seed=seed, **options)
    first, second = (
        PairDistances(
            retrieval_set.take(half.queries, half.gallery), metric=metric, **options
        )
        for half in halves
    )
    advance = adding_up(progress, first.num_distances + 2 * second.num_distances)
    rates = list(dict.fromkeys(rates))
    found = first.histogram(advance)
    thresholds = [threshold_at(found, rate) for rate in rates]
    accepted = second.up_to(np.array(thresholds), advance)
    roc = compact_roc(
        second.histogram(advance), num_points=_ROC_POINTS, fewest=MIN_FALSE_MATCHES
    )
    cameras = _camera_pairs(second.totals, accepted, ignore_cameras)
    return {
        "operating_points": [
            _operating_point(*point, second.totals, accepted, cameras)
            for point in enumerate(zip(rates, thresholds, strict=True))
        ],
        "camera_pairs": cameras,
        "found_on": _counts(halves[0]),
        "measured_on": _counts(halves[1]),
        "num_left_out": _num_left_out(identities, halves),
        "confidence": CONFIDENCE,
        "roc": roc,
    }


def _num_left_out(identities, halves):
    num_kept = sum(len(half.queries) + len(half.gallery) for half in halves)
    return len(identities.query_pids) + len(identities.gallery_pids) - num_kept


def _operating_point(place, wanted, totals, accepted, cameras):
    rate, threshold = wanted
    return {
        "wanted_false_match_rate": rate,
        "threshold": threshold,
        **_measured(totals, accepted, place),
        **_by_cameras(cameras, place, rate),
    }


def _measured(totals: PairTotals, accepted: AcceptedPairs, place: int):
    as_query, as_gallery = accepted.as_query[place], accepted.as_gallery[place]
    false = share_of_pairs(
        int(as_query.sum()),
        totals.num_impostors,
        accepted_with=as_query + as_gallery,
        total_with=totals.as_query + totals.as_gallery,
    )
    genuine = accepted.genuine[place]
    true = share_of_pairs(
        int(genuine.sum()),
        totals.num_genuine,
        accepted_with=genuine,
        total_with=totals.genuine,
    )
    missed = Share(1 - true.value, 1 - true.high, 1 - true.low)
    return {
        "false_match_rate": false._asdict(),
        "true_match_rate": true._asdict(),
        "false_non_match_rate": missed._asdict(),
    }


def _camera_pairs(totals, accepted, ignore_cameras):
    """Returns the false matches of two cameras, in either order of the pair."""
    pairs = totals.cameras + np.tril(totals.cameras, -1).T
    swapped = np.swapaxes(np.tril(accepted.cameras, -1), 1, 2)
    false_matches = accepted.cameras + swapped
    return [
        {
            "cameras": [int(totals.camids[one]), int(totals.camids[other])],
            "counted": bool(ignore_cameras or one != other),
            "pairs": int(pairs[one, other]),
            "false_matches": false_matches[:, one, other].tolist(),
        }
        for one, other in zip(*np.triu_indices(len(pairs)), strict=True)
        if pairs[one, other]
    ]


def _by_cameras(camera_pairs, place, rate):
    """Returns the cameras that are mixed up most, and the rate of one camera's own."""
    enough = [
        (row["false_matches"][place] / row["pairs"], row["cameras"])
        for row in camera_pairs
        if row["counted"] and row["pairs"] * rate >= MIN_FALSE_MATCHES
    ]
    worst = max(enough, default=None)
    own = [row for row in camera_pairs if row["cameras"][0] == row["cameras"][1]]
    num_own = sum(row["pairs"] for row in own)
    num_false = sum(row["false_matches"][place] for row in own)
    return {
        "worst_cameras": worst and {"cameras": worst[1], "false_match_rate": worst[0]},
        "same_camera_false_match_rate": num_false / num_own if num_own else None,
    }


def _counts(half):
    totals = half.totals
    return {
        "persons": len(totals.pids),
        "queries": len(half.queries),
        "gallery": len(half.gallery),
        "impostor_pairs": totals.num_impostors,
        "genuine_pairs": totals.num_genuine,
    }
