"""Adam as the authors' code runs it."""

from types import SimpleNamespace

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

    Keras's own options work as follows. With `gradient_accumulation_steps` the
    penalty is added once, to the mean of the gradients, and the bias correction counts
    updates. `global_clipnorm` clips that mean before the penalty is added, and after
    the loss scale of float16 is divided out. With `use_ema` the averages move with
    every update, not with every batch; they are left alone at the end of `fit`: see
    `averages`.

    Source: Kingma and Ba, Adam, ICLR 2015 (https://arxiv.org/abs/1412.6980).

    Args:
        learning_rate: Step size.
        l2: Weight of the penalty `l2 / 2 * sum(weight ** 2)`, at least 0.
        epsilon: Added to the root of the second moment.
        **kwargs: The other arguments of `keras.optimizers.Adam`, save `amsgrad` and
            `weight_decay`.

    Raises:
        ValueError: If `l2` is negative, or `amsgrad` or `weight_decay` is asked for;
            when it is built, if it is to accumulate gradients on several replicas.
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
        # Keras would take variables in a list for the optimizer's own.
        self._averaged_too = SimpleNamespace(variables=(), averages=())
        self._late_keys = frozenset()

    def average_too(self, variables):
        """Has other variables averaged, such as moving statistics, if weights are.

        Call it before `build`.
        """
        self._averaged_too.variables = tuple(variables)

    def let_start_late(self, variables):
        """Has the bias of some weights' moments corrected from a later step on.

        They are weights that are trained after the others. (Adam corrects by the number
        of all updates, and in the first ones after a late start would take steps that
        are several times too large.) Call it before `build`, and `start_late` whenever
        the weights still rest.
        """
        self._late_keys = frozenset(map(self._var_key, variables))

    def start_late(self):
        """Notes that the weights that start late have not been updated so far."""
        self._late_start.assign(self.iterations)

    def build(self, var_list):
        if self.built:
            return
        strategy = getattr(self, "_distribution_strategy", None)
        if self.gradient_accumulation_steps and strategy is not None:
            if strategy.num_replicas_in_sync > 1:
                # Keras would update all replicas from within a branch of the graph.
                raise ValueError(
                    "Gradients can be accumulated on one device alone. Set "
                    "`train.accumulate_steps=1` and a larger `data.batch_size`, of "
                    "which each device takes its part. Received: "
                    f"{self.gradient_accumulation_steps} batches to an update, "
                    f"{strategy.num_replicas_in_sync} devices"
                )
        super().build(var_list)
        if self._late_keys:
            self._late_start = self.add_variable(
                (), dtype="int", aggregation="only_first_replica", name="late_start"
            )
        if self.use_ema:
            self._averaged_too.averages = tuple(
                self.add_optimizer_variables(self._averaged_too.variables, "average")
            )

    def averages(self) -> list[tuple]:
        """Returns pairs of a variable and its moving average; none without `use_ema`.

        Before the first update there is no average.
        """
        if not self.use_ema or not ops.convert_to_numpy(self.iterations):
            return []
        return self._averaged(self._trainable_variables)

    def _averaged(self, weights):
        other = self._averaged_too
        averages = [*self._model_variables_moving_average, *other.averages]
        return list(zip([*weights, *other.variables], averages, strict=True))

    def update_step(self, gradient, variable, learning_rate):
        gradient = ops.cast(gradient, variable.dtype) + self.l2 * variable
        rate = ops.cast(learning_rate, variable.dtype)
        step = self.iterations + 1
        if self._var_key(variable) in self._late_keys:
            step -= self._late_start
        step = ops.cast(step, variable.dtype)
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

    def _update_model_variables_moving_average(self, trainable_variables):
        # Keras moves them after every batch, also where gradients are accumulated.
        num_batches = self.gradient_accumulation_steps or 1
        is_update = (self._iterations + 1) % num_batches == 0
        momentum = ops.where(is_update, self.ema_momentum, 1.0)
        momentum = ops.where(self.iterations == 0, 0.0, momentum)
        for variable, average in self._averaged(trainable_variables):
            share = ops.cast(momentum, average.dtype)
            average.assign(share * average + (1 - share) * variable)

    def finalize_variable_values(self, var_list):
        # Keras would end `fit` with the averages in place of the weights.
        pass

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
