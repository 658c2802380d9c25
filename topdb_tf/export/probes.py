"""Drawn images on which an exported model is held against its source."""

from pathlib import Path

import numpy as np

from topdb_tf.data.drawn.synthetic import write_synthetic


def draw_probes(folder: Path) -> list[Path]:
    """Draws a few persons below a folder and returns the image files, in order."""
    drawn = write_synthetic(
        folder / "drawn",
        num_train_pids=4,
        num_test_pids=1,
        images_per_pid=3,
        num_cameras=2,
    )
    return sorted((drawn / "bounding_box_train").iterdir())


def compare(found: np.ndarray, expected: np.ndarray) -> dict:
    """Returns how far embeddings are from what is expected.

    Args:
        found: Embeddings of shape `(num_images, dim)`.
        expected: Embeddings of the same images.

    Returns:
        `max_difference`, the largest of a component, absolute; `min_cosine` and
        `mean_cosine`.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.export.probes import compare
        >>> compare(np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]]))
        {'max_difference': 1.0, 'min_cosine': 0.96, 'mean_cosine': 0.96}
    """
    found, expected = np.float64(found), np.float64(expected)
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosines = np.sum(found * expected, axis=1) / norms
    return {
        "max_difference": float(np.abs(found - expected).max()),
        "min_cosine": float(cosines.min()),
        "mean_cosine": float(cosines.mean()),
    }
