"""The training step: every stream's two losses, one gradient."""

from types import SimpleNamespace

import keras
import tensorflow as tf
from keras import ops

from topdb_tf.texts import check_one_of
from topdb_tf.training.choices import MINING
from topdb_tf.training.losses import BatchHardTripletLoss, LabelSmoothedCrossEntropy
from topdb_tf.training.replicas import num_replicas, sum_of_replicas, whole_batch


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

    With a strategy, `fit` takes the images of this process, of which each of its
    replicas trains on an equal, consecutive part. Losses, gradients and figures are
    those of all replicas together.

    Source: Quispe and Pedrini, Top-DB-Net, ICPR 2020
    (https://arxiv.org/abs/2010.05435).

    Args:
        network: Model from pixels `(batch, height, width, 3)` to
            `{stream: {"features": (batch, dim), "logits": (batch, num_pids)}}`.
        cross_entropy: Loss from labels and logits.
        triplet: Loss from labels and features.
        mining: Where hard examples are looked for: "global", in the whole batch, or
            "replica", in the part that a replica has.
        strategy: The `tf.distribute` strategy in whose scope the network was made and
            the trainer is compiled; `None` for one device. The trainer itself is made
            outside, as Keras would divide the images once more.
        **kwargs: `name` and the other arguments of `keras.Model`.

    Raises:
        ValueError: If `mining` is unknown, or it is made in a strategy's scope.
    """

    def __init__(
        self,
        network,
        *,
        cross_entropy=None,
        triplet=None,
        mining="global",
        strategy=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_one_of("mining", mining, MINING)
        if tf.distribute.has_strategy():
            raise ValueError("Make the trainer outside the scope of the strategy.")
        self.mining = mining
        self.strategy = strategy or tf.distribute.get_strategy()
        self.network = network
        # Keras would take the variables of a second model for further ones.
        self._trained = SimpleNamespace(network=network)
        self.cross_entropy = cross_entropy or LabelSmoothedCrossEntropy()
        self.triplet = triplet or BatchHardTripletLoss()
        self.streams = tuple(network.output)
        names = [
            f"{stream}_{loss}"
            for stream in self.streams
            for loss in ("cross_entropy", "triplet")
        ]
        with self.strategy.scope():
            self._trackers = {
                name: _EpochMean(name=name)
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

    def train_as(self, network):
        """Has the steps from here on run a model on the layers of the network.

        Args:
            network: The network, or what `topdb_tf.model.network.adapted` made of it.
        """
        if network is not self._trained.network:
            self._trained.network = network
            self.make_train_function(force=True)

    def call(self, inputs, training=False):
        return self.network(inputs, training=training)

    def loss_figures(self, labels, outputs):
        """Returns the two losses of every stream by name, each a float32 scalar.

        Keras divides a loss by the number of replicas, so that the sum over them is
        the loss of the whole batch.

        Args:
            labels: Labels of this replica's images, shape `(images,)`.
            outputs: What the network gives for them.
        """
        return self._loss_figures(labels, outputs, *self._whole(labels, outputs))

    def _whole(self, labels, outputs):
        """Returns the labels and the features by stream of all replicas."""
        features = {stream: outputs[stream]["features"] for stream in self.streams}
        return whole_batch(labels), whole_batch(features)

    def _loss_figures(self, labels, outputs, all_labels, all_features):
        is_global = self.mining == "global"
        figures = {}
        for stream in self.streams:
            figures[f"{stream}_cross_entropy"] = self.cross_entropy(
                labels, outputs[stream]["logits"]
            )
            figures[f"{stream}_triplet"] = self.triplet(
                all_labels if is_global else labels,
                all_features[stream] if is_global else outputs[stream]["features"],
            )
        return figures

    def non_finite_gradient(self) -> str | None:
        """Returns the weight whose gradient was not finite in the last step, if any.

        If there are several, it is the one nearest to the losses, where the trouble
        began.
        """
        index = int(self._bad_gradient.numpy())
        return None if index < 0 else self.network.trainable_variables[index].path

    def make_train_function(self, force=False):
        """Makes the function that Keras's `fit` calls with an iterator of batches."""
        if self.strategy.num_replicas_in_sync == 1:
            super().make_train_function(force)
        elif self.train_function is None or force:
            self.train_function = _distributed(self.strategy, self.train_step)

    def train_step(self, data):
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            outputs = self._trained.network(images, training=True)
            all_labels, all_features = self._whole(labels, outputs)
            figures = self._loss_figures(labels, outputs, all_labels, all_features)
            loss = ops.sum(ops.stack(list(figures.values())))
            scaled_loss = self.optimizer.scale_loss(loss)
        weights = self.network.trainable_variables
        gradients = sum_of_replicas(tape.gradient(scaled_loss, weights))
        self.optimizer.apply(gradients, weights)
        bad_gradient = self._last_non_finite(gradients)
        self._bad_gradient.assign(bad_gradient)
        guesses = ops.argmax(outputs[self.streams[0]]["logits"], axis=-1)
        correct = ops.equal(guesses, ops.cast(labels, guesses.dtype))
        accuracy = ops.mean(ops.cast(correct, "float32")) / num_replicas()
        figures = sum_of_replicas({**figures, "loss": loss, "accuracy": accuracy})
        figures["spread"] = ops.min(
            [_spread(all_features[stream]) for stream in self.streams]
        )
        figures["loss"] = ops.where(bad_gradient < 0, figures["loss"], float("nan"))
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


def _distributed(strategy, train_step):
    """Returns the function from an iterator to the figures of its next step.

    (Keras's own averages figures over workers as if they were batches, and fails.)
    """
    num_parts = len(strategy.extended.worker_devices)

    def step_of_replica(data):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        with tf.device("CPU"):  # so that the whole goes to no device
            parts = [tf.split(values, num_parts) for values in data]
            part = [tf.stack(values)[replica % num_parts] for values in parts]
        return train_step(tuple(part))

    @tf.function(reduce_retracing=True, autograph=False)
    def step(iterator):
        figures = strategy.run(step_of_replica, args=(next(iterator),))
        # Those of each replica are those of all.
        return {
            name: strategy.experimental_local_results(value)[0]
            for name, value in figures.items()
        }

    return step


class _EpochMean(keras.metrics.Mean):
    """A mean that every replica has whole, so that reading it asks no other one."""

    def add_variable(self, shape, initializer, dtype=None, name=None, **options):
        options["aggregation"] = "only_first_replica"
        return super().add_variable(shape, initializer, dtype, name=name, **options)


def _spread(features):
    features = ops.cast(ops.stop_gradient(features), "float32")
    deviations = features - ops.mean(features, axis=0, keepdims=True)
    lengths = ops.mean(ops.sum(ops.square(features), axis=-1))
    variance = ops.mean(ops.sum(ops.square(deviations), axis=-1))
    return ops.sqrt(variance / ops.maximum(lengths, 1e-12))
