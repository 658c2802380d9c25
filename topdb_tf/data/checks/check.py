"""Looks a data set over, and tells what was found."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from topdb_tf.data.benchmarks import data_root, dataset_name
from topdb_tf.data.checks.contents import check_images
from topdb_tf.data.checks.copies import check_copies, check_near_duplicates
from topdb_tf.data.checks.findings import SEVERITIES, Finding
from topdb_tf.data.checks.image_contents import image_contents
from topdb_tf.data.checks.image_index import ImageIndex
from topdb_tf.data.checks.listing import Listing, list_dataset
from topdb_tf.data.checks.names import check_names
from topdb_tf.data.checks.split import check_split
from topdb_tf.data.market import DISTRACTOR_PID, PARTS
from topdb_tf.data.records import PartCounts
from topdb_tf.files import plain
from topdb_tf.progress import progress_bar
from topdb_tf.texts import Table, counted


@dataclass(frozen=True)
class Spread:
    """How many images the identities of a part have, distractors left out."""

    min: int
    median: float
    max: int


@dataclass(frozen=True)
class PartSummary:
    """How much a part of a data set holds, pid 0 counted as one identity.

    Distractors are images of pid 0. What is expected is `None` where no card tells it.
    """

    images: int
    pids: int
    cameras: int
    distractors: int
    images_per_pid: Spread | None
    expected: PartCounts | None

    def to_dict(self) -> dict[str, Any]:
        """Returns what `--json` prints of it."""
        entries = asdict(self)
        if self.expected is None:
            del entries["expected"]
        return entries


@dataclass(frozen=True)
class CheckResult:
    """What was found in the file or folder of a data set: the worst first."""

    dataset: str
    source: Path
    parts: dict[str, PartSummary]
    findings: tuple[Finding, ...]
    num_opened: int
    seconds: float
    montage: Path | None = None

    def num(self, severity: str) -> int:
        """Returns the number of findings that are as severe as that."""
        return sum(finding.severity == severity for finding in self.findings)

    def exit_status(self, *, strict: bool = False) -> int:
        """Returns 1 if there are errors, or in strict use warnings, else 0."""
        return int(self.num("error") > 0 or (strict and self.num("warning") > 0))

    def to_dict(self) -> dict[str, Any]:
        """Returns what `--json` prints."""
        entries = {
            "dataset": self.dataset,
            "source": str(self.source),
            "parts": plain(self.parts),
            "findings": plain(self.findings),
            "counts": {severity: self.num(severity) for severity in SEVERITIES},
            "num_opened": self.num_opened,
            "seconds": self.seconds,
        }
        return entries | ({"montage": str(self.montage)} if self.montage else {})

    def lines(self) -> list[str]:
        """Returns the counts as a table, and the findings, for people."""
        lines = [f"{self.dataset}  {self.source}", "", *self._table(), ""]
        for finding in self.findings:
            lines.append(f"{finding.severity}: {finding.message}  [{finding.kind}]")
            if finding.fix:
                lines.append(f"    {finding.fix}")
        if self.findings:
            lines.append("")
        counts = [counted(self.num(severity), severity) for severity in SEVERITIES]
        opened = f"{self.num_opened:,} images" if self.num_opened else "no image"
        lines.append(f"{', '.join(counts)}; {opened} opened in {self.seconds:.1f} s")
        if self.montage:
            lines.append(f"montage: {self.montage}")
        return lines

    def _table(self):
        head = ["", "images", "identities", "cameras", "images/identity", "distractors"]
        rows = []
        for part, summary in self.parts.items():
            spread, spread_cell = summary.images_per_pid, "-"
            if spread:
                spread_cell = f"{spread.min} / {spread.median:g} / {spread.max}"
            numbers = (summary.images, summary.pids, summary.cameras)
            cells = [f"{number:,}" for number in numbers]
            rows.append([part, *cells, spread_cell, f"{summary.distractors:,}"])
        table = Table("", head, rows).text(numbers_right=True)
        return [*table, f"{'':7}  images/identity: least / median / most"]


def check_data(
    dataset: str,
    root: Path | None = None,
    *,
    quick: bool = False,
    images_per_pid: int = 4,
    batch_size: int | None = None,
    ignore_cameras: bool = False,
    montage: Path | None = None,
    load_decoder: Callable[[], None] | None = None,
    **reading,
) -> CheckResult:
    """Looks a data set over; changes nothing in it.

    Args:
        dataset: A benchmark below the data root, else a file or folder.
        root: Folder of all benchmarks.
        quick: Whether to look at names and counts alone and open no image.
        images_per_pid: Images of each identity in a batch of the training.
        batch_size: Images in such a batch; without, any number will do.
        ignore_cameras: Whether an image of the query's own camera is a match, too.
        montage: Where to draw identities and the worst findings; opens images.
        load_decoder: Called before images are opened, which takes TensorFlow.
        **reading: What `topdb_tf.data.benchmarks.read_split` takes of one's own images.
    """
    _check_montage(montage, quick)
    start = time.monotonic()
    name = dataset_name(dataset)
    reading["ignore_cameras"] = ignore_cameras
    with progress_bar(f"listing {name}") as progress:
        listing = list_dataset(dataset, data_root(root), progress=progress, **reading)
    split, findings = listing.split, list(listing.findings)
    if split.records or not findings:
        alike = ignore_cameras or not split.has_cameras
        findings += check_split(
            split,
            images_per_pid=images_per_pid,
            batch_size=batch_size,
            ignore_cameras=alike,
        )
        findings += check_names(split, listing.card)
    images, opens = ImageIndex(split), bool(split.records) and not quick
    if opens:
        if load_decoder is not None:
            load_decoder()
        with progress_bar(f"opening {name}") as progress:
            contents = image_contents(images.paths, progress=progress)
        findings += check_images(images, contents) + check_copies(images, contents)
        with progress_bar(f"comparing {name}") as progress:
            findings += check_near_duplicates(images, contents, progress=progress)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    if montage is not None and opens:
        from topdb_tf.data.checks.montage import draw_montage

        draw_montage(montage, images, contents, findings, name)
    return CheckResult(
        dataset=name,
        source=listing.source,
        parts={part: _summary(listing, part) for part in PARTS},
        findings=tuple(findings),
        num_opened=len(images.records) if opens else 0,
        seconds=round(time.monotonic() - start, 1),
        montage=montage if opens else None,
    )


def _check_montage(path, quick):
    if path is None:
        return
    from topdb_tf.drawing.style import check_format

    check_format(path)
    if quick:
        raise ValueError(
            "A montage needs the images. Leave out --quick. Received: --quick --montage"
        )


def _summary(listing: Listing, part: str) -> PartSummary:
    records = listing.split.part(part)
    known = Counter(one.pid for one in records if one.pid != DISTRACTOR_PID).values()
    counts = listing.split.counts(part)
    return PartSummary(
        images=counts.images,
        pids=counts.pids,
        cameras=len({record.camid for record in records}),
        distractors=counts.images - sum(known),
        images_per_pid=(
            Spread(min(known), float(median(known)), max(known)) if known else None
        ),
        expected=listing.card.parts.get(part) if listing.card else None,
    )
