"""The files for operators: they parse as what the server reads, and fit together."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
)
from tensorflow_serving.config import model_server_config_pb2

from tests.serving.stand_in import Code

FOLDER = Path(__file__).parents[2] / "serving"
INT64 = descriptor_pb2.FieldDescriptorProto.TYPE_INT64
BOOL = descriptor_pb2.FieldDescriptorProto.TYPE_BOOL
STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["serving"]


def load_script():
    specification = importlib.util.spec_from_file_location(
        "load_test", FOLDER / "load_test.py"
    )
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    return script


def message_class(name, fields, package="public"):
    """Returns a message by the fields that the server's documents name."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package=package)
    file.syntax = "proto3"
    for kind, scalars in fields.items():
        message = file.message_type.add(name=kind)
        for number, (field, (scalar, is_many)) in enumerate(scalars.items(), 1):
            added = message.field.add(name=field, number=number, label=1 + 2 * is_many)
            if isinstance(scalar, str):
                added.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
                added.type_name = f".{package}.{scalar}"
            else:
                added.type = scalar
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName(f"{package}.{name}")
    return message_factory.GetMessageClass(descriptor)


def parsed(name, message):
    return text_format.Parse((FOLDER / "config" / name).read_text(), message)


@pytest.mark.parametrize("name", ["models.config", "models.canary.config"])
def test_the_models_are_those_of_the_mount(name, compose):
    config = parsed(name, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert model.name == "topdb"
    assert model.base_path == "/models/topdb"
    assert compose["volumes"][0] == "${TOPDB_MODELS:-./models}:/models:ro"
    policy = model.model_version_policy
    if "canary" in name:
        loaded = set(policy.specific.versions)
        assert set(model.version_labels) == {"stable", "canary"}
        assert set(model.version_labels.values()) <= loaded
    else:
        assert policy.latest.num_versions == 2


def test_batches_are_padded_up_to_the_largest():
    fields = {
        "BatchingParameters": {
            "max_batch_size": ("Int64Value", False),
            "batch_timeout_micros": ("Int64Value", False),
            "max_enqueued_batches": ("Int64Value", False),
            "num_batch_threads": ("Int64Value", False),
            "allowed_batch_sizes": (INT64, True),
        },
        "Int64Value": {"value": (INT64, False)},
    }
    config = parsed("batching.config", message_class("BatchingParameters", fields)())
    sizes = list(config.allowed_batch_sizes)
    assert sizes == sorted(sizes)
    assert sizes[-1] == config.max_batch_size.value  # or the server does not start
    assert config.max_enqueued_batches.value > 0


def test_the_metrics_are_where_the_readme_says():
    fields = {
        "MonitoringConfig": {"prometheus_config": ("PrometheusConfig", False)},
        "PrometheusConfig": {"enable": (BOOL, False), "path": (STRING, False)},
    }
    config = parsed("monitoring.config", message_class("MonitoringConfig", fields)())
    assert config.prometheus_config.enable
    assert config.prometheus_config.path in (FOLDER / "README.md").read_text()


def test_the_server_reads_the_files_that_are_mounted(compose):
    command = " ".join(compose["command"])
    assert "./config:/config:ro" in compose["volumes"]
    names = re.findall(r"/config/([\w.]+)", command)
    assert sorted(names) == ["batching.config", "models.config", "monitoring.config"]
    for name in names:
        assert (FOLDER / "config" / name).is_file()


def test_the_image_is_pinned_and_the_ports_are_this_machine_s(compose):
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", compose["image"])
    gpu = yaml.safe_load((FOLDER / "compose.gpu.yaml").read_text())
    assert gpu["services"]["serving"]["image"] == f"{compose['image']}-gpu"
    assert compose["image"] in (FOLDER / "README.md").read_text()
    for port, flag in ((8500, "--port"), (8501, "--rest_api_port")):
        assert f"${{TOPDB_BIND:-127.0.0.1}}:{port}:{port}" in compose["ports"]
        assert f"{flag}={port}" in compose["command"]


def test_the_health_probe_looks_at_the_state_of_the_model(compose, stand_in):
    kind, *command = compose["healthcheck"]["test"]
    assert kind == "CMD"
    port = stand_in.rest.rpartition(":")[2]
    probe = [part.replace("8501", port) for part in command]

    def status():
        return subprocess.run(probe, capture_output=True, timeout=10).returncode

    assert status() == 0
    stand_in.stand_in.loading = True
    assert status() != 0
    probe = [part.replace(port, "1") for part in probe]  # nothing listens there
    assert status() != 0


def load(*arguments):
    return CliRunner().invoke(load_script().main, [str(part) for part in arguments])


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_the_load_test_counts_what_it_sent(stand_in, protocol):
    server = (
        f"{'http' if protocol == 'rest' else 'grpc'}://{getattr(stand_in, protocol)}"
    )
    options = ["--duration", 0.4, "--concurrency", 3, "--batch-size", 5]
    answer = load(server, *options, "--json")
    assert answer.exit_code == 0, answer.output
    result = json.loads(answer.stdout)
    # One request more warms the server up.
    assert result["requests"] == stand_in.stand_in.requests - 1 >= 3
    assert result["images"] == 5 * result["requests"]
    assert result["errors"] == {}
    assert result["p50_ms"] <= result["p95_ms"] <= result["p99_ms"]
    assert stand_in.stand_in.largest_at_once <= 3


def test_the_load_test_counts_errors_and_repeats_nothing(stand_in):
    script = load_script()
    stand_in.stand_in.delay = 0.05
    faults = [Code.UNAVAILABLE, Code.INTERNAL, Code.UNAVAILABLE]
    connection = script.connect(f"grpc://{stand_in.grpc}")
    for fault in faults:
        stand_in.stand_in.fail(fault)
    images = script.drawn_images(4)
    result = script.run(connection, images, duration=0.5, concurrency=1, batch_size=2)
    connection.close()
    assert sorted(result.errors.values()) == [1, 2]
    assert result.requests == stand_in.stand_in.requests
    assert result.images == 2 * (result.requests - 3)
    lines = list(script.lines_of(result))
    assert "errors: 3" in lines


def test_the_load_test_ends_with_status_1_after_errors(stand_in):
    stand_in.stand_in.delay = 0.02
    answer = load(f"grpc://{stand_in.grpc}", "--duration", 0.1, "--model-name", "none")
    assert answer.exit_code == 1
    assert "none" in answer.stderr


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "example.com", "10.0.0.1", "[2001:db8::1]"]
)
def test_the_load_test_refuses_other_machines(host, monkeypatch):
    script = load_script()
    monkeypatch.setattr(script, "connect", lambda *_, **__: pytest.fail("connected"))
    answer = CliRunner().invoke(script.main, [f"http://{host}:8501"])
    assert answer.exit_code == 2
    assert "--allow-remote" in answer.stderr


def test_this_machine_has_several_names():
    is_loopback = load_script().is_loopback
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.8.0.1", "[::1]")))
    assert not any(map(is_loopback, ("0.0.0.0", "127.0.0.1.example.com", "8.8.8.8")))


def test_the_load_is_bounded(stand_in):
    assert load(f"http://{stand_in.rest}", "--duration", 601).exit_code == 2
    assert load(f"http://{stand_in.rest}", "--concurrency", 257).exit_code == 2
    assert stand_in.stand_in.requests == 0
