"""What a network can be told by name, the default first; no Keras is needed."""

NECKS = ("no_shift", "shift", "none")
"""What stands between features and logits: a batch normalisation or nothing.

A shift is what the authors' code trains; the paper has none.
"""

MAPS = ("backbone", "bottlenecks")
"""The feature maps: the backbone's, and what the bottlenecks make of it (F and G)."""
