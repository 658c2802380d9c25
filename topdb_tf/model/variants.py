"""What a network can be told by name, the default first; no Keras is needed."""

NECKS = ("no_shift", "shift", "none")
"""What stands between features and logits: a batch normalisation or nothing.

A shift is what the authors' code trains; the paper has none.
"""

POOLS = ("average", "gem")
"""How the global stream pools: the paper's average, or the generalised mean.

`topdb_tf.model.layers.GeneralizedMeanPooling` is the second.
"""

MAPS = ("backbone", "bottlenecks")
"""The feature maps: the backbone's, and what the bottlenecks make of it (F and G)."""
