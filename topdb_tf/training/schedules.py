"""What depends on the epoch alone: the learning rate, scores, the early end."""

import math
from collections.abc import Callable
from typing import NamedTuple

from topdb_tf.texts import check_one_of
from topdb_tf.training.choices import WARMUPS

_STAIRS = 10  # the staircase reaches the peak in ten equal stairs


def learning_rate_at(
    epoch: int,
    *,
    peak: float,
    warmup: str = "linear",
    warmup_epochs: int = 50,
    decay_epochs: tuple[int, ...] = (200, 300),
    decay_factor: float = 0.1,
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
        decay_epochs: Epochs from which on the rate is multiplied by `decay_factor`
            once more.
        decay_factor: In (0, 1].

    Raises:
        ValueError: If `warmup` is unknown.

    Example:
        >>> from topdb_tf.training.schedules import learning_rate_at
        >>> [learning_rate_at(e, peak=0.5, warmup_epochs=50) for e in (10, 50, 199)]
        [0.1, 0.5, 0.5]
    """
    rate = peak * _warmed_up(epoch, warmup, warmup_epochs)
    if epoch < warmup_epochs:
        return rate
    return rate * decay_factor ** sum(epoch >= decay for decay in decay_epochs)


class Milestones(NamedTuple):
    """Where the learning rate of a training changes: length of its warm-up, decays."""

    warmup_epochs: int
    decay_epochs: tuple[int, ...]

    def in_proportion(self, num_epochs: int, before: int) -> "Milestones":
        """Returns where it changes in a training of another length.

        Each epoch is multiplied by `num_epochs / before` and rounded, halves upwards.
        The warm-up ends before the last epoch. A decay comes after the one before it,
        and after the first epoch at the peak; past the last epoch it is left out.

        Args:
            num_epochs: Epochs of that training.
            before: Epochs of the one that these are of.

        Example:
            >>> from topdb_tf.training.schedules import Milestones
            >>> Milestones(50, (200, 300)).in_proportion(60, before=400)
            Milestones(warmup_epochs=8, decay_epochs=(30, 45))
        """

        def scaled(epoch):
            return (2 * epoch * num_epochs + before) // (2 * before)

        warmup, decays = min(scaled(self.warmup_epochs), num_epochs - 1), []
        for decay in sorted(self.decay_epochs):
            first = decays[-1] if decays else max(warmup, 1)
            decays.append(max(scaled(decay), first + 1))
        return Milestones(warmup, tuple(e for e in decays if e <= num_epochs))


def cosine_rate_at(
    epoch: int,
    *,
    peak: float,
    num_epochs: int,
    warmup: str = "linear",
    warmup_epochs: int = 50,
) -> float:
    """Returns the learning rate of an epoch: a warm-up, then half a cosine to zero.

    The first epoch after the warm-up has the peak. Zero would be reached in the epoch
    after the last, so that the last one still trains.

    Source: Loshchilov and Hutter, SGDR, ICLR 2017 (https://arxiv.org/abs/1608.03983),
    without restarts.

    Args:
        epoch: Counted from 1.
        peak: Learning rate after the warm-up.
        num_epochs: The last epoch.
        warmup: As for `learning_rate_at`.
        warmup_epochs: Length of the warm-up, fewer than `num_epochs`.

    Raises:
        ValueError: If `warmup` is unknown, or lasts to the end.

    Example:
        >>> from topdb_tf.training.schedules import cosine_rate_at
        >>> [round(cosine_rate_at(e, peak=8.0, num_epochs=9, warmup_epochs=6), 3)
        ...  for e in (3, 6, 8, 9)]
        [4.0, 8.0, 4.0, 1.172]
    """
    if warmup_epochs >= num_epochs:
        raise ValueError(
            "The warm-up must end before the last epoch. Received: "
            f"warmup_epochs={warmup_epochs}, num_epochs={num_epochs}"
        )
    first = max(warmup_epochs, 1)
    share = max(epoch - first, 0) / (num_epochs + 1 - first)
    half_cosine = (1 + math.cos(math.pi * share)) / 2
    return peak * _warmed_up(epoch, warmup, warmup_epochs) * half_cosine


def is_scored(epoch: int, *, every: int, num_epochs: int) -> bool:
    """Returns whether an epoch, counted from 1, is one whose mAP is measured.

    Args:
        epoch: Counted from 1.
        every: Number of epochs between scores; 0 scores the last epoch alone.
        num_epochs: The last epoch.
    """
    return epoch == num_epochs or bool(every and epoch % every == 0)


def is_plateau(
    epoch: int, best_epoch: int, *, stop_after: int, scored: Callable[[int], bool]
) -> bool:
    """Returns whether training ends early, after an epoch that was scored.

    Args:
        epoch: Number of epochs done.
        best_epoch: The epoch of the best score so far; 0 if there is none.
        stop_after: Scored epochs without a better one after which it ends; 0: never.
        scored: Tells whether an epoch, counted from 1, is scored.
    """
    since = sum(map(scored, range(best_epoch + 1, epoch + 1)))
    return 0 < stop_after <= since and scored(epoch)


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


def _warmed_up(epoch, warmup, warmup_epochs):
    """Returns the share of the peak that the warm-up allows."""
    check_one_of("warmup", warmup, WARMUPS)
    if epoch >= warmup_epochs:
        return 1.0
    if warmup == "linear":
        return epoch / warmup_epochs
    return (1 + int(_STAIRS * epoch / warmup_epochs)) / _STAIRS
