"""Clients of servers that lie: nothing is believed, awaited or kept for long."""

import json
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.serving.lying_server import OK, READY, LyingServer, http, without_end
from tests.serving.tiny_model import image_bytes
from topdb_tf.embed.address import ModelChoice
from topdb_tf.embed.client import ServingClient
from topdb_tf.embed.connections import connect
from topdb_tf.embed.errors import ServingError
from topdb_tf.embed.model_probes import probe_features
from topdb_tf.embed.retries import Retries

QUICK = Retries(attempts=3, first_delay=0.0, max_delay=0.0)


@pytest.fixture
def paths(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(image_bytes((9, 9, 9)))
    return sorted(tmp_path.iterdir())


def outputs(value):
    return http(json.dumps({"outputs": value}).encode())


def asked(server, paths, **options):
    with ServingClient(connect(f"http://{server.address}"), retries=QUICK) as client:
        return client.embed(paths, **options)


NO_EMBEDDINGS = {
    "no JSON": http(b"hello"),
    "a list": http(b"[1]"),
    "null": http(b"null"),
    "a text": http(b'"x"'),
    "nothing": http(b""),
    "too deep": http(b'{"outputs":' + b"[" * 99_999),
    "not UTF-8": http(b'{"outputs": "\xff"}'),
    "other names": http(b'{"predictions": [[1], [2]]}'),
    "one vector": outputs([1.0, 2.0]),
    "a row too few": outputs([[1.0, 2.0]]),
    "a row too many": outputs([[1.0], [2.0], [3.0]]),
    "rows that differ": outputs([[1.0, 2.0], [1.0]]),
    "maps": outputs([[[1.0]], [[2.0]]]),
    "empty rows": outputs([[], []]),
    "null in a row": outputs([[None, 1.0], [1.0, 2.0]]),
    "texts": outputs([["1", "2"], ["3", "4"]]),
    "truth values": outputs([[True, 1.0], [1.0, 2.0]]),
    "objects": outputs([{"a": 1}, {"b": 2}]),
    "not a number": http(b'{"outputs": [[NaN], [1]]}'),
    "infinite": http(b'{"outputs": [[1e39], [1]]}'),
    "a whole number of 400 digits": http(b'{"outputs": [[%b], [1]]}' % (b"9" * 400)),
    "a page": http(b"<html>Log in</html>", "404 Not Found"),
    "an error that is an object": http(b'{"error": {"code": 3}}', "400 Bad Request"),
    "an error without a text": http(b'{"error": null}', "400 Bad Request"),
    "an endless index": http(
        b'{"error": "image_bytes[%b]"}' % (b"9" * 5000), "400 Bad Request"
    ),
    "no content": http(b"", "204 No Content"),
    "not modified": http(b"", "304 Not Modified"),
    "elsewhere": http(b"", "302 Found", "Location: http://127.0.0.1:9/\r\n"),
    "a bad gateway": http(b"<html>", "502 Bad Gateway"),
    "headers without end": OK + b"A: b\r\n" * 200 + b"\r\n",
    "a negative chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n",
}


@pytest.mark.parametrize("answer", NO_EMBEDDINGS.values(), ids=NO_EMBEDDINGS)
def test_what_is_no_embedding_of_each_image_is_explained_and_not_repeated(
    paths, answer
):
    with LyingServer(answer) as server, pytest.raises(ServingError) as caught:
        asked(server, paths)
    assert "attempts" not in str(caught.value)
    assert server.requests == 2


@pytest.mark.parametrize(
    "answer", [outputs([[1, 2.5], [3, 4]]), outputs({"embedding": [[1, 2.5], [3, 4]]})]
)
def test_whole_numbers_and_named_outputs_are_embeddings(paths, answer):
    with LyingServer(answer) as server:
        assert asked(server, paths).embeddings.tolist() == [[1.0, 2.5], [3.0, 4.0]]


@pytest.mark.parametrize(
    "version", [1.5, None, True, "one", "-1", "9" * 30, "9" * 5000, float("inf")]
)
def test_a_version_that_is_none_is_explained(paths, version):
    ready = [{"version": version, "state": "AVAILABLE"}]
    status = http(json.dumps({"model_version_status": ready}).encode())
    with LyingServer(b"", status) as server, pytest.raises(ServingError):
        asked(server, paths)


def test_another_version_than_the_chosen_one_is_refused(paths):
    with (
        LyingServer(outputs([[1.0], [2.0]])) as server,
        ServingClient(
            connect(f"http://{server.address}", model=ModelChoice(version=3))
        ) as client,
        pytest.raises(ServingError, match="must tell of version 3"),
    ):
        client.embed(paths)


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = OK + b"Content-Length: 9999999999\r\n\r\n"
BOTH_REQUESTS = pytest.mark.parametrize("is_status", [False, True])


def refused_in_time(paths, answer, is_status, seconds, match):
    server = LyingServer(READY, answer) if is_status else LyingServer(answer)
    start = time.monotonic()
    with server, pytest.raises(ServingError, match=match):
        asked(server, paths, timeout=seconds)
    return time.monotonic() - start


@BOTH_REQUESTS
@pytest.mark.parametrize(
    "answer",
    [
        without_end(b"", b"", 0.01),
        without_end(OK[:9], b"2", 0.01),
        without_end(OK, b"A: b\r\n", 0.01),
        without_end(LONG, b" ", 0.01),
        without_end(CHUNKED, b"1\r\n \r\n", 0.01),
        without_end(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01),
    ],
    ids=["silent", "status", "headers", "body", "chunks", "continue"],
)
def test_a_server_that_drips_does_not_outlast_the_deadline(paths, answer, is_status):
    # A byte each 10 ms meets no timeout of a single read; 100 headers are an error.
    match = r"no answer within|does not speak REST"
    assert refused_in_time(paths, answer, is_status, 0.3, match) < 2


@BOTH_REQUESTS
@pytest.mark.parametrize(
    "answer",
    [
        without_end(LONG, b" " * 100_000),
        without_end(OK + b"\r\n", b" " * 100_000),
        without_end(CHUNKED, b"186a0\r\n" + b" " * 100_000 + b"\r\n"),
        without_end(CHUNKED + b"-1\r\n", b" " * 100_000),
        without_end(CHUNKED + b"FFFFFFFFFFFF\r\n", b" " * 100_000),
    ],
    ids=["length", "to the end", "chunks", "negative chunk", "huge chunk"],
)
def test_an_answer_without_end_is_not_kept(paths, answer, is_status):
    tracemalloc.start()
    try:
        match = "at most 32,768 numbers an image"
        refused_in_time(paths, answer, is_status, 20, match)
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("answer", "is_repeated"),
    [
        (b"\0\0\x18\x04\0\0\0\0\0\0\x04\0\x3f\xff\xff", False),  # of HTTP/2
        (b"\x15\x03\x01\x00\x02\x02\x46", False),  # of TLS
        (b"SSH-2.0-OpenSSH_9.6\r\n", False),
        (b"", True),  # it closed the connection
        (OK + b"Content-Length: 99\r\n\r\n{}", True),  # it died while it answered
    ],
)
def test_a_port_of_something_else_is_asked_once(paths, answer, is_repeated):
    with LyingServer(None, lambda connection: connection.sendall(answer)) as server:
        words = "cannot be reached" if is_repeated else f"grpc://{server.address}"
        with pytest.raises(ServingError, match=words):
            asked(server, paths)
    assert server.requests == (3 if is_repeated else 1)


