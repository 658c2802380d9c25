"""MSMT17, in either of its versions."""

import re
from pathlib import Path

from topdb_tf.data.records import DatasetCard, ImageRecord, Split
from topdb_tf.data.table import decoded
from topdb_tf.texts import listed

FOLDERS = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}
LISTS = {
    "train": ("list_train.txt", "list_val.txt"),
    "query": ("list_query.txt",),
    "gallery": ("list_gallery.txt",),
}
# Persons are numbered from 0 in training and again in the test; 0 is a distractor in
# the layout of Market-1501.
FIRST_PID = {"train": 1, "query": 1042, "gallery": 1042}

_LINE = re.compile(r"(?:\S*[/\\])?(\d+)[/\\](\d+_\d+_(\d{1,18})_\S+)\s+(\d{1,18})")


def read_msmt17(
    version: str, data_root: Path, card: DatasetCard, *, progress=None
) -> Split:
    """Reads MSMT17 V1, or V2, in which faces are blurred.

    The lists tell the persons, the names of the files the cameras; what stands before
    the last folder of an image does not count. The images of
    `list_val.txt` are trained on too, as the counts of its authors have it. Persons
    are numbered from 1 in training and from 1042 in the test, so that no two share a
    number.

    Source: Wei et al., Person Transfer GAN to Bridge Domain Gap for Person
    Re-Identification, CVPR 2018 (https://arxiv.org/abs/1711.08565).
    """
    del progress
    train, test = FOLDERS[version]
    places = card.places(data_root)
    folder = next((place for place in places if (place / train).is_dir()), None)
    if folder is None:
        other = next(name for name in FOLDERS if name != version)
        has_other = any((place / FOLDERS[other][0]).is_dir() for place in places)
        hint = f"There is {other} there: msmt17-{other.lower()}. " if has_other else ""
        folders = [place / train for place in places]
        raise FileNotFoundError(card.missing_message(data_root, folders, hint))
    parts = {
        part: tuple(
            record
            for name in names
            for record in _read_list(
                folder / name, folder / (train if part == "train" else test), part
            )
        )
        for part, names in LISTS.items()
    }
    return Split(card.name, **parts)


def _read_list(path, images, part):
    if not path.is_file():
        raise FileNotFoundError(
            f"MSMT17 must hold {path.name}, one of its four lists. Extract it again; "
            f"datasets/README.md shows the expected folders. Received: path={path}"
        )
    records = []
    for number, line in enumerate(decoded(path).splitlines(), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise ValueError(
                "A line must read as 0000/0000_000_01_0303morning_0008_0.jpg 0: image, "
                f"whose third number is the camera, and person. Received: {line!r} "
                f"({path}, line {number})"
            )
        folder, name, camid, pid = match.groups()
        pid = FIRST_PID[part] + int(pid)
        records.append(ImageRecord(images / folder / name, pid, int(camid)))
    missing = [record.path for record in records if not record.path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"Every image in {path} must exist. Extract the data again. "
            f"{len(missing):,} of {len(records):,} are missing: {listed(missing)}."
        )
    return records
