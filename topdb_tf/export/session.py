"""A SavedModel loaded as TensorFlow Serving does: into a session, by its graph."""

from pathlib import Path

import numpy as np
import tensorflow as tf


class SessionModel:
    """A SavedModel in a session of its own; a context manager.

    TensorFlow Serving restores neither Python objects nor functions, only the graph
    of the signatures and the variables that its restore operation knows. What loads
    here loads there.

    Args:
        folder: Folder of a version, with `saved_model.pb`.
    """

    def __init__(self, folder: Path):
        graph = tf.Graph()
        with graph.as_default():
            self._session = tf.compat.v1.Session(graph=graph)
            meta_graph = tf.compat.v1.saved_model.load(
                self._session, [tf.saved_model.SERVING], str(folder)
            )
        self.signatures = meta_graph.signature_def

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._session.close()

    def run(self, signature: str, **inputs) -> np.ndarray:
        """Returns the output of a signature, which has only one."""
        definition = self.signatures[signature]
        feeds = {definition.inputs[name].name: inputs[name] for name in inputs}
        (output,) = definition.outputs.values()
        return self._session.run(output.name, feeds)
