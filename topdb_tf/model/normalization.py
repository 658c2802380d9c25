"""Batch normalisation by a fused kernel."""

from functools import partial

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="topdb_tf")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation over the last axis by TensorFlow's fused kernel.

    The outputs are those of `keras.layers.BatchNormalization`. The moving variance
    is updated with the unbiased variance of the batch, n / (n - 1) times the one that
    normalises, as PyTorch does. Scale, shift and statistics are float32 also where
    the inputs are float16 or bfloat16. The defaults of `momentum` and `epsilon` are
    this network's, not Keras's. In float64 and on the other backends of Keras, where
    there is no such kernel, the layer computes the same from `keras.ops`; so it does in
    training with `synchronized=True`, where the statistics are those of the batches of
    all replicas, which must be of one size. As in Keras, a layer with
    `trainable=False` uses its moving statistics and leaves them.

    Source: Ioffe and Szegedy, Batch Normalization, ICML 2015
    (https://arxiv.org/abs/1502.03167).

    Args:
        axis: The last axis: -1, or the rank less one.
        momentum: Share of the moving statistics that a step keeps, in [0, 1).
        epsilon: Added to the variance before its root is taken.
        **kwargs: The other arguments of `keras.layers.BatchNormalization`, such as
            `center=False` for a layer without shift; `renorm` is not supported.

    Call arguments:
        inputs: Tensor of shape `(batch, height, width, channels)` or `(batch, dim)`.
        training: Whether to use the statistics of the batch. Defaults to `False`.
        mask: Must be `None`; it stands here because graphs made for Keras's layer
            pass it.

    Raises:
        ValueError: If the inputs have another rank, `axis` is not their last one, or
            `renorm` or a `mask` is given.
    """

    def __init__(self, axis=-1, momentum=0.9, epsilon=1e-5, **kwargs):
        super().__init__(axis=axis, momentum=momentum, epsilon=epsilon, **kwargs)
        if getattr(self, "renorm", False):
            raise ValueError("`renorm` is not supported. Received: renorm=True")

    def build(self, input_shape):
        rank = len(input_shape)
        if rank not in (2, 4) or self.axis not in (-1, rank - 1):
            raise ValueError(
                "The inputs must have rank 2 or 4, normalised over their last axis. "
                f"Received: inputs of shape {tuple(input_shape)}, axis={self.axis}"
            )
        super().build(input_shape)

    def call(self, inputs, training=False, mask=None):
        if mask is not None:
            raise ValueError(f"`mask` is not supported. Received: mask={mask}")
        from_batch = bool(training) and self.trainable
        is_tensorflow = keras.backend.backend() == "tensorflow"
        of_replicas = self.synchronized and from_batch
        if is_tensorflow and not of_replicas and self.compute_dtype != "float64":
            return self._fused(inputs, from_batch)
        return self._unfused(inputs, from_batch)

    def _fused(self, inputs, from_batch):
        import tensorflow as tf  # the other backends need no TensorFlow

        channels = self.moving_mean.shape
        float32 = partial(ops.cast, dtype="float32")
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs if len(inputs.shape) == 4 else inputs[:, None, None, :],
            scale=float32(self.gamma) if self.scale else tf.ones(channels),
            offset=float32(self.beta) if self.center else tf.zeros(channels),
            mean=float32(self.moving_mean),
            variance=float32(self.moving_variance),
            epsilon=self.epsilon,
            exponential_avg_factor=1 - self.momentum if from_batch else 1.0,
            is_training=from_batch,
        )
        if from_batch:
            self.moving_mean.assign(mean)
            self.moving_variance.assign(variance)
        return outputs if len(inputs.shape) == 4 else outputs[:, 0, 0, :]

    def _unfused(self, inputs, from_batch):
        dtype = keras.backend.result_type(inputs.dtype, "float32")
        inputs = ops.cast(inputs, dtype)
        mean, variance = self.moving_mean, self.moving_variance
        if from_batch:
            axes = list(range(len(inputs.shape) - 1))
            moments = _moments_of_replicas if self.synchronized else ops.moments
            mean, variance = moments(inputs, axes)
            self._update(self.moving_mean, mean)
            self._update(self.moving_variance, variance * self._unbiased(inputs))
        outputs = ops.batch_normalization(
            inputs,
            ops.cast(mean, dtype),
            ops.cast(variance, dtype),
            axis=-1,
            offset=ops.cast(self.beta, dtype) if self.center else None,
            scale=ops.cast(self.gamma, dtype) if self.scale else None,
            epsilon=self.epsilon,
        )
        return ops.cast(outputs, self.compute_dtype)

    def _update(self, moving, value):
        kept = ops.cast(moving, value.dtype) * self.momentum
        moving.assign(ops.cast(kept + value * (1 - self.momentum), moving.dtype))

    def _unbiased(self, inputs):
        """Returns n / (n - 1), n being the number of values of a channel."""
        count = ops.cast(ops.prod(ops.shape(inputs)[:-1]), inputs.dtype)
        if self.synchronized:
            import tensorflow as tf  # Keras has it on TensorFlow only

            count *= tf.distribute.get_strategy().num_replicas_in_sync
        return count / ops.maximum(count - 1, 1)


def _moments_of_replicas(inputs, axes):
    """Returns mean and variance of all replicas' inputs, which are of one size.

    Deviations are taken from the common mean. (Keras subtracts the square of the mean
    from the mean of the squares, which loses digits where the mean is large.)
    """
    import tensorflow as tf  # Keras synchronises on TensorFlow only

    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return ops.moments(inputs, axes)
    mean = replica.all_reduce("MEAN", ops.mean(inputs, axes))
    squares = ops.square(inputs - mean)
    return mean, replica.all_reduce("MEAN", ops.mean(squares, axes))
