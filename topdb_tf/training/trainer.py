"""The training step: every stream's two losses, one gradient."""

import keras
import tensorflow as tf
from keras import ops

from topdb_tf.training.losses import BatchHardTripletLoss, LabelSmoothedCrossEntropy


class ReidTrainer(keras.Model):
    """Trains a network whose streams each give features and logits.

    The loss is the sum over the streams of a cross-entropy on the logits and a
    triplet loss on the features. Each of them is logged as a figure of its own,
    averaged over the epoch, beside the whole `loss`, the `accuracy` of the first
    stream's logits, and `spread`: how far the features of a batch are from their
    mean, relative to their length, in the stream where that is least (0 where all
    images have the same features). Compile it with an optimizer alone; under a
    float16 policy Keras wraps that in dynamic loss scaling.

    Where the losses are finite and a gradient is not, `loss` is NaN, so that one
    figure tells of both; `non_finite_gradient` names the layer. A float16 gradient
    that overflows is no such case, as loss scaling skips that step, unless the scale
    has fallen below 1.

    Source: Quispe and Pedrini, Top-DB-Net, ICPR 2020
    (https://arxiv.org/abs/2010.05435).

    Args:
        network: Model from pixels `(batch, height, width, 3)` to
            `{stream: {"features": (batch, dim), "logits": (batch, num_pids)}}`.
        cross_entropy: Loss from labels and logits.
        triplet: Loss from labels and features.
        **kwargs: `name` and the other arguments of `keras.Model`.
    """

    def __init__(self, network, *, cross_entropy=None, triplet=None, **kwargs):
        super().__init__(**kwargs)
        self.network = network
        self.cross_entropy = cross_entropy or LabelSmoothedCrossEntropy()
        self.triplet = triplet or BatchHardTripletLoss()
        self.streams = tuple(network.output)
        names = [
            f"{stream}_{loss}"
            for stream in self.streams
            for loss in ("cross_entropy", "triplet")
        ]
        self._trackers = {
            name: keras.metrics.Mean(name=name)
            for name in ("loss", "accuracy", "spread", *names)
        }
        # int64, as int32 variables of a GPU are kept by the host.
        self._bad_gradient = tf.Variable(
            -1,
            dtype=tf.int64,
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        self.built = True  # all weights are the network's

    @property
    def metrics(self):
        return list(self._trackers.values())

    def call(self, inputs, training=False):
        return self.network(inputs, training=training)

    def loss_figures(self, labels, outputs):
        """Returns the two losses of every stream by name, each a float32 scalar."""
        figures = {}
        for stream in self.streams:
            figures[f"{stream}_cross_entropy"] = self.cross_entropy(
                labels, outputs[stream]["logits"]
            )
            figures[f"{stream}_triplet"] = self.triplet(
                labels, outputs[stream]["features"]
            )
        return figures

    def non_finite_gradient(self) -> str | None:
        """Returns the weight whose gradient was not finite in the last step, if any.

        Of several it is the one nearest to the losses, where the trouble began.
        """
        index = int(self._bad_gradient)
        return None if index < 0 else self.network.trainable_variables[index].path

    def train_step(self, data):
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            outputs = self.network(images, training=True)
            figures = self.loss_figures(labels, outputs)
            loss = ops.sum(ops.stack(list(figures.values())))
            scaled_loss = self.optimizer.scale_loss(loss)
        weights = self.network.trainable_variables
        gradients = tape.gradient(scaled_loss, weights)
        self.optimizer.apply(gradients, weights)
        bad_gradient = self._last_non_finite(gradients)
        self._bad_gradient.assign(bad_gradient)
        guesses = ops.argmax(outputs[self.streams[0]]["logits"], axis=-1)
        correct = ops.equal(guesses, ops.cast(labels, guesses.dtype))
        figures["accuracy"] = ops.mean(ops.cast(correct, "float32"))
        figures["spread"] = ops.min(
            [_spread(outputs[stream]["features"]) for stream in self.streams]
        )
        figures["loss"] = ops.where(bad_gradient < 0, loss, float("nan"))
        for name, tracker in self._trackers.items():
            tracker.update_state(figures[name])
        return {name: tracker.result() for name, tracker in self._trackers.items()}

    def _last_non_finite(self, gradients):
        """Returns the index of the last gradient with NaN or infinity, else -1."""
        # A sum is finite where all its terms are, and costs one reading of them.
        sums = ops.stack([0.0 if g is None else ops.sum(g) for g in gradients])
        indices = ops.arange(1, len(gradients) + 1, dtype="int64")
        last = ops.max(ops.where(ops.isfinite(sums), 0, indices)) - 1
        if not isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            return last
        return ops.where(self.optimizer.dynamic_scale < 1, last, -1)


def _spread(features):
    features = ops.cast(ops.stop_gradient(features), "float32")
    deviations = features - ops.mean(features, axis=0, keepdims=True)
    lengths = ops.mean(ops.sum(ops.square(features), axis=-1))
    variance = ops.mean(ops.sum(ops.square(deviations), axis=-1))
    return ops.sqrt(variance / ops.maximum(lengths, 1e-12))
