"""The training step and the embedder on a GPU, by any backend of Keras that is there.

    KERAS_BACKEND=jax python benchmarks/gpu.py [--batch 64 256] [--repeats 20]

Full ResNet-50 at 384 x 128 with 751 identities, in float32 and bfloat16: images a
second, the most memory in use, and the share of the device's peak that the products
make (7.8 G multiply-adds an image forward, three times that in a step). PyTorch's
network of the same shape runs in the same process where PyTorch is installed.
TensorFlow and JAX are timed with their compilers (XLA) where `--xla` asks for it; JAX
always is. With --device cpu and a small --height and --width it runs anywhere, to see
that it works.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import keras
import numpy as np
import rivals
from rivals import NUM_PIDS, our_network, random_images

from topdb_tf.model.network import embedder
from topdb_tf.training.losses import BatchHardTripletLoss, LabelSmoothedCrossEntropy
from topdb_tf.training.optimizer import AdamWithL2

MULTIPLY_ADDS = 7.797e9  # of one image of 384 x 128, forward
# Dense products of the data sheets, in 1e12 operations a second; float32 is TF32.
PEAKS = {
    "H200": (494, 989),
    "H100": (494, 989),
    "A100": (156, 312),
    "V100": (15.7, 125),
}


def main():
    """Prints one line for each program, precision, batch and kind of work."""
    arguments = parse_arguments()
    rivals.SIZE = (arguments.height, arguments.width)
    name = device_name()
    print(f"Keras on {keras.backend.backend()}, {name}")
    for precision in arguments.precision:
        for batch in arguments.batch:
            labels = np.repeat(np.arange(batch // 4), 4).astype("int32")
            programs = {"ours": our_work(precision, labels, arguments.xla)}
            if rivals.torch_is_here():
                programs["PyTorch"] = their_work(precision, labels, arguments.device)
            for program, works in programs.items():
                for kind, work in works.items():
                    seconds = median_seconds(work, arguments.repeats)
                    describe(program, precision, batch, kind, seconds, name)


def parse_arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--xla", action="store_true", help="compile TensorFlow's step")
    parser.add_argument("--device", default="cuda", help="PyTorch's: cuda or cpu")
    parser.add_argument("--height", type=int, default=384)
    parser.add_argument("--width", type=int, default=128)
    return parser.parse_args()


def our_work(precision, labels, xla):
    """Returns functions that make a step and embed a batch; each waits for its end."""
    network = our_network("float32" if precision == "float32" else f"mixed_{precision}")
    images = random_images(len(labels), "float32")
    if keras.backend.backend() == "jax":
        return jax_work(network, images, labels)
    return tensorflow_work(network, images, labels, xla)


def jax_work(network, images, labels):
    """Returns the work on JAX, by pure functions of the weights."""
    import jax

    optimizer = AdamWithL2(1e-5, l2=5e-4)
    optimizer.build(network.trainable_variables)
    groups = (
        network.trainable_variables,
        network.non_trainable_variables,
        optimizer.variables,
    )
    state = [[variable.value for variable in group] for group in groups]
    images, labels = jax.device_put(images), jax.device_put(labels)

    def loss_of(trainable, others):
        outputs, others = network.stateless_call(
            trainable, others, images, training=True
        )
        return total_loss(labels, outputs), others

    def step(trainable, others, moments):
        gradient_of = jax.value_and_grad(loss_of, has_aux=True)
        (loss, others), gradients = gradient_of(trainable, others)
        trainable, moments = optimizer.stateless_apply(moments, gradients, trainable)
        return loss, (trainable, others, moments)

    step = jax.jit(step, donate_argnums=(0, 1, 2))
    model = embedder(network)
    embed = jax.jit(
        lambda trainable, others: model.stateless_call(trainable, others, images)[0]
    )
    weights = [[v.value + 0 for v in g] for g in embedder_weights(model)]

    def train():
        loss, state[:] = step(*state)
        return float(loss)

    return {"step": train, "embed": lambda: embed(*weights).block_until_ready()}


def embedder_weights(model):
    """Returns the trainable and the other weights of a model."""
    return model.trainable_variables, model.non_trainable_variables


def tensorflow_work(network, images, labels, xla):
    """Returns the work on TensorFlow, as `fit` and `evaluate` do it."""
    import tensorflow as tf

    from topdb_tf.model.extraction import inference_function
    from topdb_tf.training.trainer import ReidTrainer

    trainer = ReidTrainer(network)
    trainer.compile(optimizer=AdamWithL2(1e-5, l2=5e-4), jit_compile=False)
    images, labels = tf.constant(images), tf.constant(labels)
    step = tf.function(lambda: trainer.train_step((images, labels)), jit_compile=xla)
    embed = inference_function(embedder(network))
    return {
        "step": lambda: float(step()["loss"]),
        "embed": lambda: embed(images).numpy(),
    }


def total_loss(labels, outputs):
    """Returns the sum of all losses of all streams."""
    cross_entropy, triplet = LabelSmoothedCrossEntropy(), BatchHardTripletLoss()
    return sum(
        cross_entropy(labels, stream["logits"]) + triplet(labels, stream["features"])
        for stream in outputs.values()
    )


def their_work(precision, labels, device):
    """Returns the work of PyTorch's network, channels-last."""
    import torch
    from pytorch_network import TopDropNetwork, training_step

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    images = torch.from_numpy(random_images(len(labels), "float32")) / 255
    images = images.permute(0, 3, 1, 2).to(device, memory_format=torch.channels_last)
    labels = torch.from_numpy(labels).long().to(device)
    network = TopDropNetwork(NUM_PIDS).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), 1e-5, weight_decay=5e-4)
    half = precision == "bfloat16"
    step = training_step(network, optimizer, half=half, device=device)

    def train():
        network.train()
        return step(images, labels)

    def embed():
        network.eval()
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, half):
            return network(images).float().cpu()

    return {"step": train, "embed": embed}


def median_seconds(work, repeats):
    """Returns the median time of a piece of work after three free turns."""
    seconds = []
    for turn in range(repeats + 3):
        start = time.perf_counter()
        work()
        if turn >= 3:
            seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def describe(program, precision, batch, kind, seconds, device):
    """Prints one line."""
    share = "-"
    scale = np.prod(rivals.SIZE) / (384 * 128)
    operations = 2 * MULTIPLY_ADDS * scale * (3 if kind == "step" else 1)
    for name, peaks in PEAKS.items():
        if name in device:
            peak = peaks[precision != "float32"] * 1e12
            share = f"{operations * batch / seconds / peak:.1%}"
    print(
        f"{program:<8} {precision:<9} batch {batch:>4} {kind:<6} "
        f"{batch / seconds:9.1f} images/s, {share:>6} of the peak, "
        f"{peak_memory(program)}",
        flush=True,
    )


def device_name():
    """Returns the name of the first device of Keras's backend."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.devices()[0].device_kind
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "CPU"
    return tf.config.experimental.get_device_details(gpus[0])["device_name"]


def peak_memory(program):
    """Returns the most memory that a program had in use so far, for people."""
    most = None
    if program == "PyTorch":
        import torch

        most = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    elif keras.backend.backend() == "jax":
        import jax

        most = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    else:
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            most = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return (
        "memory unknown" if most is None else f"at most {most / 2**30:.1f} GiB so far"
    )


if __name__ == "__main__":
    main()
