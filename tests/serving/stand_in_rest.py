"""The stand-in's REST API: JSON in rows or columns, to and from the real protos."""

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from tests.serving.stand_in import Code, Refusal

STATUS = {
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.NOT_FOUND: 404,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}
_MODEL = r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?"
_PREDICT = re.compile(rf"(?i){_MODEL}:predict")
_STATUS = re.compile(rf"(?i){_MODEL}(/metadata)?")


def serve_rest(stand_in, ssl_context=None):
    """Starts the REST API on a free port; returns the server and the port."""
    handler = type("Handler", (_Handler,), {"stand_in": stand_in})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if ssl_context is not None:
        server.socket = ssl_context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server, server.server_address[1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept open
    disable_nagle_algorithm = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._reply(lambda: self._predict(body))

    def do_GET(self):
        self._reply(self._status)

    def log_message(self, *_):
        pass

    def _reply(self, answer_of):
        try:
            status, answer = 200, answer_of()
        except Refusal as refusal:
            status, answer = STATUS[refusal.code], {"error": refusal.message}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _predict(self, body):
        match = _PREDICT.fullmatch(self.path)
        if match is None:
            raise Refusal(Code.INVALID_ARGUMENT, f"Malformed request: POST {self.path}")
        request = predict_pb2.PredictRequest()
        _choose(request.model_spec, match)
        document = _document(body)
        request.model_spec.signature_name = document.get("signature_name", "")
        _, servable = self.stand_in.find(request.model_spec)
        try:
            signature = servable.signature(request.model_spec.signature_name)
        except Refusal as refusal:
            raise Refusal(Code.INVALID_ARGUMENT, refusal.message) from refusal
        infos = dict(signature.inputs)
        is_rows = "instances" in document
        if is_rows == ("inputs" in document):
            raise Refusal(
                Code.INVALID_ARGUMENT, "Expecting one of 'inputs' or 'instances'"
            )
        columns = _columns(document["instances"], infos) if is_rows else None
        columns = columns or _inputs(document["inputs"], infos)
        for name, value in columns.items():
            request.inputs[name].CopyFrom(_tensor(value, infos[name].dtype))
        outputs = self.stand_in.predict(request).outputs
        arrays = {name: tf.make_ndarray(outputs[name]) for name in outputs}
        if is_rows:
            return {"predictions": _rows(arrays)}
        lists = {name: array.tolist() for name, array in arrays.items()}
        return {"outputs": lists if len(lists) > 1 else next(iter(lists.values()))}

    def _status(self):
        match = _STATUS.fullmatch(self.path)
        if match is None:
            raise Refusal(Code.INVALID_ARGUMENT, f"Malformed request: GET {self.path}")
        if match[4]:
            request = get_model_metadata_pb2.GetModelMetadataRequest()
            request.metadata_field.append("signature_def")
            _choose(request.model_spec, match)
            response = self.stand_in.metadata(request)
            signatures = get_model_metadata_pb2.SignatureDefMap()
            response.metadata["signature_def"].Unpack(signatures)
            return {
                "model_spec": _json_of(response.model_spec),
                "metadata": {"signature_def": _json_of(signatures)},
            }
        request = get_model_status_pb2.GetModelStatusRequest()
        _choose(request.model_spec, match)
        return _json_of(self.stand_in.status(request))


def _choose(model_spec, match):
    model_spec.name = match[1]
    if match[2]:
        model_spec.version.value = int(match[2])
    elif match[3]:
        model_spec.version_label = match[3]


def _json_of(message):
    return MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )


def _document(body):
    try:
        document = json.loads(body)
    except ValueError as error:
        raise Refusal(Code.INVALID_ARGUMENT, f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise Refusal(Code.INVALID_ARGUMENT, "JSON Value is not object")
    return document


def _is_named(value):
    return isinstance(value, dict) and set(value) != {"b64"}


def _columns(instances, infos):
    """Returns the inputs that rows make up, each a list."""
    if not isinstance(instances, list) or not instances:
        raise Refusal(Code.INVALID_ARGUMENT, "No values in 'instances' array")
    if not _is_named(instances[0]):
        if len(infos) > 1:
            raise Refusal(Code.INVALID_ARGUMENT, "expecting list of objects")
        return {next(iter(infos)): instances}
    for index, row in enumerate(instances):
        if not _is_named(row) or set(row) != set(infos):
            raise Refusal(
                Code.INVALID_ARGUMENT,
                f"Failed to process element: {index} of 'instances' list. Keys must be "
                f"equal to: {','.join(sorted(infos))}",
            )
    return {name: [row[name] for row in instances] for name in infos}


def _inputs(inputs, infos):
    if not _is_named(inputs):
        return {next(iter(infos)): inputs}
    missing = set(infos) - set(inputs)
    if missing:
        raise Refusal(Code.INVALID_ARGUMENT, f"Missing named input: {missing}")
    return {name: inputs[name] for name in infos}


def _tensor(value, dtype):
    """Returns nested lists as a tensor of the type of the signature."""
    try:
        if dtype == types_pb2.DT_STRING:
            strings = [_string(item) for item in value]
            tensor = tensor_pb2.TensorProto(dtype=dtype, string_val=strings)
            tensor.tensor_shape.dim.add(size=len(strings))
            return tensor
        return tf.make_tensor_proto(np.array(value), dtype=tf.as_dtype(dtype))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        message = f"JSON Value is not of expected type: {error}"
        raise Refusal(Code.INVALID_ARGUMENT, message) from error


def _string(item):
    if isinstance(item, dict):
        return base64.b64decode(item["b64"], validate=True)
    if not isinstance(item, str):
        raise TypeError(f"{item} is no string")
    return item.encode()


def _rows(arrays):
    if len(arrays) == 1:
        return next(iter(arrays.values())).tolist()
    names = list(arrays)
    columns = (arrays[name].tolist() for name in names)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
