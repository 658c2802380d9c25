"""The rules that make the weights and images of the golden figures."""

import zlib
from pathlib import Path

import numpy as np

from topdb_tf.model.backbones import IMAGENET_MEAN, IMAGENET_STD

FOLDER = Path(__file__).parent / "golden"


def golden_figures(variant):
    """Returns the arrays that the authors' network of that variant gave, by name."""
    with np.load(FOLDER / f"{variant}.npz") as file:
        return {name: file[name] for name in file.files}


def golden_state_dict(keys):
    """Returns weights for keys such as "conv1.weight 64x3x7x7"."""
    pairs = (str(key).split(" ") for key in keys)
    shapes = {key: tuple(int(n) for n in shape.split("x") if n) for key, shape in pairs}
    return {key: golden_value(key, shape) for key, shape in shapes.items()}


def golden_value(key, shape):
    """Returns the weight of that name; it follows from the name alone."""
    rng = np.random.default_rng(zlib.crc32(f"topdb:{key}".encode()))
    leaf = key.rsplit(".", 1)[1]
    if leaf == "num_batches_tracked":
        return np.int64(0)
    if leaf in ("running_mean", "bias"):
        value = 0.1 * rng.standard_normal(shape)
    elif leaf == "running_var":
        value = rng.uniform(0.5, 1.5, shape)
    elif len(shape) == 1:
        value = rng.uniform(*((0.1, 0.3) if ".bn3." in key else (0.6, 1.4)), shape)
    else:
        value = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    return value.astype("float32")


def golden_pixels(name, count):
    """Returns RGB images of shape `(count, 384, 128, 3)`, not normalised.

    The rule gives normalised images, channels first; a few pixels lie outside of
    [0, 255], which no layer minds.
    """
    rng = np.random.default_rng(zlib.crc32(f"topdb:{name}".encode()))
    blocks = np.kron(rng.standard_normal((count, 3, 12, 4)), np.ones((1, 1, 32, 32)))
    images = blocks + 0.3 * rng.standard_normal((count, 3, 384, 128))
    images = images.transpose(0, 2, 3, 1)  # (count, height, width, channels)
    return (255 * (images * IMAGENET_STD + IMAGENET_MEAN)).astype("float32")
