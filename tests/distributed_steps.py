"""Trains a few steps on one replica and on two; run as a process of its own.

python -m tests.distributed_steps mirrored|multiworker FOLDER writes
`results-WORKER.npz`.
"""

import os
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf

from topdb_tf.data.pipeline import (
    PixelOptions,
    Shard,
    TrainingBatches,
    evaluation_dataset,
)
from topdb_tf.model.extraction import extract_embeddings
from topdb_tf.runs.network import build_trainer
from topdb_tf.runs.recipes import read_recipe
from topdb_tf.training.distribution import (
    Cluster,
    Distribution,
    read_cluster,
    start,
    sum_of_workers,
)

NUM_PIDS = 6
SETTINGS = [
    "data.image_height=32",
    "data.image_width=16",
    "data.batch_size=8",
    "data.images_per_pid=2",
    "model.streams=[top_drop]",
    "model.num_bottlenecks=0",
]


def training_batches():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (40, 20, 3), np.uint8) for _ in range(4 * NUM_PIDS)]
    labels = np.repeat(np.arange(NUM_PIDS), 4)
    options = PixelOptions(image_size=(32, 16), num_threads=1)
    return TrainingBatches(
        images, labels, options, pids_per_batch=4, images_per_pid=2
    ), images


def build(distribution, *settings):
    keras.utils.set_random_seed(1)
    config = read_recipe("demo", [*SETTINGS, *settings])
    trainer, embedder = build_trainer(
        config, num_pids=NUM_PIDS, distribution=distribution
    )
    # Adam divides a gradient by its size: with its own epsilon, the rounding errors of
    # the biases before a normalisation, whose gradient is zero, become whole steps.
    getattr(trainer.optimizer, "inner_optimizer", trainer.optimizer).epsilon = 1e-2
    with distribution.scope():
        trainer.optimizer.build(trainer.network.trainable_variables)
    return trainer, embedder


def fit(trainer, distribution, num_steps=3):
    """Returns the figures of each step, the loss first."""
    batches, _ = training_batches()
    figures = []

    class Figures(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            names = sorted(logs, key=lambda name: (name != "loss", name))
            figures.append([float(logs[name]) for name in names])
            self.model.reset_metrics()
            self.model.stop_training = len(figures) == num_steps

    cluster = distribution.cluster
    trainer.fit(
        batches.dataset(Shard(cluster.index, cluster.num_workers)),
        shuffle=False,
        verbose=0,
        callbacks=[Figures()],
    )
    return np.array(figures)


def weights_of(trainer):
    optimizer = trainer.optimizer.variables
    return [np.asarray(v) for v in [*trainer.network.variables, *optimizer]]


def mean_loss_of_halves(trainer):
    """Returns the mean of the losses that each half of the first batch has alone."""
    pixels, labels = next(iter(training_batches()[0].dataset()))
    losses = []
    for half in (slice(0, 4), slice(4, 8)):
        outputs = trainer.network(pixels[half], training=True)
        figures = trainer.loss_figures(labels[half], outputs)
        losses.append(sum(float(figure) for figure in figures.values()))
    return np.mean(losses)


def spread_over_replicas(trainer):
    """Returns by how much the copies of trained weights differ."""
    copies = [v.value.values for v in trainer.network.trainable_variables]
    return max(np.abs(first - second).max() for first, second in copies)


def compare(distribution):
    results = {}
    for name, own in (("one", Distribution()), ("two", distribution)):
        trainer, _ = build(own)
        results[f"{name}_figures"] = fit(trainer, own)
        for index, weight in enumerate(weights_of(trainer)):
            results[f"{name}_weight_{index:03d}"] = weight
    return results


def only_mirrored(distribution):
    results, (_, images) = {}, training_batches()
    options = ("train.mining=replica", "train.statistics=replica")
    trainer, embedder = build(distribution, *options)
    results["replica_loss"] = fit(trainer, distribution, num_steps=1)[0]
    results["copies"] = spread_over_replicas(trainer)
    results["halves_loss"] = mean_loss_of_halves(build(Distribution())[0])
    for name, devices in (("one", ()), ("two", distribution.devices)):
        batches = evaluation_dataset(images[:23], image_size=(32, 16), batch_size=4)
        results[f"{name}_embeddings"] = extract_embeddings(
            embedder, batches, num_images=23, devices=devices
        )
    keras.config.set_dtype_policy("mixed_float16")
    trainer, _ = build(distribution)
    before = weights_of(trainer)
    trainer.optimizer.dynamic_scale.assign(1e30)
    fit(trainer, distribution, num_steps=1)
    results["overflow_scale"] = np.asarray(trainer.optimizer.dynamic_scale)
    trained = trainer.network.trainable_variables
    results["overflow_moved"] = max(
        np.abs(np.asarray(weight) - old).max()
        for weight, old in zip(trainer.network.variables, before, strict=False)
        if any(weight is other for other in trained)
    )
    trainer.optimizer.dynamic_scale.assign(256.0)
    results["half_figures"] = fit(trainer, distribution)
    return results


def main(name, folder):
    cluster = read_cluster(name)
    if name == "mirrored":
        (cpu,) = tf.config.list_physical_devices("CPU")
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)
    distribution = start(name, cluster)
    results = compare(distribution)
    if name == "mirrored":
        results |= only_mirrored(distribution)
    else:
        own = np.array([[1.0, 2.0], [10.0, 20.0]][cluster.index], np.float32)
        results["sum"] = sum_of_workers(distribution, own)
        results["parts"] = [
            distribution.own_part(7).start,
            distribution.own_part(7).stop,
        ]
    results["num_replicas"] = distribution.num_replicas
    results["alone"] = Cluster() == Distribution().cluster
    np.savez(f"{folder}/results-{cluster.index}.npz", **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
