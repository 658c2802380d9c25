"""Looks a data set over before a night of training."""

import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from topdb_tf.data.records import ImageRecord, Split


class Finding(NamedTuple):
    """Something about a data set that its user should know.

    Args:
        severity: "error": nothing sound can come of the data set as it is;
            "warning": it can be used, but not as one might think; "note": it is as it
            is, and good to know.
        message: What is the case.
        fix: What to do about it.
        kind: Short name of what was looked for, such as "unreadable".
        groups: The files in question; those that belong together, such as a pair of
            the same content, are one group.
    """

    severity: str
    message: str
    fix: str
    kind: str = ""
    groups: tuple[tuple[Path, ...], ...] = ()


class Unreadable(NamedTuple):
    """An image file that cannot be decoded.

    Args:
        path: The file.
        reason: What the decoder says.
    """

    path: Path
    reason: str


def check_split(
    split: Split, *, images_per_pid: int, ignore_cameras: bool = False
) -> list[Finding]:
    """Finds what would spoil a training or an evaluation; opens no image.

    A query has a valid match if the gallery shows its person by another camera.

    Args:
        split: The data set.
        images_per_pid: Images of each identity in a batch.
        ignore_cameras: Whether an image of the query's own camera is a match, too.

    Returns:
        The errors, then the warnings.

    Example:
        >>> from topdb_tf.data.checks.split import check_split
        >>> from topdb_tf.data.records import ImageRecord, Split
        >>> train = (ImageRecord("a", 1, 1), ImageRecord("b", 1, 2))
        >>> test = (ImageRecord("c", 2, 1),), (ImageRecord("d", 2, 2),)
        >>> [finding] = check_split(Split("own", train, *test), images_per_pid=4)
        >>> finding.message
        '1 of the 1 training identities have fewer than 4 images (pid 1).'
    """
    findings = [
        *_empty_parts(split),
        *_shared_pids(split),
        *_missing_matches(split, ignore_cameras=ignore_cameras),
        *_scarce_pids(split, images_per_pid),
    ]
    return sorted(findings, key=lambda finding: finding.severity)


def find_unreadable(records: Iterable[ImageRecord]) -> list[Unreadable]:
    """Decodes every image and returns those that are missing, damaged or cut short.

    Returns:
        The files in the order of the records, each named once.
    """
    paths = list(dict.fromkeys(record.path for record in records))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        reasons = threads.map(_decoding_error, paths)
        return [
            Unreadable(path, reason)
            for path, reason in zip(paths, reasons, strict=True)
            if reason is not None
        ]


def _empty_parts(split: Split) -> list[Finding]:
    return [
        Finding(
            "error",
            f"{split.name} has no {part} images.",
            "Add them; datasets/README.md shows the expected folders.",
            kind="empty",
        )
        for part in ("train", "query", "gallery")
        if not getattr(split, part)
    ]


def _shared_pids(split: Split) -> list[Finding]:
    test_pids = {record.pid for record in split.query + split.gallery}
    shared = {record.pid for record in split.train} & test_pids
    if not shared:
        return []
    return [
        Finding(
            "error",
            f"{len(shared):,} identities occur in training and in test "
            f"({_listed(shared, split)}), so the scores would not be of unseen "
            "persons.",
            "Give every person to one side only, or another number if two persons "
            "have the same one.",
            kind="shared-pids",
            groups=_grouped(split.train, shared),
        )
    ]


def _missing_matches(split: Split, *, ignore_cameras: bool) -> list[Finding]:
    if not (split.query and split.gallery):
        return []
    cameras = {record.camid for record in split.query + split.gallery}
    if len(cameras) == 1 and not ignore_cameras:
        return [_one_camera(cameras.pop())]
    unmatched = _unmatched(split, ignore_cameras)
    where = "in the gallery" if ignore_cameras else "seen by another camera"
    if len(unmatched) == len(split.query):
        return [
            Finding(
                "error",
                f"No query has a match {where}, so nothing can be scored.",
                "Check that query and gallery give the same person the same pid, and "
                "each image the number of its camera.",
                kind="no-match",
                groups=tuple((record.path,) for record in unmatched),
            )
        ]
    if unmatched:
        pids = {record.pid for record in unmatched}
        return [
            Finding(
                "warning",
                f"{len(unmatched):,} of {len(split.query):,} queries have no match "
                f"{where} ({_listed(pids, split)}) and are not scored.",
                "Add such images to the gallery, if the scores should count them.",
                kind="no-match",
                groups=tuple((record.path,) for record in unmatched),
            )
        ]
    return []


def _one_camera(camid: int) -> Finding:
    return Finding(
        "error",
        f"All queries and gallery images are of camera {camid}, so no query has a "
        "match seen by another camera: the camera ids look constant.",
        "Give each image the number of its camera, or count matches of the same "
        "camera: --ignore-cameras (fit: --set evaluation.ignore_cameras=true).",
        kind="one-camera",
    )


def _unmatched(split: Split, ignore_cameras: bool) -> list[ImageRecord]:
    cameras_of = {}
    for record in split.gallery:
        cameras_of.setdefault(record.pid, set()).add(record.camid)
    return [
        record
        for record in split.query
        if not cameras_of.get(record.pid, set())
        - (set() if ignore_cameras else {record.camid})
    ]


def _scarce_pids(split: Split, images_per_pid: int) -> list[Finding]:
    num_images = Counter(record.pid for record in split.train)
    single = {pid for pid, count in num_images.items() if count == 1}
    scarce = {pid for pid, count in num_images.items() if 1 < count < images_per_pid}
    findings = []
    if single:
        findings.append(
            Finding(
                "warning",
                f"{len(single):,} of the {len(num_images):,} training identities have "
                f"a single image ({_listed(single, split)}).",
                "Add images: a batch repeats the only one, which teaches nothing about "
                "what stays the same between two images of a person.",
                kind="scarce-pids",
                groups=_grouped(split.train, single),
            )
        )
    if scarce:
        findings.append(
            Finding(
                "warning",
                f"{len(scarce):,} of the {len(num_images):,} training identities have "
                f"fewer than {images_per_pid} images ({_listed(scarce, split)}).",
                "Add images, or lower images_per_pid: their batches repeat images.",
                kind="scarce-pids",
                groups=_grouped(split.train, scarce),
            )
        )
    return findings


def _grouped(records: tuple[ImageRecord, ...], pids: set[int]) -> tuple:
    """Returns the files of each of some identities."""
    groups = {pid: [] for pid in sorted(pids)}
    for record in records:
        if record.pid in groups:
            groups[record.pid].append(record.path)
    return tuple(tuple(paths) for paths in groups.values())


def _listed(pids: set[int], split: Split, at_most: int = 5) -> str:
    first = sorted(pids)[:at_most]
    numbers = ", ".join(split.pid_names.get(pid, str(pid)) for pid in first)
    more = f" and {len(pids) - at_most:,} more" if len(pids) > at_most else ""
    return f"{'pid' if len(pids) == 1 else 'pids'} {numbers}{more}"


def _decoding_error(path: Path) -> str | None:
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # Pillow's decoders raise many kinds
        return str(error) or type(error).__name__
    return None
