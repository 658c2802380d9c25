"""Several data sets as one, in which no two share a person, a camera or an image."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from topdb_tf.data.records import Split
from topdb_tf.texts import listed

_SAME_PEOPLE = ({"cuhk03-labeled", "cuhk03-detected"}, {"msmt17-v1", "msmt17-v2"})


def joined(name: str, splits: Sequence[Split]) -> Split:
    """Returns several data sets as one, whose pids and camids are its own.

    Persons and cameras are numbered from 1 on through all data sets, in the order of
    the data sets and then of their own numbers. They are called by their data set and
    the name that they have there, such as `market1501:2`. Distractors, pid 0 in a
    gallery alone, stay what they are.

    Raises:
        ValueError: If two data sets have the same name, show the same people, or hold
            the same file of an image.
    """
    names = [split.name for split in splits]
    for people in (*_SAME_PEOPLE, *({one} for one in names)):
        twins = [one for one in names if one in people]
        if len(twins) > 1:
            raise ValueError(
                "Data sets that are joined must show different people, each by a name "
                f"of its own. Leave out one of {', '.join(twins)}. Received: {name}"
            )
    _check_no_image_twice(splits)
    parts, first_pid, first_camid = [], 1, 1
    for split in splits:
        part = _renumbered(split, first_pid, first_camid)
        parts.append(part)
        first_pid += len(part.pid_names)
        first_camid += len({record.camid for record in part.records})
    notes = (f"{one.name}: {note}" for one in splits for note in one.notes)
    return with_parts(Split(name, (), (), (), notes=tuple(notes)), parts)


def with_parts(whole: Split, parts: Sequence[Split]) -> Split:
    """Returns a joint data set made of other images of its parts."""
    return replace(
        whole,
        **{
            name: tuple(_in_all(one, part) for part in parts for one in part.part(name))
            for name in ("train", "query", "gallery")
        },
        has_cameras=any(part.has_cameras for part in parts),
        pid_names=_called(parts, "pid_names"),
        camera_names=_called(parts, "camera_names"),
        parts=tuple(parts),
    )


def numbers_of_parts(split: Split) -> np.ndarray:
    """Returns which of its data sets each training image is of, counted from 0."""
    return np.repeat(
        np.arange(len(split.parts)), [len(part.train) for part in split.parts]
    )


def _in_all(record, part):
    """Returns an image whose track is called by its data set, too."""
    if record.tracklet is None:
        return record
    return record._replace(tracklet=f"{part.name}:{record.tracklet}")


def _called(parts, field):
    return {
        number: f"{part.name}:{name}"
        for part in parts
        for number, name in getattr(part, field).items()
    }


def _renumbered(split, first_pid, first_camid):
    """Returns a data set with numbers of its persons and cameras from some on.

    They keep their names; a camera has one where the data set tells cameras.
    """
    named = {record.pid for record in split.train + split.query}
    nobody = {record.pid for record in split.gallery if record.pid < 1} - named
    pids = sorted({record.pid for record in split.records} - nobody)
    camids = sorted({record.camid for record in split.records})
    pid_of = {pid: first_pid + place for place, pid in enumerate(pids)}
    pid_of |= {pid: pid for pid in nobody}
    camid_of = {camid: first_camid + place for place, camid in enumerate(camids)}
    is_told = split.has_cameras or split.camera_names
    return replace(
        split,
        **{
            part: tuple(
                one._replace(pid=pid_of[one.pid], camid=camid_of[one.camid])
                for one in split.part(part)
            )
            for part in ("train", "query", "gallery")
        },
        pid_names={pid_of[pid]: split.pid_name(pid) for pid in pids},
        camera_names={
            new: split.camera_name(camid) for camid, new in camid_of.items() if is_told
        },
    )


def _check_no_image_twice(splits):
    """Raises `ValueError` if a file is in two data sets, by whatever path or link."""
    owners, twins = {}, []
    for split in splits:
        mine = {}
        for path in dict.fromkeys(record.path for record in split.records):
            status = path.stat()
            mine[status.st_dev, status.st_ino] = split.name, path
        twins += [(owners[file], mine[file]) for file in owners.keys() & mine.keys()]
        owners |= mine
    if twins:
        (first, path), (second, again) = min(twins)
        shown = [f"{path} of {first} is {again} of {second}"]
        raise ValueError(
            "Data sets that are joined must not hold the same image. Name each folder "
            f"of images once, or take the images out of one. {len(twins):,} are in "
            f"two. Received: {listed(shown)}"
        )
