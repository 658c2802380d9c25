"""Images a second of the training step: ours, plain Keras's, PyTorch's.

    python benchmarks/train_step.py [--batch 16] [--repeats 5]
    python benchmarks/train_step.py --backbone mobilenet_v2 --size 192 96 --batch 64

Full ResNet-50 at 384 x 128, or another backbone and size, with 751 identities: forward,
both losses of three streams, gradients, Adam with an L2 penalty. "Plain Keras" is the
same network with Keras's own batch normalisation and optimizer. PyTorch's network is
timed where it is installed, in its usual layout and channels-last. All take turns; the
median is printed, and the ratio to PyTorch channels-last of the same precision.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from rivals import (
    NUM_PIDS,
    SIZE,
    our_network,
    policy_of,
    print_rates,
    random_images,
    take_turns,
    torch_is_here,
)

TORCH_BACKBONES = ("resnet50", "mobilenet_v2")


def main():
    """Prints one table a precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--backbone", default="resnet50", choices=TORCH_BACKBONES)
    parser.add_argument("--size", type=int, nargs=2, default=SIZE)
    arguments = parser.parse_args()
    labels = np.repeat(np.arange(arguments.batch // 4), 4)
    for precision in ("float32", "bfloat16"):
        case = (precision, labels, arguments.backbone, arguments.size)
        functions = {"ours": our_step(*case), "plain Keras": plain_step(*case)}
        if torch_is_here():
            functions |= their_steps(*case)
        seconds = take_turns(functions, arguments.repeats)
        print(f"{precision}, batches of {arguments.batch}")
        print_rates(seconds, arguments.batch, "PyTorch, channels-last")


def our_step(precision, labels, backbone, size):
    """Returns a function that makes one step as `fit` does."""
    from topdb_tf.training.optimizer import AdamWithL2

    network = our_network(policy_of(precision), backbone, size)
    return _keras_step(network, AdamWithL2(1e-5, l2=5e-4), labels, size)


def plain_step(precision, labels, backbone, size):
    """Returns the same with Keras's own batch normalisation and Adam."""
    import keras

    from topdb_tf.model.normalization import FusedBatchNormalization

    def plain(layer):
        config = layer.get_config()
        if isinstance(layer, FusedBatchNormalization):
            return keras.layers.BatchNormalization.from_config(config)
        return type(layer).from_config(config)

    network = keras.models.clone_model(
        our_network(policy_of(precision), backbone, size),
        clone_function=plain,
        recursive=True,
    )
    return _keras_step(network, keras.optimizers.Adam(1e-5), labels, size)


def _keras_step(network, optimizer, labels, size):
    import tensorflow as tf

    from topdb_tf.training.trainer import ReidTrainer

    trainer = ReidTrainer(network)
    trainer.compile(optimizer=optimizer, jit_compile=False)
    images = tf.constant(random_images(len(labels), "float32", size))
    labels = tf.constant(labels, tf.int32)
    step = tf.function(lambda: trainer.train_step((images, labels)))
    return lambda: step()["loss"].numpy()


def their_steps(precision, labels, backbone, size):
    """Returns functions that make one step with PyTorch, by layout."""
    import torch
    from pytorch_network import TopDropNetwork, training_step

    torch.set_num_threads(os.cpu_count())
    images = random_images(len(labels), "float32", size).transpose(0, 3, 1, 2)
    images = torch.from_numpy(images)
    labels = torch.from_numpy(labels)
    layouts = {"": torch.contiguous_format, ", channels-last": torch.channels_last}
    functions = {}
    for name, layout in layouts.items():
        network = (
            TopDropNetwork(NUM_PIDS, backbone=backbone, size=size)
            .train()
            .to(memory_format=layout)
        )
        optimizer = torch.optim.Adam(network.parameters(), 1e-5, weight_decay=5e-4)
        step = training_step(network, optimizer, precision=precision)
        inputs = (images / 255).contiguous(memory_format=layout)
        functions[f"PyTorch{name}"] = lambda step=step, inputs=inputs: float(
            step(inputs, labels).detach()
        )
    return functions


if __name__ == "__main__":
    main()
