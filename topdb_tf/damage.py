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
def told_as_damage(message: Callable[[Exception], str]) -> Iterator[None]:
    """Says of whatever a reader raises, by a function of that, what the file must be.

    Raises:
        ValueError: For any error but one of the system, which may pass: each kind of
            damage has its own.
    """
    try:
        yield
    except Exception as error:
        if may_pass(error):
            raise
        raise ValueError(message(error)) from error


def is_zip(path: Path) -> bool:
    """Returns whether a file is a ZIP archive, as NPZ and `.keras` files are.

    Raises:
        OSError: If it cannot be read, which `zipfile.is_zipfile` takes for a "no".
    """
    with path.open("rb") as file:
        return zipfile.is_zipfile(file)


def check_model_file(path: Path) -> None:
    """Checks, before TensorFlow is loaded, that a file may be a `.keras` file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no archive, as those files are.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no model at {path}.")
    if not is_zip(path):
        raise ValueError(
            f"{path} must be a .keras file that `topdb-tf fit` wrote. "
            "Received: a file of another kind, or cut off"
        )


def check_unpacked(path: Path, unpacked: int) -> None:
    """Checks, before any of it is read, that a file is no small one of a huge content.

    Args:
        path: The file.
        unpacked: Bytes that it says to hold.

    Raises:
        ValueError: If these are more than any honest compression makes of it.
    """
    size = path.stat().st_size
    if unpacked > 100 * size + (64 << 20):
        raise ValueError(
            f"{path} has {size:,} bytes and says to hold {unpacked:,}: more than a "
            "file of arrays does. Nothing of it was read."
        )
