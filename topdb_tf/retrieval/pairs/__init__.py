"""Pairs of images: the same person or not."""
