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


def check_bottlenecks(number: int, channels: int) -> None:
    """Checks that there can be so many bottlenecks of so many channels.

    Raises:
        ValueError: If there cannot.
    """
    if number < 0 or (channels and (channels < 4 or not number)):
        raise ValueError(
            "`num_bottlenecks` must not be negative, and `bottleneck_channels` 0, or "
            "at least 4 with one bottleneck or more. Received: "
            f"num_bottlenecks={number}, bottleneck_channels={channels}"
        )
