"""Puts the archive of a public data set where it belongs, and counts it."""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from topdb_tf.data.archives.archive import open_archive, unpack
from topdb_tf.data.benchmarks import DATASETS, data_root, first_folder
from topdb_tf.data.checks.check import CheckResult, check_data
from topdb_tf.data.market import PARTS, is_image
from topdb_tf.data.records import ArchiveCard, DatasetCard, load_card
from topdb_tf.progress import progress_bar


class Kind(NamedTuple):
    """An archive, by the name that `--dataset` has for it, of one or more data sets."""

    name: str
    entries: tuple[tuple[DatasetCard, ArchiveCard], ...]

    @property
    def folder(self) -> str:
        """The folder below the data root that it becomes."""
        return self.entries[0][1].folder


@dataclass(frozen=True)
class PrepareResult:
    """What was unpacked, and what is to be done next: commands and instructions.

    Checks are what `check_data` finds in each data set that can be read now. Files of
    the archive that do not belong to it are left out.
    """

    kind: str
    archive: Path
    folder: Path
    files: int
    bytes: int
    left_out: int
    checks: dict[str, CheckResult]
    next: tuple[str, ...]
    seconds: float

    @property
    def is_complete(self) -> bool:
        """Whether what was unpacked is what the cards say."""
        return not any(check.num("error") for check in self.checks.values())

    def lines(self) -> list[str]:
        """Returns what was unpacked, and what comes next, for people."""
        lines = [
            f"{self.kind}: {self.files:,} files, {self.bytes / 2**20:,.0f} MiB, in "
            f"{self.folder} ({self.seconds:.1f} s)"
        ]
        if self.left_out:
            lines.append(f"left out: {self.left_out:,} files that do not belong to it")
        for dataset, check in self.checks.items():
            errors = [one for one in check.findings if one.severity == "error"]
            parts = [f"{part} {one.images:,}" for part, one in check.parts.items()]
            state = "NOT COMPLETE" if errors else "complete"
            lines.append(f"{dataset}: {', '.join(parts)} images, {state}")
            lines += [f"error: {one.message} {one.fix}" for one in errors]
        return [*lines, "next:", *(f"    {step}" for step in self.next)]


def prepare(
    archive_path: Path, root: Path | None = None, *, dataset: str | None = None
) -> PrepareResult:
    """Unpacks the archive of a public data set, and counts its images.

    Nothing is downloaded, the archive stays as it is, and nothing is left of one that
    cannot be unpacked safely and whole. Its members tell what it is, or `dataset` names
    the `Kind`: then images in the layout of Market-1501 may have whatever names.
    """
    start, root, archive_path = time.monotonic(), data_root(root), Path(archive_path)
    kinds = archive_kinds()
    if dataset is not None and dataset not in [kind.name for kind in kinds]:
        raise ValueError(
            f"The data set must be one of {', '.join(kind.name for kind in kinds)}. "
            f"Received: dataset={dataset!r}"
        )
    with open_archive(archive_path) as archive:
        kind, folder = _recognised(archive, kinds, dataset)
        _check_absent(kind, root)
        members, target = archive.members_below(folder), root / kind.folder
        with progress_bar(f"unpacking {kind.name} (MiB)") as progress:
            unpack(archive, folder, target, progress=progress)
    checks = {
        card.name: check_data(card.name, root, quick=True)
        for card, archive_card in kind.entries
        if not archive_card.needs
        and all((target / item).exists() for item in _holds(archive_card))
    }
    return PrepareResult(
        kind=kind.name,
        archive=archive_path,
        folder=target,
        files=len(members),
        bytes=sum(member.size for member in members),
        left_out=len(archive.members) - len(members),
        checks=checks,
        next=tuple(_next_steps(kind, root, checks)),
        seconds=round(time.monotonic() - start, 1),
    )


def archive_kinds() -> list[Kind]:
    """Returns the kinds of archives that the cards of all data sets tell."""
    entries = {}
    for card in map(load_card, DATASETS):
        for archive_card in card.archives:
            entries.setdefault(archive_card.name, []).append((card, archive_card))
    return [Kind(name, tuple(pairs)) for name, pairs in entries.items()]


def _recognised(archive, kinds, dataset):
    """Returns what an archive holds, and the folder in it that is to be unpacked."""
    contents = _contents(archive)
    found = {
        (kind.name, folder): kind
        for kind in kinds
        if dataset in (None, kind.name)
        for _, archive_card in kind.entries
        for folder in _folders_of(archive_card, contents, any_names=dataset is not None)
    }
    if len(found) != 1:
        names = ", ".join(sorted(name for name, _ in found)) or "none of them"
        raise ValueError(
            f"{archive.path} must hold {dataset or 'one of the known data sets, once'}."
            f" Known are {', '.join(kind.name for kind in kinds)}; --dataset says "
            "which it is. Anything else is unpacked by hand: datasets/README.md shows "
            f"the folders. Received: {len(archive.members):,} files, {names}"
        )
    (((name, folder), kind),) = found.items()
    members = archive.members_below(folder)
    total, most = sum(member.size for member in members), kind.entries[0][1]
    if len(members) > most.max_files or total > most.max_gib << 30:
        raise ValueError(
            f"{archive.path} must not hold much more than {name} has. Received: "
            f"{len(members):,} files of {total:,} bytes"
        )
    return kind, folder


def _contents(archive):
    """Returns the files, and the folders with the names of the images below each."""
    contents = {}
    for member in archive.members_below(""):
        contents[member.name] = []
        path = Path(member.name)
        if is_image(path):
            for folder in path.parents[:-1]:
                contents.setdefault(f"{folder.as_posix()}/", []).append(path.name)
    return contents


def _folders_of(archive_card: ArchiveCard, contents, *, any_names):
    """Yields the folders of an archive that hold what a card tells."""
    first, *others = _holds(archive_card)
    for path, names in contents.items():
        folder = path.removesuffix(first)
        is_whole = path == folder + first and folder[-1:] in ("", "/")
        if not is_whole or any(folder + other not in contents for other in others):
            continue
        matching = sum(bool(re.match(archive_card.images, name)) for name in names)
        if any_names or 2 * matching >= len(names):
            yield folder


def _holds(archive_card: ArchiveCard):
    return archive_card.holds or tuple(f"{folder}/" for folder in PARTS.values())


def _check_absent(kind, root):
    places = [root / kind.folder]
    for card, archive_card in kind.entries:
        if not archive_card.needs:
            places += [first_folder(root, card)]
    there = [place for place in places if place and os.path.lexists(place)]
    if there:
        raise FileExistsError(
            f"{kind.name} is there already, in {there[0]}; nothing is overwritten. "
            "Remove it first, or name another --data-root."
        )


def _next_steps(kind, root, checks):
    folder = root / kind.folder
    needed = [name for _, archive_card in kind.entries for name in archive_card.needs]
    places = (folder.parent, folder)
    missing = [n for n in needed if not any((place / n).is_file() for place in places)]
    if missing:
        yield (
            f"put {' and '.join(missing)} into {folder.parent}: datasets/README.md "
            "says where they are"
        )
    for name in list(checks) or [card.name for card, _ in kind.entries]:
        yield f"topdb-tf data check {name} --data-root {root}"
        yield f"topdb-tf fit --dataset {name} --data-root {root}"
