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

    The rows of any such layer can be drawn: see `topdb_tf.model.feature_maps`.
    """

    height_ratio: float

    def row_relevance(self, activation):
        """Returns what the rows are ranked by, float32 `(batch, height)`."""

    def row_mask(self, activation):
        """Returns 1 for a kept row and 0 for a dropped one, `(batch, height)`."""


@keras.saving.register_keras_serializable(package="topdb_tf")
class TopDropBlock(keras.layers.Layer):
    """Zeroes, in each image, the rows of a feature map that respond most.

    During training every image loses its own `round(height_ratio * height)` most
    relevant rows (halves round to even). The energy of a position is the sum of its
    squared channels; the relevance of a row is the mean (the paper's equation 2) or
    the maximum (the authors' code) of the energy along its width. Of rows that tie,
    the upper one goes first; the authors' sort leaves ties open. Energies are float32
    whatever the precision of the layer, so that float16 neither overflows nor
    creates ties. Kept values are not rescaled, and no gradient flows through the
    choice. At inference the layer returns its inputs.

    Source: Quispe and Pedrini, Top-DB-Net: Top DropBlock for Activation Enhancement
    in Person Re-Identification, ICPR 2020 (https://arxiv.org/abs/2010.05435).

    Args:
        height_ratio: Share of the rows to drop, in (0, 1).
        relevance: What the energies of a row are reduced to, a name in `RELEVANCES`.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Feature map of shape `(batch, height, width, channels)`.
        activation: Feature map `(batch, height, any, any)` on which the rows are
            ranked. Defaults to `inputs`.
        training: Whether to drop. Defaults to `False`.

    Raises:
        ValueError: If an argument is out of range, the height of the inputs is
            unknown, or no row or every row would go.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.model.layers import TopDropBlock
        >>> feature_map = np.array([1.0, 3.0, 2.0]).reshape(1, 3, 1, 1)
        >>> TopDropBlock(0.33)(feature_map, training=True).numpy().ravel()
        array([1., 0., 2.], dtype=float32)
    """

    def __init__(self, height_ratio, relevance="mean", **kwargs):
        super().__init__(**kwargs)
        _check_height_ratio(height_ratio)
        check_one_of("relevance", relevance, RELEVANCES)
        self.height_ratio = height_ratio
        self.relevance = relevance

    def build(self, inputs_shape, activation_shape=None):
        height = inputs_shape[1]
        if activation_shape is not None and activation_shape[1] != height:
            raise ValueError(
                "`inputs` and `activation` must have the same height. Received: "
                f"inputs of shape {tuple(inputs_shape)}, "
                f"activation of shape {tuple(activation_shape)}"
            )
        _num_dropped(self.height_ratio, height)

    def call(self, inputs, activation=None, training=False):
        if not training:
            return inputs
        mask = self.row_mask(inputs if activation is None else activation)
        return inputs * ops.cast(mask, inputs.dtype)[:, :, None, None]

    def row_mask(self, activation):
        """Returns which rows are kept: 1 for a kept row and 0 for a dropped one.

        Args:
            activation: Feature map of shape `(batch, height, width, channels)`.

        Returns:
            float32 tensor of shape `(batch, height)`, a constant to gradients.
        """
        row_relevance = self.row_relevance(activation)
        height = activation.shape[1]
        num_dropped_rows = _num_dropped(self.height_ratio, height)
        _, top_rows = ops.top_k(row_relevance, k=num_dropped_rows)
        return 1 - ops.sum(ops.one_hot(top_rows, height, dtype="float32"), axis=1)

    def row_relevance(self, activation):
        """Returns what the rows are ranked by.

        Args:
            activation: Feature map of shape `(batch, height, width, channels)`.

        Returns:
            float32 tensor of shape `(batch, height)`, a constant to gradients.
        """
        activation = ops.cast(ops.stop_gradient(activation), "float32")
        energy = ops.sum(ops.square(activation), axis=-1)  # (batch, height, width)
        return RELEVANCES[self.relevance](energy, axis=-1)

    def compute_output_shape(self, inputs_shape, activation_shape=None):
        _num_dropped(self.height_ratio, inputs_shape[1])  # of each size of images
        return inputs_shape

    def get_config(self):
        return {
            **super().get_config(),
            "height_ratio": self.height_ratio,
            "relevance": self.relevance,
        }


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
        height_ratio: Share of the rows to drop, in (0, 1).
        width_ratio: Share of the columns to drop, in (0, 1].
        seed: Seed of the draws, an integer or `None`.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Feature map of shape `(batch, height, width, channels)`.
        activation: Ignored: chance ranks nothing. It is accepted so that this layer
            can stand where a `TopDropBlock` stands.
        training: Whether to drop. Defaults to `False`.

    Raises:
        ValueError: If an argument is out of range, the size of the inputs is
            unknown, or no row or every row would go.
    """

    def __init__(self, height_ratio, width_ratio=1.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        _check_height_ratio(height_ratio)
        if not 0 < width_ratio <= 1:
            raise ValueError(
                "`width_ratio` must be a share of the columns, in (0, 1]. "
                f"Received: width_ratio={width_ratio}"
            )
        self.height_ratio = height_ratio
        self.width_ratio = width_ratio
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, inputs_shape, activation_shape=None):
        self._block(inputs_shape)

    def _block(self, inputs_shape):
        """Returns how many rows and columns a block has."""
        _, height, width, _ = inputs_shape
        num_columns = round(self.width_ratio * (width or 0))
        if num_columns == 0:
            raise ValueError(
                "At least one column must be dropped, of a known width. Use a larger "
                f"image or `width_ratio`. Received: width_ratio={self.width_ratio} of "
                f"{width} columns"
            )
        return _num_dropped(self.height_ratio, height), num_columns

    def call(self, inputs, activation=None, training=False):
        if not training:
            return inputs
        _, height, width, _ = inputs.shape
        num_rows, num_columns = self._block(inputs.shape)
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
        self._block(inputs_shape)
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


def top_drop_block(*, height_ratio, relevance, seed):
    """Returns the `TopDropBlock` of a network; it draws nothing."""
    return TopDropBlock(height_ratio, relevance, name="top_drop_block")


def batch_drop_block(*, height_ratio, relevance, seed):
    """Returns the `BatchDropBlock` of a network; it ranks nothing."""
    return BatchDropBlock(height_ratio, seed=seed, name="batch_drop_block")


DROP_BLOCKS = {"top": top_drop_block, "batch": batch_drop_block}
"""The drop blocks by name: functions that make the layer from the settings.

They take `height_ratio`, `relevance` and `seed`; the layer takes the map that is
dropped from and, as `activation`, the one that rows may be ranked on.
"""


def register_drop_block(name: str, function: Callable | None = None) -> Callable:
    """Adds a drop block, for `model.drop=NAME`; without a function a decorator.

    Args:
        name: Name of the drop block.
        function: Function of `height_ratio`, `relevance` and `seed`, given by name, to
            a layer. It is called with the feature map `(batch, height, width,
            channels)` and, by the name `activation`, the map that the rows are ranked
            on, and drops while training only.

    Raises:
        ValueError: If the name is taken, or is none.
    """
    return register(DROP_BLOCKS, name, function, what="drop block")


def _check_height_ratio(height_ratio):
    if not (isinstance(height_ratio, numbers.Real) and 0 < height_ratio < 1):
        raise ValueError(
            "`height_ratio` must be a share of the rows, in (0, 1). "
            f"Received: height_ratio={height_ratio}"
        )


def _num_dropped(height_ratio, height):
    """Returns how many of the rows go, at least one and not all."""
    if height is None:
        raise ValueError(
            "The height of the feature map must be known. Give the network an "
            f"`image_size`. Received: a feature map of height {height}"
        )
    num_dropped = round(height_ratio * height)
    if not 0 < num_dropped < height:
        raise ValueError(
            "At least one row must be dropped and one kept: the feature map has too "
            "few rows. Use a larger image height, or another `height_ratio`. "
            f"Received: height_ratio={height_ratio} of {height} rows, which "
            f"rounds to {num_dropped}"
        )
    return num_dropped
