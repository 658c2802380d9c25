"""Looks a data set over, and tells what was found."""

import time
from collections import Counter
from pathlib import Path

import numpy as np

from topdb_tf.data.benchmarks import data_root, dataset_name
from topdb_tf.data.checks.contents import check_images
from topdb_tf.data.checks.copies import Images, check_copies, check_near_duplicates
from topdb_tf.data.checks.image_facts import ImageFacts, image_facts
from topdb_tf.data.checks.listing import Listing, list_dataset
from topdb_tf.data.checks.names import check_names
from topdb_tf.data.checks.split import Finding, check_split
from topdb_tf.data.market import PARTS
from topdb_tf.data.records import Split
from topdb_tf.progress import progress_bar

SEVERITIES = ("error", "warning", "note")


def check_data(
    dataset: str,
    root: Path | None = None,
    *,
    quick: bool = False,
    images_per_pid: int = 4,
    ignore_cameras: bool = False,
    montage: Path | None = None,
) -> dict:
    """Looks a data set over; changes nothing in it.

    Args:
        dataset: A benchmark below the data root, else a file or folder.
        root: Folder of all benchmarks. Defaults to that of `data_root`.
        quick: Whether to look at names and counts alone and open no image.
        images_per_pid: Images of each identity in a batch of the training.
        ignore_cameras: Whether an image of the query's own camera is a match, too.
        montage: Where to draw some identities and the worst findings; needs the
            images.

    Returns:
        `dataset`, `source`, `parts` with the counts of each, `findings` with all their
        files, the worst first, `counts` of findings by severity, `num_opened` images
        and `seconds`; `montage` where it was drawn.

    Raises:
        ValueError: If the data set is unknown, or a montage is wanted of a quick look.
        FileNotFoundError: If it is not there.
    """
    if montage is not None:
        _check_montage(montage, quick)
    start = time.monotonic()
    name = dataset_name(dataset)
    with progress_bar(f"listing {name}") as progress:
        division = {"ignore_cameras": ignore_cameras}
        listing = list_dataset(dataset, data_root(root), progress=progress, **division)
    findings, facts = list(listing.findings), None
    images = Images(listing.split)
    if images.records:
        findings += _of_names(listing, images_per_pid, ignore_cameras)
        if not quick:
            facts = _facts(images, name)
            findings += _of_contents(images, facts, name)
    elif not findings:
        findings += _of_names(listing, images_per_pid, ignore_cameras)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    result = {
        "dataset": name,
        "source": str(listing.source),
        "parts": {part: _part(listing.split, part, listing.card) for part in PARTS},
        "findings": [_as_json(finding) for finding in findings],
        "counts": {s: sum(f.severity == s for f in findings) for s in SEVERITIES},
        "num_opened": 0 if facts is None else len(images.records),
        "seconds": round(time.monotonic() - start, 1),
    }
    if montage is not None and facts is not None:
        _draw(montage, images, facts, findings, name)
        result["montage"] = str(montage)
    return result


def exit_status(result: dict, *, strict: bool = False) -> int:
    """Returns 1 if the data set has errors, or in strict use warnings, else 0."""
    counts = result["counts"]
    return int(counts["error"] > 0 or (strict and counts["warning"] > 0))


def finding_lines(result: dict) -> list[str]:
    """Returns the counts of a data set as a table, and the findings, for people."""
    lines = [f"{result['dataset']}  {result['source']}", "", *_table(result), ""]
    for finding in result["findings"]:
        word = finding["severity"]
        lines.append(f"{word}: {finding['message']}  [{finding['kind']}]")
        if finding["fix"]:
            lines.append(f"    {finding['fix']}")
    if result["findings"]:
        lines.append("")
    told = [
        f"{count} {severity}{'' if count == 1 else 's'}"
        for severity, count in result["counts"].items()
    ]
    opened = result["num_opened"]
    looked = f"{opened:,} images opened" if opened else "no image opened"
    lines.append(f"{', '.join(told)}; {looked} in {result['seconds']:.1f} s")
    if "montage" in result:
        lines.append(f"montage: {result['montage']}")
    return lines


def _check_montage(path, quick):
    from topdb_tf.drawing.style import check_format

    check_format(path)
    if quick:
        raise ValueError(
            "A montage needs the images. Leave out --quick. Received: --quick --montage"
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"There is no folder {path.parent} for the montage. Make it first."
        )


def _of_names(listing: Listing, images_per_pid, ignore_cameras):
    split = listing.split
    alike = ignore_cameras or not split.has_cameras
    return [
        *check_split(split, images_per_pid=images_per_pid, ignore_cameras=alike),
        *check_names(split, listing.card),
    ]


def _facts(images: Images, name) -> ImageFacts:
    with progress_bar(f"opening {name}") as progress:
        return image_facts([r.path for r in images.records], progress=progress)


def _of_contents(images, facts, name):
    with progress_bar(f"comparing {name}") as progress:
        near = check_near_duplicates(images, facts, progress=progress)
    return [*check_images(images, facts), *check_copies(images, facts), *near]


def _part(split: Split, part: str, card) -> dict:
    records = getattr(split, part)
    known = Counter(record.pid for record in records if record.pid != 0)
    num_images = np.array(sorted(known.values()))
    counts = {
        "images": len(records),
        "pids": len({record.pid for record in records}),
        "cameras": len({record.camid for record in records}),
        "distractors": sum(record.pid == 0 for record in records),
        "images_per_pid": None,
    }
    if len(num_images):
        counts["images_per_pid"] = {
            "min": int(num_images[0]),
            "median": float(np.median(num_images)),
            "max": int(num_images[-1]),
        }
    if card is not None and part in card.parts:
        counts["expected"] = card.parts[part]._asdict()
    return counts


def _table(result):
    rows = [("", "images", "identities", "cameras", "images/identity", "distractors")]
    for part, counts in result["parts"].items():
        spread = counts["images_per_pid"]
        told = "-"
        if spread:
            told = f"{spread['min']} / {spread['median']:g} / {spread['max']}"
        numbers = [f"{counts[key]:,}" for key in ("images", "pids", "cameras")]
        rows.append((part, *numbers, told, f"{counts['distractors']:,}"))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        cells[0] = row[0].ljust(widths[0])
        lines.append("  ".join(cells).rstrip())
    return [*lines, f"{'':{widths[0]}}  images/identity: least / median / most"]


def _as_json(finding: Finding) -> dict:
    return {
        "severity": finding.severity,
        "kind": finding.kind,
        "message": finding.message,
        "fix": finding.fix,
        "groups": [[str(path) for path in group] for group in finding.groups],
    }


def _draw(path, images, facts, findings, name):
    from topdb_tf.data.checks.montage import draw_montage

    draw_montage(path, images, facts, findings, name)
