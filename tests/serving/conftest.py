"""The server under test: a real one where the environment names it, else a stand-in."""

import json
import os
import urllib.error
import urllib.request
from typing import NamedTuple

import grpc
import pytest
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from tests.serving.stand_in import LARGEST_MESSAGE, StandIn, serve_grpc
from tests.serving.stand_in_rest import serve_rest
from tests.serving.tiny_model import write_tiny_model

REST, GRPC = os.environ.get("TF_SERVING_REST"), os.environ.get("TF_SERVING_GRPC")
MODEL = os.environ.get("TF_SERVING_MODEL", "topdb")


class Service(NamedTuple):
    """A server with both APIs: `HOST:PORT` of each, and the stand-in if it is one."""

    rest: str
    grpc: str
    model: str
    stand_in: StandIn | None = None


def contract_line():
    if REST or GRPC:
        return f"serving contract: REAL SERVER, REST {REST}, gRPC {GRPC}, model {MODEL}"
    return (
        "serving contract: STAND-IN of tests/serving, no real TensorFlow Serving "
        "(set TF_SERVING_REST and TF_SERVING_GRPC to HOST:PORT, and TF_SERVING_MODEL)"
    )


def pytest_report_header():
    return contract_line()


def pytest_terminal_summary(terminalreporter):
    # The header is not asked of this folder when the whole suite runs.
    stats = terminalreporter.stats
    reports = stats.get("passed", []) + stats.get("failed", [])
    if any("test_contract" in report.nodeid for report in reports):
        terminalreporter.write_line(contract_line())


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """Two versions of the tiny model; the second gives 10 times the embedding."""
    folder = tmp_path_factory.mktemp("models") / "topdb"
    write_tiny_model(folder, version=1)
    write_tiny_model(folder, version=2, factor=10.0)
    return folder


@pytest.fixture(scope="session")
def running_stand_in(model_folder):
    stand_in = StandIn({"topdb": model_folder}, labels={"stable": 1, "canary": 2})
    rest, rest_port = serve_rest(stand_in)
    rpc, grpc_port = serve_grpc(stand_in)
    rest_address, grpc_address = f"127.0.0.1:{rest_port}", f"127.0.0.1:{grpc_port}"
    yield Service(rest_address, grpc_address, "topdb", stand_in)
    rest.shutdown()
    rest.server_close()
    rpc.stop(None).wait()


@pytest.fixture
def stand_in(running_stand_in):
    """The stand-in without faults, for tests that make some."""
    running_stand_in.stand_in.reset()
    return running_stand_in


@pytest.fixture
def service(request):
    """The server of the contract."""
    if not (REST or GRPC):
        return request.getfixturevalue("stand_in")
    return Service(REST, GRPC, MODEL)


class Rest:
    """Calls of the REST API as its documents describe them."""

    def __init__(self, service):
        if not service.rest:
            pytest.skip("TF_SERVING_REST names no server")
        self.model = service.model
        self.root = f"http://{service.rest}/v1/models/"

    def get(self, path):
        return self._answer(urllib.request.Request(self.root + path))

    def predict(self, document, path=None):
        body = (
            document if isinstance(document, bytes) else json.dumps(document).encode()
        )
        url = f"{self.root}{path or self.model}:predict"
        return self._answer(urllib.request.Request(url, data=body))

    def _answer(self, request):
        """Returns status and document of the answer."""
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@pytest.fixture
def rest(service):
    return Rest(service)


class Rpc(NamedTuple):
    """The stubs of the gRPC API."""

    model: str
    prediction: prediction_service_pb2_grpc.PredictionServiceStub
    models: model_service_pb2_grpc.ModelServiceStub


@pytest.fixture
def rpc(service):
    if not service.grpc:
        pytest.skip("TF_SERVING_GRPC names no server")
    with grpc.insecure_channel(service.grpc, LARGEST_MESSAGE) as channel:
        yield Rpc(
            service.model,
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
        )
