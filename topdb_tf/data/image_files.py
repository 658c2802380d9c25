"""The image files that a user names, and whom they show."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from topdb_tf.data.market import (
    JUNK_PID,
    is_image,
    is_left_out,
    record_of,
    tells_person,
)
from topdb_tf.data.own_images import read_sightings
from topdb_tf.data.records import UNKNOWN, IdNames, ImageRecord
from topdb_tf.data.sightings import (
    GALLERY,
    Sighting,
    camera_numbers,
    check_contradictions,
    check_tracks,
    numbered_cameras,
    person_numbers,
    tracks_of,
    with_ids,
)
from topdb_tf.data.table import TABLE_SUFFIXES
from topdb_tf.data.trees.levels import AUTO
from topdb_tf.files import files_below
from topdb_tf.texts import listed, seconds_of


class ImageList(NamedTuple):
    """Image files, sorted within each folder, and what lay among them."""

    paths: tuple[Path, ...]
    skipped: tuple[Path, ...]


class NamedImages(NamedTuple):
    """Image files, each once, whom they show, and what lay among them.

    A pid is -1 where it is told that nobody is known, `UNKNOWN` where nothing is told.
    Notes are for the user.
    """

    records: tuple[ImageRecord, ...]
    names: IdNames
    skipped: tuple[Path, ...]
    notes: tuple[str, ...]


def checked_places(images, query, gallery, dataset=None) -> tuple[Path, ...]:
    """Returns the images, or query and gallery where those are named instead."""
    pair = (query, gallery)
    given = [bool(images), any(pair), dataset is not None]
    if sum(given) != 1 or (any(pair) and not all(pair)):
        raise ValueError(
            "Name either images or both --query and --gallery, or --dataset. Received: "
            f"{len(images)} images, query={query}, gallery={gallery}, dataset={dataset}"
        )
    return tuple(images) or pair


def list_images(places: Sequence[Path]) -> ImageList:
    """Returns the image files in files and folders, the latter with all below them.

    A file given twice is taken once. Hidden folders below are left out, as where a
    data set is read.
    """
    files = []
    for place in map(Path, places):
        _check_exists(place)
        files += _files_below(place) if place.is_dir() else [place]
    files = list(dict.fromkeys(files))
    paths = tuple(path for path in files if is_image(path))
    _check_any(paths, places)
    return ImageList(paths, tuple(path for path in files if not is_image(path)))


def read_images(
    places: Sequence[Path], *, layout: str = AUTO, pattern: str | None = None
) -> NamedImages:
    """Returns all images in files and folders, or of one CSV file, and whom they show.

    A folder and a CSV file are read as a data set is, but nothing is divided and images
    of nobody known are kept. A folder that cannot be read so, as its images lie there
    without an order, gives the persons and cameras that names tell as in Market-1501.
    Layout and pattern are those of `topdb_tf.data.own_images.read_own_images`.
    """
    places, skipped, notes = [Path(place) for place in places], [], []
    reading = {"layout": layout, "pattern": pattern}
    is_told = reading != {"layout": AUTO, "pattern": None}
    is_table = len(places) == 1 and places[0].suffix.lower() in TABLE_SUFFIXES
    found = []
    for place in places:
        _check_exists(place)
        if is_table or is_told:
            sightings, said = read_sightings(place, **reading)
        elif place.is_dir():
            sightings, said = _in_folder(place, skipped)
        else:
            sightings, said = _by_names([place], skipped), []
        found += sightings
        notes += [f"{place}: {note}" for note in said]
    _check_any(found, places)
    source = listed([str(place) for place in places], 3)
    told = [one for one in found if one.person]
    told = with_ids(told, source, notes, keep_unknown=True) if told else []
    if is_table:
        check_contradictions(told, source)
    check_tracks(tracks_of(told), source)
    if len(places) == 1:
        camera_numbers(told, source)  # an error where some are told
    persons = person_numbers([o._replace(part=GALLERY) for o in told if o.person])
    cameras = numbered_cameras({one.camera for one in told} - {None, ""})
    pids = persons | {None: JUNK_PID}
    records = {
        one.path: ImageRecord(
            one.path,
            pids[one.person],
            cameras.get(one.camera, UNKNOWN),
            seconds_of(one.time, f"{source}, {one.place}") if one.time else None,
            tracklet=one.tracklet,
        )
        for one in reversed(told)
    }
    return NamedImages(
        tuple(
            records.get(path, ImageRecord(path, UNKNOWN, UNKNOWN))
            for path in dict.fromkeys(one.path for one in found)
        ),
        IdNames(*map(_names_of, (persons, cameras))),
        tuple(dict.fromkeys(skipped)),
        tuple(notes),
    )


def named_record(path: Path) -> ImageRecord:
    """Returns the record of an image, of nobody where its name does not tell."""
    return (
        record_of(path) if tells_person(path) else ImageRecord(path, UNKNOWN, UNKNOWN)
    )


def _check_exists(place):
    if not place.exists():
        raise FileNotFoundError(f"There is no image file or folder {place}.")


def _check_any(images, places):
    if not images:
        raise ValueError(
            "There must be an image, a JPEG or PNG file (.jpg, .jpeg, .png). Received: "
            f" {', '.join(str(place) for place in places) or 'nothing'}"
        )


def _in_folder(folder, skipped):
    """Returns the images of a folder: as of a data set if they are in folders there."""
    files, said = list(_files_below(folder)), []
    if any(is_image(path) and path.parent != folder for path in files):
        try:
            return read_sightings(folder)
        except ValueError as error:
            said = [
                "whom the images show is told by their names alone, if they are as in "
                f"Market-1501: {error}"
            ]
    return _by_names(files, skipped), said


def _by_names(files, skipped):
    """Returns the images among files, of nobody where their names do not tell."""
    skipped += [path for path in files if not is_image(path)]
    images = [path for path in files if is_image(path)]
    return [
        Sighting(one.path, *_texts(one), part=None, place=str(one.path))
        for one in map(named_record, images)
    ]


def _texts(record):
    is_told = record.pid != UNKNOWN
    return (str(record.pid), str(record.camid)) if is_told else (None, None)


def _names_of(numbers):
    """Returns the names that are not their number's text."""
    return {n: name for name, n in numbers.items() if name != str(n)}


def _files_below(folder):
    for path in files_below(folder):
        if not any(map(is_left_out, path.relative_to(folder).parents)):
            yield path
