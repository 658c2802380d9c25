"""What the benchmarks share: the network, its rival in PyTorch, turns, a table."""

import importlib.util
import statistics
import time

import numpy as np

SIZE = (384, 128)
NUM_PIDS = 751


def our_network(policy="float32", backbone="resnet50", size=SIZE):
    """Returns Top-DB-Net with statistics as if it had been trained.

    With MobileNetV2 it is that of the `light` recipe, without bottlenecks.

    Without them every shift is zero, and the graph optimiser takes it out.
    """
    import keras

    from topdb_tf.model.backbones import build_backbone
    from topdb_tf.model.layers import TopDropBlock
    from topdb_tf.model.network import build_network

    keras.config.set_dtype_policy(policy)
    network = build_network(
        build_backbone(backbone, size),
        num_pids=NUM_PIDS,
        num_bottlenecks=2 if backbone == "resnet50" else 0,
        drop_block=TopDropBlock(0.3),
    )
    rng = np.random.default_rng(0)
    for weight in network.weights:
        if weight.name in ("moving_mean", "beta"):
            weight.assign(0.1 * rng.standard_normal(weight.shape))
        elif weight.name in ("moving_variance", "gamma"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return network


def policy_of(precision):
    """Returns Keras's policy whose feature maps have a precision."""
    return "float32" if precision == "float32" else f"mixed_{precision}"


def torch_is_here():
    """Tells whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


def random_images(count, dtype="uint8", size=SIZE):
    """Returns images of noise, `(count, height, width, 3)`."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, *size, 3)).astype(dtype)


def take_turns(functions, repeats):
    """Returns the median seconds of each function by name; the first turn is free."""
    seconds = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def print_rates(seconds, batch, rival):
    """Prints images a second, and how many times the rival's that is."""
    for name, value in seconds.items():
        ratio = seconds[rival] / value if rival in seconds else float("nan")
        print(f"{name:<44} {batch / value:7.2f} images/s {ratio:6.2f} x", flush=True)
