"""What image files are: their size, format and content, or why they cannot be read."""

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

THUMBNAIL = (24, 12)  # height and width in pixels


class ImageContents(NamedTuple):
    """What a number of image files are; place `i` of each is of file `i`.

    Args:
        errors: What the decoder says of a file that it cannot read, else `None`.
        formats: Pillow's name of the format, such as "JPEG"; empty if unknown.
        sizes: Height and width in pixels, int32 of shape `(num_images, 2)`; 0 where
            they are not known.
        digests: BLAKE2 digests of the files' bytes; empty if there is no such file.
        thumbnails: RGB, uint8 of shape `(num_images, 24, 12, 3)`; black where an
            image cannot be decoded.
    """

    errors: list[str | None]
    formats: list[str]
    sizes: np.ndarray
    digests: list[bytes]
    thumbnails: np.ndarray

    @property
    def is_readable(self) -> np.ndarray:
        """Which files the decoder reads, bool of shape `(num_images,)`."""
        return np.array([error is None for error in self.errors], dtype=bool)


def image_contents(
    paths: Sequence[Path], *, progress: Callable[[int, int], None] | None = None
) -> ImageContents:
    """Reads and decodes each file once, on all processor cores.

    JPEG files are decoded at a fraction of their size where that is enough for the
    thumbnail, which still reads every byte of them, so that a file that is cut short
    is found. The memory that is kept is 864 bytes an image, and the results' own.
    `progress` is called with the numbers of images done and to do.
    """
    total = len(paths)
    contents = ImageContents(
        [None] * total,
        [""] * total,
        np.zeros((total, 2), np.int32),
        [b""] * total,
        np.zeros((total, *THUMBNAIL, 3), np.uint8),
    )
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(os.cpu_count()) as threads,
    ):
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        read = threads.map(_content_of, paths)
        for index, (error, kind, size, digest, thumbnail) in enumerate(read):
            contents.errors[index], contents.formats[index] = error, kind
            contents.sizes[index], contents.digests[index] = size, digest
            if thumbnail is not None:
                contents.thumbnails[index] = thumbnail
            if progress is not None and (index % 64 == 63 or index == total - 1):
                progress(index + 1, total)
    return contents


def _content_of(path):
    """Returns error, format, size, digest and thumbnail of a file."""
    kind, size, digest = "", (0, 0), b""
    try:
        contents = Path(path).read_bytes()
        digest = hashlib.blake2b(contents, digest_size=16).digest()
        with Image.open(io.BytesIO(contents)) as image:
            kind, size = image.format or "", (image.height, image.width)
            height, width = THUMBNAIL
            image.draft("RGB", (2 * width, 2 * height))
            image.load()
            small = image.convert("RGB").resize((width, height), Image.Resampling.BOX)
    except Exception as error:  # Pillow's decoders raise many kinds
        return _reason(error), kind, size, digest, None
    return None, kind, size, digest, np.asarray(small)


def _reason(error):
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is no image"
    return " ".join(str(error).split()) or type(error).__name__
