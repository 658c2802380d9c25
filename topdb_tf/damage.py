"""What is no file of its kind: found before it is read, or told when it is."""

import contextlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path


def may_pass(error: BaseException) -> bool:
    """Returns whether an error is one of the system, which tells no damage of a file.

    Libraries raise an `OSError` without a number where they do not like the contents.
    A file that is missing is missing.
    """
    told = isinstance(error, OSError) and error.errno is not None
    return told and not isinstance(error, FileNotFoundError)


@contextlib.contextmanager
def told_as_damage(
    message: Callable[[Exception], str], errors: tuple = (Exception,)
) -> Iterator[None]:
    """Says of what a reader raises, by a function of that, what the file must be.

    That is a `ValueError`, for any error but one of the system, which may pass: each
    kind of damage has its own.
    """
    try:
        yield
    except errors as error:
        if may_pass(error):
            raise
        raise ValueError(message(error)) from error


def is_zip(path: Path) -> bool:
    """Returns whether a file is a ZIP archive, as NPZ and `.keras` files are.

    What cannot be read is an `OSError`; `zipfile.is_zipfile` takes it for a "no".
    """
    with path.open("rb") as file:
        return zipfile.is_zipfile(file)


def check_model_file(path: Path) -> None:
    """Raises, before TensorFlow is loaded, unless a file may be a `.keras` file."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no model at {path}.")
    if not is_zip(path):
        raise ValueError(
            f"{path} must be a .keras file that `topdb-tf fit` wrote. "
            "Received: a file of another kind, or cut off"
        )


def check_unpacked(path: Path, unpacked: int) -> None:
    """Raises, before any of it is read, if a small file says to hold too many bytes."""
    size = path.stat().st_size
    if unpacked > 100 * size + (64 << 20):
        raise ValueError(
            f"{path} has {size:,} bytes and says to hold {unpacked:,}: more than a "
            "file of arrays does. Nothing of it was read."
        )
