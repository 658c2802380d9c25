"""A training run, from settings to its folder."""
