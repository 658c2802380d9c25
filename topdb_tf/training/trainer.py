"""The training step: every stream's two losses, one gradient."""

import keras
import tensorflow as tf
from keras import ops

from topdb_tf.training.losses import BatchHardTripletLoss, LabelSmoothedCrossEntropy


class ReidTrainer(keras.Model):
    """Trains a network whose streams each give features and logits.

    The loss is the sum over the streams of a cross-entropy on the logits and a
    triplet loss on the features. Each of them is logged as a figure of its own,
    averaged over the epoch, beside the whole `loss` and the `accuracy` of the first
    stream's logits. Compile it with an optimizer alone; under a float16 policy Keras
    wraps that in dynamic loss scaling.

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
            name: keras.metrics.Mean(name=name) for name in ("loss", "accuracy", *names)
        }
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

    def train_step(self, data):
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            outputs = self.network(images, training=True)
            figures = self.loss_figures(labels, outputs)
            loss = ops.sum(ops.stack(list(figures.values())))
            scaled_loss = self.optimizer.scale_loss(loss)
        weights = self.network.trainable_variables
        self.optimizer.apply(tape.gradient(scaled_loss, weights), weights)
        guesses = ops.argmax(outputs[self.streams[0]]["logits"], axis=-1)
        correct = ops.equal(guesses, ops.cast(labels, guesses.dtype))
        figures["accuracy"] = ops.mean(ops.cast(correct, "float32"))
        figures["loss"] = loss
        for name, tracker in self._trackers.items():
            tracker.update_state(figures[name])
        return {name: tracker.result() for name, tracker in self._trackers.items()}
