from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from topdb_tf.training.optimizer import AdamWithL2


def slow_adam(weights, gradients, *, rate, l2, epsilon):
    """Adam from its definition in float64, the penalty's gradient added first."""
    weights, first, second = weights.astype("float64"), 0.0, 0.0
    for step, gradient in enumerate(gradients, start=1):
        gradient = gradient + l2 * weights
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        root = np.sqrt(second / (1 - 0.999**step)) + epsilon
        weights = weights - rate * first / (1 - 0.9**step) / root
    return weights


@pytest.mark.parametrize("backend", ["tensorflow", "other"])
def test_it_agrees_with_the_definition(backend, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(3, 4)).astype("float32")
    # Some gradients are tiny: there the place of epsilon matters.
    gradients = rng.normal(size=(5, 3, 4)) * 10.0 ** -rng.integers(0, 9, (3, 4))
    variable = keras.Variable(weights)
    optimizer = AdamWithL2(0.01, l2=1e-7, epsilon=1e-5)
    for gradient in gradients.astype("float32"):
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    expected = slow_adam(weights, gradients, rate=0.01, l2=1e-7, epsilon=1e-5)
    np.testing.assert_allclose(variable, expected, rtol=2e-5)


def test_the_penalty_alone_shrinks_a_weight():
    # The gradient is 0.5 * 2 = 1, so Adam's first step is the rate itself.
    variable = keras.Variable(np.array([2.0], "float32"))
    AdamWithL2(0.1, l2=0.5).apply([keras.ops.zeros(1)], [variable])
    np.testing.assert_allclose(variable, [1.9], rtol=1e-6)


def test_its_configuration_makes_the_same_optimizer():
    optimizer = AdamWithL2(0.1, l2=0.25, epsilon=1e-3, beta_1=0.8)
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(copy, AdamWithL2)
    assert (copy.l2, copy.epsilon, copy.beta_1) == (0.25, 1e-3, 0.8)


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ValueError, match="`l2` must be at least 0"):
        AdamWithL2(l2=-1)
    with pytest.raises(ValueError, match="no `amsgrad`"):
        AdamWithL2(amsgrad=True)


def tensors(*values):
    return [keras.ops.convert_to_tensor(value, "float32") for value in values]


def applying(optimizer, variables, compiled):
    def apply(gradients):
        optimizer.apply(gradients, variables)

    return tf.function(apply, autograph=False) if compiled else apply


