"""The drop blocks, which zero a part of a map while training, and a pooling."""

import numbers
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import keras
from keras import ops

from topdb_tf.registry import register
from topdb_tf.texts import check_one_of

RELEVANCES = {"mean": ops.mean, "max": ops.max}
"""What the energies of a row are reduced to: the paper's mean, the authors' maximum.

Each is a function of an array and an `axis`.
"""


@runtime_checkable
class DropsRankedRows(Protocol):
    """A drop block that takes rows of each image by their rank, as `TopDropBlock`.

    The rows of any such layer can be drawn: see `topdb_tf.model.feature_maps`. One that
    takes parts of rows has a `position_mask` too, as `TopDropBlock`.
    """

    height_ratio: float

    def row_relevance(self, activation):
        """Returns what the rows are ranked by, float32 `(batch, height)`."""

    def row_mask(self, activation):
        """Returns 1 for a kept row and 0 for a dropped one, `(batch, height)`."""


@keras.saving.register_keras_serializable(package="topdb_tf")
class TopDropBlock(keras.layers.Layer):
    """Zeroes, in each image, the part of a feature map that responds most.

    During training every image loses its own `round(height_ratio * height)` most
    relevant rows (halves round to even), and of these its own
    `round(width_ratio * width)` most relevant columns: whole rows with a `width_ratio`
    of 1, as in the paper, whole columns with a `height_ratio` of 1, else the places
    where the dropped rows and columns cross, which need not be adjacent.

    The energy of a position is the sum of its squared channels; the relevance of a row
    is the mean (the paper's equation 2) or the maximum (the authors' code) of the
    energy along its width, that of a column the same along the rows that are dropped.
    Of rows that tie, the upper one goes first, of columns the left one; the authors'
    sort leaves ties open. Energies are float32 whatever the precision of the layer, so
    that float16 neither overflows nor creates ties. Kept values are not rescaled, and
    no gradient flows through the choice. At inference the layer returns its inputs.

    Source: Quispe and Pedrini, Top-DB-Net: Top DropBlock for Activation Enhancement
    in Person Re-Identification, ICPR 2020 (https://arxiv.org/abs/2010.05435). Its
    future work asks for more than whole rows.

    Args:
        height_ratio: Share of the rows to drop, in (0, 1), or 1 with a `width_ratio`
            below 1.
        relevance: What the energies of a row are reduced to, a name in `RELEVANCES`.
        width_ratio: Share of the columns to drop in these rows, in (0, 1].
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Feature map of shape `(batch, height, width, channels)`.
        activation: Feature map `(batch, height, width, any)` on which positions are
            ranked, of any width with a `width_ratio` of 1. Defaults to `inputs`.
        training: Whether to drop. Defaults to `False`.

    Raises:
        ValueError: If an argument is out of range, the size of the inputs is unknown,
            or nothing or everything would go.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.model.layers import TopDropBlock
        >>> feature_map = np.array([1.0, 3.0, 2.0]).reshape(1, 3, 1, 1)
        >>> TopDropBlock(0.33)(feature_map, training=True).numpy().ravel()
        array([1., 0., 2.], dtype=float32)
    """

    def __init__(self, height_ratio, relevance="mean", width_ratio=1.0, **kwargs):
        super().__init__(**kwargs)
        _check_ratios(height_ratio, width_ratio)
        check_one_of("relevance", relevance, RELEVANCES)
        self.height_ratio = height_ratio
        self.relevance = relevance
        self.width_ratio = width_ratio

    def build(self, inputs_shape, activation_shape=None):
        last = 2 if self.width_ratio == 1 else 3
        if activation_shape and activation_shape[1:last] != inputs_shape[1:last]:
            raise ValueError(
                f"`inputs` and `activation` must have the same height"
                f"{' and width' if last == 3 else ''}. Received: "
                f"inputs of shape {tuple(inputs_shape)}, "
                f"activation of shape {tuple(activation_shape)}"
            )
        self.dropped_size(inputs_shape)

    def call(self, inputs, activation=None, training=False):
        if not training:
            return inputs
        mask = self.position_mask(inputs if activation is None else activation)
        return inputs * ops.cast(mask, inputs.dtype)[:, :, :, None]

    def position_mask(self, activation):
        """Returns which positions are kept: 1 for a kept and 0 for a dropped one.

        Args:
            activation: Feature map of shape `(batch, height, width, channels)`.

        Returns:
            float32 tensor of shape `(batch, height, width)`, or of width 1 where whole
            rows go; a constant to gradients.
        """
        dropped_rows = 1 - self.row_mask(activation)
        if self.width_ratio == 1:
            return 1 - dropped_rows[:, :, None]
        num_rows, num_columns = self.dropped_size(activation.shape)
        _, rows = ops.top_k(dropped_rows, k=num_rows)  # from top to bottom
        energy = ops.take_along_axis(_energy(activation), rows[:, :, None], axis=1)
        column_relevance = RELEVANCES[self.relevance](energy, axis=1)
        dropped_columns = _marked_top(column_relevance, num_columns)
        return 1 - dropped_rows[:, :, None] * dropped_columns[:, None, :]

    def row_mask(self, activation):
        """Returns from which rows nothing is dropped: 1 for these, 0 for the others.

        Args:
            activation: Feature map of shape `(batch, height, width, channels)`.

        Returns:
            float32 tensor of shape `(batch, height)`, a constant to gradients.
        """
        num_rows, _ = self.dropped_size(activation.shape)
        return 1 - _marked_top(self.row_relevance(activation), num_rows)

    def row_relevance(self, activation):
        """Returns what the rows are ranked by.

        Args:
            activation: Feature map of shape `(batch, height, width, channels)`.

        Returns:
            float32 tensor of shape `(batch, height)`, a constant to gradients.
        """
        return RELEVANCES[self.relevance](_energy(activation), axis=-1)

    def dropped_size(self, shape):
        """Returns how many rows it drops of a map, and how many columns of these."""
        _, height, width, _ = shape
        if self.width_ratio == 1:
            width = width or 1  # any will do
        return _dropped_size(self.height_ratio, self.width_ratio, height, width)

    def compute_output_shape(self, inputs_shape, activation_shape=None):
        self.dropped_size(inputs_shape)  # of each size of images
        return inputs_shape

    def get_config(self):
        return {
            **super().get_config(),
            "height_ratio": self.height_ratio,
            "relevance": self.relevance,
            "width_ratio": self.width_ratio,
        }


