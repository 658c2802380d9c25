"""Feature maps to what can be laid over an image."""

import matplotlib as mpl
import numpy as np

HEAT_COLORS = "inferno"
_OPACITY = 0.65
_LUMINANCE = (0.299, 0.587, 0.114)
_FADED = 0.15  # of the image, where nothing is kept


def activation_maps(feature_maps: np.ndarray) -> np.ndarray:
    """Returns how strongly each position of feature maps responds.

    That is the sum of the squared channels, divided by its L2 norm over all positions
    of the image. A map of zeros stays one.

    Source: Quispe and Pedrini, Top-DB-Net, ICPR 2020, eq. 1
    (https://arxiv.org/abs/2010.05435); the norm as in the authors' code.

    Args:
        feature_maps: Shape `(num_images, rows, columns, channels)`.

    Returns:
        float32 array of shape `(num_images, rows, columns)`.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.drawing.heat import activation_maps
        >>> activation_maps(np.array([[[[1.0, 1.0]], [[0.0, 2.0]]]]))[0].round(2)
        array([[0.45],
               [0.89]], dtype=float32)
    """
    maps = np.float64(feature_maps)
    energies = np.square(maps).sum(axis=-1)  # (num_images, rows, columns)
    norms = np.sqrt(np.square(energies).sum(axis=(1, 2), keepdims=True))
    return np.float32(energies / np.where(norms > 0, norms, 1))


def heat(activation_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns an activation map resized to an image, from 0 to 1 within the image.

    A cell of the map stands for its part of the image: its value is that of the
    part's centre, with bilinear interpolation between centres, and the outermost
    values go on to the border. The resized map is then scaled by
    `(map - min) / (max - min)`, so 0 is the least and 1 the most in this image;
    values of two images cannot be compared. A constant map becomes zero. (The
    authors' code subtracts the maximum instead of the minimum, and its strongest
    pixel becomes the weakest.)

    Args:
        activation_map: Shape `(rows, columns)`.
        size: `(height, width)` of the image, in pixels.

    Returns:
        float64 array in [0, 1] of that size.
    """
    activation_map = np.float64(activation_map)
    across = [
        _interpolation(cells, pixels)
        for cells, pixels in zip(activation_map.shape, size, strict=True)
    ]
    resized = across[0] @ activation_map @ across[1].T
    least, most = resized.min(), resized.max()
    if most <= least:
        return np.zeros(size)
    return (resized - least) / (most - least)


def overlay(image: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Returns an RGB image in grey with its heat, from 0 to 1, over it in colours."""
    colors = mpl.colormaps[HEAT_COLORS](shares)[..., :3]
    grey = (image / 255) @ np.array(_LUMINANCE)
    mixed = (1 - _OPACITY) * grey[..., None] + _OPACITY * colors
    return np.uint8(np.round(255 * mixed))


def kept(image: np.ndarray, shares: np.ndarray, threshold: float) -> np.ndarray:
    """Returns an RGB image where its heat reaches a threshold, and faded elsewhere."""
    faded = 255 - (255 - image) * _FADED
    chosen = np.where((shares >= threshold)[..., None], image, faded)
    return np.uint8(np.round(chosen))


def _interpolation(num_cells, num_pixels):
    """Returns the weight of every cell in every pixel, `(num_pixels, num_cells)`."""
    centers = (np.arange(num_pixels) + 0.5) * num_cells / num_pixels - 0.5
    centers = np.clip(centers, 0, num_cells - 1)
    distances = np.abs(centers[:, None] - np.arange(num_cells))
    return np.maximum(0, 1 - distances)
