"""The check of every export: its embeddings of drawn images against its source's."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from topdb_tf.data.decoding import resize_pixels
from topdb_tf.export.probes import ProbeDifferences, compare, probe_images
from topdb_tf.model.folding import in_precision

LEAST_COSINE = {"float32": 0.9999, "float16": 0.99, "bfloat16": 0.95, "int8": 0.7}
"""How alike an exported embedding must be to the one in float32, by precision.

Below float32 this finds what is broken, not what is poor: a MobileNetV2 trained in
bfloat16 gave a mean cosine of 0.983 itself, and 0.994 with its batch normalisation
folded.
"""


class Probes(NamedTuple):
    """The drawn images in each form in which an exported model takes images.

    These are PNG files, uint8 RGB as in the files, and pixels as in an evaluation.
    """

    files: list[bytes]
    images: np.ndarray
    pixels: np.ndarray


def drawn_probes(image_size: tuple[int, int]) -> Probes:
    """Returns the drawn images for a model that takes images of a size, in pixels."""
    images = probe_images()
    files = [tf.io.encode_png(image).numpy() for image in images]
    return Probes(files, images, resize_pixels(images, image_size).numpy())


def reference_of(
    embedder, *, normalize: bool = False
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what an export of a model is held against: the model in float32.

    That is its precision whatever the model was trained in, and its batch
    normalisations are not folded: all that an export does to a model is in the
    difference.
    """
    in_graph = tf.function(in_precision(embedder, "float32"), autograph=False)

    def embed(pixels):
        embeddings = in_graph(pixels, training=False).numpy()
        if normalize:
            embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        return embeddings

    return embed


def check_export(
    answers: Sequence[np.ndarray], expected: np.ndarray, *, precision: str
) -> ProbeDifferences:
    """Checks that an exported model gives the embeddings of its source in float32.

    There is an answer for each form in which it takes images. Each cosine must be at
    least `LEAST_COSINE`.
    """
    differences = compare(
        np.concatenate(answers), np.concatenate([expected] * len(answers))
    )
    if not differences.min_cosine >= LEAST_COSINE[precision]:
        raise ValueError(
            "The exported model must give the embeddings of its source: their cosine "
            f"must be at least {LEAST_COSINE[precision]}. Nothing was written. Try "
            f"another --precision. Received: cosine={differences.min_cosine:.6f}, "
            f"largest difference {differences.max_difference:.3g}, "
            f"precision={precision}"
        )
    return ProbeDifferences(**asdict(differences), num_images=len(expected))
