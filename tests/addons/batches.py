"""Batches of features, random and adversarial, that both implementations are given.

Plain NumPy and Python 3.9: two environments import this module.
"""

import numpy as np

MARGINS = {"margin 0.3": 0.3, "margin 2": 2.0, "soft": "soft"}

# Where TensorFlow Addons is no oracle, and why.
NOT_COMPARED = {
    ("far outliers", "soft"): (
        "log(1 + exp(x)) overflows for x > 88; ours is the softplus, which is x there"
    ),
    ("big norms", "soft"): "the same",
}
# A batch without negatives has no triplet. Ours says 0; Addons takes the largest
# distance of the row, which is the hardest positive, for the hardest negative, and so
# gives the margin (ln 2 if soft), with gradient zero.
NO_NEGATIVES = ("one identity",)


def batches():
    """Returns labels and float32 features of every batch, by its name."""
    rng = np.random.default_rng(20)
    by_four = np.repeat(np.arange(6), 4)

    def normal(size, dim=8):
        return rng.normal(size=(size, dim))

    def grid(size, dim=3, highest=3):
        return rng.integers(0, highest, (size, dim))

    centres = np.repeat(10 * normal(6), 4, axis=0)
    outlier = normal(24)
    outlier[5] += 1000
    made = {
        "random": (by_four, normal(24)),
        "random, 16 x 4": (np.repeat(np.arange(16), 4), normal(64, 16)),
        "clustered": (by_four, centres + normal(24)),
        "well apart": (by_four, 10 * centres + 0.01 * normal(24)),
        "unit length": (by_four, _normalized(normal(24))),
        "small norms": (by_four, 0.01 * normal(24)),
        "big norms": (by_four, 1000 * normal(24)),
        "far outliers": (by_four, outlier),
        "any labels": (rng.integers(0, 1500, 24) // 100, normal(24)),
        "one lone image": (np.array([7, 3, 3, 3, 5, 5]), normal(6)),
        "lone images": (np.arange(8), normal(8)),
        "two images": (np.array([0, 1]), normal(2)),
        "image twice": (by_four, np.repeat(grid(12, highest=9), 2, axis=0)),
        "image of two people": (by_four, np.tile(grid(12, highest=9), (2, 1))),
        "ties": (by_four, grid(24)),
        "all the same": (by_four, np.ones((24, 8))),
        "one identity": (np.zeros(6, int), normal(6)),
    }
    return {
        name: (labels.astype("int32"), features.astype("float32"))
        for name, (labels, features) in made.items()
    }


def _normalized(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)
