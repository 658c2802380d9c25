"""TensorFlow Serving's gRPC API."""

from collections.abc import Sequence
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from topdb_tf.embed.address import ModelChoice, ServerAddress
from topdb_tf.embed.errors import RefusedError, ServingError, UnavailableError

_UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
_REFUSED = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
)
_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # The pauses between attempts are the client's; gRPC adds none that matters.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class GrpcConnection:
    """A model on a server that speaks gRPC, asked from any number of threads.

    For TLS the certificates in `ca_file` are trusted instead of gRPC's own.
    `resolve_version` sets the version of `model`.
    """

    def __init__(
        self, address: ServerAddress, model: ModelChoice, ca_file: Path | None
    ):
        self.address = address
        self.model = model
        if address.tls:
            certificates = None if ca_file is None else Path(ca_file).read_bytes()
            credentials = grpc.ssl_channel_credentials(certificates)
            channel = grpc.secure_channel(str(address), credentials, _CHANNEL_OPTIONS)
        else:
            channel = grpc.insecure_channel(str(address), _CHANNEL_OPTIONS)
        self._channel = channel
        self._predict = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self._status = model_service_pb2_grpc.ModelServiceStub(channel)

    def predict(self, images: Sequence[bytes], timeout: float) -> np.ndarray:
        """Returns the embeddings of images, float32 `(batch, dim)`."""
        request = predict_pb2.PredictRequest()
        self._choose(request.model_spec)
        # By hand: NumPy's strings, between here and `make_tensor_proto`, lose zeros at
        # the end of a file.
        tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=images)
        tensor.tensor_shape.dim.add(size=len(images))
        request.inputs["image_bytes"].CopyFrom(tensor)
        answer = self._call(self._predict.Predict, request, timeout)
        if "embedding" not in answer.outputs:
            raise ServingError(
                f"Model {self.model.name} must have the output `embedding`. "
                f"Received: outputs={sorted(answer.outputs)}"
            )
        return tf.make_ndarray(answer.outputs["embedding"])

    def resolve_version(self, timeout: float) -> int:
        """Makes all further requests go to one version, and returns its number."""
        request = get_model_status_pb2.GetModelStatusRequest()
        self._choose(request.model_spec)
        answer = self._call(self._status.GetModelStatus, request, timeout)
        states = get_model_status_pb2.ModelVersionStatus
        versions = [
            status.version
            for status in answer.model_version_status
            if status.state == states.AVAILABLE
        ]
        if not versions:
            raise UnavailableError(
                f"No version of model {self.model.name} is ready at {self.address}."
            )
        self.model = ModelChoice(self.model.name, max(versions))
        return self.model.version

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def _choose(self, model_spec):
        name, version, label = self.model
        model_spec.name = name
        if version is not None:
            model_spec.version.value = version
        elif label:
            model_spec.version_label = label

    def _call(self, method, request, timeout):
        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
        if code in _UNAVAILABLE:
            raise UnavailableError(
                f"{self.address} cannot be reached by gRPC, or is busy: {details}."
            )
        if code in _REFUSED:
            raise RefusedError(code.name, details)
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise ServingError(f"{self.address} gave no answer within {timeout:.3g} s.")
        raise ServingError(f"{self.address} answered {code.name}: {details}")
