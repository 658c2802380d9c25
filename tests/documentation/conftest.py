"""What the pages share: a calibrated run, checkpoints, a model server, exports."""

import importlib.util
import os
import shutil
import sys
from contextlib import ExitStack
from unittest import mock

import pytest

from tests.checkpoint_files import (
    small_backbone,
    state_dict_of,
    write_safetensors,
    write_torch,
)
from tests.conftest import draw_people
from tests.documentation.place import make_place
from tests.documentation.shell import Shell
from tests.documentation.shortening import LEAST_RATE, TrainedOnce
from tests.documentation.trackers import stand_ins
from topdb_tf.files import sha256_of

_HAS_TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    """The people of the small run, and more of the test: enough to calibrate on."""
    return draw_people(tmp_path_factory.mktemp("documented-data"), train=5, test=12)


@pytest.fixture(scope="session")
def calibrated_run(small_run, data_root, tmp_path_factory):
    """A copy of the small run with thresholds."""
    from topdb_tf.evaluate.calibrate import calibrate
    from topdb_tf.runs.folder import open_run

    folder = tmp_path_factory.mktemp("documented") / "run"
    shutil.copytree(small_run, folder)
    run = open_run(folder, [f"data.root={data_root}"])
    calibrate(run, rates=(LEAST_RATE,), seed=1)
    return folder


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Checkpoints of the network on one convolution, by the names in the pages.

    Without PyTorch at hand there is no file of its own format.
    """
    from topdb_tf.export import convert
    from topdb_tf.model.backbones import BACKBONES

    folder = tmp_path_factory.mktemp("checkpoints")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "resnet50", small_backbone)
        network, _ = convert._build("topdb", 7, (32, 16))
        weights = state_dict_of(network, "topdb")
    write_safetensors(folder / "model.safetensors", weights)
    write_safetensors(folder / "resnet50.safetensors", _backbone_of(weights))
    if _HAS_TORCH:
        import torch

        write_torch(torch, folder / "model.pth.tar-400", weights)
    return folder


@pytest.fixture(scope="session")
def replacements(tmp_path_factory):
    """What stands for the words of the pages: the ports of a model server's stand-in.

    Without PyTorch its checkpoint too.
    """
    from tests.serving.stand_in import StandIn, serve_grpc
    from tests.serving.stand_in_rest import serve_rest
    from tests.serving.tiny_model import write_tiny_model

    folder = tmp_path_factory.mktemp("served") / "topdb"
    write_tiny_model(folder, version=1)
    stand_in = StandIn({"topdb": folder}, labels={"stable": 1, "canary": 1})
    rest, rest_port = serve_rest(stand_in)
    rpc, grpc_port = serve_grpc(stand_in)
    ports = {
        f"{host}:{named}": f"127.0.0.1:{port}"
        for host in ("localhost", "127.0.0.1")
        for named, port in ((8500, grpc_port), (8501, rest_port))
    }
    torch_file = {} if _HAS_TORCH else {"model.pth.tar-400": "model.safetensors"}
    yield ports | torch_file
    rest.shutdown()
    rest.server_close()
    rpc.stop(None).wait()


def _backbone_of(weights):
    """The weights of the backbone by the names of torchvision."""
    return {
        key.replace("base.0.", "conv1.").replace("base.1.", "bn1."): value
        for key, value in weights.items()
        if key.startswith("base.")
    }


@pytest.fixture(scope="session")
def exports(tmp_path_factory):
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="session")
def train_once(tmp_path_factory):
    from topdb_tf.fit.loop import train

    return TrainedOnce(train, tmp_path_factory.mktemp("trained"))


class LoadedOnce:
    """Stands for loading a file's model and tracing it: once for all lines and pages.

    Args:
        load: The real function from a file to a model.
        trace: The real function from a model to its function.
    """

    def __init__(self, load, trace):
        self._load, self._trace = load, trace
        self._models, self._functions = {}, {}

    def load(self, path):
        key = sha256_of(path)
        if key not in self._models:
            self._models[key] = self._load(path)
        return self._models[key]

    def trace(self, model):
        if model not in self._models.values():
            return self._trace(model)
        if id(model) not in self._functions:
            self._functions[id(model)] = self._trace(model)
        return self._functions[id(model)]


@pytest.fixture(scope="session")
def load_once():
    from topdb_tf.model import extraction

    return LoadedOnce(extraction._in_keras_file, extraction.inference_function)


@pytest.fixture
def registries():
    """Takes back what a page adds to the registries."""
    from topdb_tf import registry
    from topdb_tf.data.benchmarks import CARDS, DATASETS
    from topdb_tf.model.backbones import BACKBONES
    from topdb_tf.model.layers import DROP_BLOCKS
    from topdb_tf.model.network import STREAMS
    from topdb_tf.training.losses import CROSS_ENTROPIES, TRIPLETS

    tables = [DATASETS, CARDS, BACKBONES, STREAMS, DROP_BLOCKS, registry._ADDED]
    with ExitStack() as stack:
        for table in (*tables, TRIPLETS, CROSS_ENTROPIES):
            stack.enter_context(mock.patch.dict(table))
        yield


@pytest.fixture
def trackers(monkeypatch):
    """Puts stand-ins in the place of `wandb` and `mlflow`."""
    for module in stand_ins():
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture
def shell(
    registries,
    trackers,
    train_once,
    load_once,
    data_root,
    calibrated_run,
    checkpoints,
    replacements,
    exports,
    tmp_path,
    monkeypatch,
):
    """A shell in a fresh folder, with the names and the counts of drawn data sets."""
    import keras
    from werkzeug.serving import BaseWSGIServer

    from topdb_tf.data import benchmarks
    from topdb_tf.embed import local
    from topdb_tf.fit import fit
    from topdb_tf.model import extraction
    from topdb_tf.model.backbones import BACKBONES

    data = make_place(
        tmp_path, data_root=data_root, run=calibrated_run, checkpoints=checkpoints
    )
    monkeypatch.setattr(BaseWSGIServer, "serve_forever", BaseWSGIServer.server_close)
    monkeypatch.setenv("TOPDB_DATA", str(data))
    monkeypatch.setitem(os.environ, "COLUMNS", "80")
    # The data sets are a few drawn people under the names of the real ones.
    monkeypatch.setattr(benchmarks, "_check_counts", lambda *arguments: None)
    # The authors' network on one convolution, as in the checkpoints.
    monkeypatch.setitem(BACKBONES, "resnet50", small_backbone)
    monkeypatch.setattr(fit, "train", train_once)
    monkeypatch.setattr(extraction, "_in_keras_file", load_once.load)
    for module in (extraction, local):
        monkeypatch.setattr(module, "inference_function", load_once.trace)
    policy = keras.config.dtype_policy()
    yield Shell(tmp_path, {"TOPDB_DATA": data}, replacements, exports)
    keras.config.set_dtype_policy(policy)
    for name in [path.stem for path in tmp_path.glob("*.py")]:
        sys.modules.pop(name, None)  # a plugin of the page
