"""Top-DB-Net for person re-identification, on Keras 3 and TensorFlow."""

__version__ = "0.1.0"
