"""What depends on the epoch alone: rate, size of images, scores, the early end."""

import itertools
import math
from collections.abc import Callable, Iterable
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
    """Where a training changes: warm-up, decays, sizes, late dropping, frozen start.

    The sizes are `(epochs, height, width)` each, see `phases`.
    """

    warmup_epochs: int
    decay_epochs: tuple[int, ...]
    sizes: tuple[tuple[int, ...], ...] = ()
    drop_from_epoch: int = 1
    freeze_epochs: int = 0

    def in_proportion(self, num_epochs: int, before: int) -> "Milestones":
        """Returns where it changes in a training of another length.

        Each epoch is multiplied by `num_epochs / before` and rounded, halves upwards.
        Warm-up and freezing end before the last epoch. A decay comes after the one
        before it, and after the first epoch at the peak; past the last epoch it is left
        out. Of the sizes the last epochs are rounded, and one of no epoch is left out.

        Args:
            num_epochs: Epochs of that training.
            before: Epochs of the one that these are of.

        Example:
            >>> from topdb_tf.training.schedules import Milestones
            >>> milestones = Milestones(50, (200, 300), ((320, 128, 64),), 101, 5)
            >>> print(*milestones.in_proportion(60, before=400))
            8 (30, 45) ((48, 128, 64),) 16 1
        """

        def scaled(epoch):
            return (2 * epoch * num_epochs + before) // (2 * before)

        most = num_epochs - 1
        warmup, decays = min(scaled(self.warmup_epochs), most), []
        for decay in sorted(self.decay_epochs):
            first = decays[-1] if decays else max(warmup, 1)
            decays.append(max(scaled(decay), first + 1))
        ends = itertools.accumulate(sum(size[:1]) for size in self.sizes)
        ends = [min(scaled(end), most) for end in ends]
        sizes = [
            (end - before, *size[1:])
            for size, before, end in zip(self.sizes, [0, *ends], ends, strict=False)
            if end > before
        ]
        return Milestones(
            warmup,
            tuple(epoch for epoch in decays if epoch <= num_epochs),
            tuple(sizes),
            max(1, min(scaled(self.drop_from_epoch - 1) + 1, most)),
            min(scaled(self.freeze_epochs), most),
        )


class Phase(NamedTuple):
    """Consecutive epochs of a training, counted from 1, with the same kind of step."""

    first_epoch: int
    last_epoch: int
    image_size: tuple[int, int]
    drops: bool = True


def phases(
    num_epochs: int,
    *,
    image_size: tuple[int, int],
    sizes: Iterable[tuple[int, int, int]] = (),
    drop_from_epoch: int = 1,
) -> tuple[Phase, ...]:
    """Returns the phases of a training.

    Args:
        num_epochs: The last epoch.
        image_size: Height and width of the images at the end, in pixels.
        sizes: Those before, in their order: number of epochs, height and width.
        drop_from_epoch: The first epoch in which the drop blocks drop.

    Example:
        >>> from topdb_tf.training.schedules import phases
        >>> sizes = [(2, 128, 64), (3, 192, 96)]
        >>> for phase in phases(9, image_size=(256, 128), sizes=sizes):
        ...     print(*phase)
        1 2 (128, 64) True
        3 5 (192, 96) True
        6 9 (256, 128) True
    """
    of_epoch = [size for epochs, *size in sizes for _ in range(epochs)]
    of_epoch += [image_size] * (num_epochs - len(of_epoch))
    found, last = [], 0
    kinds = enumerate(map(tuple, of_epoch), 1)
    by_kind = itertools.groupby((size, at >= drop_from_epoch) for at, size in kinds)
    for (size, drops), group in by_kind:
        first, last = last + 1, last + len(list(group))
        found.append(Phase(first, last, size, drops))
    return tuple(found)


def pixels_until(phases: Iterable[Phase], epochs: float) -> float:
    """Returns how much of the work of a training some epochs are: pixels of its images.

    Args:
        phases: Its phases.
        epochs: How many epochs are done, with the part of the last that is.

    Example:
        >>> from topdb_tf.training.schedules import phases, pixels_until
        >>> parts = phases(4, image_size=(4, 2), sizes=[(2, 2, 1)])
        >>> [pixels_until(parts, epochs) for epochs in (1, 2.5, 4)]
        [2, 8.0, 20]
    """
    return sum(
        math.prod(phase.image_size) * (min(epochs, phase.last_epoch) - first)
        for phase in phases
        if epochs > (first := phase.first_epoch - 1)
    )


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
