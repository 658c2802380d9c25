"""TensorFlow Serving's gRPC API."""

import threading
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
from topdb_tf.embed.answers import MOST_NUMBERS, SLACK, newest_of
from topdb_tf.embed.errors import RefusedError, ServingError, UnavailableError

_UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
_REFUSED = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
)
_TYPES = (
    types_pb2.DT_FLOAT,
    types_pb2.DT_DOUBLE,
    types_pb2.DT_HALF,
    types_pb2.DT_BFLOAT16,
)
_USER_ERRORS = {  # what gRPC says of a server that would do no better later
    "larger than max": "its messages are bounded: take a smaller --batch-size",
    "HTTP/2": "it does not speak gRPC: if it is the port of REST, name it http://{}",
    "Domain name not found": "there is no such host",
    "certificate": "its certificate is not trusted: see --ca-file",
}
_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
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
        self._credentials = None
        if address.tls:
            certificates = None if ca_file is None else Path(ca_file).read_bytes()
            self._credentials = grpc.ssl_channel_credentials(certificates)
        self._channels = {}  # by the most images of a request
        self._lock = threading.Lock()

    def predict(self, images: Sequence[bytes], timeout: float) -> np.ndarray:
        """Returns the embeddings of images, float32 `(batch, dim)`."""
        request = predict_pb2.PredictRequest()
        self._choose(request.model_spec)
        # By hand: NumPy's strings, between here and `make_tensor_proto`, lose zeros at
        # the end of a file.
        tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=images)
        tensor.tensor_shape.dim.add(size=len(images))
        request.inputs["image_bytes"].CopyFrom(tensor)
        channel = self._channel_for(len(images))
        service = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = self._call(service.Predict, request, timeout)
        if "embedding" not in answer.outputs:
            raise ServingError(
                f"Model {self.model.name} must have the output `embedding`. "
                f"Received: outputs={sorted(answer.outputs)}"
            )
        version = answer.model_spec.version.value
        if version and self.model.version not in (None, version):
            raise ServingError(
                f"{self.address} must answer by version {self.model.version} of model "
                f"{self.model.name}. Received: version {version}"
            )
        return _array_of(answer.outputs["embedding"], len(images))

    def resolve_version(self, timeout: float) -> int:
        """Makes all further requests go to one version, and returns its number."""
        request = get_model_status_pb2.GetModelStatusRequest()
        self._choose(request.model_spec)
        service = model_service_pb2_grpc.ModelServiceStub(self._channel_for(0))
        answer = self._call(service.GetModelStatus, request, timeout)
        states = get_model_status_pb2.ModelVersionStatus
        versions = [
            status.version
            for status in answer.model_version_status
            if status.state == states.AVAILABLE
        ]
        self.model = newest_of(versions, self.model, str(self.address))
        return self.model.version

    def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels.values():
            channel.close()

    def _channel_for(self, num_images):
        """Returns a channel that takes an answer for so many images, and none larger.

        The bound is fixed when a channel is made.
        """
        with self._lock:
            room = min((n for n in self._channels if n >= num_images), default=None)
            if room is not None:
                return self._channels[room]
            most = num_images * MOST_NUMBERS * 8 + SLACK
            options = [*_CHANNEL_OPTIONS, ("grpc.max_receive_message_length", most)]
            if self.address.is_local:
                options.append(("grpc.enable_http_proxy", 0))
            place = str(self.address)
            if self._credentials is None:
                channel = grpc.insecure_channel(place, options)
            else:
                channel = grpc.secure_channel(place, self._credentials, options)
            return self._channels.setdefault(num_images, channel)

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
            code, details = error.code(), error.details() or "no reason"
        known = [text for word, text in _USER_ERRORS.items() if word in details]
        if code in _UNAVAILABLE and known:
            explanation = known[0].format(self.address)
            raise ServingError(f"{self.address}: {explanation}. Received: {details}")
        if code in _UNAVAILABLE:
            raise UnavailableError(
                f"{self.address} cannot be reached by gRPC, or is busy: {details}."
            )
        if code in _REFUSED:
            raise RefusedError(code.name, details)
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise ServingError(f"{self.address} gave no answer within {timeout:.3g} s.")
        raise ServingError(f"{self.address} answered {code.name}: {details}")


def _array_of(tensor, num_images):
    """Returns the numbers of a tensor of embeddings, float32 `(num_images, dim)`.

    A shape that is larger than what comes with it would be filled up.
    """
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    is_fit = len(shape) == 2 and shape[0] == num_images and 0 < shape[1] <= MOST_NUMBERS
    if is_fit and tensor.dtype in _TYPES:
        dtype = tf.as_dtype(tensor.dtype)
        values = (tensor.float_val, tensor.double_val, tensor.half_val)
        counts = [len(tensor.tensor_content) / dtype.size, *map(len, values)]
        if sorted(counts) == [0, 0, 0, shape[0] * shape[1]]:
            return tf.make_ndarray(tensor).astype(np.float32)
    raise ServingError(
        "The model must give an embedding for each image, of at most "
        f"{MOST_NUMBERS:,} floats. Received: shape={shape} of type "
        f"{types_pb2.DataType.Name(tensor.dtype)} for {num_images} images"
    )
