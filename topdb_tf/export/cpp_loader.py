"""A SavedModel loaded by the C++ function that TensorFlow Serving itself calls.

`python -m topdb_tf.export.cpp_loader VERSION RECORDS ANSWERS` is a process without
Python's TensorFlow. It loads a version through the C interface of TensorFlow's own
libraries, which calls the server's `LoadSavedModel`, so that constants, operations and
tags are judged as the server does, and answers requests.
"""

import ctypes
import importlib.util
import json
import struct
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

WARM_UP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
"""Where TensorFlow Serving looks for its first requests, below a version's folder."""

_STRING_BYTES = 24  # of a TF_TString
_SERVE = b"serve"
_LIBRARIES = ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2")


class Answer(NamedTuple):
    """What a signature gave for a request: an array, or the reason of a refusal."""

    signature: str
    output: np.ndarray | None
    error: str


class Loaded(NamedTuple):
    """A version as the loader found it, and its answers to the requests in order."""

    methods: dict[str, str]
    unknown_ops: list[str]
    answers: list[Answer]


def libraries() -> list[Path]:
    """Returns the libraries of the installed TensorFlow; none where it has others."""
    found = importlib.util.find_spec("tensorflow")
    for place in found.submodule_search_locations if found else ():
        paths = [Path(place) / name for name in _LIBRARIES]
        if all(path.is_file() for path in paths):
            return paths
    return []


def load_in_cpp(
    version: Path, records: Path | None = None, *, mixed_precision: str = ""
) -> Loaded:
    """Loads a version in a process of its own, and runs requests through it.

    Args:
        version: Folder of a version, with `saved_model.pb`.
        records: File of the requests, TFRecords of `PredictionLog`; by default those
            that the server warms the version up with.
        mixed_precision: `bfloat16` for what a server's option `--mixed_precision`
            does; by default the graph as it is.

    Raises:
        ValueError: If the version cannot be loaded; the reason is the loader's.
    """
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder) / "answers.npz"
        arguments = [version, records or version / WARM_UP_FILE, answers]
        done = subprocess.run(
            [sys.executable, "-m", __name__, *map(str, arguments), mixed_precision],
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode:
            reason = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
            raise ValueError(
                f"{version} must be loaded as TensorFlow Serving does. {reason[-1]}"
            )
        with np.load(answers) as arrays:
            facts = json.loads(arrays["facts"].item())
            answers = [
                Answer(signature, arrays.get(str(number)), error)
                for number, (signature, error) in enumerate(facts.pop("answers"))
            ]
            return Loaded(answers=answers, **facts)


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    ]


class _Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


_POINTER_RESULTS = (
    "TF_NewStatus TF_NewGraph TF_NewSessionOptions TF_LoadSessionFromSavedModel "
    "TF_GraphOperationByName TF_AllocateTensor TF_TensorData"
).split()


class _Interface:
    """The C interface of TensorFlow; errors of its calls are raised."""

    def __init__(self, paths):
        *_, self.c = (ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL) for path in paths)
        for name in _POINTER_RESULTS:
            getattr(self.c, name).restype = ctypes.c_void_p
        for name in ("TF_NewBuffer", "TF_GetAllOpList"):
            getattr(self.c, name).restype = ctypes.POINTER(_Buffer)
        self.c.TF_Message.restype = ctypes.c_char_p
        for name in ("TF_Dim", "TF_TensorByteSize"):
            getattr(self.c, name).restype = ctypes.c_int64
        self.status = self.pointer("TF_NewStatus")

    def pointer(self, name, *arguments):
        """Returns the pointer that a call gives."""
        return ctypes.c_void_p(getattr(self.c, name)(*arguments))

    def check(self):
        """Raises the error of the last call that was given the status."""
        if self.c.TF_GetCode(self.status):
            raise ValueError(self.c.TF_Message(self.status).decode(errors="replace"))

    def tensor(self, proto):
        """Returns a tensor of the values of a `TensorProto`."""
        shape = [dim.size for dim in proto.tensor_shape.dim]
        dims = (ctypes.c_int64 * len(shape))(*shape)
        texts = proto.string_val
        length = len(proto.tensor_content) or _STRING_BYTES * len(texts)
        if not length:
            raise ValueError("A request's values must be contents or strings.")
        tensor = self.pointer(
            "TF_AllocateTensor", proto.dtype, dims, len(shape), ctypes.c_size_t(length)
        )
        data = self.c.TF_TensorData(tensor)
        ctypes.memmove(data, proto.tensor_content, len(proto.tensor_content))
        for place, text in enumerate(texts):
            string = ctypes.c_void_p(data + _STRING_BYTES * place)
            self.c.TF_StringInit(string)
            self.c.TF_StringCopy(string, text, ctypes.c_size_t(len(text)))
        return tensor

    def array(self, tensor):
        """Returns the values of a float32 tensor."""
        shape = [
            self.c.TF_Dim(tensor, axis) for axis in range(self.c.TF_NumDims(tensor))
        ]
        contents = ctypes.string_at(
            self.c.TF_TensorData(tensor), self.c.TF_TensorByteSize(tensor)
        )
        return np.frombuffer(contents, np.float32).reshape(shape)


