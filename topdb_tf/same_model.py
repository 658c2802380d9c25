"""Whether embeddings are of one model, told by those of a few drawn images."""

import numpy as np

_LARGEST_DIFFERENCE = 0.05


def largest_difference(probes: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest distance between two embeddings of an image, as a share."""
    if probes.dtype.kind != "f" or probes.shape != expected.shape:
        return np.inf
    lengths = np.linalg.norm(np.float64(expected), axis=1).clip(min=1e-12)
    return (np.linalg.norm(np.float64(probes) - expected, axis=1) / lengths).max()


def differ(difference: float) -> bool:
    """Returns whether embeddings are of two models: rounding, by a device, is let pass.

    So they are if the difference is not a number.
    """
    return not difference <= _LARGEST_DIFFERENCE
