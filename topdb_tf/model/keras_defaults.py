"""Keras's global settings at their defaults, whatever another program made of them."""

import contextlib
from collections.abc import Iterator

from keras import config


@contextlib.contextmanager
def keras_defaults(policy: str | None = None) -> Iterator[None]:
    """Has Keras's settings at their defaults within a `with` block, then as before.

    A program that uses this package, or a `keras.json` of another project, may have
    changed them; layers take from them what they are not told. It decorates functions
    too.

    Args:
        policy: Name of the precision policy within the block; without, it stays.
    """
    before = config.floatx(), config.epsilon(), config.image_data_format()
    policy_before = config.dtype_policy()
    set_keras_defaults(policy)
    try:
        yield
    finally:
        config.set_floatx(before[0])
        config.set_epsilon(before[1])
        config.set_image_data_format(before[2])
        config.set_dtype_policy(policy_before)


def set_keras_defaults(policy: str | None = None) -> None:
    """Sets Keras's settings to their defaults for the rest of the process.

    Args:
        policy: As for `keras_defaults`.
    """
    config.set_floatx("float32")
    config.set_epsilon(1e-7)
    config.set_image_data_format("channels_last")
    if policy is not None:
        config.set_dtype_policy(policy)
