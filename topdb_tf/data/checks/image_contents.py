"""What image files are: their size, format and content, or why they cannot be read."""

import contextlib
import hashlib
import io
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

THUMBNAIL = (24, 12)  # height and width in pixels


class ImageContents(NamedTuple):
    """What a number of image files are; place `i` of each is of file `i`.

    An error says why a file is refused. Formats are Pillow's names, such as "JPEG",
    sizes height and width in pixels, thumbnails RGB, and digests BLAKE2 of the bytes;
    where they are not known they are empty, 0 and black. The orientation is how the
    camera was held, as EXIF notes it: 1 is upright, and where there is no note.
    """

    errors: list[str | None]
    formats: list[str]
    sizes: np.ndarray
    digests: list[bytes]
    thumbnails: np.ndarray
    orientations: np.ndarray

    @property
    def is_readable(self) -> np.ndarray:
        """Which files the decoder reads, bool of shape `(num_images,)`."""
        return np.array([error is None for error in self.errors], dtype=bool)


def image_contents(
    paths: Sequence[Path], *, progress: Callable[[int, int], None] | None = None
) -> ImageContents:
    """Reads and decodes each file once, on all processor cores.

    They are decoded as for a training, so what that refuses is an error here. The
    memory that is kept is 864 bytes an image, and the results' own.
    `progress` is called with the numbers of images done and to do.
    """
    total = len(paths)
    contents = ImageContents(
        [None] * total,
        [""] * total,
        np.zeros((total, 2), np.int32),
        [b""] * total,
        np.zeros((total, *THUMBNAIL, 3), np.uint8),
        np.ones(total, np.int64),
    )
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as threads:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        read = threads.map(_content_of, paths)
        for index, (error, kind, size, digest, thumbnail, turn) in enumerate(read):
            contents.orientations[index] = turn
            contents.errors[index], contents.formats[index] = error, kind
            contents.sizes[index], contents.digests[index] = size, digest
            if thumbnail is not None:
                contents.thumbnails[index] = thumbnail
            if progress is not None and (index % 64 == 63 or index == total - 1):
                progress(index + 1, total)
    return contents


def _content_of(path):
    """Returns error, format, size, digest, thumbnail and orientation of a file."""
    from topdb_tf.data.checks.image_faults import decode_contents

    kind, size, turn = "", (0, 0), 1
    try:
        contents = Path(path).read_bytes()
    except FileNotFoundError:
        return "there is no such file", kind, size, b"", None, turn
    except OSError as error:
        return error.strerror or type(error).__name__, kind, size, b"", None, turn
    digest = hashlib.blake2b(contents, digest_size=16).digest()
    with contextlib.suppress(Exception):  # Pillow's decoders raise many kinds
        with Image.open(io.BytesIO(contents)) as image:
            kind, size = image.format or "", (image.height, image.width)
            note = image.getexif().get(ExifTags.Base.Orientation)
            turn = note if note in range(2, 9) else 1
    pixels, fault = decode_contents(contents)
    if fault:
        return fault, kind, size, digest, None, turn
    small = Image.fromarray(pixels).resize(THUMBNAIL[::-1], Image.Resampling.BOX)
    return None, kind, pixels.shape[:2], digest, np.asarray(small), turn
