import keras
import numpy as np
import pytest

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
