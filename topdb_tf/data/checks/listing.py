"""The images of a data set, whatever is wrong with some of them."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from topdb_tf.data.benchmarks import (
    DATASETS,
    Progress,
    check_name,
    check_one_dataset,
    dataset_name,
    first_folder,
    read_split,
)
from topdb_tf.data.checks.findings import Finding, findings_of_files
from topdb_tf.data.market import JUNK_PID, PARTS, is_image, list_part
from topdb_tf.data.own_images import (
    check_no_layout,
    existing,
    is_named_as_market,
    sightings_of,
)
from topdb_tf.data.partition import split_of
from topdb_tf.data.records import DatasetCard, Split, load_card
from topdb_tf.data.trees.levels import AUTO
from topdb_tf.texts import counted


class Listing(NamedTuple):
    """The images of a data set that can be used, and what was found in its source.

    One's own images have no card.
    """

    split: Split
    source: Path
    card: DatasetCard | None
    findings: tuple[Finding, ...]


def list_dataset(
    name: str | Path,
    data_root: Path,
    *,
    progress: Progress | None = None,
    layout: str = AUTO,
    pattern: str | None = None,
    **division,
) -> Listing:
    """Lists a data set as `read_split` does, but goes on where something is wrong.

    Nothing is counted, and an image whose name cannot be read is left out and told.
    CUHK03 may have to be extracted, and the synthetic data set drawn, once. The
    arguments are those of `read_split`.
    """
    if name in DATASETS:
        check_no_layout(name, layout, pattern)
        return _list_benchmark(name, Path(data_root), progress)
    check_one_dataset(name)
    check_name(name)
    path, short, findings, missing = existing(name), dataset_name(name), [], []
    try:
        is_told = layout != AUTO or pattern is not None
        if path.is_dir() and not is_told and is_named_as_market(path):
            original, findings = _list_market(path, short)
            sightings = sightings_of(original, path)
            split = split_of(sightings, name=short, source=path, **division)
            if original.train and original.query and original.gallery:
                # Nothing was divided: the pids are those of the names.
                parts = {part: original.part(part) for part in PARTS}
                split = replace(split, **parts, pid_names={}, camera_names={})
        else:
            reading = {"layout": layout, "pattern": pattern, "missing": missing}
            split = read_split(path, data_root, **reading, **division)
    except (ValueError, FileNotFoundError) as error:
        split = Split(short, (), (), ())
        message = " ".join(str(error).split())
        fix = "Training would stop with this message. Nothing else was looked at."
        findings.append(Finding("error", "layout", message, fix))
    findings += findings_of_files(
        "error",
        "missing",
        f"In {path.name}, {counted(len(missing), 'image')} that cannot be found",
        "Paths that are not absolute count from the folder of the file. Training would "
        "stop here.",
        [one.path for one in missing],
        [one.place for one in missing],
    )
    notes = (Finding("note", "reading", note, "") for note in split.notes)
    return Listing(split, path, None, (*findings, *notes))


def _list_benchmark(name, data_root, progress):
    card = load_card(name)
    folder = first_folder(data_root, card)
    if folder is not None:
        split, findings = _list_market(folder, name)
        return Listing(split, folder, card, tuple(findings))
    split = DATASETS[name](data_root, card, progress=progress)
    source = split.records[0].path.parent if split.records else data_root
    return Listing(split, source, card, ())


def _list_market(folder, name):
    """Returns the images of a folder in the layout of Market-1501, and findings."""
    parts, findings = {}, []
    for part, subfolder in PARTS.items():
        content = list_part(folder, part)
        parts[part] = content.records
        findings += _findings_of_names(subfolder, content)
        findings += _findings_of_others(subfolder, content)
    return Split(name, **parts), findings


def _findings_of_names(part, content):
    unnamed, junk = content.unnamed, content.junk
    yield from findings_of_files(
        "error",
        "unnamed",
        f"In {part}, {counted(len(unnamed), 'name')} not telling person and camera",
        "Name them <pid>_c<camid>…, as 0002_c1s1_000451_03.jpg, or move them away: "
        "training refuses the folder as it is.",
        unnamed,
    )
    named = sorted([*(record.path for record in content.records), *junk])
    doubled = [path for path in named if is_image(Path(path.stem))]
    yield from findings_of_files(
        "note",
        "doubled-suffix",
        f"In {part}, {counted(len(doubled), 'name')} with two suffixes",
        "They are read as they are; Market-1501 is published with 24 of them. "
        "Elsewhere a program may have made them.",
        doubled,
    )
    yield from findings_of_files(
        "note",
        "junk",
        f"In {part}, {counted(len(junk), 'image')} of pid {JUNK_PID} left out",
        f"Nothing has to be done: {JUNK_PID} marks boxes that show nobody properly.",
        junk,
    )


def _findings_of_others(part, content):
    nested = content.nested
    yield from findings_of_files(
        "error",
        "nested",
        f"In {part}, {counted(len(nested), 'folder')} of images, not read",
        "Names alone tell the person in this layout. With a folder for each person "
        "name the folder above them instead (docs: data sets), or move the images "
        "up and name them <pid>_c<camid>….",
        nested,
    )
    files = [path for path in content.others if path.is_file()]
    pictures = content.pictures
    yield from findings_of_files(
        "warning",
        "other-format",
        f"In {part}, {counted(len(pictures), 'image')} of formats that are unread",
        "Save them as .jpg or .png, if they should count.",
        pictures,
    )
    skipped = [path for path in files if path not in pictures]
    yield from findings_of_files(
        "note",
        "skipped",
        f"In {part}, {counted(len(skipped), 'file')} skipped, no images by name",
        "Nothing has to be done: Thumbs.db, .DS_Store and ._ files are made by "
        "desktop programs.",
        skipped,
    )
