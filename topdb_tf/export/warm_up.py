"""Requests that TensorFlow Serving runs through a model before it takes others."""

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

FILE = Path("assets.extra") / "tf_serving_warmup_requests"
"""Where TensorFlow Serving looks for them, below the folder of a version."""


def write_warm_up_requests(
    version: Path, requests: list[tuple[str, Mapping[str, object]]]
) -> None:
    """Writes the requests that a version of a model is warmed up with.

    Without them the first request of each kind pays for the optimisation of its
    graph, seconds for a large network.

    Source: TensorFlow Serving, SavedModel Warmup
    (https://www.tensorflow.org/tfx/serving/saved_model_warmup).

    Args:
        version: Folder of the version.
        requests: Signature and inputs by name of each request, in their order.
    """
    path = version / FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests:
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(signature_name=signature),
                inputs={name: tf.make_tensor_proto(inputs[name]) for name in inputs},
            )
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())


def read_warm_up_requests(version: Path) -> list[tuple[str, dict]]:
    """Returns what `write_warm_up_requests` wrote, the inputs as NumPy arrays."""
    requests = []
    for record in tf.data.TFRecordDataset(str(version / FILE)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        inputs = {
            name: tf.make_ndarray(request.inputs[name]) for name in request.inputs
        }
        requests.append((request.model_spec.signature_name, inputs))
    return requests
