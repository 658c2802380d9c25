"""What an index is and what was done to it, for people and programs."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from topdb_tf.embed.errors import Failure, failure_lines
from topdb_tf.files import plain, sha256_of
from topdb_tf.runs.models import weights_of
from topdb_tf.search.changes import check_index
from topdb_tf.search.index import SearchIndex
from topdb_tf.search.manifest import Manifest
from topdb_tf.search.milvus.place import MilvusPlace
from topdb_tf.texts import duration_text, size_text


@dataclass(frozen=True)
class Change:
    """What was done to an index; a value is `None` if it was something else.

    Removed images that are dropped are gone from the disk, too.
    """

    num_added: int | None = None
    failures: Sequence[Failure] | None = None
    seconds: float | None = None
    num_replaced: int | None = None
    removed: list[str] | None = None
    num_dropped: int | None = None

    def lines(self) -> list[str]:
        """Returns what is said to people."""
        lines = failure_lines(self.failures or ())
        if self.num_added is not None:
            line = f"{self.num_added:,} images added"
            if self.num_replaced:
                line += f", {self.num_replaced:,} of them in the place of older ones"
            if self.seconds:
                line += f"; embedded in {duration_text(self.seconds)}"
            lines.append(line)
        if self.removed is not None:
            lines.append(f"{len(self.removed):,} images removed")
        if self.num_dropped is not None:
            lines.append(f"{self.num_dropped:,} removed images are gone from the disk")
        return lines


def cameras_file(folder: Path, model: Path) -> bytes:
    """Returns the camera statistics of an index, for an export of its model.

    The NPZ file has the names of the `cameras`; `means` and `deviations` of float64,
    a row for each of them and one for all others; and the `metric`: embeddings are
    divided by their lengths before, where it is "cosine".

    Raises:
        ValueError: If the index has no such statistics, or is of another model.
    """
    index = SearchIndex(folder, check=False)
    statistics, recorded = index.entries.statistics, index.manifest.model
    if statistics is None:
        raise ValueError(
            "--cameras takes an index that was built with --normalize-cameras. "
            f"Received: {folder}"
        )
    known = recorded and not recorded.pca and recorded.sha256
    if known != sha256_of(weights_of(model)):
        raise ValueError(
            "--cameras takes an index that was built with --model, by the model that "
            f"is exported, {model}, and without --pca. Received: {folder}, of "
            f"{recorded.name if recorded else 'an unknown model'}"
        )
    names, file = index.entries.names.cameras, io.BytesIO()
    cameras = [names.get(camid, str(camid)) for camid in statistics.camids.tolist()]
    _, means, deviations = statistics
    arrays = {"means": means, "deviations": deviations}
    np.savez(file, cameras=cameras, metric=index.manifest.metric, **arrays)
    return file.getvalue()


@dataclass(frozen=True)
class IndexOverview:
    """What an index is, how many images are in it, and what was just done to it.

    Unindexed images are compared one by one until FAISS is given them.
    """

    folder: Path | MilvusPlace
    manifest: Manifest
    num_images: int
    change: Change
    num_removed: int = 0
    num_unindexed: int = 0
    num_pids: int | None = None
    num_camids: int | None = None
    checked: bool = False

    def to_dict(self) -> dict:
        """Returns what `--json` prints."""
        manifest, model, change = self.manifest, self.manifest.model, plain(self.change)
        return {
            "index": str(self.folder),
            "kind": manifest.kind,
            "parameters": manifest.parameters,
            "metric": manifest.metric,
            "normalize_cameras": manifest.is_by_camera,
            "dim": manifest.dim,
            "date": manifest.date,
            "num_images": self.num_images,
            "num_removed": self.num_removed,
            "num_unindexed": self.num_unindexed,
            "num_pids": self.num_pids,
            "num_camids": self.num_camids,
            "model": model and {"name": model.name, "sha256": model.sha256},
            "bytes_on_disk": manifest.files.bytes_on_disk,
            "bytes_in_memory": manifest.files.bytes_in_memory,
            "checked": self.checked,
            **{name: value for name, value in change.items() if value is not None},
        }

    def lines(self) -> list[str]:
        """Returns what is said to people."""
        manifest, files = self.manifest, self.manifest.files
        settings = [f" {name}={value}" for name, value in manifest.parameters.items()]
        lines = [
            *self.change.lines(),
            f"{self.folder}: {manifest.kind}{''.join(settings)}, "
            f"{manifest.metric} distance, {manifest.dim} numbers an image"
            f"{', normalised by camera' * manifest.is_by_camera}",
            f"  {self.num_images:,} images{self._people()}",
            f"  model: {manifest.model.name if manifest.model else 'not known'}",
        ]
        if files.features is not None:
            lines.append(
                f"  {size_text(files.bytes_on_disk)} on disk, about "
                f"{size_text(files.bytes_in_memory)} in memory"
            )
        if self.num_unindexed:
            lines.append(f"  {self.num_unindexed:,} new images are compared one by one")
        if self.num_removed:
            lines.append(
                f"  {self.num_removed:,} removed images are still on the disk; "
                f"`topdb-tf index compact {self.folder}` clears them away"
            )
        if self.checked:
            lines.append("  all files are as they were written")
        return lines

    def _people(self):
        if self.num_pids is None:
            return ""
        return f", {self.num_pids:,} persons, {self.num_camids:,} cameras"


def collection_overview(index, change: Change | None = None) -> IndexOverview:
    """Returns what an open `MilvusIndex` is; persons and cameras are not counted."""
    return IndexOverview(
        folder=index.folder,
        manifest=index.manifest,
        num_images=len(index),
        change=change or Change(),
    )


def overview_of(
    folder: Path, change: Change = Change(), *, check: bool = False
) -> IndexOverview:
    """Returns what an index is, and if asked compares its files with their checksums.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If a file of it is damaged or foreign.
    """
    if check:
        check_index(folder)
    index = SearchIndex(folder, check=False)
    manifest, entries = index.manifest, index.entries
    live = entries.live_rows()
    indexed = manifest.num_rows
    if manifest.approximate_rows is not None:
        indexed = manifest.approximate_rows
    return IndexOverview(
        folder=folder,
        manifest=manifest,
        num_images=len(live),
        num_removed=len(entries.ids) - len(live),
        num_unindexed=int(entries.is_live[indexed:].sum()),
        num_pids=_num_known(entries.pids[live]),
        num_camids=_num_known(entries.camids[live]),
        checked=check,
        change=change,
    )


def _num_known(numbers):
    return len(np.unique(numbers[numbers >= 0]))
