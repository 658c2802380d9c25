"""Options of a training: a frozen backbone, averaged weights, an early end."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np


@contextlib.contextmanager
def as_used(network, optimizer) -> Iterator[None]:
    """Has a network as it is scored and saved, within a `with` block.

    Where the optimizer averages weights, the averages stand in for them and for the
    moving statistics. They are put back to the bit. (Keras's `SwapEMAWeights` adds
    and subtracts, which rounds, and leaves the moving statistics.) No part is frozen,
    so that a saved model can be trained.
    """
    frozen = [part for part in network.layers if not part.trainable]
    pairs = unscaled(optimizer).averages()
    own = [np.array(keras.ops.convert_to_numpy(variable)) for variable, _ in pairs]
    try:
        for part in frozen:
            part.trainable = True
        for variable, average in pairs:
            variable.assign(average)
        yield
    finally:
        for (variable, _), value in zip(pairs, own, strict=True):
            variable.assign(value)
        for part in frozen:
            part.trainable = False


def moving_statistics(network) -> list:
    """Returns the moving means and variances of all batch normalisations."""
    statistics = []
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            statistics += moving_statistics(layer)
        elif isinstance(layer, keras.layers.BatchNormalization):
            statistics += [layer.moving_mean, layer.moving_variance]
    return statistics


def unscaled(optimizer):
    """Returns the optimizer inside a loss scale, or the optimizer itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)
