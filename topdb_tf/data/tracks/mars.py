"""MARS: the tracks of persons, by the lists of its authors."""

import re
from pathlib import Path

import numpy as np

from topdb_tf.damage import told_as_damage
from topdb_tf.data.market import JUNK_PID
from topdb_tf.data.records import DatasetCard, ImageRecord, Split
from topdb_tf.data.table import decoded
from topdb_tf.texts import counted, listed

PARTS = ("train", "test")
QUERIES = "query_IDX.mat"
_NAME = re.compile(r"(\d{4}|00-1)C\d+T\d+F\d+\.jpg")


def read_mars(data_root: Path, card: DatasetCard, *, progress=None) -> Split:
    """Reads MARS, with the track of each image.

    The lists lie in `info/` or in a folder with that in it, as the authors' repository
    MARS-evaluation has them. As in its code the gallery holds all tracks of the test,
    those of the queries too, which their own camera keeps from being matches; without
    them 140 queries have no match. Tracks of pid -1 are left out.

    Source: Zheng et al., MARS: A Video Benchmark for Large-Scale Person
    Re-Identification, ECCV 2016.

    Raises:
        ValueError: If a list is damaged, or does not fit the others.
        FileNotFoundError: If a folder, a list or an image is missing.
    """
    del progress
    places = card.places(data_root)
    folder = next((place for place in places if _boxes(place).is_dir()), None)
    if folder is None:
        missing = [_boxes(place) for place in places]
        raise FileNotFoundError(card.missing_message(data_root, missing))
    info = _info(folder)
    train, test = (_read_tracks(folder, info, part) for part in PARTS)
    numbers = _read_array(info / QUERIES).ravel()
    if not all(1 <= number <= len(test) for number in numbers):
        raise ValueError(
            f"{info / QUERIES} must number {len(test):,} tracks from 1. Take all lists "
            f"from one place. Received: {numbers.min()} to {numbers.max()}"
        )
    return Split(
        card.name,
        train=_joined(train),
        query=_joined([test[number - 1] for number in numbers]),
        gallery=_joined([track for track in test if track[0].pid != JUNK_PID]),
        notes=("MARS is tested by tracks: evaluate --tracklets mean.",),
    )


def _joined(tracks):
    return tuple(image for track in tracks for image in track)


def _boxes(folder, part="train") -> Path:
    return folder / f"bbox_{part}"


def _info(folder: Path) -> Path:
    """Returns the folder of the lists."""
    places = [folder / "info", *sorted(folder.glob("*/info"))]
    info = next((place for place in places if (place / QUERIES).is_file()), None)
    if info is None:
        raise FileNotFoundError(
            f"The lists of MARS must lie in {places[0]}: train_name.txt, "
            "test_name.txt, tracks_train_info.mat, tracks_test_info.mat and "
            f"{QUERIES}. They are in the folder info of https://github.com/liangzheng06/MARS-evaluation."
        )
    return info


def _read_tracks(folder, info, part) -> list[list[ImageRecord]]:
    """Returns the images of each track of the training or the test."""
    path, table = info / f"{part}_name.txt", info / f"tracks_{part}_info.mat"
    names = _read_list(path).split()
    rows = _read_array(table)
    is_wrong = rows.ndim != 2 or rows.shape[1] != 4 or not len(rows)
    if is_wrong or rows[:, :2].min() < 1 or rows[:, 1].max() > len(names):
        raise ValueError(
            f"{table} must have a row for each track: its first and last image in "
            f"{path.name}, from 1 to {len(names):,}, person and camera. Take both from "
            f"one place. Received: shape {rows.shape}"
        )
    images = _images(_boxes(folder, part), names, path)
    return [
        [ImageRecord(image, pid, camid, tracklet=f"{part}-{number}") for image in own]
        for number, (first, last, pid, camid) in enumerate(rows.tolist(), 1)
        for own in [images[first - 1 : last]]
        if own
    ]


def _images(folder, names, path) -> list[Path]:
    """Returns the files of a list; each lies in the folder of its person."""
    odd = [name for name in names if not _NAME.fullmatch(name)]
    if odd:
        raise ValueError(
            f"{path} must name images as 0001C1T0001F001.jpg: person, camera, track "
            f"and frame. Received: {listed(odd, 3)}"
        )
    there = {
        person: {file.name for file in (folder / person).glob("*.jpg")}
        for person in {name[:4] for name in names}
    }
    missing = [name for name in names if name not in there[name[:4]]]
    if missing:
        raise FileNotFoundError(
            f"Every image in {path} must exist in {folder}. Extract the data again. "
            f"{counted(len(missing), 'image')} of {len(names):,} missing: "
            f"{listed(missing, 3)}."
        )
    return [folder / name[:4] / name for name in names]


def _read_list(path):
    _check_there(path)
    return decoded(path)


def _read_array(path) -> np.ndarray:
    """Returns the one array of a MATLAB file, whatever it is called."""
    from scipy.io import loadmat

    _check_there(path)
    with told_as_damage(
        lambda error: f"{path} must be a whole MATLAB file. Received: {error}"
    ):
        arrays = [a for name, a in loadmat(path).items() if not name.startswith("__")]
    if len(arrays) != 1 or arrays[0].dtype.kind not in "iuf" or not arrays[0].size:
        raise ValueError(f"{path} must hold one array of whole numbers.")
    return arrays[0].astype(np.int64)


def _check_there(path):
    if not path.is_file():
        raise FileNotFoundError(
            f"MARS must hold {path.name}, one of its five lists. Received: path={path}"
        )
