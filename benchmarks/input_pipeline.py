"""Images a second of the training input: ours, a plain tf.data map, PyTorch.

    python benchmarks/input_pipeline.py [--data-root FOLDER_OF_JPEG_FILES]

All three flip, zoom, erase and resize to 384 x 128. Ours and the plain map start from
decoded images in memory, the PyTorch DataLoader from JPEG files, as is usual there. The
pipelines take turns, so that other work on the machine meets all of them; the median
of the turns is printed.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import tensorflow as tf
from PIL import Image

from topdb_tf.data.augment import ERASED_PIXEL
from topdb_tf.data.decoding import decode_images
from topdb_tf.data.pipeline import PixelOptions, TrainingBatches

SIZE = (384, 128)
BATCH = 64


def main():
    """Builds the pipelines and prints their speed."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.data_root or write_images(Path(folder))
        paths = sorted(Path(root).rglob("*.jpg"))
        started = time.perf_counter()
        images = decode_images(paths)
        seconds = time.perf_counter() - started
        print(f"{len(paths)} images decoded once in {seconds:.1f} s")
        images *= -(-12_936 // len(images))  # an epoch as long as that of Market-1501
        pipelines = {
            "ours, float32": our_batches(images, arguments.threads, "float32"),
            "ours, uint8": our_batches(images, arguments.threads, "uint8"),
            "plain tf.data map": plain_batches(images, arguments.threads),
        }
        if (loader := torch_batches(paths, arguments.threads)) is not None:
            pipelines["PyTorch DataLoader, PIL"] = loader
        report(pipelines, arguments)


def parse_arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", help="folder of .jpg files; default: noise")
    parser.add_argument("--threads", type=int, default=2, help="threads or workers")
    parser.add_argument("--batches", type=int, default=30, help="batches in a turn")
    parser.add_argument("--turns", type=int, default=5, help="turns of each pipeline")
    return parser.parse_args()


def write_images(folder, count=1000):
    """Writes smooth noise of 128 x 64 pixels, the size of Market-1501."""
    rng = np.random.default_rng(0)
    for i in range(count):
        noise = Image.fromarray(rng.integers(0, 256, (16, 8, 3), dtype=np.uint8))
        noise.resize((64, 128)).save(folder / f"{i:05d}.jpg", quality=90)
    return folder


def report(pipelines, arguments):
    """Lets the pipelines take turns and prints images a second of each."""
    for batches in pipelines.values():  # threads, workers and buffers start
        for _ in range(5):
            next(batches)
    rates = {name: [] for name in pipelines}
    costs = {name: [] for name in pipelines}
    for _ in range(arguments.turns):
        for name, batches in pipelines.items():
            for _ in range(5):  # made ahead during the turns of the others
                next(batches)
            started, cpu_started = time.perf_counter(), time.process_time()
            for _ in range(arguments.batches):
                next(batches)
            num_images = arguments.batches * BATCH
            rates[name].append(num_images / (time.perf_counter() - started))
            costs[name].append((time.process_time() - cpu_started) / num_images)
    print(
        f"{'images/s':24} {'median':>7} {'lowest':>7} {'highest':>7} {'CPU time':>10}"
    )
    for name, values in rates.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        cost = f"{1e3 * statistics.median(costs[name]):.2f} ms"
        if "PyTorch" in name:
            cost = "in workers"
        print(f"{name:24} {middle:7.0f} {low:7.0f} {high:7.0f} {cost:>10}")
    print(f"{arguments.threads} threads, {os.cpu_count()} cores, ", end="")
    print(f"load of the machine {os.getloadavg()[0]:.1f}")


def our_batches(images, threads, dtype):
    """Yields the batches of this package, epoch after epoch."""
    labels = np.arange(len(images)) % max(16, len(images) // 17)
    options = PixelOptions(image_size=SIZE, dtype=dtype, num_threads=threads)
    batches = TrainingBatches(images, labels, options)
    dataset = batches.dataset()
    while True:
        yield from dataset


def plain_batches(images, threads):
    """One image at a time: resize, flip, resize again, crop, erase by a mask."""

    def augmented(pixels):
        pixels = tf.image.resize(pixels, SIZE, antialias=True)
        pixels = tf.image.random_flip_left_right(pixels)
        if tf.random.uniform(()) < 0.5:
            pixels = tf.image.resize(pixels, (432, 144), antialias=True)
            pixels = tf.image.random_crop(pixels, (*SIZE, 3))
        if tf.random.uniform(()) < 0.5:
            area = 384 * 128 * tf.random.uniform((), 0.02, 0.4)
            aspect = tf.random.uniform((), 0.3, 1 / 0.3)
            height = tf.minimum(tf.round(tf.sqrt(area * aspect)), 383)
            width = tf.minimum(tf.round(tf.sqrt(area / aspect)), 127)
            top = tf.floor(tf.random.uniform(()) * (385 - height))
            left = tf.floor(tf.random.uniform(()) * (129 - width))
            rows, columns = tf.range(384.0)[:, None], tf.range(128.0)[None]
            box = (rows >= top) & (rows < top + height)
            box &= (columns >= left) & (columns < left + width)
            pixels = tf.where(box[..., None], tf.constant(ERASED_PIXEL), pixels)
        return pixels

    signature = tf.TensorSpec((None, None, 3), tf.uint8)
    shapes = {image.shape for image in images}
    if len(shapes) == 1:
        dataset = tf.data.Dataset.from_tensor_slices(np.stack(images))
    else:
        dataset = tf.data.Dataset.from_generator(
            lambda: iter(images), output_signature=signature
        )
    dataset = dataset.repeat().map(augmented, num_parallel_calls=threads)
    yield from dataset.batch(BATCH).prefetch(2)


class PillowImages:
    """A map-style data set for PyTorch that augments with Pillow."""

    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with Image.open(self.paths[index]) as file:
            image = file.convert("RGB").resize((128, 384), Image.Resampling.BILINEAR)
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if random.random() < 0.5:
            image = image.resize((144, 432), Image.Resampling.BILINEAR)
            left, top = round(random.uniform(0, 16)), round(random.uniform(0, 48))
            image = image.crop((left, top, left + 128, top + 384))
        pixels = np.array(image, np.float32)
        if random.random() < 0.5:
            erase(pixels)
        return pixels.transpose(2, 0, 1)


def erase(pixels):
    """Fills a random box of an image in place."""
    for _ in range(100):
        area = 384 * 128 * random.uniform(0.02, 0.4)
        aspect = random.uniform(0.3, 1 / 0.3)
        height, width = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if height < 384 and width < 128:
            top = random.randint(0, 384 - height)
            left = random.randint(0, 128 - width)
            pixels[top : top + height, left : left + width] = ERASED_PIXEL
            return


def torch_batches(paths, workers):
    """Returns an iterator of PyTorch's batches, or None where it is missing."""
    try:
        from torch.utils.data import DataLoader
    except ImportError:
        print("PyTorch is not installed: its DataLoader is left out")
        return None
    loader = DataLoader(
        PillowImages(paths),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context="spawn",  # TensorFlow's threads do not survive a fork
    )

    def forever():
        while True:
            yield from loader

    return forever()


if __name__ == "__main__":
    main()
