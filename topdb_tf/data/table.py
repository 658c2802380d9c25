"""Anybody's own images: a CSV file that says who is seen where."""

import codecs
import csv
import difflib
import io
import re
import unicodedata
from pathlib import Path

from topdb_tf.data.market import is_image
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
from topdb_tf.data.trees.words import CAMERA, WORDS_OF_PARTS, kind_of
from topdb_tf.files import user_path
from topdb_tf.texts import listed, means_unknown

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
_WHOLE_PARTS = (TRAIN, VALIDATION, TEST, QUERY, GALLERY)
PARTS = {word: part for word, part in WORDS_OF_PARTS.items() if part in _WHOLE_PARTS}

_NUMBERED = ("name", "number", "num", "no", "index", "idx", "label")
_TIME = "time"  # by no other name: only an index asks for it
_REQUIRED, _OPTIONAL = ("path", "pid"), ("camid", "split", "tracklet")
# What others call the columns: as good as ours, and those taken where there are none.
_OTHER_NAMES = {
    "path": (
        ("filepath", "imagepath", "imgpath", "impath", "imagefile", "imgfile"),
        ("file", "filename", "fname", "image", "imagename", "img", "imgname"),
    ),
    "pid": (
        ("personid", "person", "identity", "identityid", "personname"),
        ("id", "label", "subject", "subjectid", "target", "vid"),
    ),
    "camid": (
        ("cameraid", "camera", "cam", "kamera"),
        (*(f"cam{end}" for end in _NUMBERED), *(f"camera{end}" for end in _NUMBERED)),
    ),
    "split": (("partition", "subset"), ("set", "fold", "mode", "phase", "part")),
    _TIME: ((), ()),
    "tracklet": (("trackletid",), ()),
}
# What may be meant or not: the user must say.
_UNSURE_NAMES = {
    "path": ("name", "url"),
    "pid": ("name", "trackid"),
    "camid": ("view", "viewid", "device", "deviceid", "sensor", "sensorid", "channel"),
    "split": tuple(f"{prefix}{part}" for prefix in ("", "is") for part in PARTS),
}
_CAMERA_NAME = re.compile(
    r".*(cam(?!p|e(?!ra))(?!.*(model|make|type|brand))|kamera|cctv|摄像|相机).*"
)
_DELIMITERS = ",;\t|"


def read_table(
    path: Path, *, missing: list[Sighting] | None = None
) -> tuple[list[Sighting], list[str]]:
    """Reads a CSV file with the columns `path`, `pid`, perhaps `camid` and `split`.

    A column `time` is kept as it is, for `topdb_tf.texts.seconds_of`.

    The file is UTF-8, or UTF-16 with its mark. Its first line names the columns, in any
    order, by our names or others that are usual; what is not used is noted. Cells are
    separated by commas, semicolons, tabs or bars. Paths are absolute, or relative to
    the folder of the file. Persons and cameras are numbers or names. The split is
    what `part_of` knows. A column `tracklet` names the tracks that images are of.

    Args:
        path: The file.
        missing: Takes up the images that do not exist, instead of an error.

    Returns:
        The images in the order of the file, and notes for the user.
    """
    rows = _read_rows(path)
    if not rows:
        raise ValueError(f"{path} is empty. Its first line must name the columns.")
    (line, header), *rows = rows
    columns, notes = _columns(header, rows, f"{path}, line {line}")
    sightings, problems = [], []
    for line, cells in rows:
        try:
            sightings.append(_sighting(cells, columns, len(header), line, path))
        except ValueError as error:
            problems.append((str(error), line))
    if problems:
        others = [f"line {line}" for _, line in problems[1:]]
        more = f" Wrong, too: {listed(others)}." if others else ""
        raise ValueError(f"{problems[0][0]}{more}")
    if not sightings:
        raise ValueError(f"{path} must hold images. Received: its header alone")
    absent = [one for one in sightings if not one.path.is_file()]
    if missing is None:
        _check_none_missing(absent, len(sightings), path)
        return sightings, notes
    missing += absent
    absent = set(absent)
    return [one for one in sightings if one not in absent], notes


def part_of(text: str) -> str | None:
    """Returns the part of a data set that a word names; `None` if it names none.

    Example:
        >>> from topdb_tf.data.table import part_of
        >>> part_of("Training"), part_of("test_set"), part_of("dev"), part_of("left")
        ('train', 'test', 'val', None)
    """
    return PARTS.get(_plain(text).removesuffix("set"))


