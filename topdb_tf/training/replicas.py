"""What the replicas of a training step tell one another."""

import tensorflow as tf


def num_replicas() -> int:
    """Returns how many replicas compute a step together, 1 without a strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def whole_batch(rows):
    """Returns the rows of all replicas, in the order of the replicas.

    A gradient goes back into the rows of the replica that they came from, summed over
    the losses of all replicas.

    Rows are tensors of shape `(rows, ...)`, the same on every replica, in a structure.
    """
    count = num_replicas()
    if count == 1:
        return rows
    replica = tf.distribute.get_replica_context()

    def padded(own):
        # The sum with the zeros of the others is exact, and has a gradient.
        place = tf.one_hot(replica.replica_id_in_sync_group, count, dtype=own.dtype)
        place = tf.reshape(place, (count, *[1] * own.shape.rank))
        parts = place * own[None]  # (num_replicas, rows, ...)
        return tf.reshape(parts, (count * own.shape[0], *own.shape[1:]))

    return replica.all_reduce("SUM", tf.nest.map_structure(padded, rows))


def sum_of_replicas(values):
    """Returns the sums over the replicas of a structure of tensors, `None` kept."""
    if num_replicas() == 1:
        return values
    flat = tf.nest.flatten(values)
    present = [value for value in flat if value is not None]
    sums = iter(tf.distribute.get_replica_context().all_reduce("SUM", present))
    flat = [None if value is None else next(sums) for value in flat]
    return tf.nest.pack_sequence_as(values, flat)
