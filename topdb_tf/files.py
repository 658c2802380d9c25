"""Files that are seen whole or not at all, folders held, and records as JSON."""

import contextlib
import dataclasses
import errno
import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def user_path(text: str | Path, folder: Path = Path()) -> Path:
    """Returns a path as a user gives it, from a folder: `~` and `~name` are homes.

    Where there is a file of just that name, or no such user, `~` is a letter of it. An
    empty one, as of a variable of the shell that is not set, is an error: it would be
    the folder itself.
    """
    if not isinstance(text, str | os.PathLike):
        raise ValueError(f"A path must be a text or a `Path`. Received: {text!r}")
    if not str(text):
        raise ValueError("A path must not be empty; `.` is the current folder.")
    path = folder / text
    if not str(text).startswith("~") or os.path.lexists(path):
        return path
    return folder / os.path.expanduser(text)  # noqa: PTH111 - Path fails without a home


_PARTIAL, _LOCK, _NEW = ".partial-", "lock", "new"

_ROOM = "Make room there, or name another place."
_RIGHTS = "Let this user read and write there, or name another place."
_WAYS_OUT = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: _ROOM,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "Name a place on a file system that can be written.",
    errno.ENOENT: "Check the name.",
    errno.ENOTDIR: "Its name goes through a file as if that were a folder: check it.",
    errno.EISDIR: "Name a file.",
    errno.EEXIST: "Choose another name, or remove what is there.",
    errno.ENOTEMPTY: "Another process has just written it: look at what is there.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ELOOP: "A symbolic link leads back to itself: remove it.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n), and try again.",
    errno.ESTALE: "The network's file system has lost it: try again.",
    errno.EIO: "Check the disk or the network, and try again.",
}


def os_error_text(error: OSError) -> str:
    """Returns an error of the system for people: where, what, and the way out.

    One that this program or a library raised has a text of its own.

    Example:
        >>> from topdb_tf.files import os_error_text
        >>> os_error_text(IsADirectoryError(21, "Is a directory", "runs"))
        'runs: Is a directory. Name a file.'
    """
    if error.errno is None:
        return str(error)
    what = os.strerror(error.errno)
    where = "A file" if error.filename is None else os.fsdecode(error.filename)
    return f"{where}: {what}. {_WAYS_OUT.get(error.errno, 'Try again.')}"


@contextlib.contextmanager
def partial_path(path: Path) -> Iterator[Path]:
    """Gives a name, as yet free, for what is to be renamed to `path` or inside it.

    It is this call's alone, whatever other threads, processes and machines write there,
    and ends in the suffix of `path`, by which libraries choose the format. It lies in
    a hidden folder beside `path`, which is gone afterwards with all that is left in it.
    Folders on the way are made, and removed if they stay empty. What a killed process
    left there is removed by the next call; that of a living one is locked.
    """
    missing = [folder for folder in path.parents if not folder.exists()]
    with named_errors(path), contextlib.ExitStack() as stack:
        stack.callback(remove_empty, missing)
        partial = _new_partial(path.parent, stack)
        yield partial / f"{_NEW}{path.suffix}"


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a file to write, which becomes `path` if all goes well.

    After an error nothing is left of it, and what was at `path` before is still there.
    """
    with partial_path(path) as partial:
        yield partial
        sync(partial)
        partial.replace(path)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Gives a folder to fill, which becomes `path` if all goes well.

    The folders on the way are made. After an error nothing is left, of them neither.
    """
    with partial_path(path) as partial:
        partial.mkdir()
        yield partial
        partial.rename(path)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Gives a folder of the system's for such, which is gone afterwards."""
    with partial_path(Path(tempfile.gettempdir()) / "topdb-tf") as folder:
        folder.mkdir()
        yield folder


def remove_whole(folder: Path) -> None:
    """Removes a folder; nobody sees a part of it, even if this is cut short."""
    with partial_path(folder) as doomed:
        folder.rename(doomed)


def remove_empty(folders: Iterable[Path]) -> None:
    """Removes folders that are empty, in this order."""
    for folder in folders:  # the deepest first; what is in use by now stays
        with contextlib.suppress(OSError):
            folder.rmdir()


