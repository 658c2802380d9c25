import keras
import numpy as np
import pytest
import tensorflow as tf

from topdb_tf.model.backbones import BACKBONES
from topdb_tf.model.layers import TopDropBlock
from topdb_tf.model.network import build_network
from topdb_tf.training.losses import BatchHardTripletLoss, LabelSmoothedCrossEntropy
from topdb_tf.training.optimizer import AdamWithL2
from topdb_tf.training.trainer import ReidTrainer

NUM_PIDS = 4


def small_trainer(**options):
    network = build_network(
        BACKBONES["tiny"]((32, 16)), num_pids=NUM_PIDS, drop_block=TopDropBlock(0.3)
    )
    trainer = ReidTrainer(network)
    trainer.compile(optimizer=AdamWithL2(1e-3), jit_compile=False, **options)
    return trainer


def batch(seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(0, 255, (8, 32, 16, 3)).astype("float32")
    return tf.constant(pixels), tf.constant(np.repeat(np.arange(NUM_PIDS), 2))


def in_half_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        return small_trainer()
    finally:
        keras.config.set_dtype_policy("float32")


def test_the_loss_is_the_sum_of_the_two_losses_of_every_stream():
    keras.utils.set_random_seed(0)
    trainer, (pixels, labels) = small_trainer(), batch()
    outputs = trainer.network(pixels, training=True)
    expected = {}
    for stream in ("global", "top_drop", "regularization"):
        features, logits = outputs[stream]["features"], outputs[stream]["logits"]
        expected[f"{stream}_cross_entropy"] = LabelSmoothedCrossEntropy(0.1)(
            labels, logits
        )
        expected[f"{stream}_triplet"] = BatchHardTripletLoss(0.3)(labels, features)
    expected["loss"] = sum(expected.values())
    figures = trainer.train_step((pixels, labels))
    for name, value in expected.items():
        np.testing.assert_allclose(figures[name], value, rtol=1e-5, err_msg=name)
    assert set(figures) == {*expected, "accuracy"}


def test_every_trained_weight_moves():
    trainer, data = small_trainer(), batch()
    weights = trainer.network.trainable_variables
    before = [weight.numpy() for weight in weights]
    trainer.train_step(data)
    for weight, old in zip(weights, before, strict=True):
        assert (weight.numpy() != old).any(), weight.path


def test_steps_lower_the_loss():
    keras.utils.set_random_seed(1)
    trainer, data = small_trainer(), batch()
    step = tf.function(trainer.train_step)
    losses = []
    for _ in range(12):
        trainer.reset_metrics()
        losses.append(float(step(data)["loss"]))
    assert losses[-1] < 0.7 * losses[0]


def test_accuracy_counts_the_first_stream():
    trainer, (pixels, labels) = small_trainer(), batch()
    classifier = trainer.network.get_layer("global_classifier")
    classifier.set_weights(
        [np.zeros(classifier.kernel.shape), np.array([0.0, 9.0, 0.0, 0.0])]
    )
    # All eight images are taken for label 1; two of them are.
    assert float(trainer.train_step((pixels, labels))["accuracy"]) == 0.25


def test_figures_are_averaged_over_the_epoch():
    trainer = small_trainer()
    losses = []
    for seed in (1, 2):
        figures = trainer.loss_figures(
            batch(seed)[1], trainer.network(batch(seed)[0], training=True)
        )
        losses.append(float(sum(figures.values())))
        trainer.train_step(batch(seed))
    # The weights moved between the steps; batch statistics are those of each batch.
    mean = float(trainer.get_metrics_result()["loss"])
    assert mean == pytest.approx(np.mean(losses), rel=1e-5)


def test_train_on_batch_hands_over_three_values():
    assert np.isfinite(
        small_trainer().train_on_batch(*batch(), return_dict=True)["loss"]
    )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_trains_with_losses_in_float32(policy):
    trainer, data = in_half_precision(policy), batch()
    outputs = trainer.network(data[0], training=True)
    assert outputs["global"]["features"].dtype == tf.float32
    assert outputs["top_drop"]["logits"].dtype == tf.float32
    first = float(trainer.train_step(data)["loss"])
    for _ in range(12):
        trainer.reset_metrics()
        last = float(trainer.train_step(data)["loss"])
    assert last < first


def test_float16_skips_a_step_whose_gradient_overflows_and_lowers_the_scale():
    trainer, data = in_half_precision("mixed_float16"), batch()
    optimizer = trainer.optimizer
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    trainer.train_step(data)
    optimizer.dynamic_scale.assign(1e30)
    weights = [weight.numpy() for weight in trainer.network.trainable_variables]
    trainer.train_step(data)
    assert float(optimizer.dynamic_scale) == pytest.approx(0.5e30)
    for weight, old in zip(trainer.network.trainable_variables, weights, strict=True):
        np.testing.assert_array_equal(weight, old)
