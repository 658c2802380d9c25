"""A stand-in for TensorFlow Serving: its gRPC API over real protos, on the loopback.

It runs SavedModels in sessions, as the server does, and answers what the documents of
the public API say. `stand_in_rest` adds the REST API.
"""

import collections
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

Code = grpc.StatusCode
LARGEST_MESSAGE = [("grpc.max_receive_message_length", -1)]


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code
        self.message = message


class Servable:
    """One version of a model."""

    def __init__(self, folder):
        graph = tf.Graph()
        with graph.as_default():
            self.session = tf.compat.v1.Session(graph=graph)
            meta_graph = tf.compat.v1.saved_model.load(
                self.session, ["serve"], str(folder)
            )
        self.signatures = {
            name: signature
            for name, signature in meta_graph.signature_def.items()
            if not name.startswith("__")
        }

    def signature(self, name):
        name = name or "serving_default"
        if name not in self.signatures:
            raise Refusal(
                Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.'
            )
        return self.signatures[name]

    def predict(self, signature_name, inputs, output_filter):
        signature = self.signature(signature_name)
        if set(inputs) != set(signature.inputs):
            raise Refusal(
                Code.INVALID_ARGUMENT,
                f"input size does not match signature: {sorted(inputs)} != "
                f"{sorted(signature.inputs)}",
            )
        unknown = set(output_filter) - set(signature.outputs)
        if unknown:
            raise Refusal(
                Code.INVALID_ARGUMENT,
                f"output tensor alias not found in signature: {sorted(unknown)}",
            )
        for name, tensor in inputs.items():
            if tensor.dtype != signature.inputs[name].dtype:
                raise Refusal(
                    Code.INVALID_ARGUMENT, f"Expects {name} to be of another type"
                )
        feed = {
            signature.inputs[name].name: tf.make_ndarray(tensor)
            for name, tensor in inputs.items()
        }
        names = list(output_filter) or sorted(signature.outputs)
        try:
            arrays = self.session.run(
                [signature.outputs[name].name for name in names], feed
            )
        except (tf.errors.InvalidArgumentError, ValueError) as error:
            message = getattr(error, "message", None) or str(error)
            raise Refusal(Code.INVALID_ARGUMENT, message) from error
        return dict(zip(names, arrays, strict=True))


class StandIn:
    """Models by name, each with all versions in its folder, and faults on demand.

    `fail` makes the next predictions fail; `delay` holds each back; `requests` counts
    those that arrived; `largest_at_once` how many were in work at a time.
    """

    def __init__(self, models, labels=None):
        self.models = {
            name: {
                int(path.name): Servable(path)
                for path in sorted(folder.iterdir())
                if path.name.isdecimal()
            }
            for name, folder in models.items()
        }
        self.labels = labels or {}
        self.loading = False
        self.delay = 0.0
        self.faults = collections.deque()
        self.requests = 0
        self.at_once = 0
        self.largest_at_once = 0
        self._lock = threading.Lock()

    def fail(self, code, *, times=1, message="on demand"):
        self.faults.extend([Refusal(code, message)] * times)

    def reset(self):
        self.loading, self.delay, self.requests, self.largest_at_once = False, 0.0, 0, 0
        self.faults.clear()

    def find(self, model_spec):
        """Returns number and servable of the version that is asked for."""
        versions = self.models.get(model_spec.name)
        if versions is None:
            raise Refusal(
                Code.NOT_FOUND, f"Servable not found for request: {model_spec.name}"
            )
        chosen = model_spec.WhichOneof("version_choice")
        number = max(versions)
        if chosen == "version":
            number = model_spec.version.value
        elif chosen == "version_label":
            number = self.labels.get(model_spec.version_label)
            if number is None:
                raise Refusal(
                    Code.INVALID_ARGUMENT,
                    f"Unrecognized servable version label: {model_spec.version_label}",
                )
        if number not in versions:
            raise Refusal(
                Code.NOT_FOUND,
                f"Could not find version {number} of model {model_spec.name}",
            )
        return number, versions[number]

    def predict(self, request):
        with self._lock:
            self.requests += 1
            self.at_once += 1
            self.largest_at_once = max(self.largest_at_once, self.at_once)
            fault = self.faults.popleft() if self.faults else None
        try:
            time.sleep(self.delay)
            if fault is not None:
                raise fault
            number, servable = self.find(request.model_spec)
            name = request.model_spec.signature_name
            arrays = servable.predict(name, request.inputs, request.output_filter)
        finally:
            with self._lock:
                self.at_once -= 1
        response = predict_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = number
        response.model_spec.signature_name = name or "serving_default"
        for name, array in arrays.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
        return response

    def metadata(self, request):
        number, servable = self.find(request.model_spec)
        if list(request.metadata_field) != ["signature_def"]:
            raise Refusal(Code.INVALID_ARGUMENT, "Metadata field must be signature_def")
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in servable.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = number
        response.metadata["signature_def"].Pack(signatures)
        return response

    def status(self, request):
        response = get_model_status_pb2.GetModelStatusResponse()
        if request.model_spec.WhichOneof("version_choice"):
            versions = [self.find(request.model_spec)[0]]
        elif request.model_spec.name in self.models:
            versions = sorted(self.models[request.model_spec.name], reverse=True)
        else:
            raise Refusal(
                Code.NOT_FOUND,
                f"Could not find any versions of model {request.model_spec.name}",
            )
        states = get_model_status_pb2.ModelVersionStatus
        state = states.LOADING if self.loading else states.AVAILABLE
        for version in versions:
            added = response.model_version_status.add(version=version, state=state)
            added.status.SetInParent()  # its code is OK
        return response


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, stand_in):
        self.stand_in = stand_in

    def Predict(self, request, context):
        return _answer(self.stand_in.predict, request, context)

    def GetModelMetadata(self, request, context):
        return _answer(self.stand_in.metadata, request, context)


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, stand_in):
        self.stand_in = stand_in

    def GetModelStatus(self, request, context):
        return _answer(self.stand_in.status, request, context)


def serve_grpc(stand_in, credentials=None):
    """Starts the gRPC API on a free port; returns the server and the port."""
    server = grpc.server(ThreadPoolExecutor(16), options=LARGEST_MESSAGE)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        _PredictionService(stand_in), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(
        _ModelService(stand_in), server
    )
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    return server, port


def _answer(function, request, context):
    try:
        return function(request)
    except Refusal as refusal:
        context.abort(refusal.code, refusal.message)
