"""Images as their owner describes them, and the numbers of persons and cameras."""

import os
import re
import unicodedata
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from topdb_tf.data.market import DISTRACTOR_PID
from topdb_tf.files import user_path
from topdb_tf.texts import counted, listed, means_unknown, natural_order

TRAIN, VALIDATION, TEST, QUERY, GALLERY = "train", "val", "test", "query", "gallery"
_LARGEST, _LONGEST = 2**63 - 1, 255  # number of an id; name


class Sighting(NamedTuple):
    """One image of one person, in the words of its owner.

    Args:
        path: The image file, absolute.
        person: Name or number of the person.
        camera: Name or number of the camera, or `None` where it is not told.
        part: "train", "val", "test", "query" or "gallery", or `None`.
        place: Where that is said, such as "line 7"; for errors.
        time: When it was taken, or `None` where it is not told.
        tracklet: Name of the track that it is of, or `None`.
    """

    path: Path
    person: str
    camera: str | None
    part: str | None
    place: str
    time: str | None = None
    tracklet: str | None = None


def with_ids(
    sightings: list[Sighting],
    source: Path | str,
    notes: list[str],
    *,
    keep_unknown: bool = False,
) -> list[Sighting]:
    """Returns the images with one spelling for each person and for each camera.

    Images of a person that is not known are left out, or kept with `None`, which
    `notes` gets a line about; a camera that is not known becomes `None`. See
    `topdb_tf.texts.means_unknown`. Where all are whole numbers, 7, 007 and 7.0 are
    one, which is noted, too; the first spelling stays.
    """
    persons = _spellings([(one.person, one.place) for one in sightings], "pid", source)
    cameras = _spellings(
        [(one.camera, one.place) for one in sightings if one.camera], "camid", source
    )
    known = [
        one._replace(person=persons[one.person], camera=cameras.get(one.camera))
        for one in sightings
        if keep_unknown or persons[one.person] is not None
    ]
    nobody = [text for text, spelling in persons.items() if spelling is None]
    for word, spellings in (("person", persons), ("camera", cameras)):
        texts = {}
        for text, spelling in spellings.items():
            texts.setdefault(spelling, []).append(text)
        one = [" and ".join(texts[s]) for s in texts if s and len(texts[s]) > 1]
        if one:
            notes.append(f"Taken for one {word} each: {listed(one)}.")
    if not known:
        raise ValueError(
            f"{source} must tell whom the images show. Received: {listed(nobody)}"
        )
    if nobody:
        number = counted(sum(persons[one.person] is None for one in sightings), "image")
        end = "" if keep_unknown else " left out"
        notes.append(f"{number} of nobody known{end}: pid {listed(nobody)}.")
    return known


def check_contradictions(sightings: list[Sighting], source: Path) -> None:
    """Raises `ValueError` if an image is told twice, or to be two things.

    An image can be both a query and in the gallery.
    """
    first, seen = {}, {}
    for one in sightings:
        other = first.setdefault(one.path, one)
        for word, mine, theirs in (
            ("pids", one.person, other.person),
            ("camids", one.camera, other.camera),
        ):
            if mine != theirs:
                raise ValueError(
                    f"{source}: an image must have one pid and one camid. {one.path} "
                    f"has two {word}: {theirs!r} ({other.place}) and {mine!r} "
                    f"({one.place})."
                )
        twin = seen.setdefault((one.path, one.part), one)
        if twin is not one:
            raise ValueError(
                f"{source}: an image must be listed once. {one.path} is listed twice: "
                f"{twin.place} and {one.place}. Remove one of them."
            )


def check_tracks(
    images: Iterable[tuple[str | None, Hashable, Hashable, str]], source: Path | str
) -> None:
    """Raises `ValueError` if a track shows two persons, or is of two cameras.

    Args:
        images: Of each image its track, if it has one, person, camera, and place.
        source: What was read, for the error.
    """
    first = {}
    for tracklet, person, camera, place in images:
        if tracklet is None:
            continue
        told = first.setdefault(tracklet, (person, camera, place))
        for word, mine, theirs in zip(
            ("persons", "cameras"), (person, camera), told, strict=False
        ):
            if mine != theirs:
                raise ValueError(
                    f"{source}: a tracklet must be of one person and one camera. Where "
                    "numbers begin anew for each camera, write both, as c2-0007. "
                    f"Received: tracklet {tracklet!r} of two {word}: {theirs!r} "
                    f"({told[2]}) and {mine!r} ({place})"
                )


def tracks_of(sightings: Iterable[Sighting]) -> Iterator:
    """Returns what `check_tracks` takes."""
    return ((one.tracklet, one.person, one.camera, one.place) for one in sightings)


def person_numbers(sightings: list[Sighting]) -> dict[str, int]:
    """Returns the pid of each person's name.

    Whole numbers of 64 bits stay as they are, unless one is 0 and not in the gallery
    alone, where 0 is nobody known. Other names are numbered from 1 in their natural
    order.
    """
    names = sorted({one.person for one in sightings}, key=natural_order)
    if all(re.fullmatch(r"\d+", name) and int(name) <= _LARGEST for name in names):
        pids = {name: int(name) for name in names}
        parts = {one.part for one in sightings if pids[one.person] == DISTRACTOR_PID}
        if parts <= {GALLERY}:
            return pids
    return {name: pid for pid, name in enumerate(names, 1)}


