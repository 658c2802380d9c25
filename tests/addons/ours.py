"""Writes this package's triplet losses and gradients of all batches to a file.

python -m tests.addons.ours FILE.npz
"""

import sys

import numpy as np

from tests.addons.batches import MARGINS, batches


def our_figures():
    """Returns loss and gradient by `BATCH/MARGIN/NAME`."""
    import tensorflow as tf

    from topdb_tf.training.losses import BatchHardTripletLoss

    figures = {}
    for batch, (labels, features) in batches().items():
        for margin, value in MARGINS.items():
            variable = tf.Variable(features)
            with tf.GradientTape() as tape:
                loss = BatchHardTripletLoss(value)(labels, variable)
            figures[f"{batch}/{margin}/loss"] = np.asarray(loss)
            gradient = tape.gradient(loss, variable)
            figures[f"{batch}/{margin}/gradient"] = np.asarray(gradient)
    return figures


if __name__ == "__main__":
    np.savez(sys.argv[1], **our_figures())
