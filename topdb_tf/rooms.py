"""Rooms of the package that can be called, as the function of their name."""

import inspect
import sys
from importlib import import_module
from types import ModuleType


def make_callable(room: str, home: str) -> None:
    """Lets a room be called as the function of its name, which stands in the home.

    It is imported when that is done; both are told by their full names.
    """

    def function():
        return getattr(import_module(home), room.rpartition(".")[2])

    class Room(ModuleType):
        def __call__(self, *args, **options):
            return function()(*args, **options)

        @property
        def __signature__(self):
            return inspect.signature(function())

    sys.modules[room].__class__ = Room
