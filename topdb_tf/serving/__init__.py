"""Weights to a service: exports for TensorFlow Serving and others, clients."""
