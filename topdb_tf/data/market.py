"""The layout of Market-1501: three folders, and names that tell person and camera."""

import re
from pathlib import Path

from topdb_tf.data.records import ImageRecord, Split

PARTS = {
    "train": "bounding_box_train",
    "query": "query",
    "gallery": "bounding_box_test",
}
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
JUNK_PID = -1  # detections of too low quality

_NAME_PATTERN = re.compile(r"(-1|\d+)_c(\d+)(?!\d)")


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
    parts = {part: _read_folder(folder / PARTS[part]) for part in PARTS}
    return Split(name, **parts)


def is_image(path: Path) -> bool:
    """Returns whether a file is an image by its name, and not a hidden one."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def record_of(path: Path) -> ImageRecord:
    """Returns the person and the camera that the name of an image tells.

    Raises:
        ValueError: If it does not tell them.
    """
    match = _NAME_PATTERN.match(path.name)
    if match is None:
        raise ValueError(
            "The name of an image must start with <pid>_c<camid>, as in "
            "0002_c1s1_000451_03.jpg. Rename or remove it; datasets/README.md shows "
            f"the expected folders. Received: path={path}"
        )
    return ImageRecord(path, pid=int(match[1]), camid=int(match[2]))


def holds_part(folder: Path) -> bool:
    """Returns whether a folder holds at least one part of a data set."""
    return any((folder / part).is_dir() for part in PARTS.values())


def _read_folder(folder: Path) -> tuple[ImageRecord, ...]:
    if not folder.is_dir():
        return ()
    paths = sorted(path for path in folder.iterdir() if is_image(path))
    records = (record_of(path) for path in paths)
    return tuple(record for record in records if record.pid != JUNK_PID)