def test_a_model_that_does_not_tell_images_apart_or_mixes_them_up_is_refused():
    class Connection:
        def __init__(self, answer):
            self.predict = answer
            self.resolve_version = lambda timeout: None

    numbers = np.random.default_rng(0).standard_normal((4, 8)).astype("float32")
    known = {}

    def right(images, timeout):
        for image in images:
            known.setdefault(image, numbers[len(known) % 4])
        return np.stack([known[image] for image in images])

    assert len(probe_features(ServingClient(Connection(right)))) == 4
    for wrong, words in (
        (lambda images, timeout: np.zeros((len(images), 8), "float32"), "tell images"),
        (lambda images, timeout: right(images, timeout)[::-1], "order of the images"),
        (lambda images, timeout: numbers[: len(images)], "order of the images"),
    ):
        with pytest.raises(ServingError, match=words):
            probe_features(ServingClient(Connection(wrong)))


class Rpc(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """Answers each gRPC request for a prediction in one way."""

    def __init__(self):
        self.answer, self.requests = None, 0

    def Predict(self, request, context):
        self.requests += 1
        if isinstance(self.answer, grpc.StatusCode):
            context.abort(self.answer, "no")
        return self.answer

    def GetModelStatus(self, request, context):
        states = get_model_status_pb2.ModelVersionStatus
        answer = get_model_status_pb2.GetModelStatusResponse()
        answer.model_version_status.add(version=1, state=states.AVAILABLE)
        return answer


@pytest.fixture(scope="module")
def rpc():
    server, servicer = grpc.server(ThreadPoolExecutor(2)), Rpc()
    for add in (
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server,
        model_service_pb2_grpc.add_ModelServiceServicer_to_server,
    ):
        add(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield servicer
    server.stop(None).wait()


def prediction(shape, name="embedding", dtype=types_pb2.DT_FLOAT, version=1, **values):
    tensor = tensor_pb2.TensorProto(dtype=dtype, **values)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    answer = predict_pb2.PredictResponse()
    answer.model_spec.version.value = version
    answer.outputs[name].CopyFrom(tensor)
    return answer


FOUR = [1.0, 2.0, 3.0, 4.0]


def asked_by_rpc(rpc, paths):
    rpc.requests = 0
    with ServingClient(connect(f"grpc://{rpc.address}"), retries=QUICK) as client:
        return client.embed(paths).embeddings.tolist()


@pytest.mark.parametrize(
    "answer",
    [
        prediction([2, 2], float_val=FOUR),
        prediction([2, 2], tensor_content=np.array(FOUR, "<f4").tobytes()),
        prediction([2, 2], dtype=types_pb2.DT_DOUBLE, double_val=FOUR),
        prediction(
            [2, 2],
            dtype=types_pb2.DT_HALF,
            tensor_content=np.array(FOUR, "<f2").tobytes(),
        ),
    ],
)
def test_floats_of_any_size_are_embeddings(rpc, paths, answer):
    rpc.answer = answer
    assert asked_by_rpc(rpc, paths) == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    "answer",
    [
        predict_pb2.PredictResponse(),
        prediction([2, 2], name="other", float_val=FOUR),
        prediction([2, 2], version=7, float_val=FOUR),
        prediction([], float_val=[1.0]),
        prediction([4], float_val=FOUR),
        prediction([1, 4], float_val=FOUR),
        prediction([4, 1], float_val=FOUR),
        prediction([2, 2, 1], float_val=FOUR),
        prediction([2, 0]),
        prediction([2, -1], float_val=FOUR),
        prediction([-1, -1], float_val=FOUR),
        prediction([2, 2], float_val=FOUR[:3]),
        prediction([2, 2], float_val=FOUR[:1]),  # TensorFlow would fill up
        prediction([2, 30_000], float_val=FOUR[:1]),
        prediction([2, 2**40], float_val=FOUR[:1]),
        prediction([2, 2], tensor_content=b"abc"),
        prediction([2, 2], float_val=FOUR, tensor_content=b"\0" * 16),
        prediction([2, 2], float_val=[float("nan"), 1.0, 1.0, 1.0]),
        prediction([2, 2], dtype=types_pb2.DT_STRING, string_val=[b"1"] * 4),
        prediction([2, 2], dtype=types_pb2.DT_INT32, int_val=[1] * 4),
        prediction([2, 2], dtype=types_pb2.DT_BOOL, bool_val=[True] * 4),
        prediction([2, 2], dtype=types_pb2.DT_INVALID, float_val=FOUR),
        prediction([2, 1_000_000], tensor_content=b"\0" * 8_000_000),
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
    ],
)
def test_what_is_no_tensor_of_embeddings_is_explained_and_not_repeated(
    rpc, paths, answer
):
    rpc.answer = answer
    with pytest.raises(ServingError) as caught:
        asked_by_rpc(rpc, paths)
    assert "attempts" not in str(caught.value)
    assert rpc.requests == 1


def test_the_port_of_rest_is_no_port_of_grpc_and_the_other_way_round(
    rpc, paths, stand_in
):
    for address, other in (
        (f"grpc://{stand_in.rest}", "http"),
        (f"http://{rpc.address}", "grpc"),
    ):
        with (
            ServingClient(connect(address), retries=QUICK) as client,
            pytest.raises(ServingError, match=f"name it {other}://(?!.*attempts)"),
        ):
            client.embed(paths)
