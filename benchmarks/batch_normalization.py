"""Times the fused batch normalisation beside Keras's, on maps of the network.

    python benchmarks/batch_normalization.py [--repeats 20]

A figure is the median time in milliseconds of one call and its gradients in training
mode, for a batch of 16 images of 384 x 128; the two layers take turns.
"""

import argparse
import time

import keras
import numpy as np
import tensorflow as tf

from topdb_tf.model.normalization import FusedBatchNormalization

SHAPES = [(16, 192, 64, 64), (16, 96, 32, 256), (16, 24, 8, 512), (16, 24, 8, 2048)]


def training_step(layer, inputs):
    """Returns a compiled function that runs a layer and its gradients once."""
    layer.build(inputs.shape)
    upstream = tf.ones_like(inputs)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True)
        variables = [inputs, layer.gamma.value, layer.beta.value]
        return tape.gradient(outputs, variables, output_gradients=upstream)

    return step


def main():
    """Prints one line for each shape and precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    print(f"{'shape':>20} {'precision':>9} {'Keras':>8} {'fused':>8} {'ratio':>6}")
    for dtype in ("float32", "bfloat16"):
        policy = "float32" if dtype == "float32" else f"mixed_{dtype}"
        for shape in SHAPES:
            rng = np.random.default_rng(0)
            inputs = tf.cast(rng.standard_normal(shape, dtype="float32"), dtype)
            kinds = (keras.layers.BatchNormalization, FusedBatchNormalization)
            steps = [training_step(kind(dtype=policy), inputs) for kind in kinds]
            times = np.empty((repeats + 2, 2))
            for row in times:
                for index, step in enumerate(steps):
                    start = time.perf_counter()
                    keras.tree.map_structure(lambda x: x.numpy()[..., :1], step())
                    row[index] = 1000 * (time.perf_counter() - start)
            theirs, ours = np.median(times[2:], axis=0)
            size = " x ".join(map(str, shape))
            print(
                f"{size:>20} {dtype:>9} {theirs:8.1f} {ours:8.1f} {theirs / ours:6.2f}"
            )


if __name__ == "__main__":
    main()