def table_text(split: Split, validation: Split | None = None) -> str:
    """Returns a split as a CSV file that `read_table` reads back to the same split.

    Paths are absolute; persons and cameras have the names that their owner gave them.
    The column `camid` is empty where no cameras are told. Held-out images, the queries
    and the gallery of a validation, are `val`.
    """
    parts = [(part, split.part(part)) for part in (TRAIN, QUERY, GALLERY)]
    if validation is not None:
        parts.insert(1, (VALIDATION, validation.query + validation.gallery))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    has_tracks = any(one.tracklet for _, records in parts for one in records)
    writer.writerow(["path", "pid", "camid", "split"] + ["tracklet"] * has_tracks)
    for part, records in parts:
        for record in records:
            pid = split.pid_names.get(record.pid, record.pid)
            camera = split.camera_names.get(record.camid, "")
            track = [record.tracklet or ""] * has_tracks
            writer.writerow([record.path, pid, camera, part, *track])
    return file.getvalue()


def decoded(path: Path) -> str:
    """Returns the text of a list that a person or a program wrote."""
    encoded, place = path.read_bytes(), None
    is_wide = encoded.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = encoded.decode("utf-16" if is_wide else "utf-8-sig")
        if "\0" in text:
            place = encoded.index(b"\0")
    except UnicodeDecodeError as error:
        place = error.start
    if place is None:
        return text
    line = encoded.count(b"\n", 0, place) + 1
    raise ValueError(
        f"{path}, line {line}: it must be text in UTF-8. Save it again as UTF-8. "
        f"Received: byte {place} is {encoded[place]:#04x}"
    )


def _read_rows(path):
    """Returns the line and the cells of every row that is not blank."""
    text = decoded(path)
    first = text.lstrip("\r\n").split("\n", 1)[0].strip()
    # The line by which Excel is told what separates the cells.
    told = re.fullmatch(r'"?sep=(.)"?', first, re.IGNORECASE)
    delimiter = told[1] if told else max(_DELIMITERS, key=first.count)
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    rows, line = [], 1
    try:
        for cells in reader:
            rows.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {line}: {error}. Is there a quote that is not closed, or "
            'one within quotes that is not doubled ("")?'
        ) from error
    rows = [(line, cells) for line, cells in rows if any(map(str.strip, cells))]
    rows = rows[1:] if told else rows
    for line, cells in rows:  # a note may have several lines, but none is a row
        inner = [text for cell in cells for text in cell.splitlines()[1:]]
        if any(is_image(Path(c)) for text in inner for c in text.split(delimiter)):
            raise ValueError(
                f"{path}, line {line}: a quote is opened here and closed in another "
                "row, so that the rows between are one cell. Close it where it belongs."
            )
    return rows


def _columns(header, rows, where):
    """Returns the places of the columns by their meaning, and notes."""
    names = [_plain(name).removesuffix("s") for name in header]
    columns = {}
    for meaning in (*_REQUIRED, *_OPTIONAL, _TIME):
        columns[meaning] = _place_of(meaning, names, header, rows, where)
    columns = {name: place for name, place in columns.items() if place is not None}
    for meaning in (*_REQUIRED, *_OPTIONAL):
        # `track` may be of anything: a tracklet is only what is called so.
        close = meaning not in (*columns, "tracklet") and _close(
            meaning, names, columns.values(), rows
        )
        if close:
            raise ValueError(
                f"{where}: there is a column `{header[names.index(close)]}`. Did you "
                f"mean `{meaning}`? Rename it to that, or to something else."
            )
        if meaning in _REQUIRED and meaning not in columns:
            raise ValueError(
                f"{where}: there must be a column `{meaning}`. The first line names "
                f"the columns: path,pid,camid,split. Received: {', '.join(header)}"
            )
    taken = [
        f"`{header[place]}` as {meaning}"
        for meaning, place in columns.items()
        if _plain(header[place]) != meaning
    ]
    others = [
        name.strip() or "one without a name"
        for place, name in enumerate(header)
        if place not in columns.values()
    ]
    notes = [f"Columns of other names: {', '.join(taken)}."] if taken else []
    if others:
        notes.append(f"Columns that are not used: {', '.join(dict.fromkeys(others))}.")
    return columns, notes


