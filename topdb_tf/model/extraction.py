"""Embeddings of many images, in their order."""

from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf


def extract_embeddings(
    embedder,
    batches: Iterable,
    *,
    num_images: int,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Returns the embeddings of all images of the batches.

    Args:
        embedder: Model from pixels `(batch, height, width, 3)` to embeddings
            `(batch, dim)`.
        batches: Pixels, float32 in [0, 255].
        num_images: Number of images in all batches.
        progress: Called with the number of images done and of all.

    Returns:
        float32 array of shape `(num_images, dim)`.
    """
    pixels_of_batch = tf.TensorSpec((None, *embedder.input_shape[1:]), tf.float32)

    @tf.function(input_signature=[pixels_of_batch])
    def embed(pixels):
        return embedder(pixels, training=False)

    embeddings = np.empty((num_images, embedder.output_shape[-1]), np.float32)
    done = 0
    for pixels in batches:
        part = embed(pixels).numpy()
        embeddings[done : done + len(part)] = part
        done += len(part)
        if progress is not None:
            progress(done, num_images)
    return embeddings
