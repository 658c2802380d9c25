"""Colour histograms, the baseline a trained network is compared with."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from topdb_tf.damage import may_pass

_SIZE = (64, 128)  # (width, height)
_NUM_STRIPES, _NUM_BINS = 6, 16
_CHANNELS = 8  # R, G, B, hue, saturation, Y, Cb, Cr


def color_histograms(paths: Sequence[Path]) -> np.ndarray:
    """Returns the colour histograms of the horizontal stripes of each image.

    An image is resized to 64 x 128 pixels and cut into six stripes of equal height.
    In each stripe the values of eight colour channels (red, green, blue; hue,
    saturation; luma and the two chromas) are counted in 16 bins of equal width. Every
    histogram sums to 1 before its square root is taken, so the Euclidean distance
    between two images is, up to a factor, the Hellinger distance between their
    histograms. The rows have length 1.

    Source: the colour channels of Gray and Tao, Viewpoint invariant pedestrian
    recognition with an ensemble of localized features, ECCV 2008, in the six
    stripes of Liu et al., Person re-identification: what features are important?,
    ECCV workshops 2012; the texture filters of both are left out.

    Returns:
        float32 array of shape `(num_images, 6 * 8 * 16)`.

    Raises:
        ValueError: If an image cannot be decoded.
        FileNotFoundError: If there is no such image.
    """
    dim = _NUM_STRIPES * _CHANNELS * _NUM_BINS
    features = np.zeros((len(paths), dim), dtype=np.float32)
    for row, path in zip(features, paths, strict=True):
        channels = _color_channels(path)
        counts = [
            np.bincount(values.ravel() // 256, minlength=_NUM_BINS) / values.size
            for stripe in np.array_split(channels * _NUM_BINS, _NUM_STRIPES)
            for values in np.moveaxis(stripe, -1, 0)
        ]
        row[:] = np.sqrt(np.concatenate(counts) / len(counts))
    return features


def _color_channels(path: Path) -> np.ndarray:
    """Returns the eight channels of an image, int64 of shape `(128, 64, 8)`."""
    try:
        with Image.open(path) as file:
            image = file.convert("RGB").resize(_SIZE, Image.Resampling.BILINEAR)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"The image must exist; see datasets/README.md. Received: path={path}"
        ) from None
    except OSError as error:
        if may_pass(error):
            raise
        raise ValueError(
            "The image must be complete; see datasets/README.md. "
            f"Received: path={path} ({error})"
        ) from error
    hue_saturation = np.asarray(image.convert("HSV"))[..., :2]
    luma_chroma = np.asarray(image.convert("YCbCr"))
    channels = (np.asarray(image), hue_saturation, luma_chroma)
    return np.concatenate(channels, axis=-1).astype(np.int64)
