"""What a training can be told by name, the default first; no TensorFlow is needed."""

SCHEDULES = ("steps", "cosine")
"""How the learning rate falls after the warm-up."""

WARMUPS = ("linear", "staircase")
"""How it rises to its peak: in the paper, and in the authors' code."""

STRATEGIES = ("none", "mirrored", "multiworker")
"""Which devices train together: one, those of a machine, those of several."""

MINING = ("global", "replica")
"""Where hard examples are looked for: the whole batch, or the part of a device."""

STATISTICS = ("synchronized", "replica")
"""What a batch is normalised by: the whole of it, or the part of a device."""
