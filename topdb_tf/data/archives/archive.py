"""Archives of data sets, looked at with distrust, then unpacked: zip and tar."""

import contextlib
import lzma
import re
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from topdb_tf.damage import told_as_damage
from topdb_tf.files import partial_path
from topdb_tf.texts import listed

MAX_MEMBERS, MAX_BYTES, MAX_RATIO = 250_000, 16 << 30, 100

_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,  # a compression that zipfile does not know, headers without end
    OSError,
)
_ONLY_FILES = "hold files and folders alone, no links and no devices"
_NO_MORE = "not hold more than the data sets do, which could fill the disk"
_LONGEST_HEADER = 1 << 20  # of a member of a tar, in bytes
_SPARE = 64 << 20  # bytes that are left free on the disk
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_CLUTTER = re.compile(r"(^|/)(__MACOSX/|\._|\.DS_Store$|Thumbs\.db$)")


class Member(NamedTuple):
    """A file in an archive: its path there, parts separated by `/`, and its bytes."""

    name: str
    size: int
    info: zipfile.ZipInfo | tarfile.TarInfo


class Archive(NamedTuple):
    """An open archive, of members with names that stay where they are unpacked.

    `extract` writes a member, by its `info`, below a folder.
    """

    path: Path
    members: tuple[Member, ...]
    extract: Callable[[zipfile.ZipInfo | tarfile.TarInfo, Path], object]

    def members_below(self, folder: str) -> list[Member]:
        """Returns the members in a folder, which is empty or ends in `/`.

        What desktop programs add (`__MACOSX`, `.DS_Store`, `Thumbs.db`) is left out.
        """
        inside = (one for one in self.members if one.name.startswith(folder))
        return [one for one in inside if not _CLUTTER.search(one.name)]


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Opens a zip, tar, tar.gz, tar.bz2 or tar.xz file, told by its contents.

    Everything in it is looked at before anything is given: refused is another format,
    encryption, damage, a name that leads out of the folder or cannot be on every
    system, names that differ in case alone, links and devices, and far more than any
    of the data sets has.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no archive {path}.")
    with path.open("rb") as file:
        head = file.read(6)
    if head in (b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"):
        raise ValueError(
            f"{path} is a 7z or RAR archive, which is not read here. Unpack it by "
            "hand, and put the folders as datasets/README.md shows them."
        )
    with contextlib.ExitStack() as stack:
        with told_as_damage(partial(_explained, path), _DAMAGED):
            if zipfile.is_zipfile(path) and head.startswith(b"PK"):
                archive = _open_zip(path, stack)
            else:
                archive = _open_tar(path, stack)
        _check_members(archive)
        yield archive


def unpack(
    archive: Archive,
    folder: str,
    target: Path,
    *,
    progress: Callable[[int, int], None],
) -> None:
    """Makes a folder of an archive a new folder on disk.

    All is written to a hidden folder beside it, which takes its name when all is
    there. After an error or Ctrl-C nothing is left, no folder on the way either. Files
    get the permissions of any new file. `progress` is called with the numbers of MiB
    written and to write.
    """
    members = archive.members_below(folder)
    total, done = sum(member.size for member in members), 0
    _check_room(target, total)
    explained = partial(_explained, archive.path)
    with partial_path(target) as new, told_as_damage(explained, _DAMAGED):
        new.mkdir()
        for member in members:
            archive.extract(member.info, new)
            if (new / member.name).stat().st_size != member.size:
                raise EOFError(f"{member.name} is not of {member.size:,} bytes")
            done += member.size
            progress(done >> 20, total >> 20)
        (new / folder).rename(target)


def _explained(path, error):
    return (
        f"{path} must be a whole zip or tar archive. Download it again. "
        f"Received: {' '.join(str(error).split()) or type(error).__name__}"
    )


def _open_zip(path, stack):
    file = stack.enter_context(zipfile.ZipFile(path))
    infos = file.infolist()
    if not any("/" in info.filename for info in infos):  # old programs of Windows
        for info in infos:
            info.filename = info.filename.replace("\\", "/")
    infos = [info for info in infos if not info.is_dir()]
    encrypted = [info.filename for info in infos if info.flag_bits & 1]
    if encrypted:
        raise ValueError(
            f"{path} is encrypted. Unpack it by hand with its password. "
            f"Received: {listed(encrypted, 3)}"
        )
    for info in infos:
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            _refuse(path, _ONLY_FILES, info.filename)
    infos.sort(key=lambda info: info.header_offset)
    for info, after in zip(infos, infos[1:], strict=False):
        if info.header_offset + 30 + info.compress_size > after.header_offset:
            overlapping = f"{info.filename} and {after.filename} overlap"
            _refuse(path, "hold each file at a place of its own", overlapping)
    members = (Member(_safe(i.filename, path), i.file_size, i) for i in infos)
    return Archive(path, tuple(members), file.extract)


class _TarInfo(tarfile.TarInfo):
    """A member of a tar; no header is read that is longer than any name needs."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        info = super().frombuf(buf, encoding, errors)
        if info.size < 0 or (info.size > _LONGEST_HEADER and not info.isreg()):
            raise ValueError(
                "An archive must hold files; a header of "
                f"{info.size:,} bytes is made to harm. Received: {info.name!r}"
            )
        return info


def _open_tar(path, stack):
    if not hasattr(tarfile, "data_filter"):
        raise ValueError(
            "A tar is unpacked safely by Python 3.10.12, 3.11.4, 3.12 or later. Update "
            f"Python, or unpack it by hand. Received: {path}"
        )
    file = stack.enter_context(tarfile.open(path, tarinfo=_TarInfo))
    members, total = [], 0
    for number, info in enumerate(file, start=1):
        if not (info.isreg() or info.isdir()):
            _refuse(path, _ONLY_FILES, info.name)
        if info.isreg():
            members.append(Member(_safe(info.name, path), info.size, info))
            total += info.size
        elif info.name != ".":  # the folder itself
            _safe(info.name, path)
        # Before the next header is looked for, behind what may be endless.
        _check_size(path, number, max(total, info.offset_data - MAX_BYTES))

    def extract(info, folder):
        file.extract(info, folder, set_attrs=False, filter="data")

    return Archive(path, tuple(members), extract)


def _check_members(archive):
    path, packed = archive.path, archive.path.stat().st_size
    total = sum(member.size for member in archive.members)
    _check_size(path, len(archive.members), total)
    if total > MAX_RATIO * packed:
        _refuse(path, _NO_MORE, f"{total:,} bytes packed into {packed:,}")
    seen = {}
    for member in archive.members:
        same = seen.setdefault(_folded(member.name), member.name)
        if same is not member.name:
            _refuse(
                path,
                "hold each file once, names that differ in case alone being one file "
                "on many systems",
                f"{same} and {member.name}",
            )
    for member in archive.members:
        parents = _folded(member.name).split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            if (other := seen.get("/".join(parents[:depth]))) is not None:
                names = f"{other} and {member.name}"
                _refuse(path, "not hold a file where it has a folder", names)


def _check_size(path, num_members, num_bytes):
    if num_members > MAX_MEMBERS:
        _refuse(path, _NO_MORE, f"more than {MAX_MEMBERS:,} files")
    if num_bytes > MAX_BYTES:
        _refuse(path, _NO_MORE, f"{num_bytes:,} bytes")


def _refuse(path, what_must_be, received):
    raise ValueError(
        f"{path} must {what_must_be}; it may be made to harm. Received: {received}"
    )


def _folded(name):
    return unicodedata.normalize("NFC", name).casefold()


def _safe(name, path):
    """Returns a member's name without `./`, if it stays in the folder anywhere."""
    parts = [part for part in name.split("/") if part != "."]
    if not parts or any(map(_is_bad, parts)):
        _refuse(path, "hold names that stay inside the folder, everywhere", repr(name))
    return "/".join(parts)


def _is_bad(part):
    return (
        part in ("", "..")
        or len(part.encode("utf-8", "surrogateescape")) > 240
        or part[-1] in ". "
        or _RESERVED.match(part) is not None
        or any(letter in '\\:*?"<>|' or ord(letter) < 32 for letter in part)
    )


def _check_room(target, size):
    existing = next(path for path in target.parents if path.exists())
    free = shutil.disk_usage(existing).free
    if size + _SPARE > free:
        raise ValueError(
            f"The disk of {existing} must have room for {size / 2**30:.1f} GiB. Make "
            f"room, or name another --data-root. Received: {free / 2**30:.1f} GiB free"
        )
