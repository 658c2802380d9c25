"""Thresholds found on the pairs of some persons and measured on those of others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from topdb_tf.progress import adding_up
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.pairs.halves import (
    MIN_FALSE_MATCHES,
    Half,
    check_rates,
    checked_halves,
)
from topdb_tf.retrieval.pairs.intervals import CONFIDENCE, Share, share_of_pairs
from topdb_tf.retrieval.pairs.operating_points import (
    CompactRoc,
    compact_roc,
    threshold_at,
)
from topdb_tf.retrieval.pairs.pair_counts import (
    AcceptedPairs,
    PairDistances,
    PairTotals,
)

_ROC_POINTS = 200


@dataclass(frozen=True)
class CameraMistakes:
    """The camids of the two cameras whose images are mixed up most, and how often."""

    cameras: tuple[int, int]
    false_match_rate: float


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and what was measured at it.

    Pairs up to and including that distance are accepted. The worst cameras are those
    of enough pairs; they and the rate by one camera are `None` where no pairs are.
    """

    wanted_false_match_rate: float
    threshold: float
    false_match_rate: Share
    true_match_rate: Share
    false_non_match_rate: Share
    worst_cameras: CameraMistakes | None
    same_camera_false_match_rate: float | None


@dataclass(frozen=True)
class CameraPair:
    """The pairs of two persons seen by two cameras, in either order of the pair.

    Pairs by one camera, whose camid stands twice, may not count. False matches are
    numbers of accepted pairs, one an operating point.
    """

    cameras: tuple[int, int]
    counted: bool
    pairs: int
    false_matches: tuple[int, ...]


@dataclass(frozen=True)
class HalfCounts:
    """What is in one half of the persons: numbers of persons, images and pairs."""

    persons: int
    queries: int
    gallery: int
    impostor_pairs: int
    genuine_pairs: int


@dataclass(frozen=True)
class Calibrated:
    """Thresholds, found on one half of the persons and measured on the other.

    There is an operating point for each wanted rate, in their order. Images are left
    out of which nobody knows whom they show. The warning says why distances mean
    little, if they do.
    """

    operating_points: tuple[OperatingPoint, ...]
    camera_pairs: tuple[CameraPair, ...]
    found_on: HalfCounts
    measured_on: HalfCounts
    num_left_out: int
    confidence: float
    roc: CompactRoc
    warning: str | None = None


def calibration_of(
    retrieval_set: RetrievalSet,
    *,
    rates: Sequence[float],
    metric: str = "sqeuclidean",
    ignore_cameras: bool = False,
    seed: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Calibrated:
    """Returns thresholds, found on one half of the persons and measured on the other.

    A pair is a query and a gallery image by two cameras, or by any where cameras are
    ignored. See `topdb_tf.retrieval.pairs.halves.checked_halves` for whose images, and
    `topdb_tf.retrieval.pairs.intervals.share_of_pairs` for the intervals.

    Args:
        retrieval_set: Features and identities.
        rates: Wanted false-match rates, each in (0, 1).
        metric: One of `topdb_tf.retrieval.distances.METRICS`.
        ignore_cameras: Whether pairs by one camera count as well.
        seed: Seed of the draw of the halves.
        progress: Called with the number of distances done and of all.

    Raises:
        ValueError: If a rate is out of range or less than a half's pairs can state, if
            a half lacks pairs of one person or of two, or if features do not fit.
    """
    check_rates(rates)
    halves = checked_halves(
        retrieval_set.identities, rates=rates, ignore_cameras=ignore_cameras, seed=seed
    )
    first, second = (
        PairDistances(
            retrieval_set.take(half.queries, half.gallery),
            metric=metric,
            ignore_cameras=ignore_cameras,
        )
        for half in halves
    )
    advance = adding_up(progress, first.num_distances + 2 * second.num_distances)
    rates = list(dict.fromkeys(rates))
    distances = first.histogram(advance)
    thresholds = [threshold_at(distances, rate) for rate in rates]
    accepted = second.up_to(np.array(thresholds), advance)
    roc = compact_roc(
        second.histogram(advance), num_points=_ROC_POINTS, fewest=MIN_FALSE_MATCHES
    )
    camera_pairs = _camera_pairs(second.totals, accepted, ignore_cameras)
    found_on, measured_on = (_counts(half) for half in halves)
    num_images = len(retrieval_set.query_pids) + len(retrieval_set.gallery_pids)
    num_used = sum(half.queries + half.gallery for half in (found_on, measured_on))
    return Calibrated(
        operating_points=tuple(
            _operating_point(place, *point, second.totals, accepted, camera_pairs)
            for place, point in enumerate(zip(rates, thresholds, strict=True))
        ),
        camera_pairs=camera_pairs,
        found_on=found_on,
        measured_on=measured_on,
        num_left_out=num_images - num_used,
        confidence=CONFIDENCE,
        roc=roc,
        warning=first.doubt(),
    )


def _camera_pairs(totals, accepted, ignore_cameras):
    pairs = totals.cameras + np.tril(totals.cameras, -1).T
    swapped = np.swapaxes(np.tril(accepted.cameras, -1), 1, 2)
    false_matches = accepted.cameras + swapped
    return tuple(
        CameraPair(
            cameras=(int(totals.camids[one]), int(totals.camids[other])),
            counted=bool(ignore_cameras or one != other),
            pairs=int(pairs[one, other]),
            false_matches=tuple(false_matches[:, one, other].tolist()),
        )
        for one, other in zip(*np.triu_indices(len(pairs)), strict=True)
        if pairs[one, other]
    )


def _operating_point(
    place,
    wanted_rate,
    threshold,
    totals: PairTotals,
    accepted: AcceptedPairs,
    camera_pairs,
) -> OperatingPoint:
    as_query, genuine = accepted.as_query[place], accepted.genuine[place]
    false = share_of_pairs(
        int(as_query.sum()),
        totals.num_impostors,
        accepted_with=as_query + accepted.as_gallery[place],
        total_with=totals.as_query + totals.as_gallery,
    )
    true = share_of_pairs(
        int(genuine.sum()),
        totals.num_genuine,
        accepted_with=genuine,
        total_with=totals.genuine,
    )
    return OperatingPoint(
        wanted_false_match_rate=wanted_rate,
        threshold=threshold,
        false_match_rate=false,
        true_match_rate=true,
        false_non_match_rate=Share(1 - true.value, 1 - true.high, 1 - true.low),
        worst_cameras=_worst_cameras(camera_pairs, place, wanted_rate),
        same_camera_false_match_rate=_same_camera_rate(camera_pairs, place),
    )


def _worst_cameras(camera_pairs, place, wanted_rate):
    rates = [
        (pair.false_matches[place] / pair.pairs, pair.cameras)
        for pair in camera_pairs
        if pair.counted and pair.pairs * wanted_rate >= MIN_FALSE_MATCHES
    ]
    if not rates:
        return None
    rate, cameras = max(rates)
    return CameraMistakes(cameras, rate)


def _same_camera_rate(camera_pairs, place):
    same = [pair for pair in camera_pairs if pair.cameras[0] == pair.cameras[1]]
    num_pairs = sum(pair.pairs for pair in same)
    num_false = sum(pair.false_matches[place] for pair in same)
    return num_false / num_pairs if num_pairs else None


def _counts(half: Half) -> HalfCounts:
    return HalfCounts(
        persons=len(half.totals.pids),
        queries=len(half.queries),
        gallery=len(half.gallery),
        impostor_pairs=half.totals.num_impostors,
        genuine_pairs=half.totals.num_genuine,
    )
