"""Progress with the time left, on standard error, and how much is told there."""

import enum
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path

from topdb_tf.texts import printable


class Verbosity(enum.IntEnum):
    """How much a command tells beside its results and errors."""

    QUIET = 0
    """Nothing."""
    NORMAL = 1
    """Progress and messages."""
    VERBOSE = 2
    """Also settings, times, and what libraries have to say."""


_verbosity: Verbosity | None = None  # None while no command runs


def in_command() -> bool:
    """Returns whether this process runs a command, and is no program of somebody's."""
    return _verbosity is not None


def verbosity() -> Verbosity:
    """Returns how much this process tells."""
    return Verbosity.NORMAL if _verbosity is None else _verbosity


@contextmanager
def telling(level: Verbosity) -> Iterator[None]:
    """Tells as much as `level` says inside, and as before afterwards.

    Where standard error takes no more, as on a full disk, work goes on untold.
    """
    global _verbosity
    before, _verbosity = _verbosity, level
    try:
        with redirect_stderr(_Forgiving(sys.stderr)):
            yield
    finally:
        _verbosity = before


class _Forgiving:
    """A stream that drops what cannot be written."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self):
        with suppress(OSError):
            self._stream.flush()


@contextmanager
def quieted() -> Iterator[None]:
    """Drops what other code writes to `sys.stderr` inside, if the command is quiet.

    It is for the progress of a library, such as of a download.
    """
    if verbosity() > Verbosity.QUIET:
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        yield


def draws_on_terminal() -> bool:
    """Returns whether standard error is a terminal to be drawn on, in colours.

    It is not where the variable `NO_COLOR` is set (https://no-color.org), nor for a
    quiet command.
    """
    return (
        sys.stderr.isatty()
        and not os.environ.get("NO_COLOR")
        and verbosity() > Verbosity.QUIET
    )


def adding_up(
    progress: Callable[[int, int], None] | None, total: int
) -> Callable[[int], None]:
    """Returns a function of the work since its last call, which tells the sum."""
    done = 0

    def advance(work: int) -> None:
        nonlocal done
        done += work
        if progress is not None:
            progress(done, total)

    return advance


@contextmanager
def training_bar() -> Iterator[Callable[[str, int, int, str], None]]:
    """Gives a function `(title, done, total, text)` that draws the one bar of a fit.

    The bar goes when all of `total` is done, so that lines and other bars have the
    place, and comes again at the next call. Lines that are said meanwhile stand above.
    """
    from rich import console
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(bar_width=None),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[text]}", markup=False),
    )
    drawn = []

    def draw(title: str, done: int, total: int, text: str) -> None:
        if done >= total:
            close()
            return
        state = {"completed": done, "total": total, "text": text}
        if not drawn:
            where = console.Console(stderr=True)
            progress = bars.Progress(
                *columns, console=where, transient=True, expand=True
            )
            progress.start()
            drawn.append((progress, progress.add_task(title, **state)))
        progress, task = drawn[0]
        progress.update(task, description=title, **state)

    def close():
        while drawn:
            drawn.pop()[0].stop()

    try:
        yield draw
    finally:
        close()


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Gives a function `(done, total)` that draws a bar with the time left.

    The bar is on standard error, so that standard output holds results alone; where
    that is no terminal, the last state alone is written. A quiet command has none.
    """
    from rich import console  # help answers without
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description}", markup=False),  # of a foreign name
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeElapsedColumn(),
        bars.TextColumn("left"),
        bars.TimeRemainingColumn(),
    )
    where = {"console": console.Console(stderr=True)}
    is_quiet = verbosity() == Verbosity.QUIET
    with bars.Progress(*columns, **where, disable=is_quiet) as progress:
        task = progress.add_task(printable(title), total=None)

        def update(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield update
