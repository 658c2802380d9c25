"""What an exported model costs: size, time to load, images a second from pixels.

    python benchmarks/export.py [--precision float32 bfloat16] [--repeats 5]

Full ResNet-50 at 384 x 128, exported, then loaded by a session as TensorFlow Serving
does. A figure is the median over requests of uint8 images through the signature
"pixels", by the number of images in the request, on all cores. The rival, in turns, is
PyTorch's network of the same shape, channels-last, where it is installed.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from embed import theirs
from rivals import our_network, random_images, take_turns, torch_is_here

BATCHES = (1, 8, 32)


def main():
    """Prints one paragraph a precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    precisions = ("float32", "bfloat16", "float16")
    parser.add_argument(
        "--precision", nargs="+", choices=precisions, default=precisions[:2]
    )
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    for precision in arguments.precision:
        with tempfile.TemporaryDirectory() as folder:
            version = export(precision, Path(folder) / "topdb")
            measure(version, precision, arguments.repeats)


def export(precision, folder):
    """Writes one version of the network and returns its folder."""
    from topdb_tf.export.saved_model import ServedEmbedder
    from topdb_tf.model.network import embedder

    started = time.perf_counter()
    served = ServedEmbedder(embedder(our_network()), dtype=precision)
    served.write(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    seconds = time.perf_counter() - started
    print(f"{precision}: {size / 2**20:.1f} MiB, built and exported in {seconds:.1f} s")
    return folder


def measure(version, precision, repeats):
    """Loads a version in a session and prints its speed by the size of a request."""
    from topdb_tf.export.session import SessionModel

    started = time.perf_counter()
    with SessionModel(version) as model:
        loaded = time.perf_counter()
        model.run("pixels", images=random_images(1))
        first = time.perf_counter() - loaded
        print(f"  loaded in {loaded - started:.1f} s, first request {first:.1f} s")
        for batch in BATCHES:
            images = random_images(batch)
            functions = {
                "SavedModel": lambda images=images: model.run("pixels", images=images)
            }
            if torch_is_here() and precision != "float16":
                rivals = theirs(precision, batch)
                functions["PyTorch"] = rivals["PyTorch, channels-last"]
            seconds = take_turns(functions, repeats)
            rates = ", ".join(
                f"{name} {batch / value:.2f} images/s ({1000 * value:.0f} ms)"
                for name, value in seconds.items()
            )
            print(f"  requests of {batch}: {rates}", flush=True)


if __name__ == "__main__":
    main()
