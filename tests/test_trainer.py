import keras
import numpy as np
import pytest
import tensorflow as tf

from topdb_tf.model.backbones import BACKBONES
from topdb_tf.model.layers import TopDropBlock
from topdb_tf.model.network import build_network
from topdb_tf.training.losses import BatchHardTripletLoss, LabelSmoothedCrossEntropy
from topdb_tf.training.optimizer import AdamWithL2
from topdb_tf.training.trainer import ReidTrainer, _spread

NUM_PIDS = 4


def small_trainer(num_bottlenecks=0, **options):
    network = build_network(
        BACKBONES["tiny"]((32, 16)),
        num_pids=NUM_PIDS,
        drop_block=TopDropBlock(0.3),
        num_bottlenecks=num_bottlenecks,
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
    assert set(figures) == {*expected, "accuracy", "spread"}


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
    step = tf.function(trainer.train_step, autograph=False)
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
        small_trainer(run_eagerly=True).train_on_batch(*batch(), return_dict=True)[
            "loss"
        ]
    )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_trains_with_losses_in_float32(policy):
    trainer, data = in_half_precision(policy), batch()
    outputs = trainer.network(data[0], training=True)
    assert outputs["global"]["features"].dtype == tf.float32
    assert outputs["top_drop"]["logits"].dtype == tf.float32
    first = float(trainer.train_step(data)["loss"])
    for _ in range(5):
        trainer.reset_metrics()
        last = float(trainer.train_step(data)["loss"])
    assert last < first


def test_float16_trains_on_after_an_overflow_that_changes_no_weight():
    trainer, data = in_half_precision("mixed_float16"), batch()
    optimizer = trainer.optimizer
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    step = tf.function(lambda *data: trainer.train_step(data), autograph=False)
    step(*data)
    optimizer.dynamic_scale.assign(1e30)
    weights = [weight.numpy() for weight in trainer.network.trainable_variables]
    figures = step(*data)
    assert np.isfinite(figures["loss"])
    assert float(optimizer.dynamic_scale) == pytest.approx(0.5e30)
    for weight, old in zip(trainer.network.trainable_variables, weights, strict=True):
        np.testing.assert_array_equal(weight, old)
    optimizer.dynamic_scale.assign(256.0)
    done = int(optimizer.iterations)
    step(*data)
    assert int(optimizer.iterations) == done + 1
    assert (trainer.network.trainable_variables[0].numpy() != weights[0]).any()


def spoil(trainer, layer):
    """Makes the gradients before a layer infinite, and those alone."""

    @tf.custom_gradient
    def spoiled(inputs):
        return tf.identity(inputs), lambda gradient: gradient * np.inf

    call = trainer.network.get_layer(layer).call
    trainer.network.get_layer(layer).call = lambda *args, **options: call(
        spoiled(args[0]), **options
    )


def test_a_gradient_that_is_not_finite_makes_the_loss_so_and_is_named():
    trainer, data = small_trainer(num_bottlenecks=2), batch()
    trainer.train_step(data)
    assert trainer.non_finite_gradient() is None
    spoil(trainer, "regularization_neck")
    figures = trainer.train_step(data)
    assert np.isnan(figures["loss"])
    assert np.isfinite(figures["regularization_cross_entropy"])
    # What only the other streams see is well; the bottlenecks before it are not.
    assert trainer.non_finite_gradient().startswith("bottleneck2_3_bn/")


def test_a_float16_gradient_that_no_scale_mends_makes_the_loss_nan():
    trainer, data = in_half_precision("mixed_float16"), batch()
    spoil(trainer, "regularization_neck")
    trainer.train_step(data)
    for scale, expected in ((2.0, True), (1.0, False)):
        trainer.reset_metrics()
        trainer.optimizer.dynamic_scale.assign(scale)  # is halved
        assert np.isfinite(trainer.train_step(data)["loss"]) == expected


def test_the_spread_is_the_deviation_of_the_features_relative_to_their_length():
    # Features (3, 0) and (3, 4): mean (3, 2), deviations of length 2; squares of the
    # lengths 9 and 25, mean 17. Spread 2 / sqrt(17), whatever the unit.
    features = np.array([[3.0, 0.0], [3.0, 4.0]], "float32")
    for unit in (1.0, 100.0):
        assert float(_spread(unit * features)) == pytest.approx(2 / np.sqrt(17))
    assert float(_spread(np.ones((4, 3), "float32"))) == 0
    assert float(_spread(np.zeros((4, 3), "float32"))) == 0
