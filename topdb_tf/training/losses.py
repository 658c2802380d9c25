"""The two losses that Top-DB-Net puts on every stream."""

from collections.abc import Callable

import keras
from keras import ops

from topdb_tf.registry import register
from topdb_tf.texts import check_one_of

_SMALLEST_SQUARED_DISTANCE = 1e-12  # the root's gradient is infinite at zero


@keras.saving.register_keras_serializable(package="topdb_tf")
class LabelSmoothedCrossEntropy(keras.losses.Loss):
    """Cross-entropy of softmax against integer labels, with smoothed targets.

    The target of an image is `1 - label_smoothing` on its own identity plus
    `label_smoothing / num_pids` on each. It equals Keras's one-hot loss with label
    smoothing, without building the one-hot targets.

    Source: Szegedy et al., Rethinking the Inception Architecture for Computer Vision,
    CVPR 2016 (https://arxiv.org/abs/1512.00567).

    Args:
        label_smoothing: Share of the target spread over all identities, in [0, 1).
        **kwargs: `name` and `reduction` of `keras.losses.Loss`; `dtype` must be
            float32 or wider, since Keras casts the labels to it.

    Call arguments:
        y_true: Labels, integers 0 … num_pids - 1 of shape `(batch,)`.
        y_pred: Logits of shape `(batch, num_pids)`.

    Raises:
        ValueError: If `label_smoothing` is outside [0, 1) or `dtype` is a half
            precision.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.training.losses import LabelSmoothedCrossEntropy
        >>> loss = LabelSmoothedCrossEntropy(label_smoothing=0.0)
        >>> round(float(loss(np.array([0]), np.array([[0.0, 0.0]]))), 4)  # ln 2
        0.6931
    """

    def __init__(self, label_smoothing=0.1, name="cross_entropy", **kwargs):
        super().__init__(name=name, **_in_full_precision(kwargs))
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                "`label_smoothing` must be a share of the target, in [0, 1). "
                f"Received: label_smoothing={label_smoothing}"
            )
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        labels = ops.cast(y_true, "int32")  # (batch,)
        log_shares = ops.log_softmax(y_pred, axis=-1)  # (batch, num_pids)
        own = ops.take_along_axis(log_shares, labels[:, None], axis=-1)[:, 0]
        spread = ops.mean(log_shares, axis=-1)  # (batch,)
        return -(1 - self.label_smoothing) * own - self.label_smoothing * spread

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable(package="topdb_tf")
class BatchHardTripletLoss(keras.losses.Loss):
    """Triplet loss of each image with its hardest positive and negative of the batch.

    The hardest positive is the farthest image of the same identity, the hardest
    negative the nearest image of another one, by Euclidean distance. An image without
    a positive counts as its own, at distance zero; a batch of a single identity has
    no triplet and a loss of zero.

    Source: Hermans, Beyer and Leibe, In Defense of the Triplet Loss for Person
    Re-Identification, 2017 (https://arxiv.org/abs/1703.07737).

    Args:
        margin: By how much the negative shall be farther away than the positive, in
            units of the features, at least 0; or `"soft"` for the softplus of the
            difference, which never stops pulling.
        **kwargs: `name` and `reduction` of `keras.losses.Loss`; `dtype` must be
            float32 or wider, since Keras casts the labels to it.

    Call arguments:
        y_true: Labels, integers 0 … num_pids - 1 of shape `(batch,)`.
        y_pred: Features of shape `(batch, dim)`.

    Raises:
        ValueError: If `margin` is negative or an unknown word, or if `dtype` is a
            half precision.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.training.losses import BatchHardTripletLoss
        >>> loss = BatchHardTripletLoss(margin=1.5, reduction=None)
        >>> loss(np.array([0, 0, 1]), np.array([[0.0], [1.0], [3.0]])).numpy()
        array([0. , 0.5, 0. ], dtype=float32)
    """

    def __init__(self, margin=0.3, name="triplet", **kwargs):
        super().__init__(name=name, **_in_full_precision(kwargs))
        if margin != "soft" and (isinstance(margin, str) or not margin >= 0):
            raise ValueError(
                "`margin` must be a distance of at least 0, or 'soft'. "
                f"Received: margin={margin!r}"
            )
        self.margin = margin

    def call(self, y_true, y_pred):
        labels = ops.cast(y_true, "int32")
        distances = euclidean_distances(y_pred)  # (batch, batch)
        same = ops.equal(labels[:, None], labels[None, :])
        # An image's distance to itself is zero, but for rounding.
        itself = ops.eye(ops.shape(labels)[0], dtype="bool")
        positives = ops.where(ops.logical_and(same, ~itself), distances, 0.0)
        positive = ops.max(positives, axis=1)  # (batch,)
        negative = ops.min(ops.where(same, float("inf"), distances), axis=1)
        difference = positive - negative
        if self.margin == "soft":
            return ops.softplus(difference)
        return ops.relu(difference + self.margin)

    def get_config(self):
        return {**super().get_config(), "margin": self.margin}


CROSS_ENTROPIES = {"label_smoothed": LabelSmoothedCrossEntropy}
"""The losses of the logits by name: functions of `label_smoothing` to a Keras loss."""
TRIPLETS = {"batch_hard": BatchHardTripletLoss}
"""The losses of the features by name: functions of `margin` to a Keras loss."""


def register_loss(
    name: str, function: Callable | None = None, *, on: str = "features"
) -> Callable:
    """Adds a loss, for `train.triplet=NAME`; without a function it is a decorator.

    Args:
        name: Name of the loss.
        function: A subclass of `keras.losses.Loss`, or a function that returns such a
            loss. It is called with the setting `margin=`, or for the logits
            `label_smoothing=`. Or a loss that is there, which needs no setting. It
            gets the labels `(batch,)` and the features `(batch, dim)` or logits
            `(batch, num_pids)` of one stream, and returns a value an image.
        on: "features", in the place of the triplet loss, or "logits", in that of the
            cross-entropy (`train.cross_entropy=NAME`).

    Raises:
        ValueError: If the name is taken, or is none, or `on` is neither.
    """
    check_one_of("on", on, ("features", "logits"))
    table = TRIPLETS if on == "features" else CROSS_ENTROPIES
    return register(table, name, function, what=f"loss of the {on}", entry=_maker)


def _maker(loss):
    """Returns the function that makes a loss, of one that is there its own."""
    return (lambda **_: loss) if isinstance(loss, keras.losses.Loss) else loss


def euclidean_distances(features):
    """Returns the Euclidean distances between all pairs of a batch.

    Distances below 1e-6 are given as 1e-6, with gradient zero: the gradient of the
    root would be infinite for the same image twice.

    Args:
        features: Array of shape `(batch, dim)`; computed in its own precision, so
            cast half precisions to float32 first.

    Returns:
        Array of shape `(batch, batch)`.
    """
    squares = ops.sum(ops.square(features), axis=1)  # (batch,)
    products = ops.matmul(features, ops.transpose(features))  # (batch, batch)
    squared = squares[:, None] + squares[None, :] - 2 * products
    return ops.sqrt(ops.maximum(squared, _SMALLEST_SQUARED_DISTANCE))


def _in_full_precision(kwargs):
    dtype = keras.dtype_policies.get(kwargs.get("dtype") or "float32").compute_dtype
    if dtype in ("float16", "bfloat16"):
        raise ValueError(
            "A loss must be computed in float32 or wider: Keras casts the labels to "
            f"its dtype, and 257 is not a {dtype} number. Received: dtype={dtype!r}"
        )
    return {**kwargs, "dtype": dtype}
