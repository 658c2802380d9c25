"""Pixels to embeddings: layers, backbones and the network."""
