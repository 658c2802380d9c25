"""Images a second of the embedder: ours, exported, and PyTorch's of the same shape.

    python benchmarks/embed.py [--batch 32] [--repeats 5]

Full ResNet-50 at 384 x 128, from pixels in memory to embeddings, on all cores. `fit`
and `evaluate` embed as "ours" does; "SavedModel" is what `topdb-tf export` writes,
given uint8 pixels. PyTorch's network is timed where it is installed, as usual and
channels-last. All take turns; the median is printed, and the ratio to PyTorch
channels-last of the same precision.
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from rivals import (
    NUM_PIDS,
    our_network,
    policy_of,
    print_rates,
    random_images,
    take_turns,
    torch_is_here,
)


def main():
    """Prints one table a precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    for precision in ("float32", "bfloat16"):
        functions = ours(precision, arguments.batch)
        if torch_is_here():
            functions |= theirs(precision, arguments.batch)
        seconds = take_turns(functions, arguments.repeats)
        print(f"{precision}, batches of {arguments.batch}")
        print_rates(seconds, arguments.batch, "PyTorch, channels-last")


def ours(precision, batch):
    """Returns the functions that embed a batch with this package."""
    import tensorflow as tf

    from topdb_tf.export.saved_model import ServedEmbedder
    from topdb_tf.model.extraction import inference_function
    from topdb_tf.model.network import embedder

    policy = policy_of(precision)
    model = embedder(our_network(policy))
    plain = tf.function(lambda pixels: model(pixels, training=False))
    embed = inference_function(model)
    with tempfile.TemporaryDirectory() as folder:
        served = ServedEmbedder(model, dtype=precision)
        served.write(Path(folder))
        loaded = tf.saved_model.load(folder)
    images = tf.constant(random_images(batch))
    pixels = tf.cast(images, tf.float32)

    return {
        "the Keras model, called": lambda: plain(pixels).numpy(),
        "ours": lambda: embed(pixels).numpy(),
        "SavedModel": lambda: loaded.signatures["pixels"](images=images)[
            "embedding"
        ].numpy(),
    }


def theirs(precision, batch):
    """Returns the functions that embed a batch with PyTorch."""
    import torch
    from pytorch_network import TopDropNetwork

    torch.set_num_threads(os.cpu_count())
    images = torch.from_numpy(random_images(batch, "float32")).permute(0, 3, 1, 2)
    layouts = {"": torch.contiguous_format, ", channels-last": torch.channels_last}
    functions = {}
    for name, layout in layouts.items():
        network = TopDropNetwork(NUM_PIDS).eval().to(memory_format=layout)
        inputs = (images / 255).contiguous(memory_format=layout)

        def embed(network=network, inputs=inputs):
            half = precision == "bfloat16"
            with torch.inference_mode(), torch.autocast("cpu", enabled=half):
                return network(inputs).float().numpy()

        functions[f"PyTorch{name}"] = embed
    return functions


if __name__ == "__main__":
    main()