def contents_of(folder: Path) -> list[Path]:
    """Returns what is in a folder, but for what is being written or was cut short."""
    partial = (_PARTIAL, _PARTIAL[1:])  # without a dot in earlier versions
    return [path for path in folder.iterdir() if not path.name.startswith(partial)]


def files_below(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yields the files of a folder and of those in it, links followed, by their names.

    Unlike `Path.rglob` it leaves no folder out in silence: what cannot be read, or a
    link to a folder that it is in, is an error.
    """
    real = os.path.realpath(folder)
    if real in above:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(folder))
    for path in sorted(contents_of(folder)):
        if path.is_dir():
            yield from files_below(path, (*above, real))
        else:
            yield path


def _new_partial(folder, stack):
    """Returns a new hidden folder in another, which goes when the stack is closed."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_partial_of_the_dead(folder)
        partial = folder / f"{_PARTIAL}{secrets.token_hex(4)}"
        # The name can be taken, or the folder above be removed by who just made it.
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            partial.mkdir(0o700)
            stack.callback(shutil.rmtree, partial, ignore_errors=True)
            if _holds(partial / _LOCK, stack):
                return partial


def _holds(lock, stack):
    """Returns whether a new folder is held; the next one is tried if it is not.

    Another process may have thought it one of the dead, before it was held.
    """
    if os.name == "posix":
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
        stack.callback(os.close, descriptor)
        return _is_locked(descriptor) and os.path.samestat(
            os.fstat(descriptor), lock.stat()
        )
    return True


def _remove_partial_of_the_dead(folder):
    """Removes what killed processes left; nothing where the system has no locks."""
    if os.name != "posix":
        return
    import fcntl

    for partial in folder.glob(f"{_PARTIAL}*"):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            names = {path.name.split(".")[0] for path in partial.iterdir()}
            if names <= {_LOCK, _NEW}:  # made here
                descriptor = os.open(partial / _LOCK, os.O_RDWR | os.O_CREAT)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Names `path` in errors of the system about its partial name, or about none.

    Those of a file that is open, as on a full disk, name none.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or _PARTIAL not in str(error.filename or _PARTIAL):
            raise
        told = os.strerror(error.errno)
        raise OSError(error.errno, told, str(path)) from error


def write_whole(path: Path, text: str) -> None:
    """Writes a text file so that it is seen whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Makes a file, or the names in a folder, durable, where the system can."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_new_file(path: Path, *, suffix: str, force: bool = False) -> None:
    """Checks, before anything is computed, that a file of a suffix can be written.

    With `force` one that exists is replaced.
    """
    if path.suffix != suffix or path.is_dir():
        raise ValueError(
            f"The file to write must end in {suffix}, and be no folder. "
            f"Received: {path}"
        )
    if path.exists() and not force:
        raise FileExistsError(
            f"{path} already exists. Choose another name, or pass --force."
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent} to write into.")


@contextlib.contextmanager
def held_folder(folder: Path, refusal: str, *, seconds: float = 0) -> Iterator[None]:
    """Holds a folder for this process, where the system can.

    Another process is waited for some seconds; if it holds on, the refusal is raised.
    """
    with contextlib.ExitStack() as stack:
        if os.name == "posix":
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            end = time.monotonic() + seconds
            while not _is_locked(descriptor):
                if time.monotonic() >= end:
                    raise ValueError(refusal)
                time.sleep(0.05)
        yield


def _is_locked(descriptor):
    """Returns whether a folder is held now; it counts as such without locks."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # some network file systems have no locks
    return True


def plain(value: Any) -> Any:
    """Returns a record as JSON has it: by the names of its fields, at every depth.

    A record is a dataclass or a `NamedTuple`; one with a method `to_dict` tells itself
    how it is written. Paths become texts.

    Example:
        >>> from pathlib import Path
        >>> from typing import NamedTuple
        >>> from topdb_tf.files import plain
        >>> class Image(NamedTuple):
        ...     path: Path
        ...     size: tuple[int, int]
        >>> plain([Image(Path("a.jpg"), (128, 64))])
        [{'path': 'a.jpg', 'size': [128, 64]}]
    """
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: plain(getattr(value, name)) for name in names}
    if hasattr(value, "_asdict"):
        return {name: plain(part) for name, part in value._asdict().items()}
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value
