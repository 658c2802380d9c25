"""The data sets by name: the public benchmarks, where they lie, read and counted."""

import difflib
import functools
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from topdb_tf.data import cuhk03
from topdb_tf.data.drawn.synthetic import write_synthetic
from topdb_tf.data.market import PARTS, holds_part, read_market_layout
from topdb_tf.data.msmt17 import read_msmt17
from topdb_tf.data.own_images import (
    check_no_layout,
    existing,
    is_named_as_market,
    read_own_images,
)
from topdb_tf.data.records import CARDS, DatasetCard, Split, load_card
from topdb_tf.data.sightings import absolute
from topdb_tf.data.table import TABLE_SUFFIXES
from topdb_tf.data.tracks.mars import read_mars
from topdb_tf.data.tracks.multi_query import read_multi_query
from topdb_tf.data.trees.levels import AUTO
from topdb_tf.files import user_path
from topdb_tf.registry import register
from topdb_tf.texts import listed

_LONGEST_NAME = 120  # of one's own images, in bytes
Progress = Callable[[int, int], None]


def data_root(option: Path | None = None) -> Path:
    """Returns the folder of all data sets.

    Args:
        option: The user's choice. Where there is none, it is the environment
            variable `TOPDB_DATA`, and without that `datasets` in the current folder.
    """
    return user_path(option or os.environ.get("TOPDB_DATA") or "datasets")


def read_split(
    name: str | Path,
    data_root: Path,
    *,
    check_counts: bool = True,
    progress: Progress | None = None,
    layout: str = AUTO,
    pattern: str | None = None,
    **division,
) -> Split:
    """Reads the records of a benchmark, or of anybody's own images.

    Args:
        name: A name in `DATASETS`, else a CSV file or a folder: see
            `topdb_tf.data.own_images.read_own_images`.
        data_root: Folder of all benchmarks.
        check_counts: Whether the parts of a benchmark must hold as many images and
            identities as its card says. `False` accepts a subset.
        progress: Called with the numbers of images done and to do while images are
            extracted (CUHK03) or drawn (synthetic), which is done only once.
        layout: What each level of one's own folders is; `auto` judges.
        pattern: What the names of one's own images in a folder tell.
        **division: How own images are divided: `test_share`, `division_seed` and
            `ignore_cameras` of `topdb_tf.data.partition.split_of`.

    Raises:
        ValueError: If the name is unknown or of several data sets, the images are not
            told as they must be, or a part is incomplete.
        FileNotFoundError: If the data set is not below `data_root`, or there is no
            such file or folder.
    """
    if name not in DATASETS:
        check_one_dataset(name)
        check_name(name)
        path, is_told = existing(name), layout != AUTO or pattern is not None
        if path.is_dir() and not is_told and not is_named_as_market(path):
            _refuse_benchmarks(path)
        reading = {"layout": layout, "pattern": pattern}
        return read_own_images(path, name=dataset_name(name), **reading, **division)
    check_no_layout(name, layout, pattern)
    card = load_card(name)
    split = DATASETS[name](Path(data_root), card, progress=progress)
    if check_counts:
        _check_counts(split, card, data_root)
    return split


def joined_names(name: str | Path) -> tuple[str, ...]:
    """Returns the data sets that a name joins by `+`; of one data set its name alone.

    A file or folder that has a `+` in its own name is one data set.

    Example:
        >>> from topdb_tf.data.benchmarks import joined_names
        >>> joined_names("market1501+cuhk03-labeled+/data/a+b.csv")
        ('market1501', 'cuhk03-labeled', '/data/a+b.csv')
    """
    if name in DATASETS:
        return (str(name),)
    first, *others = str(name).split("+")
    names = [first]
    for text in others:
        before, whole = names[-1], f"{names[-1]}+{text}"
        is_next = (
            text in ("", *DATASETS) or text[0] in "/~." or user_path(text).exists()
        )
        if user_path(whole).exists() or (_looks_like_path(before) and not is_next):
            names[-1] = whole
        else:
            names.append(text)
    return tuple(names)


def check_one_dataset(name: str | Path) -> None:
    """Raises `ValueError` for several data sets where only one can be named."""
    names = joined_names(name)
    if len(names) > 1:
        raise ValueError(
            "Only one data set can be named here. Name each of "
            f"{listed(names)} by itself. Received: {name}"
        )


