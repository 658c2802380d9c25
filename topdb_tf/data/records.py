"""Records of images and of the three parts of a re-identification data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np


class ImageRecord(NamedTuple):
    """One image of one person seen by one camera.

    Args:
        path: The image file.
        pid: Person identity, the number in the file name; 0 is a distractor, seen
            only in a gallery.
        camid: Camera, the number in the file name.
    """

    path: Path
    pid: int
    camid: int


@dataclass(frozen=True)
class Split:
    """The training images, queries and gallery of one benchmark.

    Args:
        name: Name of the split, as in `topdb_tf.data.benchmarks.SPLITS`.
        train: Training images; their pids never occur in `query`.
        query: Images whose persons are to be found.
        gallery: Images that are ranked for each query.
    """

    name: str
    train: tuple[ImageRecord, ...]
    query: tuple[ImageRecord, ...]
    gallery: tuple[ImageRecord, ...]

    @property
    def num_pids(self) -> int:
        """Number of training identities, the size of a classifier."""
        return len({record.pid for record in self.train})


def pids_of(records: tuple[ImageRecord, ...]) -> np.ndarray:
    """Returns the person identities of the records, int64 of shape `(num_images,)`."""
    return np.array([record.pid for record in records], dtype=np.int64)


def camids_of(records: tuple[ImageRecord, ...]) -> np.ndarray:
    """Returns the cameras of the records, int64 of shape `(num_images,)`."""
    return np.array([record.camid for record in records], dtype=np.int64)


def labels_of(records: tuple[ImageRecord, ...]) -> np.ndarray:
    """Returns the training label of each record: the rank of its pid among all.

    Labels are 0 … num_pids - 1 in the order of the sorted pids, so they are the same
    on every machine.

    Returns:
        int32 array of shape `(num_images,)`.

    Example:
        >>> from topdb_tf.data.records import ImageRecord, labels_of
        >>> labels_of([ImageRecord("a", 7, 1), ImageRecord("b", 2, 1)])
        array([1, 0], dtype=int32)
    """
    _, labels = np.unique(pids_of(records), return_inverse=True)
    return labels.astype(np.int32)
