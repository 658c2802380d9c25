"""Members of an archive to a new folder: all of them, or nothing."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from topdb_tf.data.archives.archive import Archive, Member, damage_told

_CHUNK = 1 << 20
_SPARE = 64 << 20  # bytes that are left free on the disk


def unpack(
    archive: Archive,
    members: Sequence[Member],
    folder: str,
    target: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes members of an archive below a new folder.

    They are written to a hidden folder beside it, which takes its name when all are
    there. After an error or Ctrl-C nothing is left, no folder on the way either. Files
    get the permissions of any new file.

    Args:
        archive: The archive.
        members: What to write.
        folder: The folder in the archive that becomes `target`.
        target: The new folder.
        progress: Called with the numbers of bytes, in MiB, written and to write.

    Raises:
        FileExistsError: If `target` exists.
        ValueError: If the archive is damaged, or the disk has too little room.
    """
    if os.path.lexists(target):
        raise FileExistsError(
            f"{target} already exists; nothing is overwritten. Remove it first, or "
            "name another --data-root."
        )
    _check_room(target, sum(member.size for member in members))
    with _partial_folder(target) as partial:
        _write(archive, members, folder, partial, progress)


def _check_room(target, size):
    existing = next(path for path in target.parents if path.exists())
    free = shutil.disk_usage(existing).free
    if size + _SPARE > free:
        raise ValueError(
            f"The disk of {existing} must have room for {size / 2**30:.1f} GiB. Make "
            f"room, or name another --data-root. Received: {free / 2**30:.1f} GiB free"
        )


@contextlib.contextmanager
def _partial_folder(target: Path) -> Iterator[Path]:
    new = [path for path in target.parents if not path.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    try:
        partial.mkdir()
        yield partial
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        for path in new:  # the deepest first; one that is in use by now stays
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


def _write(archive, members, folder, partial, progress):
    sizes = {member.name: member.size for member in members}
    start = len(folder) + 1 if folder else 0
    done, total, last, written = 0, sum(sizes.values()), -1, 0
    with damage_told(archive.path):
        for name, contents in archive.opened(list(sizes)):
            path = partial.joinpath(*name[start:].split("/"))
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                for chunk in _chunks(contents, sizes[name], name, archive.path):
                    file.write(chunk)
                    done += len(chunk)
                    if progress is not None and done >> 20 != last:
                        last = done >> 20
                        progress(last, total >> 20)
            written += 1
    if written != len(sizes):
        raise ValueError(
            f"{archive.path} must hold what it lists. Download it again. Received: "
            f"{written:,} of {len(sizes):,} files"
        )


def _chunks(contents, size, name, path):
    """Yields the contents of a member, if they are as long as the archive says."""
    left = size
    while chunk := contents.read(_CHUNK):
        left -= len(chunk)
        if left < 0:
            break
        yield chunk
    if left:
        raise ValueError(
            f"{path} must hold {size:,} bytes of {name}, as it says. Download it "
            f"again. Received: {'more' if left < 0 else f'{size - left:,} bytes'}"
        )
