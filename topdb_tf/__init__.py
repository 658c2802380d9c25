"""Top-DB-Net for person re-identification, on Keras 3 and TensorFlow."""

__version__ = "0.1.0"
__all__ = ["load_embedder"]


def __getattr__(name):
    # TensorFlow takes seconds to import; the command line and the retrieval engine
    # do without.
    if name == "load_embedder":
        from topdb_tf.model.extraction import load_embedder

        return load_embedder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
