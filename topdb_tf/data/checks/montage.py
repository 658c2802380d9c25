"""Which images of a data set a montage shows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from topdb_tf.data.checks.findings import Finding
from topdb_tf.data.checks.image_contents import ImageContents
from topdb_tf.data.checks.image_index import ImageIndex
from topdb_tf.data.market import DISTRACTOR_PID
from topdb_tf.files import whole_file

NUM_PIDS, PER_PID = 8, 10
_GROUPS, _PER_GROUP, _LINES = 8, 4, 8
# Findings whose images are shown, in this order.
_SHOWN = (
    "copy-train-test",
    "copy-pids",
    "copy-cameras",
    "near-train-test",
    "near-pids",
    "near-distractor",
    "near-cameras",
    "suffix",
    "landscape",
    "slender",
    "tiny",
    "turned",
    "blank",
    "pid-0",
    "scarce-camera",
)


def draw_montage(
    path: Path,
    images: ImageIndex,
    contents: ImageContents,
    findings: Sequence[Finding],
    name: str,
) -> None:
    """Draws some identities by camera, and what findings want a look at, to a file."""
    from topdb_tf.drawing.montage import montage_figure
    from topdb_tf.drawing.style import save_figure

    readable = np.flatnonzero(contents.is_readable)
    usable = set(images.group(readable))
    rows = [_row(images, indices) for indices in _some_identities(images, readable)]
    by_kind = {}
    for finding in findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    sections = [
        _section(finding, images, usable)
        for kind in _SHOWN
        for finding in by_kind.get(kind, [])
    ]
    sections += [_damaged(finding) for finding in by_kind.get("unreadable", [])]
    figure = montage_figure(f"{name}: some identities, by camera", rows, sections)
    with whole_file(path) as partial:
        save_figure(figure, partial)


def _some_identities(images, readable):
    """Returns images of identities evenly spread over all, by camera in turns."""
    known = readable[images.pids[readable] != DISTRACTOR_PID]
    pids, counts = np.unique(images.pids[known], return_counts=True)
    pids = pids[counts > 1] if (counts > 1).any() else pids
    places = np.linspace(0, len(pids) - 1, min(NUM_PIDS, len(pids))).round()
    for pid in pids[places.astype(int)]:
        indices = known[images.pids[known] == pid]
        cameras = images.camids[indices]
        # How many of its camera come before each image: first all first ones.
        turns = [(cameras[:i] == cameras[i]).sum() for i in range(len(cameras))]
        first = indices[np.lexsort((cameras, turns))][:PER_PID]
        yield first[np.argsort(images.camids[first], kind="stable")]


def _row(images, indices):
    from topdb_tf.drawing.montage import Row

    return Row(
        f"pid {images.pid_name(indices[0])}",
        [_pixels(images.paths[index]) for index in indices],
        [f"camera {images.camera_name(index)}" for index in indices],
    )


def _section(finding, images, usable):
    from topdb_tf.drawing.montage import Group, Section

    places = {path: place for place, path in enumerate(images.paths)}
    groups = []
    for paths in finding.groups[:_GROUPS]:
        shown = [path for path in paths if path in usable][:_PER_GROUP]
        indices = [places[path] for path in shown]
        cameras = [images.camera_name(index) for index in indices]
        captions = [
            f"{images.pid_name(index)} {'c' if name.isdigit() else ''}{name}"
            for index, name in zip(indices, cameras, strict=True)
        ]
        groups.append(Group([_pixels(path) for path in shown], captions))
    return Section(f"{finding.kind}: {len(finding.groups):,}", groups)


def _damaged(finding):
    from topdb_tf.drawing.montage import Section

    lines = [str(path) for (path,) in finding.groups[:_LINES]]
    if more := len(finding.groups) - len(lines):
        lines.append(f"and {more:,} more")
    return Section(f"{finding.kind}: {len(finding.groups):,}", (), lines)


def _pixels(path):
    from PIL import Image

    with Image.open(path) as image:
        image.draft("RGB", (128, 256))
        image.thumbnail((256, 512))
        return np.asarray(image.convert("RGB"))
