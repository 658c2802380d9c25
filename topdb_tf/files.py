"""Files that are seen whole or not at all, and folders held for one process."""

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a file beside `path` to write, which takes its name if all goes well.

    Its name ends as that of `path`, and is no other process's. After an error nothing
    is left of it, and what was at `path` before is still there.
    """
    partial = path.with_name(f"partial-{secrets.token_hex(4)}-{path.name}")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Gives a folder beside `path` to fill, which takes its name if all goes well.

    The folders on the way are made. After an error nothing is left, of them neither.
    """
    made = [folder for folder in path.parents if not folder.exists()]
    partial = path.with_name(f"partial-{path.name}")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        for folder in made:  # the deepest first; one that is in use by now stays
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def write_whole(path: Path, text: str) -> None:
    """Writes a text file so that it is seen whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_new_file(path: Path, *, suffix: str, force: bool = False) -> None:
    """Checks, before anything is computed, that a file can be written.

    Args:
        path: The file.
        suffix: How its name must end, with the dot.
        force: Whether a file that exists is replaced.

    Raises:
        FileExistsError: If the file exists and `force` is not set.
        FileNotFoundError: If its folder is missing.
        ValueError: If the name ends in something else, or is that of a folder.
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

    Args:
        folder: The folder.
        refusal: What the error says.
        seconds: How long another process is waited for.

    Raises:
        ValueError: If another process holds it all the time.
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
