"""Anybody's own images: a CSV file that says who is seen where."""

import csv
import difflib
import io
from pathlib import Path

from topdb_tf.data.records import Split
from topdb_tf.data.sightings import (
    GALLERY,
    QUERY,
    TEST,
    TRAIN,
    VALIDATION,
    Sighting,
    absolute,
)
from topdb_tf.texts import listed

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
PARTS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "test": TEST,
    "testing": TEST,
    "query": QUERY,
    "gallery": GALLERY,
}

_REQUIRED, _OPTIONAL = ("path", "pid"), ("camid", "split")
_DELIMITERS = ",;\t"
# What others call the columns, to be named in an error.
_OTHER_NAMES = {
    "path": ("file", "filename", "image", "image_path", "img_path", "img"),
    "pid": ("person", "person_id", "id", "identity", "label", "name"),
}


def read_table(path: Path) -> tuple[list[Sighting], list[str]]:
    """Reads a CSV file with the columns `path`, `pid` and perhaps `camid` and `split`.

    The file is UTF-8. Its first line names the columns, in any order; others are left
    out. Cells are separated by commas, semicolons or tabs. Paths are absolute, or
    relative to the folder of the file. Persons and cameras are numbers or names. The
    split is one of `PARTS`, in upper or lower case.

    Returns:
        The images in the order of the file, and notes for the user.

    Raises:
        ValueError: If a column is missing, a cell is empty or not known, or the file
            holds no images; with the line.
        FileNotFoundError: If images do not exist; the first few are named.
    """
    rows = _read_rows(path)
    if not rows:
        raise ValueError(f"{path} is empty. Its first line must name the columns.")
    _, header = rows[0]
    columns = _columns(header, path)
    sightings = [
        _sighting(cells, columns, len(header), line, path) for line, cells in rows[1:]
    ]
    if not sightings:
        raise ValueError(f"{path} must hold images. Received: its header alone")
    _check_files(sightings, path)
    others = [name for name in header if name.strip().lower() not in columns]
    notes = [f"Columns that are not used: {', '.join(others)}."] if others else []
    return sightings, notes


def table_text(split: Split) -> str:
    """Returns a split as a CSV file that `read_table` reads back to the same split.

    Paths are absolute; persons and cameras have the names that their owner gave them.
    The column `camid` is empty where no cameras are told.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["path", "pid", "camid", "split"])
    for part in (TRAIN, QUERY, GALLERY):
        for record in split.part(part):
            pid = split.pid_names.get(record.pid, record.pid)
            camera = split.camera_names.get(record.camid, "")
            writer.writerow([record.path, pid, camera, part])
    return file.getvalue()


def _read_rows(path):
    """Returns line number and cells of every line that is not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} must be text in UTF-8. Save it again as CSV UTF-8. "
            f"Received: byte {error.start} is not UTF-8"
        ) from error
    first = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return [
            (reader.line_num, cells)
            for cells in reader
            if any(cell.strip() for cell in cells)
        ]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error


def _columns(header, path):
    names = [name.strip().lower() for name in header]
    columns = {}
    for name in (*_REQUIRED, *_OPTIONAL):
        if names.count(name) > 1:
            raise ValueError(f"{path}, line 1: there are two columns `{name}`.")
        if name in names:
            columns[name] = names.index(name)
        elif name in _REQUIRED:
            raise ValueError(
                f"{path}, line 1: there must be a column `{name}`.{_hint(name, names)} "
                f"Received: {', '.join(header)}"
            )
    for name in _OPTIONAL:  # a slip would silently mean "no cameras", "no split"
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
        if name not in columns and close:
            raise ValueError(
                f"{path}, line 1: there is a column `{close[0]}`. Did you mean "
                f"`{name}`? Rename it to that, or to something else."
            )
    return columns


def _hint(name, names):
    known = [other for other in names if other in _OTHER_NAMES[name]]
    close = known or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" Is it `{close[0]}`? Rename that to `{name}`." if close else ""


def _sighting(cells, columns, width, line, path):
    where = f"{path}, line {line}"
    if len(cells) != width:
        raise ValueError(
            f"{where}: there must be {width} cells, as in the header. "
            f"Received: {len(cells)}"
        )
    told = {name: cells[place].strip() for name, place in columns.items()}
    for name in _REQUIRED:
        if not told[name]:
            raise ValueError(f"{where}: `{name}` must not be empty.")
    part = told.get("split") or None
    if part is not None and part.lower() not in PARTS:
        close = difflib.get_close_matches(part.lower(), PARTS, n=1)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        raise ValueError(
            f"{where}: the split must be train, val, test, query or gallery.{hint} "
            f"Received: {part!r}"
        )
    return Sighting(
        path=absolute(path.parent / Path(told["path"]).expanduser()),
        person=told["pid"],
        camera=told.get("camid") or None,
        part=PARTS[part.lower()] if part else None,
        place=f"line {line}",
    )


def _check_files(sightings, path):
    missing = [one for one in sightings if not one.path.is_file()]
    if missing:
        names = [f"{one.path} ({one.place})" for one in missing]
        raise FileNotFoundError(
            f"Every image in {path} must exist; paths that are not absolute count from "
            f"the folder of that file. {len(missing):,} of {len(sightings):,} are "
            f"missing: {listed(names)}."
        )
