"""The images of a data set in one row, as the checks of their contents take them."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from topdb_tf.data.market import PARTS
from topdb_tf.data.records import Split, camids_of, pids_of


class ImageIndex:
    """All images of a data set in one row: training, queries, gallery."""

    def __init__(self, split: Split):
        self.records = split.records
        self.paths = [record.path for record in self.records]
        self.pids, self.camids = pids_of(self.records), camids_of(self.records)
        counts = [len(split.part(part)) for part in PARTS]
        self.parts = np.repeat(list(PARTS), counts)
        self.is_trained = self.parts == "train"
        self._split = split

    def pid_name(self, index: int) -> str:
        """Returns the owner's name of the person in an image."""
        return self._split.pid_name(self.records[index].pid)

    def camera_name(self, index: int) -> str:
        """Returns the owner's name of the camera of an image."""
        return self._split.camera_name(self.records[index].camid)

    def group(self, indices: Iterable[int]) -> tuple[Path, ...]:
        """Returns the files of some images."""
        return tuple(self.paths[index] for index in indices)
