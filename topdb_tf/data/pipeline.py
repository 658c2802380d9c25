"""tf.data: batches of P×K images for training, ordered batches for evaluation."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from topdb_tf.data.augment import (
    augmented_pixels,
    check_probability,
    random_erasing_boxes,
    random_flips,
    random_windows,
)
from topdb_tf.data.decoding import (
    as_written,
    check_image_size,
    decode_images,
    pixel_reader,
    resize_pixels,
)
from topdb_tf.data.sampler import balanced_batches, pk_batches


@dataclass(frozen=True)
class PixelOptions:
    """What is done to the images of a training batch.

    Args:
        image_size: `(height, width)` of the batch, in pixels.
        flip: Probability that an image is mirrored, in [0, 1].
        zoom: Probability that an image is zoomed, in [0, 1].
        erase: Probability that a box of an image is erased, in [0, 1].
        dtype: "float32", which the network takes, or "uint8": rounded to whole grey
            levels, a quarter of the bytes on the way to an accelerator.
        num_threads: Images made at a time. The result does not depend on it.

    Raises:
        ValueError: If a value is out of range.
    """

    image_size: tuple[int, int] = (384, 128)
    flip: float = 0.5
    zoom: float = 0.5
    erase: float = 0.5
    dtype: str = "float32"
    num_threads: int = 4

    def __post_init__(self):
        check_image_size(self.image_size)
        for name in ("flip", "zoom", "erase"):
            check_probability(name, getattr(self, name))
        if self.dtype not in ("float32", "uint8"):
            raise ValueError(
                f'`dtype` must be "float32" or "uint8". Received: dtype={self.dtype!r}'
            )
        if self.num_threads < 1:
            raise ValueError(
                "`num_threads` must be at least 1. "
                f"Received: num_threads={self.num_threads}"
            )


class Shard(NamedTuple):
    """The consecutive part of every batch that one of several workers makes.

    The worker of index 0 has the first images.
    """

    worker: int = 0
    num_workers: int = 1


class TrainingBatches:
    """The training batches of every epoch, the same for the same seed.

    A batch depends on the seed, its epoch and its step alone: not on the number of
    threads, nor on what was iterated before. All epochs have `num_batches` batches,
    the length of the plan of epoch 0 (see `topdb_tf.data.sampler.pk_batches`),
    because Keras asks for that once.

    Args:
        images: RGB images, each uint8 of shape `(height, width, 3)`; the result of
            `topdb_tf.data.decoding.decode_images`.
        labels: Identity of each image, 0 … num_pids - 1, shape `(num_images,)`.
        options: What is done to the pixels.
        pids_per_batch: P, the number of identities in a batch.
        images_per_pid: K, the number of images of each.
        seed: Seed of the plan and of the augmentation, not negative.
        parts: Data set of each image, 0 … num_parts - 1, where every batch shall have
            as many identities of each.

    Attributes:
        epoch: Index of the epoch that `dataset()` yields when it is next iterated.
        num_batches: Number of batches of every epoch.

    Raises:
        ValueError: If there is not one label an image, if the labels have gaps, or as
            `pk_batches`.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.data.pipeline import PixelOptions, TrainingBatches
        >>> images = [np.zeros((20, 10, 3), np.uint8)] * 8
        >>> labels = np.repeat(np.arange(2), 4)
        >>> batches = TrainingBatches(
        ...     images, labels, PixelOptions(), pids_per_batch=2, images_per_pid=4
        ... )
        >>> pixels, labels = next(iter(batches.dataset()))
        >>> tuple(pixels.shape), tuple(labels.shape)
        ((8, 384, 128, 3), (8,))
    """

    def __init__(
        self,
        images: Sequence[np.ndarray],
        labels: np.ndarray,
        options: PixelOptions,
        *,
        pids_per_batch: int = 16,
        images_per_pid: int = 4,
        seed: int = 0,
        parts: np.ndarray | None = None,
    ):
        if len(images) != len(labels):
            raise ValueError(
                "Every image must have a label. "
                f"Received: {len(images)} images, {len(labels)} labels"
            )
        self.labels = np.asarray(labels)
        self.options = options
        self.pids_per_batch = pids_per_batch
        self.images_per_pid = images_per_pid
        self.seed = seed
        self.parts = parts
        self.num_batches = None  # as many as are drawn
        self.num_batches = len(self.plan(0))
        if set(self.labels) != set(range(self.labels.max() + 1)):
            raise ValueError(
                "`labels` must be 0 … num_pids - 1, as `labels_of` makes them. "
                f"Received: {len(set(self.labels))} labels up to {self.labels.max()}"
            )
        self._read = pixel_reader(images)
        # Variables, because a data set reads them anew in each iteration. A Python
        # callback would do so too, but can block the end of the process.
        with tf.device("CPU"):
            self._epoch = tf.Variable(0, dtype=tf.int64)
            self._plan = tf.Variable(self.plan(0))

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    @epoch.setter
    def epoch(self, epoch: int):
        self._plan.assign(self.plan(epoch))
        self._epoch.assign(epoch)

    def plan(self, epoch: int) -> np.ndarray:
        """Returns the image indices of an epoch, int64 `(num_batches, batch)`."""
        draw = pk_batches
        if self.parts is not None:
            draw = functools.partial(balanced_batches, parts=self.parts)
        return draw(
            self.labels,
            pids_per_batch=self.pids_per_batch,
            images_per_pid=self.images_per_pid,
            seed=self.seed,
            epoch=epoch,
            num_batches=self.num_batches,
        )

    def dataset(
        self, shard: Shard | None = None, *, image_size: tuple[int, int] | None = None
    ) -> tf.data.Dataset:
        """Returns a data set that yields the epoch `self.epoch` when it is iterated.

        For `fit`: set `epoch` in the callback `on_epoch_begin`.

        Args:
            shard: The part of every batch that is made; all of it without.
            image_size: `(height, width)` of the batches, in pixels; that of the options
                without.

        Raises:
            ValueError: If the identities of a batch do not divide into the parts.

        Returns:
            Batches `(pixels, labels)`: pixels in [0, 255] of shape `(batch, height,
            width, 3)`, int32 labels of shape `(batch,)`.
        """
        # Read once an iteration, when its first batch is asked for.
        start = tf.data.Dataset.range(1).map(
            as_written(lambda _: (self._epoch.read_value(), self._plan.read_value()))
        )
        return self._dataset(start, 0, shard or Shard(), image_size)

    def epoch_dataset(
        self,
        epoch: int,
        *,
        first_step: int = 0,
        shard: Shard | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> tf.data.Dataset:
        """Returns the batches of one epoch from a step on, as `dataset` does.

        Raises:
            ValueError: If the epoch has no batch `first_step`, or as `dataset`.
        """
        if not 0 <= first_step < self.num_batches:
            raise ValueError(
                "`first_step` must be a step of the epoch. "
                f"Received: first_step={first_step}, num_batches={self.num_batches}"
            )
        start = tf.data.Dataset.from_tensors((np.int64(epoch), self.plan(epoch)))
        return self._dataset(start, first_step, shard or Shard(), image_size)

    def _dataset(self, start, first_step, shard, image_size):
        if self.pids_per_batch % shard.num_workers:
            raise ValueError(
                "Every worker must have as many whole identities of a batch. Received: "
                f"pids_per_batch={self.pids_per_batch} for {shard.num_workers} workers"
            )
        part = self.pids_per_batch // shard.num_workers * self.images_per_pid
        share = slice(shard.worker * part, (shard.worker + 1) * part)
        size = image_size or self.options.image_size

        @as_written
        def draws(epoch, plan):
            steps = tf.data.Dataset.range(first_step, self.num_batches)
            return steps.map(
                lambda step: tuple(
                    values[share]
                    for values in self._draws(epoch, step, plan[step], size)
                )
            )

        dataset = start.flat_map(draws).unbatch()
        dataset = dataset.map(
            as_written(lambda *draws: self._image(*draws, size)),
            num_parallel_calls=self.options.num_threads,
            deterministic=True,
        )
        length = tf.data.experimental.assert_cardinality(self.num_batches - first_step)
        # The prefetch is last, or tf.data adds one without a bound.
        return dataset.batch(part, drop_remainder=True).apply(length).prefetch(2)

    def _draws(self, epoch, step, indices, size):
        """Returns what is done to the images of one batch, each of shape `(batch,)`."""
        batch = indices.shape[0]
        seed = tf.random.fold_in([self.seed, epoch], step, alg="philox")
        seeds = tf.unstack(tf.random.split(seed, 3, alg="philox"))
        flips = random_flips(seeds[0], batch, probability=self.options.flip)
        windows = random_windows(
            seeds[1], batch, image_size=size, probability=self.options.zoom
        )
        boxes = random_erasing_boxes(
            seeds[2], batch, image_size=size, probability=self.options.erase
        )
        labels = tf.gather(tf.constant(self.labels, tf.int32), indices)
        return indices, labels, windows, flips, boxes

    def _image(self, index, label, window, flip, box, size):
        pixels = augmented_pixels(self._read(index), window, flip, box, image_size=size)
        if self.options.dtype == "uint8":
            pixels = tf.cast(pixels + 0.5, tf.uint8)
        return pixels, label


def evaluation_dataset(
    images: Sequence[np.ndarray | Path | str],
    *,
    image_size: tuple[int, int],
    batch_size: int,
) -> tf.data.Dataset:
    """Returns batches of the images in their order, resized and nothing else.

    Args:
        images: Image files, which are decoded first (see `decode_images`), or what
            `decode_images` returned, to keep it for the next evaluation.
        image_size: `(height, width)` of the result, in pixels.
        batch_size: Number of images in a batch; the last batch may be smaller.

    Returns:
        Batches of pixels, float32 in [0, 255] of shape `(batch, height, width, 3)`.

    Raises:
        FileNotFoundError: If files are missing.
        ValueError: If files are damaged, if there is no image, or if a number is out
            of range.
    """
    check_image_size(image_size)
    if len(images) == 0 or batch_size < 1:
        raise ValueError(
            "There must be an image, and one in a batch. "
            f"Received: {len(images)} images, batch_size={batch_size}"
        )
    if isinstance(images[0], (str, Path)):
        images = decode_images(images)
    read = pixel_reader(images)
    dataset = tf.data.Dataset.range(len(images)).map(
        as_written(lambda index: resize_pixels(read(index), image_size)),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return dataset.batch(batch_size).prefetch(2)
