"""Presets of KerasHub: made of a run, written, uploaded."""