def camera_numbers(sightings: list[Sighting], source: Path) -> dict[str, int]:
    """Returns the camid of each camera's name; nothing where all are the same.

    `cam2` is camera 2; names that do not end in different numbers are numbered from 1
    in their natural order.
    """
    missing = [one for one in sightings if not one.camera]
    if missing and len(missing) < len(sightings):
        raise ValueError(
            f"{source}: cameras must be told for all images, or for none. "
            f"{len(missing):,} of {len(sightings):,} have no camid: "
            f"{listed([one.place for one in missing])}. Tell them, or leave these "
            "images out."
        )
    cameras = {one.camera for one in sightings} - {None, ""}
    return numbered_cameras(cameras) if len(cameras) > 1 else {}


def numbered_cameras(cameras: Collection[str]) -> Mapping[str, int]:
    """Returns the camid of each camera's name; see `camera_numbers`."""
    names = sorted(cameras, key=natural_order)
    ends = [re.fullmatch(r"\D*(\d+)", name) for name in names]
    numbers = [int(end[1]) for end in ends if end]
    if len(set(numbers)) < len(names) or max(numbers, default=0) > _LARGEST:
        numbers = range(1, len(names) + 1)
    return dict(zip(names, numbers, strict=True))


def folded(text: str, word: str) -> str:
    """Returns what two spellings of one person or camera have in common."""
    text = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")  # not seen
    text = _ascii_digits(text)
    text = re.sub(r"^(\d+)\.0*$", r"\1", text)
    if re.fullmatch(r"\d{1,3}(,\d{3})+", text):
        text = text.replace(",", "")
    text = re.sub(r"(?<![\d.])0+(?=\d)", "", text)
    return re.sub(r"^c(am(era)?)?[ _-]?(?=\d+$)", "", text) if word == "camid" else text


def absolute(path: str | Path) -> Path:
    """Returns a path that starts at the root, links as they are, without `..`.

    Behind a link `..` is the folder above where it leads to, as for the system.
    """
    path = user_path(path).absolute()
    normal = os.path.normpath(path)
    if ".." in path.parts:
        last = len(path.parts) - path.parts[::-1].index("..")
        above, rest = Path(*path.parts[:last]), path.parts[last:]
        plain = os.path.normpath(above)
        if above.exists() and not (
            os.path.exists(plain) and above.samefile(plain)  # noqa: PTH110
        ):
            return above.resolve().joinpath(*rest)
    return Path(normal)


def _spellings(ids, word, source):
    """Returns the spelling of each id by what is written, `None` if it is not known."""
    places = {}
    for text, place in ids:
        places.setdefault(text, place)
    spellings = {text: _tidy(text) for text in places if not means_unknown(text)}
    for text, spelling in spellings.items():
        _check_id(spelling, f"{source}, {places[text]}: the {word}")
    are_numbers = all(re.fullmatch(r"\d+(\.0*)?", one) for one in spellings.values())
    first = {}
    for text, spelling in spellings.items():
        twin = first.setdefault(folded(spelling, word), text)
        if are_numbers:
            spellings[text] = spellings[twin].partition(".")[0]
        elif spellings[twin] != spelling:
            raise ValueError(
                f"{source}: two {word}s must differ in more than case, spaces, "
                f"zeros and what is not seen. Write them in one way, or give one "
                f"another name. Received: {twin!r} ({places[twin]}) and {text!r} "
                f"({places[text]})"
            )
    return dict.fromkeys(places) | spellings


def _tidy(text):
    """Returns a name as every system composes it, numbers of the digits 0 to 9.

    What a spreadsheet puts around a number to keep it as text is left out.
    """
    text = unicodedata.normalize("NFC", text).strip().strip("\ufeff\u200b").strip()
    text = _ascii_digits(text) if re.fullmatch(r"\d+(\.0*)?", text) else text
    return re.sub(r'^(?:="(.*)"|[\'\u2019](\d+))$', r"\1\2", text)


def _ascii_digits(text):
    return re.sub(r"\d", lambda digit: str(int(digit[0])), text)


def _check_id(text, what):
    if len(text) > _LONGEST or any(unicodedata.category(c) == "Cc" for c in text):
        raise ValueError(
            f"{what} must be a number or a name on one line, of at most {_LONGEST} "
            f"characters. Received: {text[:40]!r}"
        )
    if re.fullmatch(r"[-\u2212]\d+(\.\d*)?", text):
        raise ValueError(
            f"{what} must not be a negative number; -1 says that it is not known. "
            f"Write a letter before it if it is a name. Received: {text}"
        )
    if re.fullmatch(r"\d([.,]\d+)?[eE]\+\d+|\d[.,]\d+[eE]\d+", text):
        raise ValueError(
            f"{what} has lost digits, as a spreadsheet shortens long numbers. Save the "
            f"column as text. Received: {text}"
        )