def _energy(activation):
    """Returns the sums of squared channels, `(batch, height, width)`."""
    activation = ops.cast(ops.stop_gradient(activation), "float32")
    return ops.sum(ops.square(activation), axis=-1)


def _marked_top(values, number):
    """Returns 1 at the largest values of each line and 0 elsewhere, float32."""
    _, places = ops.top_k(values, k=number)
    marks = ops.one_hot(places, values.shape[1], dtype="float32")
    return ops.sum(marks, axis=1)


@keras.saving.register_keras_serializable(package="topdb_tf")
class BatchDropBlock(keras.layers.Layer):
    """Zeroes one random rectangle of the feature map, the same in all images.

    During training every call draws the upper left corner of a rectangle of
    `round(height_ratio * height)` rows and `round(width_ratio * width)` columns
    (halves round to even) uniformly among the places where it fits, and zeroes it in
    every image and channel. Kept values are not rescaled. At inference the layer
    returns its inputs.

    Source: Dai et al., Batch DropBlock Network for Person Re-identification and
    Beyond, ICCV 2019 (https://arxiv.org/abs/1811.07130).

    Args:
        height_ratio: Share of the rows to drop, in (0, 1), or 1 with a `width_ratio`
            below 1.
        width_ratio: Share of the columns to drop, in (0, 1].
        seed: Seed of the draws, an integer or `None`.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Feature map of shape `(batch, height, width, channels)`.
        activation: Ignored: chance ranks nothing. It is accepted so that this layer
            can stand where a `TopDropBlock` stands.
        training: Whether to drop. Defaults to `False`.

    Raises:
        ValueError: If an argument is out of range, the size of the inputs is unknown,
            or nothing or everything would go.
    """

    def __init__(self, height_ratio, width_ratio=1.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        _check_ratios(height_ratio, width_ratio)
        self.height_ratio = height_ratio
        self.width_ratio = width_ratio
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, inputs_shape, activation_shape=None):
        self._dropped_size(inputs_shape)

    def _dropped_size(self, shape):
        return _dropped_size(self.height_ratio, self.width_ratio, *shape[1:3])

    def call(self, inputs, activation=None, training=False):
        if not training:
            return inputs
        _, height, width, _ = inputs.shape
        num_rows, num_columns = self._dropped_size(inputs.shape)
        rows = self._random_run(height, num_rows)
        columns = self._random_run(width, num_columns)
        kept = ops.logical_not(ops.logical_and(rows[:, None], columns[None, :]))
        return inputs * ops.cast(kept, inputs.dtype)[None, :, :, None]

    def _random_run(self, length, num_dropped):
        """Returns a boolean vector that is true on `num_dropped` adjacent places."""
        last_start = length - num_dropped
        start = keras.random.randint((), 0, last_start + 1, seed=self.seed_generator)
        places = ops.arange(length, dtype="int32")
        return ops.logical_and(places >= start, places < start + num_dropped)

    def compute_output_shape(self, inputs_shape, activation_shape=None):
        self._dropped_size(inputs_shape)
        return inputs_shape

    def get_config(self):
        return {
            **super().get_config(),
            "height_ratio": self.height_ratio,
            "width_ratio": self.width_ratio,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="topdb_tf")
