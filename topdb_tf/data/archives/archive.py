"""Archives of data sets, listed with distrust: zip, tar and compressed tar."""

import bz2
import contextlib
import gzip
import lzma
import re
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from topdb_tf.texts import listed

MAX_MEMBERS, MAX_BYTES, MAX_RATIO = 250_000, 16 << 30, 100
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    EOFError,
    NotImplementedError,  # zipfile: a method of compression that it does not know
)

_LONGEST_READ = 16 << 20  # what a header of a tar may take
_COMPRESSED = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open))
_OTHERS = ((b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!\x1a\x07", "RAR"))
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_CLUTTER = re.compile(r"(^|/)(__MACOSX/|\._|\.DS_Store$|Thumbs\.db$)")


class Member(NamedTuple):
    """A file in an archive.

    Args:
        name: Its path in the archive, parts separated by `/`.
        size: In bytes, as the archive says.
    """

    name: str
    size: int


class Archive(NamedTuple):
    """An open archive.

    Args:
        path: The file.
        members: Its files, all with names that stay where they are unpacked.
        opened: Gives each of some members, by name, with its contents as a file.
    """

    path: Path
    members: tuple[Member, ...]
    opened: Callable[[Sequence[str]], Iterator[tuple[str, IO[bytes]]]]


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Opens a zip, tar, tar.gz, tar.bz2 or tar.xz file, told by its first bytes.

    Everything in it is looked at before anything is given. What desktop programs add
    (`__MACOSX`, `.DS_Store`, `Thumbs.db`) and folders are left out.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of another format, encrypted or damaged; if a name leads
            out of the folder, or cannot be on every system; if two names are the same
            but for their case; if it holds links or devices; or more than any of the
            data sets by far.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no archive {path}.")
    with path.open("rb") as file:
        head = file.read(8)
    for magic, name in _OTHERS:
        if head.startswith(magic):
            raise ValueError(
                f"{path} is a {name} archive, which is not read here. Unpack it by "
                "hand, and put the folders as datasets/README.md shows them."
            )
    with contextlib.ExitStack() as stack:
        with damage_told(path):
            if zipfile.is_zipfile(path) and head[:2] == b"PK":
                archive = _zip(path, stack)
            else:
                archive = _tar(path, head, stack)
        _check_members(archive)
        yield archive


@contextlib.contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Turns what the readers of archives raise into a `ValueError`."""
    try:
        yield
    except DAMAGED as error:
        raise ValueError(
            f"{path} must be a whole zip or tar archive. Download it again. "
            f"Received: {' '.join(str(error).split()) or type(error).__name__}"
        ) from error
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, not of the archive
        raise ValueError(f"{path} cannot be unpacked: {error}") from error


def _zip(path, stack):
    file = stack.enter_context(zipfile.ZipFile(path))
    infos = [info for info in file.infolist() if not info.is_dir()]
    encrypted = [info.filename for info in infos if info.flag_bits & 1]
    if encrypted:
        raise ValueError(
            f"{path} is encrypted. Unpack it by hand with its password. "
            f"Received: {listed(encrypted, 3)}"
        )
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise ValueError(_not_a_file(path, info.filename))
    _check_no_overlap(path, infos)
    members = tuple(
        Member(_safe(info.filename, path), info.file_size) for info in infos
    )
    originals = dict(zip((m.name for m in members), infos, strict=True))

    def opened(names):
        for name in names:
            with file.open(originals[name]) as contents:
                yield name, contents

    return Archive(path, members, opened)


def _check_no_overlap(path, infos):
    infos = sorted(infos, key=lambda info: info.header_offset)
    for info, after in zip(infos, infos[1:], strict=False):
        if info.header_offset + 30 + info.compress_size > after.header_offset:
            raise ValueError(
                f"{path} must hold each file at a place of its own; it is made to "
                f"harm. Received: {info.filename} and {after.filename} overlap"
            )


def _tar(path, head, stack):
    opener = next((way for magic, way in _COMPRESSED if head.startswith(magic)), open)

    def open_stream():
        contents = stack.enter_context(opener(path, "rb"))
        return tarfile.open(fileobj=_Bounded(contents, path), mode="r:")

    members, total = [], 0
    with open_stream() as file:
        for info in file:
            if info.isdir():
                _safe(info.name, path)
                continue
            if not info.isreg():
                raise ValueError(_not_a_file(path, info.name))
            members.append(Member(_safe(info.name, path), info.size))
            total += info.size
            _check_size(path, members, sum_of=total)

    def opened(names):
        wanted = set(names)
        with open_stream() as file:
            for info in file:
                if info.isreg() and (name := _safe(info.name, path)) in wanted:
                    yield name, file.extractfile(info)

    return Archive(path, tuple(members), opened)


class _Bounded:
    """A stream that stops at more bytes than any data set has, or a huge header."""

    def __init__(self, stream, path):
        self.stream, self.path = stream, path

    def read(self, size=-1):
        if size > _LONGEST_READ or size < 0:
            raise ValueError(
                f"{self.path} must be an archive of images; a header of {size:,} bytes "
                "is made to harm."
            )
        self._check(self.stream.tell())
        return self.stream.read(size)

    def seek(self, place, whence=0):
        if whence == 0:
            self._check(place)
        return self.stream.seek(place, whence)

    def tell(self):
        return self.stream.tell()

    def _check(self, place):
        if place > 2 * MAX_BYTES:
            raise ValueError(_too_large(self.path, f"more than {MAX_BYTES >> 30} GiB"))


def _check_members(archive):
    path, names = archive.path, [member.name for member in archive.members]
    total = sum(member.size for member in archive.members)
    _check_size(path, archive.members, sum_of=total)
    if total > MAX_RATIO * path.stat().st_size:
        told = f"{total:,} bytes packed into {path.stat().st_size:,}"
        raise ValueError(_too_large(path, told))
    seen = {}
    for name in names:
        same = seen.setdefault(_folded(name), name)
        if same is not name:
            raise ValueError(
                f"{path} must hold each file once; names that differ in case alone are "
                f"one file on many systems. Received: {same} and {name}"
            )
    for name in names:
        parents = _folded(name).split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            if (other := seen.get("/".join(parents[:depth]))) is not None:
                raise ValueError(
                    f"{path} must not hold a file where it has a folder. "
                    f"Received: {other} and {name}"
                )


def _check_size(path, members, *, sum_of):
    if len(members) > MAX_MEMBERS:
        raise ValueError(_too_large(path, f"more than {MAX_MEMBERS:,} files"))
    if sum_of > MAX_BYTES:
        raise ValueError(_too_large(path, f"{sum_of:,} bytes"))


def _too_large(path, told):
    return (
        f"{path} must not hold more than the data sets do; it may be made to fill the "
        f"disk. Received: {told}"
    )


def _not_a_file(path, name):
    return (
        f"{path} must hold files and folders alone, no links and no devices; it may be "
        f"made to harm. Received: {name}"
    )


def _folded(name):
    return unicodedata.normalize("NFC", name).casefold()


def is_clutter(name: str) -> bool:
    """Returns whether a member is what desktop programs add to archives."""
    return _CLUTTER.search(name) is not None


def _safe(name, path):
    """Returns a member's name without `./`, if it stays in the folder anywhere."""
    parts = [part for part in name.split("/") if part != "."]
    bad = not parts or name.startswith("/") or any(_is_bad(part) for part in parts[:-1])
    last = parts[-1] if parts else ""
    if bad or (last and _is_bad(last)):
        raise ValueError(
            f"{path} must hold names that stay inside the folder, on every system; "
            f"this one may be made to harm. Received: {name!r}"
        )
    return "/".join(parts)


def _is_bad(part):
    return (
        part in ("", "..")
        or len(part.encode("utf-8", "surrogateescape")) > 240
        or part[-1] in ". "
        or _RESERVED.match(part) is not None
        or any(letter in '\\:*?"<>|' or ord(letter) < 32 for letter in part)
    )
