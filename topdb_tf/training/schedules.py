"""The learning rate as a function of the epoch."""

WARMUPS = ("linear", "staircase")
_STAIRS = 10  # the staircase reaches the peak in ten equal stairs


def learning_rate_at(
    epoch: int,
    *,
    peak: float,
    warmup: str = "linear",
    warmup_epochs: int = 50,
    drop_epochs: tuple[int, ...] = (200, 300),
    drop_factor: float = 0.1,
) -> float:
    """Returns the learning rate of an epoch: a warm-up to the peak, then steps down.

    `"linear"` rises by `peak / warmup_epochs` an epoch and reaches the peak at epoch
    `warmup_epochs`. `"staircase"` is the authors' rule: ten stairs of a tenth of the
    peak each, the first at epoch 1, a further one every `warmup_epochs / 10` epochs.

    Source: Quispe and Pedrini, Top-DB-Net, ICPR 2020
    (https://arxiv.org/abs/2010.05435), for the linear rule and the steps.

    Args:
        epoch: Counted from 1.
        peak: Learning rate after the warm-up.
        warmup: `"linear"` or `"staircase"`.
        warmup_epochs: Length of the warm-up in epochs; 0 starts at the peak.
        drop_epochs: Epochs from which on the rate is multiplied by `drop_factor`
            once more.
        drop_factor: In (0, 1].

    Raises:
        ValueError: If `warmup` is unknown.

    Example:
        >>> from topdb_tf.training.schedules import learning_rate_at
        >>> [learning_rate_at(e, peak=0.5, warmup_epochs=50) for e in (10, 50, 199)]
        [0.1, 0.5, 0.5]
    """
    if warmup not in WARMUPS:
        raise ValueError(
            f"`warmup` must be one of {', '.join(WARMUPS)}. Received: warmup={warmup!r}"
        )
    if epoch < warmup_epochs and warmup == "linear":
        return peak * epoch / warmup_epochs
    if epoch < warmup_epochs:
        return peak * (1 + int(_STAIRS * epoch / warmup_epochs)) / _STAIRS
    drops = sum(epoch >= drop_epoch for drop_epoch in drop_epochs)
    return peak * drop_factor**drops


def scaled_learning_rate(
    learning_rate: float, *, batch_size: int, reference_batch_size: int
) -> float:
    """Returns the learning rate for another batch size by the linear scaling rule.

    Source: Goyal et al., Accurate, Large Minibatch SGD, 2017
    (https://arxiv.org/abs/1706.02677).

    Example:
        >>> from topdb_tf.training.schedules import scaled_learning_rate
        >>> scaled_learning_rate(1e-3, batch_size=64, reference_batch_size=128)
        0.0005
    """
    return learning_rate * batch_size / reference_batch_size
