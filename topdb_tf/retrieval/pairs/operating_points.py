"""Thresholds and the ROC from a histogram of the distances of pairs."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

LOW_BITS = 12
"""Number of the 23 bits of a float32's fraction that a cell leaves out.

A cell is then at most 1/2048 of its distance wide.
"""

NUM_CELLS = 1 << (31 - LOW_BITS)
"""Number of cells of a histogram: the values of the other bits, without the sign."""


class DistanceHistogram(NamedTuple):
    """Numbers of pairs by distance, in cells of 1/2048 of the distance at most."""

    impostors: np.ndarray
    genuine: np.ndarray


@dataclass(frozen=True)
class CompactRoc:
    """Points of a ROC: the rates up to and including each distance, ascending."""

    distances: list[float]
    false_match_rates: list[float]
    true_match_rates: list[float]


def threshold_at(histogram: DistanceHistogram, rate: float) -> float:
    """Returns the distance up to which at most a share of the impostor pairs lie.

    It is the distance of the last impostor pair that may be accepted, rounded up by at
    most 1/2048: a float32 number, up to and including which pairs are accepted.
    """
    counts = np.cumsum(histogram.impostors)
    # Rounding must not turn 0.01 x 1,000 into nine pairs.
    allowed = int(rate * counts[-1] * (1 + 1e-12))
    accepted = counts[np.searchsorted(counts, allowed, side="right") - 1]
    if not 0 < accepted <= allowed:
        nearest = int(counts[np.searchsorted(counts, 1)])
        raise ValueError(
            f"No threshold has a false-match rate of {rate}: the {nearest} nearest "
            "pairs of different persons have the same distance. Are images listed "
            "under several identities, or is the model untrained?"
        )
    return float(cell_ends(np.searchsorted(counts, accepted)))


def compact_roc(
    histogram: DistanceHistogram, *, num_points: int, fewest: int
) -> CompactRoc:
    """Returns points of the ROC, at false-match rates that grow by about one factor.

    There are less where distances coincide; the first accepts the fewest impostors.
    """
    impostors, genuine = np.cumsum(histogram.impostors), np.cumsum(histogram.genuine)
    wanted = np.geomspace(min(fewest, impostors[-1]), impostors[-1], num_points)
    cells = np.unique(np.searchsorted(impostors, np.round(wanted)))
    return CompactRoc(
        distances=cell_ends(cells).astype(float).tolist(),
        false_match_rates=(impostors[cells] / impostors[-1]).tolist(),
        true_match_rates=(genuine[cells] / genuine[-1]).tolist(),
    )


def cell_ends(cells: np.ndarray) -> np.ndarray:
    """Returns the largest distance, a float32, of each of some cells by number."""
    bits = (np.asarray(cells, np.int64) << LOW_BITS) | ((1 << LOW_BITS) - 1)
    return bits.astype(np.int32).view(np.float32)
