"""The image files that a user names."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from topdb_tf.data.market import is_image, is_left_out
from topdb_tf.files import files_below


class ImageList(NamedTuple):
    """Image files, sorted within each folder, and what lay among them."""

    paths: tuple[Path, ...]
    skipped: tuple[Path, ...]


def checked_places(images, query, gallery) -> tuple[Path, ...]:
    """Returns the images, or query and gallery where those are named instead.

    Raises:
        ValueError: If there are both, or neither.
    """
    pair = (query, gallery)
    if bool(images) == any(pair) or (any(pair) and not all(pair)):
        raise ValueError(
            "Name either images or both --query and --gallery. "
            f"Received: {len(images)} images, query={query}, gallery={gallery}"
        )
    return tuple(images) or pair


def list_images(places: Sequence[Path]) -> ImageList:
    """Returns the image files in files and folders, the latter with all below them.

    A file given twice is taken once. Hidden folders below are left out, as where a
    data set is read.

    Raises:
        FileNotFoundError: If a place does not exist.
        ValueError: If there is no image in all of them.
    """
    files = []
    for place in map(Path, places):
        if not place.exists():
            raise FileNotFoundError(f"There is no image file or folder {place}.")
        files += _files_below(place) if place.is_dir() else [place]
    files = list(dict.fromkeys(files))
    paths = tuple(path for path in files if is_image(path))
    if not paths:
        raise ValueError(
            "There must be an image, a JPEG or PNG file (.jpg, .jpeg, .png). Received: "
            f" {', '.join(str(place) for place in places) or 'nothing'}"
        )
    return ImageList(paths, tuple(path for path in files if not is_image(path)))


def _files_below(folder):
    for path in files_below(folder):
        if not any(map(is_left_out, path.relative_to(folder).parents)):
            yield path
