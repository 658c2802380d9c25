"""Requests that TensorFlow Serving runs through a model before it takes others."""

from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from topdb_tf.export.check import Probes

WARM_UP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
"""Where TensorFlow Serving looks for them, below the folder of a version."""

_BATCHES = (1, 8)


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
        for batch in _BATCHES:
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
