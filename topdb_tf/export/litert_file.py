"""Models in LiteRT's format (TensorFlow Lite): written by TensorFlow, run by LiteRT."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

METADATA = "topdb_tf"
"""Name of the entry of a file's metadata that holds the texts, as JSON."""


def litert_bytes(
    frozen,
    metadata: dict[str, str],
    precision: str,
    calibration: Iterable[np.ndarray] | None,
) -> bytes:
    """Returns the contents of a LiteRT file of a function that `frozen` returned.

    Float16 is that of the weights alone; int8 is that of weights and activations, with
    float32 at both ends, and is calibrated on arrays that the function takes.
    """
    module = tf.Module()

    @tf.function(
        input_signature=[tf.TensorSpec.from_tensor(frozen.inputs[0])], autograph=False
    )
    def embed(pixels):
        return {"embedding": tf.nest.flatten(frozen(pixels))[0]}

    module.embed = embed
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [embed.get_concrete_function()], module
    )
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.representative_dataset = lambda: ([image] for image in calibration)
        operations = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.target_spec.supported_ops = operations
    return _with_metadata(converter.convert(), metadata)


class LiteRtModel:
    """A LiteRT file as a function from pixels to embeddings.

    Attributes:
        metadata: Texts by name that the file keeps.
    """

    def __init__(self, path: Path, num_threads: int):
        contents = Path(path).read_bytes()
        self._interpreter = Interpreter(model_content=contents, num_threads=num_threads)
        self._embed = self._interpreter.get_signature_runner()
        self.metadata = _metadata_in(contents)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the embeddings of images."""
        return self._embed(pixels=pixels)["embedding"]


def _with_metadata(contents, metadata):
    """Returns a file's contents with texts in its metadata and its description."""
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(contents))
    entry, buffer = schema.MetadataT(), schema.BufferT()
    buffer.data = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
    entry.name, entry.buffer = METADATA, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    model.description = metadata.get("description", "")
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _metadata_in(contents):
    model = schema.Model.GetRootAs(contents, 0)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() == METADATA.encode():
            data = model.Buffers(entry.Buffer()).DataAsNumpy()
            return json.loads(bytes(data))
    return {}
