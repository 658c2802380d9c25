"""Anybody's own images: a folder for each person."""

import re
from pathlib import Path

from topdb_tf.data.market import is_image, record_of
from topdb_tf.data.sightings import Sighting
from topdb_tf.data.table import PARTS
from topdb_tf.texts import listed, natural_order

LAYOUT = (
    "There must be one folder for each person, people/anna/1.jpg, or within it one for "
    "each camera, people/anna/cam2/1.jpg"
)

_CAMERA_IN_NAME = re.compile(r"(?:^|[_-])c(?:am)?(\d+)(?!\d)", re.IGNORECASE)


def read_folders(folder: Path) -> tuple[list[Sighting], list[str]]:
    """Reads images that lie in a folder for each person.

    Within the folder of a person there can be one for each camera. Where there are
    none, and the name of every image tells its camera (`anna_c2_0001.jpg`), the names
    are believed. Where all folders at the top are named `train`, `val`, `test`,
    `query` or `gallery`, the folders of the persons lie in those. A folder of images
    alone is read by names as in Market-1501. Files that are not images, and hidden
    ones, are skipped.

    Returns:
        The images, sorted by their paths, and notes for the user.

    Raises:
        ValueError: If images lie elsewhere, or there is none.
    """
    notes, skipped = [], []
    tops = _subfolders(folder)
    if tops and all(top.name.lower() in PARTS for top in tops):
        _check_no_images(folder, folder)
        sightings = [
            one._replace(part=PARTS[top.name.lower()])
            for top in tops
            for one in _persons(top, folder, notes, skipped)
        ]
    elif tops:
        sightings = _persons(folder, folder, notes, skipped)
    else:
        sightings = _named_as_market(folder, skipped)
    if not sightings:
        raise ValueError(f"{folder} must hold images, .jpg or .png. {LAYOUT}.")
    if skipped:
        names = listed([path.name for path in skipped], 3)
        notes.append(f"Skipped, as no images: {names}.")
    return _with_cameras(sightings, notes), notes


def _persons(top, folder, notes, skipped):
    _check_no_images(top, folder)
    all_sightings, empty = [], []
    for person in _subfolders(top):
        images = _images(person, skipped)
        sightings = [_sighting(path, person.name, None, folder) for path in images]
        for camera in _subfolders(person):
            deeper = [path for path in _subfolders(camera) if any(path.iterdir())]
            if deeper:
                raise ValueError(
                    f"{LAYOUT}, and nothing deeper. Received: folder={deeper[0]}"
                )
            sightings += [
                _sighting(path, person.name, camera.name, folder)
                for path in _images(camera, skipped)
            ]
        all_sightings += sightings
        if not sightings:
            empty.append(person.name)
    if empty:
        notes.append(f"Folders without images are left out: {listed(empty)}.")
    return all_sightings


def _named_as_market(folder, skipped):
    images = _images(folder, skipped)
    try:
        records = [record_of(path) for path in images]
    except ValueError as error:
        raise ValueError(f"{LAYOUT}. {error}") from error
    return [
        _sighting(record.path, str(record.pid), str(record.camid), folder)
        for record in records
    ]


def _with_cameras(sightings, notes):
    """Returns the images with the cameras that all names tell, if no folder does."""
    if any(one.camera for one in sightings):
        return sightings
    named, silent = [], []
    for one in sightings:
        if match := _CAMERA_IN_NAME.search(one.path.stem):
            named.append(one._replace(camera=match[1]))
        else:
            silent.append(one.path.name)
    if not silent:
        return named
    if named:
        notes.append(
            f"No camera is read from the names of images, as {len(silent):,} of "
            f"{len(sightings):,} do not tell it: {listed(silent, 3)}."
        )
    return sightings


def _sighting(path, person, camera, folder):
    return Sighting(path, person, camera, None, str(path.relative_to(folder)))


def _check_no_images(top, folder):
    images = _images(top, [])
    if images:
        names = listed([path.name for path in images], 3)
        raise ValueError(f"{LAYOUT}. Received: {names} directly in {top}")


def _images(folder, skipped):
    files = [path for path in folder.iterdir() if not path.is_dir()]
    images = sorted((p for p in files if is_image(p)), key=lambda p: p.name)
    hidden = {path for path in files if path.name.startswith(".")}
    skipped += sorted({*files} - {*images} - hidden)
    return images


def _subfolders(folder):
    folders = [p for p in folder.iterdir() if p.is_dir() and p.name[:1] != "."]
    return sorted(folders, key=lambda path: natural_order(path.name))
