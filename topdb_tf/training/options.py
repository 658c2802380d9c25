"""Options of a training: a frozen backbone, averaged weights, an early end."""

import contextlib
import math
from collections.abc import Callable, Iterator

import keras
import numpy as np

from topdb_tf.training.schedules import is_plateau


class FreezeBackbone(keras.callbacks.Callback):
    """Trains all but the backbone in the first epochs, then everything.

    The backbone's weights, moments and moving statistics stay as they are; its batch
    normalisations use the moving ones, as in inference, and no penalty is applied.
    The step is traced anew once, when the backbone starts. Its moments then begin as
    in a first step, see `AdamWithL2.let_start_late`.

    Args:
        backbone: Model inside the trained network.
        num_epochs: Number of epochs in which it is frozen.
        say: Function that shows a line.
    """

    def __init__(self, backbone, num_epochs: int, *, say: Callable[[str], None]):
        super().__init__()
        self.backbone = backbone
        self.num_epochs = num_epochs
        self.say = say

    def on_epoch_begin(self, epoch, logs=None):
        is_trained = epoch >= self.num_epochs
        if self.backbone.trainable == is_trained:
            return
        self.backbone.trainable = is_trained
        self.model.make_train_function(force=True)
        if is_trained:
            self.say(f"epoch {epoch + 1}: the backbone is trained too from here on")

    def on_epoch_end(self, epoch, logs=None):
        if epoch < self.num_epochs:
            unscaled(self.model.optimizer).start_late()


class StopAtPlateau(keras.callbacks.Callback):
    """Ends the training when the mAP has not risen for some scored epochs.

    Args:
        say: Function that shows a line.
        stop_after: Number of such epochs.
        scored: Tells whether an epoch, counted from 1, is scored.
        best: Function without arguments to `epochs_done` and `mean_ap` of the best
            epoch, or `None`.
    """

    def __init__(self, say: Callable[[str], None], *, stop_after: int, scored, best):
        super().__init__()
        self.say = say
        self.stop_after = stop_after
        self.scored = scored
        self.best = best

    def on_epoch_end(self, epoch, logs=None):
        best = self.best() or {"epochs_done": 0, "mean_ap": math.nan}
        best_epoch, options = best["epochs_done"], {"stop_after": self.stop_after}
        if not is_plateau(epoch + 1, best_epoch, scored=self.scored, **options):
            return
        self.model.stop_training = True
        self.say(
            f"stopped after epoch {epoch + 1}: {self.stop_after} scored epochs without "
            f"a better mAP than the {best['mean_ap']:.1%} of epoch {best_epoch}. The "
            "scores and `embedder.keras` are those of the last epoch, "
            "`embedder_best.keras` is that of the best."
        )


@contextlib.contextmanager
def as_used(network, optimizer) -> Iterator[None]:
    """Has a network as it is scored and saved, within a `with` block.

    Where the optimizer averages weights, the averages stand in for them and for the
    moving statistics. They are put back to the bit. (Keras's `SwapEMAWeights` adds
    and subtracts, which rounds, and leaves the moving statistics.) No part is frozen,
    so that a saved model can be trained.

    Args:
        network: The trained model.
        optimizer: Its optimizer, in a loss scale or not.
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
