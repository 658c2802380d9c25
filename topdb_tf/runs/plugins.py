"""Modules of other people that add parts of a network, losses and data sets."""

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

_LOADED: list[str] = []


def loaded_plugins() -> list[str]:
    """Returns the names of the modules that were loaded, for other processes."""
    return _LOADED.copy()


def load_plugins(names: Iterable[str], where: str = "--plugin") -> None:
    """Imports the modules of some names, also from the current folder.

    `where` says, for errors, what names them.
    """
    for name in names:
        folder = str(Path.cwd())
        sys.path.append(folder)  # as `python -m` does, which a console script does not
        try:
            importlib.import_module(name)
            _LOADED.append(name)
        except (Exception, SystemExit) as error:  # whatever their code raises
            hint = f" Name it {name[:-3]!r}." if name.endswith(".py") else ""
            text = (
                "can be imported, from the current folder "
                f"({folder}), a folder of PYTHONPATH or as an installed package.{hint}"
            )
            if not isinstance(error, ImportError):
                text = "runs without an error. Mend it."
            raise ValueError(
                f"The plugin {name!r} must be a Python module that {text} Received: "
                f"{type(error).__name__}: {error} ({where})"
            ) from error
        finally:
            sys.path.remove(folder)