def check_name(name: str | Path) -> None:
    """Raises `ValueError` if a name is neither a data set's nor a path.

    Of names that are joined by `+` each must be one, and each another.
    """
    names = joined_names(name)
    for one in names:
        _check_known(one, name)
    short = [dataset_name(one) for one in names]
    twins = [
        pair for pair in zip(short, names, strict=True) if short.count(pair[0]) > 1
    ]
    if twins:
        raise ValueError(
            "Data sets that are joined by `+` must have different names. Name each "
            "once, or rename a file or folder. Received: "
            f"{listed([one for _, one in twins])}, all called {twins[0][0]!r}"
        )


def _check_known(name, joined):
    if not name and joined != name:
        raise ValueError(
            "A `+` joins two data sets, so there must be one before and one after it. "
            f"Received: {str(joined)!r}"
        )
    if name in DATASETS or is_path(name):
        return
    nearest = [known for known in DATASETS if known.startswith(name)]
    names = [*DATASETS, *(path.name for path in Path.cwd().iterdir())]
    nearest = nearest or difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {' or '.join(map(repr, nearest))}? " if nearest else ""
    raise ValueError(
        f"The data set must be one of {', '.join(DATASETS)}, or a CSV file or a "
        f"folder. {hint}There is no file or folder of that name. "
        f"Received: name={name!r}"
    )


def is_path(name: str | Path) -> bool:
    """Returns whether a data set is one's own, a file or a folder, by how it is named.

    The names of the benchmarks always are the benchmarks. Of several it tells whether
    any is one's own.
    """
    names = joined_names(name)
    if len(names) > 1:
        return any(is_path(one) for one in names if one)
    if name in DATASETS:
        return False
    return _looks_like_path(name) or user_path(name).exists()


def _looks_like_path(name):
    has_mark = any(mark in str(name) for mark in "/\\~")
    return has_mark or Path(name).suffix.lower() in TABLE_SUFFIXES


def absolute_name(name: str | Path) -> str:
    """Returns the name of one data set or several, one's own by absolute paths."""
    names = joined_names(name)
    return "+".join(str(absolute(one)) if is_path(one) else one for one in names)


def dataset_name(name: str | Path) -> str:
    """Returns the short name of a data set, which is good for a file's name too.

    Example:
        >>> from topdb_tf.data.benchmarks import dataset_name
        >>> dataset_name("market1501"), dataset_name("/data/my people.csv")
        ('market1501', 'my-people')
        >>> dataset_name("runs/night/split.csv"), dataset_name("/data/market1501")
        ('night-split', 'own-market1501')
    """
    if name in DATASETS:
        return str(name)
    names = joined_names(name)
    if len(names) > 1:
        return _shortened("+".join(map(dataset_name, names)))
    path = absolute(name)
    text = path.stem if path.suffix.lower() in TABLE_SUFFIXES else path.name
    text = f"{path.parent.name}-split" if path.name == "split.csv" else text
    text = _shortened(re.sub(r"[^\w.-]+", "-", text).strip("-.") or "own")
    return f"own-{text}" if text in DATASETS else text


def _shortened(text):
    if len(text.encode()) > _LONGEST_NAME:  # what is added must fit into 255 bytes, too
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        text = f"{text.encode()[:_LONGEST_NAME].decode(errors='ignore')}-{digest}"
    return text


def first_folder(data_root: Path, card: DatasetCard) -> Path | None:
    """Returns the first of a card's folders that is in the layout of Market-1501."""
    return next((path for path in card.places(data_root) if holds_part(path)), None)


def read_benchmark(
    data_root: Path, card: DatasetCard, *, progress: Progress | None = None
) -> Split:
    """Reads a data set in the Market-1501 layout from the first of its folders.

    Raises:
        ValueError: If the name of an image does not tell its person and camera.
        FileNotFoundError: If none of the card's folders holds a part.
    """
    del progress
    folder = first_folder(data_root, card)
    if folder is None:
        raise FileNotFoundError(card.missing_message(data_root, card.places(data_root)))
    return read_market_layout(folder, name=card.name)


