"""Adam as the authors' code runs it."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="topdb_tf")
class AdamWithL2(keras.optimizers.Adam):
    """Adam on the loss plus an L2 penalty of all weights, as PyTorch computes it.

    The gradient of the penalty, `l2 * weight`, is added to the gradient before the
    moments, for every weight: kernels, biases and batch normalisation. (Keras's own
    `weight_decay` is the decoupled one of AdamW.) `epsilon` is added to the corrected
    second moment's root, where PyTorch has it. On TensorFlow each weight is updated
    by one fused kernel, and under a `tf.distribute` strategy the gradients must be
    those of all replicas together, as `ReidTrainer` sums them.

    Source: Kingma and Ba, Adam, ICLR 2015 (https://arxiv.org/abs/1412.6980).

    Args:
        learning_rate: Step size.
        l2: Weight of the penalty `l2 / 2 * sum(weight ** 2)`, at least 0.
        epsilon: Added to the root of the second moment.
        **kwargs: The other arguments of `keras.optimizers.Adam`, save `amsgrad` and
            `weight_decay`.

    Raises:
        ValueError: If `l2` is negative, or `amsgrad` or `weight_decay` is asked for.
    """

    def __init__(
        self, learning_rate=0.0005, *, l2=0.0005, epsilon=1e-8, name="adam", **kwargs
    ):
        if not l2 >= 0:
            raise ValueError(f"`l2` must be at least 0. Received: l2={l2}")
        for key in ("amsgrad", "weight_decay"):
            if kwargs.get(key):
                raise ValueError(
                    f"AdamWithL2 has no `{key}`; use keras.optimizers.Adam for it. "
                    f"Received: {key}={kwargs[key]}"
                )
        super().__init__(learning_rate, epsilon=epsilon, name=name, **kwargs)
        self.l2 = l2

    def update_step(self, gradient, variable, learning_rate):
        gradient = ops.cast(gradient, variable.dtype) + self.l2 * variable
        rate = ops.cast(learning_rate, variable.dtype)
        step = ops.cast(self.iterations + 1, variable.dtype)
        index = self._get_variable_index(variable)
        momentum, velocity = self._momentums[index], self._velocities[index]
        powers = ops.power(self.beta_1, step), ops.power(self.beta_2, step)
        epsilon = self.epsilon * ops.sqrt(1 - powers[1])
        if keras.backend.backend() == "tensorflow":
            _fused_update(
                (variable, momentum, velocity),
                gradient,
                powers,
                rate,
                (self.beta_1, self.beta_2, epsilon),
            )
            return
        self.assign_add(momentum, (gradient - momentum) * (1 - self.beta_1))
        self.assign_add(velocity, (ops.square(gradient) - velocity) * (1 - self.beta_2))
        rate = rate * ops.sqrt(1 - powers[1]) / (1 - powers[0])
        self.assign_sub(variable, momentum * rate / (ops.sqrt(velocity) + epsilon))

    def _all_reduce_sum_gradients(self, grads_and_vars):
        # Keras would sum them here, after clipping, and where each replica may have
        # found other gradients not finite.
        return grads_and_vars

    def get_config(self):
        config = {**super().get_config(), "l2": self.l2}
        for key in ("amsgrad", "weight_decay"):
            config.pop(key)
        return config


def _fused_update(variables, gradient, powers, rate, constants):
    import tensorflow as tf

    # Keras hands over the weight as a TensorFlow variable, the moments as its own.
    variables = [v.value if isinstance(v, keras.Variable) else v for v in variables]
    handles = [variable.handle for variable in variables]
    beta_1, beta_2, epsilon = constants
    tf.raw_ops.ResourceApplyAdam(
        var=handles[0],
        m=handles[1],
        v=handles[2],
        beta1_power=powers[0],
        beta2_power=powers[1],
        lr=rate,
        beta1=beta_1,
        beta2=beta_2,
        epsilon=epsilon,
        grad=gradient,
    )
