"""Models without a server, asked in the way of `topdb_tf.embed.client`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from topdb_tf.data.checks.image_faults import decode_contents
from topdb_tf.data.decoding import resize_pixels
from topdb_tf.embed.errors import RefusedError
from topdb_tf.export.serving import newest_version
from topdb_tf.model.extraction import inference_function, load_embedder


class SavedModelConnection:
    """A version of a model that `topdb-tf export` wrote, the newest in its folder."""

    def __init__(self, folder: Path | str):
        self.folder = newest_version(Path(folder))
        model = tf.saved_model.load(str(self.folder))
        signature = model.signatures.get("serving_default")
        inputs = signature and set(signature.structured_input_signature[1])
        if inputs != {"image_bytes"} or "embedding" not in signature.structured_outputs:
            raise ValueError(
                "The model must have a signature `serving_default` from `image_bytes` "
                "to `embedding`, as `topdb-tf export` writes it. "
                f"Received: folder={self.folder}, inputs={inputs}"
            )
        self._model = model  # the signature does not keep its variables
        self._signature = signature

    def predict(self, images: Sequence[bytes], timeout: float) -> np.ndarray:
        """Returns the embeddings of images, float32 `(batch, dim)`."""
        del timeout  # nothing to wait for
        try:
            outputs = self._signature(image_bytes=tf.constant(images, tf.string))
        except tf.errors.InvalidArgumentError as error:
            raise RefusedError("INVALID_ARGUMENT", error.message) from None
        return outputs["embedding"].numpy()

    def resolve_version(self, timeout: float) -> int | None:
        """Returns the number of the version, if its folder has one."""
        del timeout
        return int(self.folder.name) if self.folder.name.isdecimal() else None

    def close(self) -> None:
        """Does nothing: there is no server."""


class EmbedderConnection:
    """An embedder that `topdb-tf fit` wrote, with the images resized for it."""

    def __init__(self, path: Path | str):
        embedder = load_embedder(path)
        self._image_size = tuple(embedder.input_shape[1:3])
        self._embed = inference_function(embedder)

    def predict(self, images: Sequence[bytes], timeout: float) -> np.ndarray:
        """Returns the embeddings of images, float32 `(batch, dim)`."""
        del timeout
        pixels = [self._pixels(index, image) for index, image in enumerate(images)]
        return self._embed(tf.stack(pixels)).numpy()

    def resolve_version(self, timeout: float) -> None:
        """Returns nothing: a run's model has no number."""
        del timeout

    def close(self) -> None:
        """Does nothing: there is no server."""

    def _pixels(self, index, image):
        pixels, fault = decode_contents(image)
        if fault:
            raise RefusedError("INVALID_ARGUMENT", f"image_bytes[{index}] {fault}")
        return resize_pixels(pixels, self._image_size)
