"""Top-DB-Net for person re-identification, on Keras 3 and TensorFlow.

The names in `__all__` are the public interface. They are imported when they are first
used, as TensorFlow takes seconds to import: what scores features does without it.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

__version__ = "0.2.0"
__all__ = [
    "Embedder",
    "TopDBImageEmbedder",
    "TopDropBlock",
    "build_network",
    "compare",
    "evaluate",
    "fit",
    "load_embedder",
    "load_features",
    "pool",
    "register_backbone",
    "register_dataset",
    "register_drop_block",
    "register_loss",
    "register_stream",
    "rerank",
    "score",
]

if TYPE_CHECKING:  # for editors and type checkers
    from topdb_tf.data.benchmarks import register_dataset
    from topdb_tf.embed.embedder import Embedder
    from topdb_tf.evaluate.arrays import compare, rerank, score
    from topdb_tf.evaluate.evaluate import evaluate
    from topdb_tf.evaluate.feature_files import load_features
    from topdb_tf.export.presets.embedder import TopDBImageEmbedder
    from topdb_tf.fit.recipe import fit
    from topdb_tf.model.backbones import register_backbone
    from topdb_tf.model.extraction import load_embedder
    from topdb_tf.model.layers import TopDropBlock, register_drop_block
    from topdb_tf.model.network import build_network, register_stream
    from topdb_tf.retrieval.postprocessing import pool
    from topdb_tf.training.losses import register_loss

_HOMES = {
    "Embedder": "embed.embedder",
    "TopDBImageEmbedder": "export.presets.embedder",
    "TopDropBlock": "model.layers",
    "build_network": "model.network",
    "compare": "evaluate.arrays",
    "load_embedder": "model.extraction",
    "load_features": "evaluate.feature_files",
    "pool": "retrieval.postprocessing",
    "register_backbone": "model.backbones",
    "register_dataset": "data.benchmarks",
    "register_drop_block": "model.layers",
    "register_loss": "training.losses",
    "register_stream": "model.network",
    "rerank": "evaluate.arrays",
    "score": "evaluate.arrays",
}


def __getattr__(name):
    if name in ("evaluate", "fit"):  # rooms that can be called
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__():
    return sorted({*globals(), *__all__})


class _LayersWithKeras:
    """Registers the layers as soon as Keras is imported.

    `keras.saving.load_model` finds them then in the file of a model, whichever of the
    two packages is imported first.
    """

    def find_spec(self, name, path=None, target=None):
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_register(module):
                run(module)
                _register_layers()

            spec.loader.exec_module = run_and_register
        return spec


def _register_layers():
    for name in ("layers", "normalization"):
        import_module(f"{__name__}.model.{name}")


if "keras" in sys.modules:
    _register_layers()
else:
    sys.meta_path.insert(0, _LayersWithKeras())
