"""What names and numbers of images tell of a data set, without opening one."""

from collections import Counter

import numpy as np

from topdb_tf.data.benchmarks import DATASETS
from topdb_tf.data.checks.findings import Finding
from topdb_tf.data.market import DISTRACTOR_PID, PARTS
from topdb_tf.data.records import DatasetCard, Split, load_card
from topdb_tf.texts import counted, listed

_SCARCE, _TYPICAL = 50, 50  # a camera of fewer images than a 50th of the median one's


def check_names(split: Split, card: DatasetCard | None) -> list[Finding]:
    """Finds what counts, pids and camids tell; one's own images have no card."""
    return [
        *_counts(split, card),
        *_withdrawn(card),
        *_misplaced_distractors(split),
        *_query_in_gallery(split),
        *_scarce_cameras(split),
        *_no_cameras(split),
    ]


def _counts(split, card):
    counts = {part: split.counts(part) for part in PARTS}
    twin = _benchmark_with(counts)
    if card is None:
        if twin is not None:
            yield Finding(
                "note",
                "benchmark",
                f"The counts are those of {twin.title}.",
                f"Put it below the data root and name it `{twin.name}`, if it is.",
            )
        return
    differences = {
        part: counts[part].differences(expected)
        for part, expected in card.parts.items()
    }
    if twin is not None and any(differences.values()):
        yield Finding(
            "error",
            "other-dataset",
            f"These are the images of {twin.title}, not of {card.title}.",
            "Do not mix results on the two: name the other one, or exchange the "
            "folders.",
        )
        return
    for part, words in differences.items():
        if words:
            yield Finding(
                "error",
                "counts",
                f"{part} ({PARTS[part]}) holds {counts[part]}: {', '.join(words)}.",
                "Extract the data again. A subset is used on purpose with --set "
                "data.check_counts=false.",
            )


def _benchmark_with(counts):
    """Returns the card of a benchmark of exactly these counts, if there is one."""
    cards = (load_card(name) for name in DATASETS)
    return next((card for card in cards if card.parts == counts), None)


def _withdrawn(card):
    if card is not None and card.terms.startswith("Withdrawn"):
        yield Finding(
            "note",
            "withdrawn",
            f"{card.title} was withdrawn by its authors' university: people had been "
            "filmed and published without the consent that its review board required.",
            "Ask whether you need it, and what the law of your place says. Many venues "
            "ask to leave it out.",
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
        paths = [r.path for r in split.part(part) if r.pid == DISTRACTOR_PID]
        if paths and DISTRACTOR_PID not in split.pid_names:
            yield Finding(
                severity,
                "pid-0",
                f"In {part}, {counted(len(paths), 'image')} of pid 0: {why}.",
                fix,
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
            "query-is-gallery",
            f"Query and gallery are the same {len(shared):,} images: each image is "
            "searched among all.",
            "Say so beside the scores: they cannot be compared with those of separate "
            "queries. Without cameras each query would find itself first.",
            tuple((path,) for path in shared),
        )


def _scarce_cameras(split):
    num_images = Counter(record.camid for record in split.records)
    median = np.median(list(num_images.values())) if num_images else 0
    if median < _TYPICAL:
        return
    scarce = sorted(c for c, n in num_images.items() if n * _SCARCE < median)
    if scarce:
        cameras = [
            f"camera {split.camera_name(camid)} ({num_images[camid]})"
            for camid in scarce
        ]
        yield Finding(
            "warning",
            "scarce-camera",
            f"{counted(len(scarce), 'camera')} with hardly any images: "
            f"{listed(cameras)}; the median is {median:g}.",
            "Check that names are read as meant: often a camera's number is misspelt.",
            tuple((r.path,) for r in split.records if r.camid in scarce),
        )


def _no_cameras(split):
    if not split.has_cameras:
        yield Finding(
            "warning",
            "one-camera",
            "The test images tell no camera, or all the same, so matches by the same "
            "camera count.",
            "Give each image the number of its camera, if there were several: finding "
            "a person in the next frame of the same camera is easy.",
        )