def _place_of(meaning, names, header, rows, where):
    """Returns the place of a column; `None` if there is none.

    Of several that tell the same persons or cameras apart the first is taken.
    """
    for tier in ((meaning, *_OTHER_NAMES[meaning][0]), _OTHER_NAMES[meaning][1]):
        places = [place for name in tier for place, n in enumerate(names) if n == name]
        if meaning == "split":
            places = [p for p in places if _tells_parts(names[p], p, rows)]
        for other in places[1:]:
            first, is_twin = places[0], names[other] == names[places[0]]
            if meaning == "path" and names[first] == meaning and not is_twin:
                continue
            if meaning == "path" or is_twin or not _alike(first, other, rows):
                raise ValueError(
                    f"{where}: there must not be two columns `{meaning}`: "
                    f"{header[first]}, {header[other]}. Call the one that it is "
                    f"`{meaning}`, and the other something else."
                )
        if places:
            return places[0]
    return None


def _tells_parts(name, place, rows):
    """Returns whether a column is that of the parts, rather than of anything else."""
    values = _values(place, rows)
    is_numbered = name in _OTHER_NAMES["split"][0] and values <= {"0", "1", "2"}
    return name == "split" or is_numbered or any(map(part_of, values))


def _alike(one, other, rows):
    """Returns whether two columns tell the same images apart."""
    last = max(one, other)
    pairs = {(cells[one], cells[other]) for _, cells in rows if last < len(cells)}
    return all(len({pair[side] for pair in pairs}) == len(pairs) for side in (0, 1))


def _close(meaning, names, taken, rows):
    """Returns the name of a column that may be meant, where a slip would go unseen.

    Its name may tell, or what stands in it.
    """
    free = {name: place for place, name in enumerate(names) if place not in taken}
    known = [name for name in free if name in _UNSURE_NAMES[meaning]]
    close = difflib.get_close_matches(meaning, free, n=1, cutoff=0.75)
    values = {name: _values(place, rows) - {""} for name, place in free.items()}
    if meaning == "camid":
        known += filter(_CAMERA_NAME.fullmatch, free)
        known += [n for n in free if kind_of(values[n], below=False) == CAMERA]
    if meaning == "split":
        known += [n for n in free if values[n] and all(map(part_of, values[n]))]
    return next(iter(known + close), None)


def _values(place, rows):
    return {cells[place].strip() for _, cells in rows if place < len(cells)}


def _plain(text):
    """Returns the letters without accents, and the digits, of a name in lower case."""
    text = unicodedata.normalize("NFKD", text).casefold()
    text = "".join(c for c in text if not unicodedata.combining(c))
    return re.sub(r"[\W_]+", "", text)


def _sighting(cells, columns, width, line, path):
    where = f"{path}, line {line}"
    if len(cells) < width or any(map(str.strip, cells[width:])):
        raise ValueError(
            f"{where}: there must be {width} cells, as in the header. "
            f"Received: {len(cells)}"
        )
    told = {name: cells[place].strip() for name, place in columns.items()}
    for name, text in told.items():
        if not text and name in _REQUIRED:
            hint = " Write -1 where nobody is known." if name == "pid" else ""
            raise ValueError(f"{where}: `{name}` must not be empty.{hint}")
        if "\n" in text or "\r" in text:
            raise ValueError(
                f"{where}: `{name}` must be on one line. Is there a quote that is not "
                f"closed? Received: {text[:40]!r}"
            )
    word = told.get("split", "")
    part = part_of(word)
    if part is None and not means_unknown(word):
        close = difflib.get_close_matches(word.lower(), PARTS, n=1)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        raise ValueError(
            f"{where}: the split must be train, val, test, query or gallery.{hint} "
            f"Received: {word!r}"
        )
    return Sighting(
        path=_image_path(told["path"], path.parent),
        person=told["pid"],
        camera=told.get("camid") or None,
        part=part,
        place=f"line {line}",
        time=told.get(_TIME) or None,
        tracklet=told.get("tracklet") or None,
    )


def _image_path(text, folder):
    image = absolute(user_path(text, folder))
    if not text.isascii() or "\\" in text:
        # As Windows writes it, and with accents as other systems compose them.
        plain = text.replace("\\", "/")
        others = [plain, *(unicodedata.normalize(f, plain) for f in ("NFC", "NFD"))]
        paths = [image, *(absolute(user_path(other, folder)) for other in others)]
        return next((path for path in paths if path.is_file()), paths[1])
    return image


def _check_none_missing(missing, number, path):
    if missing:
        names = [f"{one.path} ({one.place})" for one in missing]
        raise FileNotFoundError(
            f"Every image in {path} must exist; paths that are not absolute count from "
            f"the folder of that file. {len(missing):,} of {number:,} are "
            f"missing: {listed(names)}."
        )