def state(optimizer, ending):
    """Returns the optimizer's variables of a kind, in the order of the weights."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return [v.numpy() for v in inner.variables if v.name.endswith(ending)]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("scale", [None, 1024.0])
def test_accumulated_gradients_make_one_step_with_their_mean(compiled, scale):
    rng = np.random.default_rng(1)
    weights = rng.normal(size=5).astype("float32")
    gradients = rng.normal(size=(6, 5)).astype("float32")
    variable = keras.Variable(weights)
    optimizer = AdamWithL2(0.01, l2=0.1, gradient_accumulation_steps=2)
    if scale:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build([variable])
    apply = applying(optimizer, [variable], compiled)
    for index, gradient in enumerate(gradients):
        before = variable.numpy()
        if scale:
            # The scale changes within each pair; what is kept must not depend on it.
            optimizer.dynamic_scale.assign(scale * (1 + index % 2))
            gradient = gradient * scale * (1 + index % 2)
        apply(tensors(gradient))
        assert (variable.numpy() == before).all() == (index % 2 == 0)
    means = gradients.reshape(3, 2, 5).mean(1)
    expected = slow_adam(weights, means, rate=0.01, l2=0.1, epsilon=1e-8)
    np.testing.assert_allclose(variable, expected, rtol=2e-5)


def test_a_gradient_that_float16_loses_leaves_what_is_accumulated():
    variable = keras.Variable(np.ones(1, "float32"))
    inner = AdamWithL2(0.01, l2=0, gradient_accumulation_steps=2)
    optimizer = keras.optimizers.LossScaleOptimizer(inner)
    optimizer.build([variable])
    for gradient in (3.0, np.inf, 5.0):
        scale = float(optimizer.dynamic_scale)
        optimizer.apply(tensors([gradient * scale]), [variable])
    # One update with the mean of 3 and 5; the first moment is a tenth of it.
    assert int(optimizer.iterations) == 1
    np.testing.assert_allclose(state(optimizer, "momentum")[0], [0.4], rtol=1e-6)


@pytest.mark.parametrize("scale", [None, 8.0])
def test_the_gradient_is_clipped_before_the_penalty_and_after_the_loss_scale(scale):
    # (3, 0) and (0, 4) have a common length of 5 and become (0.6, 0) and (0, 0.8).
    # With the penalty's 0.5 * 2 and a tenth in the first moment: 0.16 0.1, 0.1 0.18.
    variables = [keras.Variable(np.full(2, 2.0, "float32")) for _ in range(2)]
    optimizer = AdamWithL2(0.01, l2=0.5, global_clipnorm=1.0)
    gradients = np.array([[3.0, 0.0], [0.0, 4.0]])
    if scale:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=scale)
        gradients *= scale
    optimizer.apply(tensors(*gradients), variables)
    np.testing.assert_allclose(
        state(optimizer, "momentum"), [[0.16, 0.1], [0.1, 0.18]], rtol=1e-5
    )


@pytest.mark.parametrize("num_batches", [1, 3])
@pytest.mark.parametrize("compiled", [False, True])
def test_the_average_moves_with_every_update(compiled, num_batches):
    weight = keras.Variable(np.array([1.0], "float32"))
    statistic = keras.Variable(np.array([5.0], "float32"), trainable=False)
    steps = num_batches if num_batches > 1 else None
    optimizer = AdamWithL2(
        0.1, use_ema=True, ema_momentum=0.75, gradient_accumulation_steps=steps
    )
    optimizer.average_too([statistic])
    optimizer.build([weight])
    assert optimizer.averages() == []
    apply = applying(optimizer, [weight], compiled)
    expected = None
    for update in range(4):
        for _ in range(num_batches):
            statistic.assign_add([2.0])
            apply(tensors([update + 1.0]))
        now = np.array([weight.numpy()[0], statistic.numpy()[0]])
        # The first average is the first value, the later ones keep three quarters.
        expected = now if expected is None else 0.75 * expected + 0.25 * now
        pairs = optimizer.averages()
        assert [variable for variable, _ in pairs] == [weight, statistic]
        np.testing.assert_allclose(
            [average.numpy()[0] for _, average in pairs], expected, rtol=1e-6
        )


def test_the_end_of_fit_leaves_the_weights():
    weight = keras.Variable(np.array([1.0], "float32"))
    optimizer = AdamWithL2(0.1, use_ema=True)
    for _ in range(3):
        optimizer.apply(tensors([1.0]), [weight])
    before = weight.numpy()
    optimizer.finalize_variable_values([weight])
    assert weight.numpy() == before
    assert before != optimizer.averages()[0][1].numpy()


@pytest.mark.parametrize("is_late", [True, False])
def test_weights_that_start_late_begin_as_in_a_first_step(is_late):
    early, late = (keras.Variable(np.zeros(3, "float32")) for _ in range(2))
    optimizer = AdamWithL2(0.01, l2=0)
    if is_late:
        optimizer.let_start_late([late])
    optimizer.build([early, late])
    gradients = np.random.default_rng(0).normal(size=(28, 3)).astype("float32")
    for gradient in gradients[:20]:
        optimizer.apply(tensors(gradient), [early])
        if is_late:
            optimizer.start_late()
    assert (late.numpy() == 0).all()
    assert (state(optimizer, "momentum")[1] == 0).all()
    for gradient in gradients[20:]:
        optimizer.apply(tensors(gradient, gradient), [early, late])
    start = np.zeros(3, "float32")
    expected = slow_adam(start, gradients[20:], rate=0.01, l2=0, epsilon=1e-8)
    agrees = np.allclose(late, expected, rtol=1e-4)
    assert agrees == is_late  # Adam's own count would make other steps
    everything = slow_adam(start, gradients, rate=0.01, l2=0, epsilon=1e-8)
    np.testing.assert_allclose(early, everything, rtol=1e-4, atol=1e-7)


def test_gradients_are_not_accumulated_on_several_devices():
    optimizer = AdamWithL2(0.1, gradient_accumulation_steps=4)
    optimizer._distribution_strategy = SimpleNamespace(num_replicas_in_sync=2)
    with pytest.raises(ValueError, match="one device alone.*larger `data.batch_size`"):
        optimizer.build([keras.Variable(np.zeros(1))])


def test_a_copy_has_the_options():
    options = {"global_clipnorm": 2.0, "use_ema": True, "ema_momentum": 0.9}
    optimizer = AdamWithL2(0.1, gradient_accumulation_steps=3, **options)
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert copy.gradient_accumulation_steps == 3
    assert {key: getattr(copy, key) for key in options} == options