def read_cuhk03(
    kind: str, data_root: Path, card: DatasetCard, *, progress: Progress | None = None
) -> Split:
    """Reads CUHK03 under the new protocol: ready-made folders, else `cuhk-03.mat`.

    Where both are there, the ready-made CUHK03-NP folders are read: they hold the
    same images and nothing has to be extracted. The kind is "labeled" or "detected".

    Raises:
        ValueError: If a file is not what it should be.
        FileNotFoundError: If there are neither folders nor `cuhk-03.mat`.
    """
    folder = first_folder(data_root, card)
    if folder is not None:
        return read_market_layout(folder, name=card.name)
    original = data_root / "cuhk03"
    if not original.is_dir():
        places = [*card.places(data_root), original]
        raise FileNotFoundError(card.missing_message(data_root, places))
    return cuhk03.read_original(original, kind, card, progress=progress)


def read_synthetic(
    data_root: Path, card: DatasetCard, *, progress: Progress | None = None
) -> Split:
    """Reads the embedded data set of drawn people; draws it first if it is missing.

    Raises:
        ValueError: If the folder holds something else.
    """
    folder = data_root / card.folders[0]
    if not holds_part(folder):
        try:
            write_synthetic(folder, progress=progress)
        except (OSError, ValueError):
            if not holds_part(folder):
                raise
            # Another process has drawn the same people meanwhile.
    return read_market_layout(folder, name=card.name)


DATASETS = {
    "market1501": read_benchmark,
    "dukemtmc-reid": read_benchmark,
    "cuhk03-labeled": functools.partial(read_cuhk03, "labeled"),
    "cuhk03-detected": functools.partial(read_cuhk03, "detected"),
    "msmt17-v1": functools.partial(read_msmt17, "V1"),
    "msmt17-v2": functools.partial(read_msmt17, "V2"),
    "mars": read_mars,
    "market1501-multi": read_multi_query,
    "synthetic": read_synthetic,
}
"""What reads each data set: of the data root, the card, and `progress`, which is called
with the numbers of images done and to do where images are extracted or drawn."""


def register_dataset(
    name: str,
    reader: Callable[[Path], Split] | None = None,
    *,
    card: DatasetCard | None = None,
) -> Callable:
    """Adds a data set, for `--dataset NAME`; without a reader it is a decorator.

    Args:
        name: Name of the data set.
        reader: Function from the data root to the `topdb_tf.data.records.Split` of the
            images, which raises FileNotFoundError if they are not there.
        card: What is known of the data set, such as how many images it has.

    Raises:
        ValueError: If the name is taken, or is none.
    """

    def entry(reader):  # of a name that may be taken
        nothing = {"source": "", "terms": "", "citation": "", "parts": {}}
        CARDS[name] = card or DatasetCard(name, title=name, folders=(name,), **nothing)
        return lambda root, card, *, progress=None: reader(root)

    return register(DATASETS, name, reader, what="data set", entry=entry)


def _refuse_benchmarks(path):
    """Raises `ValueError` for a folder with a file that only a benchmark has."""
    matching = [
        (card, archive)
        for card in map(load_card, DATASETS)
        for archive in card.archives
        if any((path / item).is_file() for item in archive.holds)
    ]
    if matching:
        titles = " or ".join(card.title for card, _ in matching)
        names = " or ".join(card.name for card, _ in matching)
        places = [f"{one.folder} ({', '.join(one.holds)})" for _, one in matching]
        raise ValueError(
            f"{path} looks like {titles}, which is read in a way of its own. Put it "
            f"below the data root as {' or '.join(dict.fromkeys(places))}, and name it "
            f"{names}."
        )


def _check_counts(split: Split, card: DatasetCard, data_root: Path) -> None:
    states, is_complete = [], True
    for part, folder in PARTS.items():
        counts = split.counts(part)
        state, differences = f"{part} ({folder}) holds {counts}", []
        if part in card.parts:
            expected = card.parts[part]
            differences = counts.differences(expected)
            state += f", expected {expected.images:,} of {expected.pids:,}"
            state += f" ({', '.join(differences) or 'complete'})"
        states.append(state)
        is_complete = is_complete and counts.images > 0 and not differences
    if not is_complete:
        raise ValueError(
            f"{card.title} must be complete: {'; '.join(states)}. Extract it again: "
            f"{card.source} datasets/README.md shows the expected folders. To use a "
            "subset on purpose, pass check_counts=False (--set "
            "data.check_counts=false). "
            f"Received: name={split.name!r}, data_root={data_root}"
        )
