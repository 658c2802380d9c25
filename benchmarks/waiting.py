"""How much longer a training step takes with real batches than with a ready one.

    python benchmarks/waiting.py [--backbone mobilenet_v2 --height 192 --width 96]

The step of `fit` runs in turns on batches from the training pipeline (images decoded in
memory, flip, zoom, erase, uint8) and on one batch that lies there; the share of the
time that the data costs is printed. On a CPU it is the cores' work, on a GPU waiting.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from topdb_tf.data.pipeline import PixelOptions, TrainingBatches
from topdb_tf.model.backbones import build_backbone
from topdb_tf.model.layers import TopDropBlock
from topdb_tf.model.network import build_network
from topdb_tf.training.optimizer import AdamWithL2
from topdb_tf.training.trainer import ReidTrainer


def main():
    """Prints the times of both kinds of steps and the share of the data."""
    arguments = parse_arguments()
    keras.config.set_dtype_policy(arguments.policy)
    size = (arguments.height, arguments.width)
    backbone = build_backbone(arguments.backbone, size)
    network = build_network(backbone, num_pids=751, drop_block=TopDropBlock(0.3))
    trainer = ReidTrainer(network)
    trainer.compile(optimizer=AdamWithL2(1e-5), jit_compile=False)
    trainer.optimizer.build(network.trainable_variables)
    step = tf.function(lambda images, labels: trainer.train_step((images, labels)))
    batches = training_batches(size, arguments.batch)
    ready = next(batches)
    seconds = {"with the pipeline": [], "with a ready batch": []}
    for turn in range(arguments.turns + 1):
        for name, values in seconds.items():
            started = time.perf_counter()
            for _ in range(arguments.steps):
                batch = ready if name == "with a ready batch" else next(batches)
                float(step(*batch)["loss"])
            if turn:
                values.append((time.perf_counter() - started) / arguments.steps)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in middle.items():
        rate = arguments.batch / value
        print(f"{name:<20} {1000 * value:8.1f} ms, {rate:7.1f} images/s")
    share = 1 - middle["with a ready batch"] / middle["with the pipeline"]
    print(f"share of the time that the data costs: {share:.1%}")


def parse_arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--policy", default="mixed_bfloat16")
    parser.add_argument("--steps", type=int, default=5, help="steps in a turn")
    parser.add_argument("--turns", type=int, default=5, help="turns of each kind")
    return parser.parse_args()


def training_batches(size, batch):
    """Yields batches of drawn noise, epoch after epoch, as `fit` makes them."""
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (2048, 128, 64, 3), dtype=np.uint8))
    options = PixelOptions(image_size=size, dtype="uint8", num_threads=os.cpu_count())
    dataset = TrainingBatches(
        images, np.arange(2048) % 128, options, pids_per_batch=batch // 4
    ).dataset()
    while True:
        yield from dataset


if __name__ == "__main__":
    main()
