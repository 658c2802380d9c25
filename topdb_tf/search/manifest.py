"""`index.json`: what an index is, and which files hold it.

A change writes new files, or appends to the features behind the rows that count, and
then replaces `index.json`. So a change that is cut short leaves the index as it was,
and what it left behind is cleared away by the next. A reader that has opened the files
is not disturbed.
"""

import contextlib
import datetime
import json
import re
import zlib
from collections.abc import Set
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

from topdb_tf import __version__
from topdb_tf.embed.model_probes import RecordedModel
from topdb_tf.files import write_whole
from topdb_tf.json_files import json_value, record_of

MANIFEST = "index.json"
FORMAT = 1
_FORMATS = (FORMAT, 2)  # the latter of features that are normalised by camera
PATTERNS = ("features-*.f32", "entries-*.npz", "approximate-*.faiss", "*.partial")
METRICS = ("sqeuclidean", "euclidean", "cosine")

_NAMES = r"features-\d{6,}\.f32", r"entries-\d{6,}\.npz", r"approximate-\d{6,}\.faiss"
_LARGEST = 2**62
_OLD_KINDS = {"ivf": ("nlist", "IVF{},SQ8"), "hnsw": ("M", "HNSW{},SQ8")}


class WrittenFile(NamedTuple):
    """A file of an index: its name, how many bytes count, and their checksum."""

    name: str
    size: int
    crc32: int


class IndexFiles(NamedTuple):
    """The files of an index; `None` where one is not written or not of the kind."""

    features: WrittenFile | None = None
    entries: WrittenFile | None = None
    approximate: WrittenFile | None = None

    def written(self) -> list[WrittenFile]:
        """Returns those that there are."""
        return [file for file in self if file is not None]

    @property
    def bytes_on_disk(self) -> int:
        """Size of all of them."""
        return sum(file.size for file in self.written())

    @property
    def bytes_in_memory(self) -> int:
        """Roughly what an open index takes, without the features, which are mapped."""
        approximate = 0 if self.approximate is None else self.approximate.size
        return approximate + (0 if self.entries is None else 2 * self.entries.size)


@dataclass(frozen=True)
class Manifest:
    """What `index.json` says: of the rows, removed ones too, and of the last change.

    The rows that FAISS holds are `None` if the kind is exact. Features that are
    normalised by camera are so by the statistics beside the entries.
    """

    kind: str
    parameters: dict[str, int]
    metric: str
    dim: int
    model: RecordedModel | None = None
    files: IndexFiles = IndexFiles()
    num_rows: int = 0
    approximate_rows: int | None = None
    next_id: int = 0
    change: int = 0
    date: str = ""
    topdb_tf: str = __version__
    is_by_camera: bool = False

    def __post_init__(self):
        numbers = [self.dim, self.num_rows, self.next_id, self.change]
        numbers += [number for file in self.files.written() for number in file[1:]]
        numbers += [] if self.approximate_rows is None else [self.approximate_rows]
        texts = [self.kind, self.date, self.topdb_tf]
        if type(self.parameters) is not dict:
            raise TypeError("`parameters` must be an object")
        for least, values in ((0, numbers), (1, [self.dim, *self.parameters.values()])):
            for number in values:
                if type(number) is not int or not least <= number < _LARGEST:
                    raise TypeError(f"{number!r} must be a whole number from {least}")
        if not all(type(text) is str for text in texts):
            raise TypeError("`kind`, `date` and `topdb_tf` must be texts")
        if self.metric not in METRICS:
            raise TypeError(f"`metric` must be one of {', '.join(METRICS)}")

    def check_files(self) -> None:
        """Raises `TypeError` unless files and model agree with the numbers."""
        features, entries, approximate = self.files
        for file, name in zip(self.files, _NAMES, strict=True):
            if file is not None and not re.fullmatch(name, str(file.name), re.ASCII):
                raise TypeError(f"it names a file {file.name!r}")
        if features is None or entries is None:
            raise TypeError("it must name a file of features and one of entries")
        if features.size != 4 * self.dim * self.num_rows:
            raise TypeError("`dim`, `num_rows` and the size of the features differ")
        if entries.name != f"entries-{self.change:06d}.npz":
            raise TypeError("`change` must be that of the entries")
        is_exact = self.kind == "exact"
        rows = self.approximate_rows
        if is_exact != (approximate is None) or is_exact != (rows is None):
            raise TypeError("a file for FAISS is there but for the kind exact")
        if (is_exact and self.parameters) or (rows or 0) > self.num_rows:
            raise TypeError("`parameters` or `approximate_rows` are of another kind")
        if self.model is not None:
            self.model.check(self.dim)


