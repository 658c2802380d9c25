import keras
import numpy as np
import pytest
import tensorflow as tf

from topdb_tf.model.backbones import BACKBONES
from topdb_tf.model.layers import BatchDropBlock
from topdb_tf.model.network import build_network
from topdb_tf.training.errors import NonFiniteLossError
from topdb_tf.training.optimizer import AdamWithL2
from topdb_tf.training.state import (
    finite,
    restore,
    restore_figures,
    state_arrays,
)
from topdb_tf.training.trainer import ReidTrainer


def trainer_of(num_pids=4, seed=0, policy="mixed_float16"):
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(policy)
    try:
        network = build_network(
            BACKBONES["tiny"]((32, 16)),
            num_pids=num_pids,
            drop_block=BatchDropBlock(0.3, seed=seed, name="drop"),
        )
        trainer = ReidTrainer(network)
        trainer.compile(optimizer=AdamWithL2(1e-3), jit_compile=False)
        trainer.optimizer.build(network.trainable_variables)
        return trainer
    finally:
        keras.config.set_dtype_policy("float32")


def batch():
    pixels = np.random.default_rng(0).uniform(0, 255, (8, 32, 16, 3))
    return tf.constant(pixels, tf.float32), tf.constant(np.repeat(np.arange(4), 2))


@pytest.fixture(scope="module")
def trained():
    """A trainer after three steps, two of which overflowed."""
    trainer = trainer_of()
    for _ in range(3):
        trainer.train_step(batch())
    return trainer


def test_the_state_holds_all_that_a_step_changes(trained):
    names = [name for name, _ in state_arrays(trained)]
    assert len(names) == len(set(names))
    for ending in (
        "/kernel",
        "/moving_variance",
        "/seed_generator_state",
        "/stem_conv_kernel_momentum",
        "/stem_conv_kernel_velocity",
        "/iteration",
        "/learning_rate",
        "/dynamic_scale",
        "/step_counter",
        "/total",
        "/count",
    ):
        assert any(name.endswith(ending) for name in names), ending


def test_another_trainer_in_the_same_state_takes_the_same_step_to_the_bit(trained):
    arrays = dict(state_arrays(trained))
    other = trainer_of(seed=5)  # other weights, another state of the drop block
    restore(other, arrays)
    figures = [trainer.train_step(batch()) for trainer in (trained, other)]
    assert {k: float(v) for k, v in figures[0].items()} == {
        k: float(v) for k, v in figures[1].items()
    }
    after = dict(state_arrays(trained))
    for name, array in state_arrays(other):
        np.testing.assert_array_equal(array, after[name], err_msg=name)
    changed = [name for name in arrays if (arrays[name] != after[name]).any()]
    assert any("seed_generator" in name for name in changed)


def test_the_figures_alone_are_restored_after_keras_forgot_them(trained):
    arrays = dict(state_arrays(trained))
    mean = trained.get_metrics_result()["loss"]
    trained.reset_metrics()
    assert trained.get_metrics_result()["loss"] == 0
    restore_figures(trained, arrays)
    assert trained.get_metrics_result()["loss"] == mean


@pytest.mark.parametrize("other", [{"num_pids": 5}, {"policy": "float32"}])
def test_the_state_of_another_network_or_optimizer_is_refused(other, trained):
    trainer = trainer_of(**other)
    before = dict(state_arrays(trainer))
    with pytest.raises(ValueError, match="must be one of this network and optimizer"):
        restore(trainer, dict(state_arrays(trained)))
    for name, array in state_arrays(trainer):
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "name", ["kernel", "moving_variance", "stem_conv_kernel_velocity", "dynamic_scale"]
)
def test_a_value_that_is_not_finite_is_named_wherever_it_is(name, value, trained):
    list(finite(state_arrays(trained), "after epoch 3"))
    variables = [*trained.network.variables, *trained.optimizer.variables]
    variable = [other for other in variables if other.name == name][-1]
    before = np.array(variable)
    spoilt = before.copy()
    spoilt.flat[-1] = value
    variable.assign(spoilt)
    with pytest.raises(NonFiniteLossError, match=f"after epoch 3 is not .*{name}"):
        list(finite(state_arrays(trained), "after epoch 3"))
    variable.assign(before)
