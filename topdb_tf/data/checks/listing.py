"""The images of a data set, whatever is wrong with some of them."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from topdb_tf.data.benchmarks import DATASETS, Progress, dataset_name, read_split
from topdb_tf.data.checks.split import Finding
from topdb_tf.data.market import JUNK_PID, PARTS, holds_part, is_image, record_of
from topdb_tf.data.msmt17 import LISTS
from topdb_tf.data.partition import split_of
from topdb_tf.data.records import DatasetCard, Split, load_card
from topdb_tf.data.sightings import Sighting, absolute
from topdb_tf.texts import counted, listed

OTHER_FORMATS = (".bmp", ".gif", ".tif", ".tiff", ".webp", ".jfif", ".heic", ".avif")


class Listing(NamedTuple):
    """The images of a data set, and what was found when they were listed.

    Args:
        split: The images that can be used.
        source: The file or folder that was read.
        card: The facts about a benchmark; `None` for one's own images.
        findings: What its owner should know.
    """

    split: Split
    source: Path
    card: DatasetCard | None
    findings: tuple[Finding, ...]


def list_dataset(
    name: str | Path, data_root: Path, *, progress: Progress | None = None, **division
) -> Listing:
    """Lists a data set as `read_split` does, but goes on where something is wrong.

    Nothing is counted, and an image whose name cannot be read is left out and told.
    CUHK03 may have to be extracted, and the synthetic data set drawn, once.

    Args:
        name: A name in `DATASETS`, else a CSV file or a folder.
        data_root: Folder of all benchmarks.
        progress: Called with the numbers of images extracted or drawn, and to do.
        **division: How own images are divided, as `read_split` takes it.

    Raises:
        ValueError: If the name is unknown.
        FileNotFoundError: If the data set is not there.
    """
    if name in DATASETS:
        card = load_card(name)
        places = (Path(data_root) / folder for folder in card.folders)
        folder = next((place for place in places if holds_part(place)), None)
        if folder is None:
            split = DATASETS[name](Path(data_root), card, progress=progress)
            used = split.train + split.query + split.gallery
            source = used[0].path.parent if used else Path(data_root)
            return Listing(split, source, card, ())
        sightings, findings = _list_market(folder)
        return Listing(_as_they_are(sightings, name), folder, card, tuple(findings))
    path = absolute(name)
    if not path.exists():
        read_split(name, data_root)  # says what must hold
    short, findings = dataset_name(name), []
    try:
        if path.is_dir() and holds_part(path):
            sightings, findings = _list_market(path)
            split = split_of(sightings, name=short, source=path, **division)
            split = _undivided(split, _as_they_are(sightings, short))
        else:
            _refuse_msmt17(path)
            split = read_split(name, data_root, **division)
    except (ValueError, FileNotFoundError) as error:
        split = Split(short, (), (), ())
        findings.append(_unusable(error))
    junk = f"pid {JUNK_PID}"  # told by part already
    told = [note for note in split.notes if not (findings and junk in note)]
    notes = (Finding("note", note, "", "reading") for note in told)
    return Listing(split, path, None, (*findings, *notes))


def _unusable(error):
    return Finding(
        "error",
        " ".join(str(error).split()),
        "Training would stop with this message. Nothing else was looked at.",
        "layout",
    )


def _refuse_msmt17(path):
    if path.is_dir() and any(
        (path / name).is_file() for names in LISTS.values() for name in names
    ):
        raise ValueError(
            f"{path} looks like MSMT17: its lists tell the persons, and number them "
            "from 0 in training and again in the test. Put it below the data root as "
            "msmt17/MSMT17_V1 (folders train and test) or msmt17/MSMT17_V2 "
            "(mask_train_v2 and mask_test_v2), and name it msmt17-v1 or msmt17-v2."
        )


def _undivided(divided, original):
    """Returns the split with the pids of the names, if it had all parts."""
    if not (original.train and original.query and original.gallery):
        return divided
    parts = {part: getattr(original, part) for part in PARTS}
    return replace(divided, **parts, pid_names={}, camera_names={})


def _as_they_are(sightings, name):
    parts = {part: [] for part in PARTS}
    for one in sightings:
        record = record_of(one.path)
        if record.pid != JUNK_PID:
            parts[one.part].append(record)
    return Split(name, **{part: tuple(records) for part, records in parts.items()})


def _list_market(folder):
    """Returns the images of a folder in the layout of Market-1501, and findings."""
    sightings, findings = [], []
    for part, subfolder in PARTS.items():
        if not (folder / subfolder).is_dir():
            continue
        entries = sorted((folder / subfolder).iterdir())
        images = [path for path in entries if is_image(path) and path.is_file()]
        unnamed = []
        for path in images:
            try:
                record = record_of(path)
            except ValueError:
                unnamed.append(path)
                continue
            place = str(path.relative_to(folder))
            told = (str(record.pid), str(record.camid), part, place)
            sightings.append(Sighting(path, *told))
        findings += _findings_of_names(subfolder, unnamed, images)
        findings += _findings_of_others(subfolder, set(entries) - set(images))
        findings += _junk(subfolder, [s for s in sightings if s.part == part])
    return sightings, findings


def _findings_of_names(part, unnamed, images):
    if unnamed:
        yield _finding(
            "error",
            f"In {part}, {counted(len(unnamed), 'name')} not telling person and camera",
            "Name them <pid>_c<camid>…, as 0002_c1s1_000451_03.jpg, or move them away: "
            "training refuses the folder as it is.",
            "unnamed",
            unnamed,
        )
    doubled = [p for p in images if is_image(Path(p.stem)) and p not in unnamed]
    if doubled:
        yield _finding(
            "note",
            f"In {part}, {counted(len(doubled), 'name')} with two suffixes",
            "They are read as they are; Market-1501 is published with 24 of them. "
            "Elsewhere a program may have made them.",
            "doubled-suffix",
            doubled,
        )


def _findings_of_others(part, others):
    others = sorted(others)
    nested = [p for p in others if p.is_dir() and any(map(is_image, p.rglob("*")))]
    if nested:
        yield _finding(
            "error",
            f"In {part}, {counted(len(nested), 'folder')} of images, not read",
            "Names alone tell the person in this layout. With a folder for each person "
            "name the folder above them instead (docs: data sets), or move the images "
            "up and name them <pid>_c<camid>….",
            "nested",
            nested,
        )
    files = [p for p in others if p.is_file()]
    pictures = [p for p in files if p.suffix.lower() in OTHER_FORMATS]
    if pictures:
        yield _finding(
            "warning",
            f"In {part}, {counted(len(pictures), 'image')} of formats that are unread",
            "Save them as .jpg or .png, if they should count.",
            "other-format",
            pictures,
        )
    skipped = [path for path in files if path not in pictures]
    if skipped:
        yield _finding(
            "note",
            f"In {part}, {counted(len(skipped), 'file')} skipped, no images by name",
            "Nothing has to be done: Thumbs.db, .DS_Store and ._ files are made by "
            "desktop programs.",
            "skipped",
            skipped,
        )


def _junk(part, sightings):
    junk = [one.path for one in sightings if one.person == str(JUNK_PID)]
    if junk:
        yield _finding(
            "note",
            f"In {part}, {counted(len(junk), 'image')} of pid -1 left out",
            "Nothing has to be done: -1 marks boxes that show nobody properly.",
            "junk",
            junk,
        )


def _finding(severity, what, fix, kind, paths):
    message = f"{what}: {listed([path.name for path in paths], 3)}."
    return Finding(severity, message, fix, kind, tuple((path,) for path in paths))