def read_manifest(folder: Path) -> Manifest:
    """Returns what `index.json` of an index says.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If the file is damaged, foreign, or of a newer version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} is no index: it has no {MANIFEST}. Build one with "
            f"`topdb-tf index build PLACES --out {folder}`."
        )
    try:
        values = json_value(path.read_text(encoding="utf-8"))
        version = values["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise damaged(path, "it is not what `topdb-tf index` writes") from None
    if version not in _FORMATS:
        raise ValueError(
            f"{path} must be of format {' or '.join(map(str, _FORMATS))}. Build the "
            f"index again with this version. Received: format {version}"
        )
    try:
        manifest = _manifest_of(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(path, f"not as written: {error}") from None
    # As of the metric, which would be another one of the same features.
    if values.pop("crc32", None) not in (None, _sum_of(values)):  # none in old ones
        raise damaged(path, "something in it was changed after it was written")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Makes the files that a manifest names the index, and clears others away."""
    now = datetime.datetime.now(datetime.timezone.utc)
    manifest = replace(manifest, date=now.isoformat(timespec="seconds"))
    files = manifest.files._asdict()
    values = {
        **asdict(manifest),
        "files": {name: file for name, file in files.items() if file is not None},
        "format": _FORMATS[manifest.is_by_camera],
    }
    del values["is_by_camera"]  # which the format tells
    if manifest.approximate_rows is None:
        del values["approximate_rows"]
    values["crc32"] = _sum_of(values)
    write_whole(folder / MANIFEST, json.dumps(values, indent=1) + "\n")
    clear_away(folder, {file.name for file in manifest.files.written()})


def clear_away(folder: Path, names: Set[str] = frozenset()) -> None:
    """Removes the files of an index that are not among those of some names."""
    for pattern in PATTERNS:
        for path in folder.glob(pattern):
            if path.name not in names:
                with contextlib.suppress(OSError):  # in use, where that forbids it
                    path.unlink()


def damaged(path: Path, reason: str) -> ValueError:
    """Returns the error for a file of an index that cannot be used."""
    return ValueError(
        f"{path} is damaged or no file of an index: {reason}. Build the index again, "
        "or take it from a backup."
    )


def _sum_of(values):
    """Returns the checksum of what `index.json` holds, however it is laid out."""
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def _manifest_of(values):
    """Returns the manifest of the values in `index.json`."""
    names = {field.name for field in fields(Manifest)}
    others = {"model", "approximate_rows", "is_by_camera"}
    known = {name: values[name] for name in names - others}
    if known["kind"] in _OLD_KINDS:  # as written before kinds were factory strings
        name, kind = _OLD_KINDS[known["kind"]]
        known["parameters"] = dict(known["parameters"])
        known["kind"] = kind.format(known["parameters"].pop(name))
    files = {name: WrittenFile(*file) for name, file in known.pop("files").items()}
    manifest = Manifest(
        **known,
        files=IndexFiles(**files),
        model=record_of(RecordedModel | None, values.get("model")),
        approximate_rows=values.get("approximate_rows"),
        is_by_camera=values["format"] == _FORMATS[1],
    )
    manifest.check_files()
    return manifest
