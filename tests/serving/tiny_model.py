"""A model with the signatures of an exported one, made of a few operations."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

DIM = 4
MAGIC = (b"\xff\xd8\xff", b"\x89PNG")


class TinyModel(tf.Module):
    """Embeds an image as its mean colour and 1, times a factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = tf.Variable(float(factor))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def embed(self, image_bytes):
        return {"embedding": self._of_each(image_bytes, self._embedding, [DIM])}

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "images")]
    )
    def embed_pixels(self, images):
        means = tf.reduce_mean(tf.cast(images, tf.float32), [1, 2])
        return {"embedding": self.factor * tf.pad(means, [[0, 0], [0, 1]], "CONSTANT")}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def activation_map(self, image_bytes):
        return {"activation_map": self._of_each(image_bytes, self._map, [6, 2])}

    def _of_each(self, image_bytes, function, shape):
        def of_one(index):
            contents = image_bytes[index]
            message = tf.strings.format("image_bytes[{}] is no JPEG or PNG", index)
            starts = [tf.strings.substr(contents, 0, len(magic)) for magic in MAGIC]
            is_image = tf.reduce_any(tf.stack(starts) == tf.constant(MAGIC))
            with tf.control_dependencies([tf.debugging.Assert(is_image, [message])]):
                pixels = tf.io.decode_jpeg(contents, channels=3)
            return function(tf.cast(pixels, tf.float32))

        count = tf.shape(image_bytes)[0]
        some = tf.debugging.Assert(count > 0, ["image_bytes holds no image"])
        with tf.control_dependencies([some]):
            indices = tf.range(count)
        signature = tf.TensorSpec(shape, tf.float32)
        return tf.map_fn(of_one, indices, fn_output_signature=signature)

    def _embedding(self, pixels):
        means = tf.reduce_mean(pixels, [0, 1])
        return self.factor * tf.ensure_shape(tf.pad(means, [[0, 1]]), [DIM])

    def _map(self, pixels):
        return tf.image.resize(tf.reduce_mean(pixels, -1, keepdims=True), [6, 2])[
            ..., 0
        ]


def write_tiny_model(folder, *, version=1, factor=1.0):
    """Writes the model as version `version` of `folder`."""
    model = TinyModel(factor)
    signatures = {
        "serving_default": model.embed,
        "pixels": model.embed_pixels,
        "activation_map": model.activation_map,
    }
    tf.saved_model.save(model, str(folder / str(version)), signatures=signatures)


def image_bytes(colour, *, size=(12, 20), kind="PNG"):
    """Returns the file of an image of one colour; `size` is (width, height)."""
    file = io.BytesIO()
    Image.new("RGB", size, tuple(colour)).save(file, kind)
    return file.getvalue()


def embedding_of(colour, factor=1.0):
    """Returns what the model makes of an image of one colour."""
    return factor * np.array([*colour, 0], np.float32)
