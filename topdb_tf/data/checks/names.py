"""What names and numbers of images tell of a data set, without opening one."""

from collections import Counter

import numpy as np

from topdb_tf.data.benchmarks import DATASETS
from topdb_tf.data.checks.split import Finding
from topdb_tf.data.market import PARTS
from topdb_tf.data.records import DatasetCard, PartCounts, Split, load_card
from topdb_tf.texts import counted, listed

_DISTRACTOR = 0
_SCARCE, _TYPICAL = 50, 50  # a camera of fewer images than a 50th of the median one's


def check_names(split: Split, card: DatasetCard | None) -> list[Finding]:
    """Finds what counts, pids and camids tell.

    Args:
        split: The data set.
        card: The facts about a benchmark; `None` for one's own images.
    """
    return [
        *_counts(split, card),
        *_withdrawn(card),
        *_misplaced_distractors(split),
        *_query_in_gallery(split),
        *_scarce_cameras(split),
        *_no_cameras(split),
    ]


def part_counts(split: Split) -> dict[str, PartCounts]:
    """Returns the numbers of images and identities of each part."""
    parts = {part: getattr(split, part) for part in PARTS}
    return {
        part: PartCounts(len(records), len({record.pid for record in records}))
        for part, records in parts.items()
    }


def _counts(split, card):
    found = part_counts(split)
    twin = _benchmark_with(found)
    if card is None:
        if twin is not None:
            yield Finding(
                "note",
                f"The counts are those of {twin.title}.",
                f"Put it below the data root and name it `{twin.name}`, if it is.",
                "benchmark",
            )
        return
    expected = {part: card.parts.get(part, found[part]) for part in PARTS}
    if found == expected:
        return
    if twin is not None:
        yield Finding(
            "error",
            f"These are the images of {twin.title}, not of {card.title}.",
            "Do not mix results on the two: name the other one, or exchange the "
            "folders.",
            "other-dataset",
        )
        return
    for part, folder in PARTS.items():
        differences = _differences(found[part], expected[part])
        if differences:
            yield Finding(
                "error",
                f"{part} ({folder}) holds {found[part].images:,} images of "
                f"{found[part].pids:,} identities: {', '.join(differences)}.",
                "Extract the data again. A subset is used on purpose with --set "
                "data.check_counts=false.",
                "counts",
            )


def _differences(found, expected):
    return [
        f"{abs(difference):,} {noun} {'missing' if difference < 0 else 'too many'}"
        for noun, difference in (
            ("images", found.images - expected.images),
            ("identities", found.pids - expected.pids),
        )
        if difference
    ]


def _benchmark_with(found):
    """Returns the card of a benchmark of exactly these counts, if there is one."""
    cards = (load_card(name) for name in DATASETS)
    return next((card for card in cards if card.parts == found), None)


def _withdrawn(card):
    if card is not None and card.terms.startswith("Withdrawn"):
        yield Finding(
            "note",
            f"{card.title} was withdrawn by its authors' university: people had been "
            "filmed and published without the consent that its review board required.",
            "Ask whether you need it, and what the law of your place says. Many venues "
            "ask to leave it out.",
            "withdrawn",
        )


def _misplaced_distractors(split):
    for part, severity, why, fix in (
        (
            "train",
            "warning",
            "0 marks distractors, many persons, but is trained on as one identity",
            "If persons are numbered from 0, add 1 to all; else take these out.",
        ),
        (
            "query",
            "error",
            "0 marks distractors, so a match of two of them means nothing",
            "If persons are numbered from 0, add 1 to all, in the gallery too; else "
            "take these queries out.",
        ),
    ):
        paths = [r.path for r in getattr(split, part) if r.pid == _DISTRACTOR]
        if paths and _DISTRACTOR not in split.pid_names:
            yield Finding(
                severity,
                f"In {part}, {counted(len(paths), 'image')} of pid 0: {why}.",
                fix,
                "pid-0",
                tuple((path,) for path in paths),
            )


def _query_in_gallery(split):
    known = {record._replace(path=record.path.name) for record in split.gallery}
    shared = [
        record.path
        for record in split.query
        if record._replace(path=record.path.name) in known
    ]
    if split.query and len(shared) == len(split.query) == len(split.gallery):
        yield Finding(
            "warning",
            f"Query and gallery are the same {len(shared):,} images: each image is "
            "searched among all.",
            "Say so beside the scores: they cannot be compared with those of separate "
            "queries. Without cameras each query would find itself first.",
            "query-is-gallery",
            tuple((path,) for path in shared),
        )


def _scarce_cameras(split):
    records = split.train + split.query + split.gallery
    num_images = Counter(record.camid for record in records)
    median = np.median(list(num_images.values())) if num_images else 0
    if median < _TYPICAL:
        return
    scarce = sorted(c for c, n in num_images.items() if n * _SCARCE < median)
    if scarce:
        told = [f"camera {camid} ({num_images[camid]})" for camid in scarce]
        yield Finding(
            "warning",
            f"{counted(len(scarce), 'camera')} with hardly any images: {listed(told)}; "
            f"the median is {median:g}.",
            "Check that names are read as meant: often a camera's number is misspelt.",
            "scarce-camera",
            tuple((r.path,) for r in records if r.camid in scarce),
        )


def _no_cameras(split):
    if not split.has_cameras:
        yield Finding(
            "warning",
            "The test images tell no camera, or all the same, so matches by the same "
            "camera count.",
            "Give each image the number of its camera, if there were several: finding "
            "a person in the next frame of the same camera is easy.",
            "one-camera",
        )
