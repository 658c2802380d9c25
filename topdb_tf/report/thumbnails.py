"""Small pictures inside a page, each of them once."""

import base64
import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image

_SIDE = 128
_QUALITY = 78


class Thumbnails:
    """Small copies of image files, numbered in the order of their first use.

    A copy is WebP of at most 128 pixels a side, and holds the pixels alone: what the
    file says of place, time and camera is left out.
    """

    def __init__(self):
        self._numbers = {}

    def number_of(self, path: Path) -> int:
        """Returns the number of an image; the same file has the same number."""
        return self._numbers.setdefault(Path(path), len(self._numbers))

    def encoded(self, progress: Callable[[int, int], None]) -> list[str]:
        """Returns the copies by number, WebP in Base64."""
        texts = []
        for path in self._numbers:
            texts.append(_thumbnail(path))
            progress(len(texts), len(self._numbers))
        return texts


def _thumbnail(path):
    with Image.open(path) as image:
        image.draft("RGB", (2 * _SIDE, 2 * _SIDE))  # a large JPEG is decoded smaller
        small = image.convert("RGB")
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return encoded_image(small)


def encoded_image(image: Image.Image) -> str:
    """Returns an image as WebP in Base64."""
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_QUALITY, method=4)
    return base64.b64encode(file.getvalue()).decode()
