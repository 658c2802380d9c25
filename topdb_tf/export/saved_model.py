"""The embedder as a SavedModel that TensorFlow Serving loads as it is."""

import errno
import os
from pathlib import Path

import keras
import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from topdb_tf.export.check import Probes
from topdb_tf.export.cpp_loader import WARM_UP_FILE
from topdb_tf.export.frozen import frozen
from topdb_tf.export.preprocessing import pixels_of_bytes, pixels_of_images
from topdb_tf.model.folding import folded

FEATURE_MAP = "feature_map"
"""Name of the layer whose output is the backbone's map, F in the paper."""

_WARM_UP_BATCHES = (1, 8)


def _signature(inputs):
    """Makes a function of tensors a part of a graph, as it is written."""
    return tf.function(input_signature=[inputs], autograph=False)


class ServedEmbedder(tf.Module):
    """The functions that a SavedModel serves, with constant weights.

    Preprocessing is in the graph and that of an evaluation, batch normalisation is
    folded into the convolutions, and there are no variables: the model also loads
    where nothing restores them.

    Source: Quispe and Pedrini, Top-DB-Net, ICPR 2020, eq. 1 for the activation map
    (https://arxiv.org/abs/2010.05435).

    Args:
        embedder: `keras.Model` from pixels to embeddings, of `load_embedder`.
        dtype: Precision of the feature maps: "float32", "bfloat16" or "float16".
        normalize: Whether embeddings are divided by their L2 norm.
    """

    def __init__(self, embedder, *, dtype: str = "float32", normalize: bool = False):
        super().__init__(name="topdb")
        self.image_size = tuple(embedder.input_shape[1:3])
        self.embedding_dim = embedder.output_shape[-1]
        self._outputs = _two_outputs(folded(embedder, dtype=dtype), normalize)

    def write(self, folder: Path) -> None:
        """Writes the SavedModel, with the signatures that `folder` then serves."""
        signatures = {
            "serving_default": self.embed_bytes,
            "pixels": self.embed_images,
            "activation_map": self.map_activation,
        }
        try:
            tf.saved_model.save(self, str(folder), signatures=signatures)
        except tf.errors.OpError as error:
            for number in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EIO):
                if os.strerror(number) in str(error):
                    raise OSError(number, os.strerror(number), str(folder)) from error
            raise

    @_signature(tf.TensorSpec((None,), tf.string, "image_bytes"))
    def embed_bytes(self, image_bytes):
        """Returns `{"embedding": (batch, dim)}` of JPEG or PNG files' bytes."""
        pixels = pixels_of_bytes(image_bytes, self.image_size)
        return {"embedding": self._outputs(pixels)[0]}

    @_signature(tf.TensorSpec((None, None, None, 3), tf.uint8, "images"))
    def embed_images(self, images):
        """Returns `{"embedding": (batch, dim)}` of uint8 images of any size."""
        pixels = pixels_of_images(images, self.image_size)
        return {"embedding": self._outputs(pixels)[0]}

    @_signature(tf.TensorSpec((None,), tf.string, "image_bytes"))
    def map_activation(self, image_bytes):
        """Returns `{"activation_map": (batch, rows, columns)}`, eq. 1 of the paper."""
        pixels = pixels_of_bytes(image_bytes, self.image_size)
        return {"activation_map": self._outputs(pixels)[1]}


def _two_outputs(embedder, normalize):
    """Returns the function from pixels to embeddings and activation maps."""
    names = [layer.name for layer in embedder.layers]
    if FEATURE_MAP not in names:
        raise ValueError(
            f'The model must have a layer "{FEATURE_MAP}", the map of its backbone. '
            f"Received: {', '.join(names[:10])}"
        )
    feature_map = embedder.get_layer(FEATURE_MAP).output
    model = keras.Model(embedder.input, [embedder.output, feature_map])

    def outputs(pixels):
        embeddings, maps = model(pixels, training=False)
        if normalize:
            embeddings = tf.math.l2_normalize(embeddings, axis=1)
        maps = tf.cast(maps, tf.float32)  # the squares overflow float16
        return tf.identity(embeddings), tf.reduce_sum(tf.square(maps), axis=-1)

    return frozen(outputs, embedder.input_shape[1:3])


def write_warm_up_requests(version: Path, probes: Probes) -> None:
    """Writes the requests that a version of a model is warmed up with.

    They are of every signature, for one image and for several. Without them the first
    request of each kind pays for the optimisation of its graph, seconds for a large
    network.

    Source: TensorFlow Serving, SavedModel Warmup
    (https://www.tensorflow.org/tfx/serving/saved_model_warmup).
    """
    path = version / WARM_UP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for batch in _WARM_UP_BATCHES:
            files, images = probes.files[:batch], probes.images[:batch]
            writer.write(_record("serving_default", image_bytes=files))
            writer.write(_record("pixels", images=images))
            writer.write(_record("activation_map", image_bytes=files))


def _record(signature, **inputs):
    request = predict_pb2.PredictRequest(
        model_spec=model_pb2.ModelSpec(signature_name=signature),
        inputs={name: tf.make_tensor_proto(inputs[name]) for name in inputs},
    )
    log = prediction_log_pb2.PredictLog(request=request)
    return prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString()
