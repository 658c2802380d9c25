"""Drawn images, the same everywhere and always, and how far two embeddings of them are.

An exported model is held against its source on them, and an index of embeddings knows
by them whether images are embedded by the model that made it.
"""

from dataclasses import dataclass

import numpy as np

NUM_PROBES = 8


@dataclass(frozen=True)
class Differences:
    """How far embeddings are from what is expected.

    The largest difference is that of a component, absolute. Cosines are between the
    two embeddings of an image.
    """

    max_difference: float
    min_cosine: float
    mean_cosine: float


@dataclass(frozen=True)
class ProbeDifferences(Differences):
    """The differences on the drawn images."""

    num_images: int


def probe_images(number: int = NUM_PROBES) -> np.ndarray:
    """Returns drawn images, uint8 RGB of shape `(number, 128, 64, 3)`.

    They are coloured patches by whole numbers, which no version of a library draws
    otherwise. Indexes on disk keep the embeddings of the first four, so that no pixel
    of these may ever change.
    """
    return np.stack([_patches(place) for place in range(number)])


def compare(embeddings: np.ndarray, expected: np.ndarray) -> Differences:
    """Returns how far embeddings `(num_images, dim)` are from what is expected.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.export.probes import compare
        >>> compare(np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]]))
        Differences(max_difference=1.0, min_cosine=0.96, mean_cosine=0.96)
    """
    embeddings, expected = np.float64(embeddings), np.float64(expected)
    norms = np.linalg.norm(embeddings, axis=1) * np.linalg.norm(expected, axis=1)
    cosines = np.sum(embeddings * expected, axis=1) / norms
    return Differences(
        max_difference=float(np.abs(embeddings - expected).max()),
        min_cosine=float(cosines.min()),
        mean_cosine=float(cosines.mean()),
    )


def _patches(place):
    rows, columns, channels = np.ogrid[:128, :64, :3]
    patches = (rows // (8 << place % 2)) * 7 + (columns // 16) * 3 + place
    return np.uint8((patches * (37 + 50 * channels) + 5 * rows + 61 * place) % 256)
