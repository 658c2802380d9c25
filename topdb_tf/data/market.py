"""The layout of Market-1501: three folders, and names that tell person and camera."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from topdb_tf.data.records import ImageRecord, Split
from topdb_tf.files import files_below
from topdb_tf.texts import listed

PARTS = {
    "train": "bounding_box_train",
    "query": "query",
    "gallery": "bounding_box_test",
}
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
OTHER_FORMATS = (".bmp", ".gif", ".tif", ".tiff", ".webp", ".jfif", ".heic", ".avif")
JUNK_PID = -1  # detections of too low quality, left out
DISTRACTOR_PID = 0  # persons that no query asks for, many in one number

_SYSTEM_FOLDERS = {"__MACOSX", "@eaDir", "@Recycle", "#recycle", "$RECYCLE.BIN"}
_SYSTEM_FOLDERS |= {"System Volume Information", "lost+found"}
_NAME_PATTERN = re.compile(r"(-1|\d{1,18})_c(\d{1,18})(?!\d)")


class PartFolder(NamedTuple):
    """What lies in the folder of one part, sorted by file name.

    Beside the images that are used, that is junk of pid -1, images whose names do not
    tell person and camera, and others: files that are no images, and folders.
    """

    records: tuple[ImageRecord, ...]
    junk: tuple[Path, ...]
    unnamed: tuple[Path, ...]
    others: tuple[Path, ...]

    @property
    def pictures(self) -> list[Path]:
        """Images of other formats among the others, which are not read."""
        suffixes = ((path, path.suffix.lower()) for path in self.others)
        return [p for p, end in suffixes if end in OTHER_FORMATS and p.is_file()]

    @property
    def nested(self) -> list[Path]:
        """The folders among the others that hold images, which are not read."""
        folders = [path for path in self.others if path.is_dir()]
        return [
            folder
            for folder in folders
            if not is_left_out(folder) and any(map(is_image, files_below(folder)))
        ]


def read_market_layout(folder: Path, *, name: str) -> Split:
    """Reads a folder in the layout of Market-1501.

    The folder holds `bounding_box_train`, `query` and `bounding_box_test`; a part
    that is missing is read as empty. The file name alone tells the person and the
    camera: `0002_c1s1_000451_03.jpg` is person 2 seen by camera 1. Images of pid -1,
    detections of too low quality, are left out; pid 0, distractors, is kept. Hidden
    files and files that are not images (`Thumbs.db`) are skipped. Records are sorted
    by file name.

    Args:
        folder: The folder that holds the three parts.
        name: Name of the split.

    Raises:
        ValueError: If the name of an image does not tell its person and camera.
        FileNotFoundError: If the folder holds none of the parts.
    """
    folder = Path(folder)
    if not holds_part(folder):
        raise FileNotFoundError(
            f"The folder of {name} must hold {', '.join(PARTS.values())}. "
            f"datasets/README.md shows the expected folders. Received: folder={folder}"
        )
    parts, pictures = {}, []
    for part in PARTS:
        content = list_part(folder, part)
        if content.unnamed:
            raise ValueError(_unnamed_message(content.unnamed[0]))
        if nested := content.nested:
            raise ValueError(
                f"{folder / PARTS[part]} must hold its images itself: names alone tell "
                "the person here. Move them up; or, where all images lie in a folder a "
                f"person, name the folder of the three: --dataset {folder}. Received: "
                f"folders of images, {listed([path.name for path in nested], 3)}"
            )
        parts[part], pictures = content.records, pictures + content.pictures
    return Split(name, **parts, notes=tuple(note_of_other_formats(pictures)))


def list_part(folder: Path, part: str) -> PartFolder:
    """Lists the folder of "train", "query" or "gallery"; empty if it is missing."""
    folder, images, others = folder / PARTS[part], [], []
    if folder.is_dir():
        with os.scandir(folder) as entries:
            for entry in entries:
                path = folder / entry.name
                is_read = is_image(path) and not entry.is_dir()
                (images if is_read else others).append(path)
    records, unnamed = [], []
    for path in sorted(images):
        try:
            records.append(record_of(path))
        except ValueError:
            unnamed.append(path)
    known = tuple(record for record in records if record.pid != JUNK_PID)
    junk = tuple(record.path for record in records if record.pid == JUNK_PID)
    return PartFolder(known, junk, tuple(unnamed), tuple(sorted(others)))


def is_image(path: Path) -> bool:
    """Returns whether a file is an image by its name, and not a hidden one."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def note_of_other_formats(paths: Sequence[Path]) -> list[str]:
    """Returns a note of images that are not read, if there are any."""
    if not paths:
        return []
    names = listed([path.name for path in paths], 3)
    return [
        f"NOT READ, as neither JPEG nor PNG: {names}. Save them as .jpg or .png, if "
        "they should count."
    ]


def tells_person(path: Path) -> bool:
    """Returns whether the name of an image tells its person and camera."""
    return _NAME_PATTERN.match(path.name) is not None


def is_left_out(folder: Path) -> bool:
    """Returns whether a folder is a hidden one, or one that a system puts its own in.

    Those of Jupyter, macOS and network stores hold copies and previews of images.
    """
    return folder.name.startswith(".") or folder.name in _SYSTEM_FOLDERS


def record_of(path: Path) -> ImageRecord:
    """Returns the person and the camera that the name of an image tells.

    Raises:
        ValueError: If it does not tell them.
    """
    match = _NAME_PATTERN.match(path.name)
    if match is None:
        raise ValueError(_unnamed_message(path))
    return ImageRecord(path, pid=int(match[1]), camid=int(match[2]))


def holds_part(folder: Path) -> bool:
    """Returns whether a folder holds at least one part of a data set."""
    return any((folder / part).is_dir() for part in PARTS.values())


def _unnamed_message(path):
    return (
        "The name of an image must start with <pid>_c<camid>, as in "
        "0002_c1s1_000451_03.jpg. Rename or remove it; datasets/README.md shows the "
        f"expected folders. Received: path={path}"
    )