class _Version:
    """A version that the C interface has loaded into a session."""

    def __init__(self, interface, folder, config):
        from tensorflow.core.protobuf import meta_graph_pb2

        self.tf = interface
        options = interface.pointer("TF_NewSessionOptions")
        interface.c.TF_SetConfig(
            options, config, ctypes.c_size_t(len(config)), interface.status
        )
        interface.check()
        self.graph = interface.pointer("TF_NewGraph")
        meta_graph = interface.c.TF_NewBuffer()
        self.session = interface.pointer(
            "TF_LoadSessionFromSavedModel",
            options,
            None,
            str(folder).encode(),
            (ctypes.c_char_p * 1)(_SERVE),
            1,
            self.graph,
            meta_graph,
            interface.status,
        )
        interface.check()
        self.meta_graph = meta_graph_pb2.MetaGraphDef.FromString(_bytes(meta_graph))

    def unknown_ops(self):
        """Returns the operations of graph and functions that the process has not."""
        from tensorflow.core.framework import op_def_pb2

        known = op_def_pb2.OpList.FromString(_bytes(self.tf.c.TF_GetAllOpList()))
        graph = self.meta_graph.graph_def
        functions = graph.library.function
        names = {node.op for node in graph.node}
        names |= {node.op for function in functions for node in function.node_def}
        own = {function.signature.name for function in functions}
        return sorted(names - own - {op.name for op in known.op})

    def run(self, signature, inputs):
        """Returns the one output of a signature for the inputs of a request."""
        definition = self.meta_graph.signature_def[signature]
        fed = [self._output(definition.inputs[name].name) for name in inputs]
        values = [self.tf.tensor(inputs[name]) for name in inputs]
        (output,) = definition.outputs.values()
        result = (ctypes.c_void_p * 1)()
        self.tf.c.TF_SessionRun(
            self.session,
            None,
            (_Output * len(fed))(*fed),
            (ctypes.c_void_p * len(values))(*[value.value for value in values]),
            len(fed),
            (_Output * 1)(self._output(output.name)),
            result,
            1,
            None,
            0,
            None,
            self.tf.status,
        )
        for value in values:
            self.tf.c.TF_DeleteTensor(value)
        self.tf.check()
        return self.tf.array(ctypes.c_void_p(result[0]))

    def _output(self, name):
        operation, _, index = name.partition(":")
        found = self.tf.c.TF_GraphOperationByName(self.graph, operation.encode())
        return _Output(found, int(index))


def _bytes(buffer):
    return ctypes.string_at(buffer.contents.data, buffer.contents.length)


def _records(path: Path) -> Iterator[bytes]:
    """Yields the records of a TFRecord file; their sums are not looked at."""
    with path.open("rb") as file:
        while header := file.read(12):  # the length, and its sum
            yield file.read(struct.unpack("<Q", header[:8])[0])
            file.read(4)


def _config(mixed_precision):
    """Returns the options of a session as a server makes them, in bytes."""
    from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2

    config = config_pb2.ConfigProto()
    if mixed_precision:
        rewriting = config.graph_options.rewrite_options
        name = f"auto_mixed_precision_onednn_{mixed_precision}"
        setattr(rewriting, name, rewriter_config_pb2.RewriterConfig.ON)
    return config.SerializeToString()


def _serve(version, records, answers, mixed_precision):
    """Loads a version, runs the requests and writes what came of them."""
    paths = libraries()
    # The messages of TensorFlow are found, and its own module is never run.
    package = types.ModuleType("tensorflow")
    package.__path__ = [str(paths[0].parent)]
    sys.modules["tensorflow"] = package
    from tensorflow_serving.apis import prediction_log_pb2

    loaded = _Version(_Interface(paths), version, _config(mixed_precision))
    arrays, told = {}, []
    for number, record in enumerate(_records(records)):
        log = prediction_log_pb2.PredictionLog.FromString(record).predict_log
        signature, error = log.request.model_spec.signature_name, ""
        try:
            arrays[str(number)] = loaded.run(signature, log.request.inputs)
        except ValueError as refusal:
            error = str(refusal)
        told.append((signature, error))
    signatures = loaded.meta_graph.signature_def
    facts = {
        "methods": {name: signatures[name].method_name for name in signatures},
        "unknown_ops": loaded.unknown_ops(),
        "answers": told,
    }
    np.savez(answers, facts=json.dumps(facts), **arrays)


if __name__ == "__main__":
    try:
        _serve(*map(Path, sys.argv[1:4]), sys.argv[4])
    except ValueError as error:
        sys.exit(" ".join(str(error).split()))
