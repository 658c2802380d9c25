"""Embeddings to scores: NumPy and Numba only, usable without the rest."""