class GeneralizedMeanPooling(keras.layers.Layer):
    """Pools each channel to a generalised mean, whose exponent is trained.

    That is `mean(max(x, epsilon)^p)^(1/p)` over the positions: with p = 1 the average
    of what is positive, the nearer to the maximum the larger p is. It is computed in
    float32 and relative to the maximum, so that no power overflows or vanishes; a
    value below epsilon gets no gradient.

    Source: Radenovic et al., Fine-tuning CNN Image Retrieval with No Human
    Annotation, TPAMI 2018 (https://arxiv.org/abs/1711.02512), equation 4.

    Args:
        p: The exponent at first, positive.
        epsilon: The least value that a position counts as, positive.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Feature map of shape `(batch, height, width, channels)`.

    Returns:
        Tensor of shape `(batch, channels)`.

    Raises:
        ValueError: If an argument is not positive.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.model.layers import GeneralizedMeanPooling
        >>> feature_map = np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
        >>> GeneralizedMeanPooling()(feature_map).numpy()  # (36 / 3)^(1/3)
        array([[2.2894285]], dtype=float32)
    """

    def __init__(self, p=3.0, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        if not (p > 0 and epsilon > 0):
            raise ValueError(
                "`p` and `epsilon` must be positive. "
                f"Received: p={p}, epsilon={epsilon}"
            )
        self.p = p
        self.epsilon = epsilon

    def build(self, inputs_shape):
        self.exponent = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(self.p),
            dtype="float32",
            autocast=False,
            name="exponent",
        )

    def call(self, inputs):
        x = ops.maximum(ops.cast(inputs, "float32"), self.epsilon)
        largest = ops.stop_gradient(ops.max(x, axis=(1, 2), keepdims=True))
        # A quotient of 8-bit numbers would divide by zero in a channel of small values.
        logarithms = ops.log(x) - ops.log(largest)
        powers = ops.exp(self.exponent * logarithms)
        mean = ops.power(ops.mean(powers, axis=(1, 2)), 1 / self.exponent)
        return ops.cast(largest[:, 0, 0] * mean, self.compute_dtype)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape[0], inputs_shape[-1]

    def get_config(self):
        return {**super().get_config(), "p": self.p, "epsilon": self.epsilon}


def top_drop_block(*, height_ratio, relevance, seed, width_ratio=1.0):
    """Returns the `TopDropBlock` of a network; it draws nothing."""
    return TopDropBlock(height_ratio, relevance, width_ratio, name="top_drop_block")


def batch_drop_block(*, height_ratio, relevance, seed, width_ratio=1.0):
    """Returns the `BatchDropBlock` of a network; it ranks nothing."""
    return BatchDropBlock(height_ratio, width_ratio, seed, name="batch_drop_block")


DROP_BLOCKS = {"top": top_drop_block, "batch": batch_drop_block}
"""The drop blocks by name: functions that make the layer from the settings.

They take `height_ratio`, `relevance`, `seed` and, if they can, `width_ratio`; the
layer takes the map that is dropped from and, as `activation`, the one that rows may be
ranked on.
"""


def register_drop_block(name: str, function: Callable | None = None) -> Callable:
    """Adds a drop block, for `model.drop=NAME`; without a function a decorator.

    Args:
        name: Name of the drop block.
        function: Function of `height_ratio`, `relevance`, `seed` and, for a
            `model.width_ratio` other than 1, `width_ratio`, given by name, to a layer.
            It is called with the feature map `(batch, height, width, channels)` and,
            by the name `activation`, the map that the rows are ranked on, and drops
            while training only.

    Raises:
        ValueError: If the name is taken, or is none.
    """
    return register(DROP_BLOCKS, name, function, what="drop block")


def _check_ratios(height_ratio, width_ratio):
    if not (isinstance(width_ratio, numbers.Real) and 0 < width_ratio <= 1):
        raise ValueError(
            "`width_ratio` must be a share of the columns, in (0, 1]. "
            f"Received: width_ratio={width_ratio}"
        )
    is_number = isinstance(height_ratio, numbers.Real)
    is_whole = is_number and height_ratio == 1 and width_ratio < 1
    if not (is_whole or (is_number and 0 < height_ratio < 1)):
        raise ValueError(
            "`height_ratio` must be a share of the rows, in (0, 1), or 1 with a "
            f"`width_ratio` below 1. Received: height_ratio={height_ratio}, "
            f"width_ratio={width_ratio}"
        )


def _dropped_size(height_ratio, width_ratio, height, width):
    """Returns how many rows and columns go: one at least of each, and not all."""
    if height is None or width is None:
        raise ValueError(
            f"The {'width' if height else 'height'} of the feature map must be known. "
            f"Give the network an `image_size`. Received: a map of {height} x {width}"
        )
    rows, columns = round(height_ratio * height), round(width_ratio * width)
    if not rows or not columns or (rows, columns) == (height, width):
        raise ValueError(
            "At least one row and one column must be dropped, and not all: the feature "
            "map is too small. Use a larger image height or width, or another "
            "`height_ratio` or `width_ratio`. Received: "
            f"height_ratio={height_ratio} of {height} rows, which rounds to {rows}, "
            f"width_ratio={width_ratio} of {width} columns, which rounds to {columns}"
        )
    return rows, columns
