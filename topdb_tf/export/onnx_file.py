"""Models in ONNX: written by tf2onnx, run by ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tf2onnx

OPSET = 18  # 2022; ONNX Runtime 1.14 and newer read it


def onnx_bytes(frozen, metadata: dict[str, str]) -> bytes:
    """Returns the contents of an ONNX file of a function that `frozen` returned."""
    source, target = frozen.inputs[0], frozen.outputs[0]
    model, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        name="topdb",
        input_names=[source.name],
        output_names=[target.name],
        opset=OPSET,
    )
    _rename(model.graph, {source.name: "pixels", target.name: "embedding"})
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(model, metadata)
    model.doc_string = metadata.get("description", "")
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


class OnnxModel:
    """An ONNX file as a function from pixels to embeddings.

    Attributes:
        metadata: Texts by name that the file keeps.
    """

    def __init__(self, path: Path, num_threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3  # errors; not which nodes stay in float32
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.metadata = self._session.get_modelmeta().custom_metadata_map

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the embeddings of images."""
        return self._session.run(["embedding"], {"pixels": pixels})[0]


def _rename(graph, names):
    """Gives values of a graph other names, wherever they stand."""
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)
