"""Which data set an archive holds, told by its members."""

import re
from collections import Counter
from pathlib import PurePosixPath
from typing import NamedTuple

from topdb_tf.data.archives.archive import Archive, is_clutter
from topdb_tf.data.market import IMAGE_SUFFIXES, PARTS
from topdb_tf.data.msmt17 import FOLDERS

_GIB = 1 << 30


class Kind(NamedTuple):
    """An archive that can be unpacked.

    Args:
        name: What `--dataset` calls it.
        datasets: The data sets that can be trained on afterwards.
        folder: Where it belongs, below the data root.
        max_members: More files than it has by far.
        max_bytes: More than it takes by far.
    """

    name: str
    datasets: tuple[str, ...]
    folder: str
    max_members: int
    max_bytes: int


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "market1501",
            ("market1501",),
            "market1501/Market-1501-v15.09.15",
            100_000,
            _GIB,
        ),
        Kind(
            "dukemtmc-reid",
            ("dukemtmc-reid",),
            "dukemtmc-reid/DukeMTMC-reID",
            100_000,
            _GIB,
        ),
        Kind(
            "cuhk03-np",
            ("cuhk03-labeled", "cuhk03-detected"),
            "cuhk03-np",
            60_000,
            4 * _GIB,
        ),
        Kind(
            "cuhk03",
            ("cuhk03-labeled", "cuhk03-detected"),
            "cuhk03/cuhk03_release",
            1000,
            8 * _GIB,
        ),
        Kind("msmt17-v1", ("msmt17-v1",), "msmt17/MSMT17_V1", 200_000, 16 * _GIB),
        Kind("msmt17-v2", ("msmt17-v2",), "msmt17/MSMT17_V2", 200_000, 16 * _GIB),
    )
}

_MARKET_NAME = re.compile(r"(-1|\d{4})_c\ds\d_\d{6}_\d\d\.jpg")
_DUKE_NAME = re.compile(r"\d{4}_c\d_f\d{7}\.jpg")


def recognised(archive: Archive, dataset: str | None = None) -> tuple[Kind, str]:
    """Returns what an archive holds, and the folder in it that is to be unpacked.

    Args:
        archive: The archive.
        dataset: A name in `KINDS` that it must be; images in the layout of Market-1501
            are taken for it by whatever names. Defaults to what the members tell.

    Raises:
        ValueError: If it is none of the known ones, or not the one that it must be, or
            far larger than that.
    """
    found = _places(archive)
    if dataset is not None and dataset in ("market1501", "dukemtmc-reid"):
        places = [found[name] for name in _MARKET_LIKE if name in found]
        found = {dataset: places[0]} if places else {}
    if dataset is not None:
        found = {name: place for name, place in found.items() if name == dataset}
    known = {name: place for name, place in found.items() if name in KINDS}
    if len(known) != 1:
        raise ValueError(_unknown_message(archive, dataset, known))
    ((name, folder),) = known.items()
    kind = KINDS[name]
    members = members_below(archive, folder)
    total = sum(member.size for member in members)
    if len(members) > kind.max_members or total > kind.max_bytes:
        raise ValueError(
            f"{archive.path} must not hold much more than {name} has. Received: "
            f"{len(members):,} files of {total:,} bytes"
        )
    return kind, folder


def members_below(archive: Archive, folder: str) -> list:
    """Returns the members in a folder of an archive, without clutter."""
    start = f"{folder}/" if folder else ""
    return [
        member
        for member in archive.members
        if member.name.startswith(start) and not is_clutter(member.name)
    ]


_MARKET_LIKE = ("market1501", "dukemtmc-reid", "like Market-1501")


def _places(archive):
    """Returns the folder of each kind that is in the archive."""
    images, files = {}, {}
    for member in archive.members:
        path = PurePosixPath(member.name)
        if is_clutter(member.name):
            continue
        files.setdefault(_parent(path.parent), set()).add(path.name)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            images.setdefault(_parent(path.parent), []).append(path.name)
    places = {}
    for folder, names in files.items():
        if "cuhk-03.mat" in names:
            places["cuhk03"] = folder
        if "list_train.txt" in names:
            for version, (train, _) in FOLDERS.items():
                start = f"{folder}/{train}/" if folder else f"{train}/"
                if any(place.startswith(start) for place in images):
                    places[f"msmt17-{version.lower()}"] = folder
    for folder in sorted(images):
        path = PurePosixPath(folder)
        parts = {_below(_parent(path.parent), part) for part in PARTS.values()}
        if path.name == PARTS["train"] and parts <= set(images):
            name, place = _market_like(path.parent, images[folder])
            places.setdefault(name, place)
    return places


def _parent(path):
    return "" if str(path) == "." else str(path)


def _below(folder, name):
    return f"{folder}/{name}" if folder else name


def _market_like(folder, names):
    """Returns what kind of Market-1501 layout it is, and its folder."""
    if folder.name in ("labeled", "detected"):
        return "cuhk03-np", _parent(folder.parent)
    votes = Counter()
    for name in names:
        votes["market1501"] += _MARKET_NAME.match(name) is not None
        votes["dukemtmc-reid"] += _DUKE_NAME.match(name) is not None
    name, count = votes.most_common(1)[0]
    return (name if 2 * count > len(names) else _MARKET_LIKE[2]), _parent(folder)


def _unknown_message(archive, dataset, known):
    what = dataset or "one of the known data sets, once"
    told = ", ".join(sorted(known)) or "none of them"
    return (
        f"{archive.path} must hold {what}. Known are {', '.join(KINDS)}; --dataset "
        "says which it is. Anything else is unpacked by hand: datasets/README.md shows "
        f"the folders. Received: {len(archive.members):,} files, {told}"
    )
