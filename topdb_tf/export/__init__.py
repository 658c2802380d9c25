"""Weights to other programs."""
