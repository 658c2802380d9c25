"""The command line: parse, call the recipe, print."""

import contextlib
import itertools
import os
import signal
import sys
import threading
import time
from pathlib import Path

import click

from topdb_tf.cli import completion, data, figures
from topdb_tf.cli import embed as embedding
from topdb_tf.cli import evaluate as scoring
from topdb_tf.cli import export as serving
from topdb_tf.cli import fit as training
from topdb_tf.cli import report as reporting
from topdb_tf.cli import search as searching
from topdb_tf.cli import settings as describing
from topdb_tf.cli.options import explained_os_errors, say, say_more, version_lines
from topdb_tf.embed.errors import ServingError
from topdb_tf.progress import Verbosity, telling
from topdb_tf.texts import duration_text, one_line, printable
from topdb_tf.training.errors import (
    BatchTooLargeError,
    NonFiniteLossError,
    TrainingInterrupted,
    WorkerLostError,
)

_EXPLAINED = (
    ValueError,
    NonFiniteLossError,
    BatchTooLargeError,
    WorkerLostError,
    ServingError,
)


_OTHER_NAMES = {
    "train": "fit",
    "test": "evaluate",
    "eval": "evaluate",
    "val": "evaluate",
    "validate": "evaluate",
    "predict": "embed",
    "infer": "embed",
    "extract": "embed",
    "search": "index query",
    "query": "index query",
    "visualize": "figure",
}
"""What commands are called elsewhere, by the name of ours."""


class _Commands(click.Group):
    """Turns what a user can mend into one line and a non-zero status."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.titles = {}  # of the groups in the help, by the names of commands

    def format_commands(self, ctx, formatter):
        """Writes the commands in groups, in the order in which they were added."""
        longest = max(map(len, self.commands))
        width = formatter.width - 6 - longest
        for title, names in itertools.groupby(self.commands, self.titles.get):
            with formatter.section(title or "Other"):
                commands = [self.commands[name] for name in names]
                texts = [command.get_short_help_str(width) for command in commands]
                padded = [f"{command.name:{longest}}" for command in commands]
                formatter.write_dl(list(zip(padded, texts, strict=True)))

    def resolve_command(self, ctx, args):
        name = args[0]
        if name in _OTHER_NAMES and name not in self.commands:
            ctx.fail(f"No such command {name!r}. Did you mean {_OTHER_NAMES[name]!r}?")
        return super().resolve_command(ctx, args)

    def main(self, *args, **kwargs):
        _open_closed_streams()
        return super().main(*args, **kwargs)

    def make_context(self, *args, **kwargs):
        with explained_os_errors():  # of what help and version are written to
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx):
        start = time.monotonic()
        try:
            with explained_os_errors(ctx), _signals_as_ctrl_c() as signals:
                return super().invoke(ctx)
        except _EXPLAINED as error:
            if ctx.params.get("traceback"):
                raise
            raise click.ClickException(one_line(error)) from error
        except click.ClickException as error:
            error.message = printable(error.message)
            raise
        except TrainingInterrupted as stop:
            click.echo(printable(str(stop)), err=True)
            # As the shell has it for a process that a signal ended: 130 for Ctrl-C.
            ctx.exit(128 + stop.signal_number)
        except KeyboardInterrupt:
            number = signals[0] if signals else signal.SIGINT
            click.echo(
                f"Stopped by {number.name}. Nothing half done is left.", err=True
            )
            ctx.exit(128 + number)
        finally:
            say_more(f"{duration_text(time.monotonic() - start)} in all")


def _open_closed_streams():
    """Opens the standard streams that the caller closed, as by `2>&-`, to nowhere.

    Else the next files would take their numbers, and what libraries write to standard
    error would be written into those.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))


@contextlib.contextmanager
def _signals_as_ctrl_c():
    """Lets SIGTERM and SIGHUP clean up as Ctrl-C does; gives a list for the signal.

    A second signal ends the process at once. What the parent ignores, as `nohup` does,
    stays ignored.
    """
    came, handled = [], []

    def stop(number, frame):
        came.append(signal.Signals(number))
        for other in handled:
            signal.signal(other, signal.SIG_DFL)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
            number = getattr(signal, name, None)
            if number and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, stop)
                handled.append(number)
    try:
        yield came
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)


def _show_version(ctx, param, value):
    if value and not ctx.resilient_parsing:
        lines = version_lines()
        click.echo("\n".join(lines if ctx.params.get("verbose") else lines[:1]))
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--quiet", "-q", is_flag=True, help="Show results and errors alone, no progress."
)
@click.option(
    "--verbose",
    "-v",
    is_flag=True,
    is_eager=True,
    help="Show settings, times and what the libraries say, too.",
)
@click.option("--traceback", is_flag=True, help="Show where an error came from.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit; after --verbose those of the libraries, too.",
)
@click.pass_context
def main(ctx, quiet, verbose, traceback):
    """Trains, evaluates and serves Top-DB-Net for person re-identification.

    Progress and messages go to standard error, results to standard output. Colours
    are for terminals alone, and not where NO_COLOR is set.

    \b
    topdb-tf demo
    topdb-tf fit --dataset market1501
    topdb-tf --quiet evaluate --json
    """
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other.")
    if hasattr(sys.stdout, "reconfigure"):  # where its encoding lacks a character
        sys.stdout.reconfigure(errors="backslashreplace")
    level = Verbosity.VERBOSE if verbose else Verbosity.NORMAL
    ctx.with_resource(telling(Verbosity.QUIET if quiet else level))
    if verbose:
        for line in version_lines():
            say(line)


for _title, _commands in {
    "Data": (data.data,),
    "Train": (training.fit, training.demo, describing.settings, describing.recipe_list),
    "Look": (
        scoring.evaluate,
        scoring.score,
        training.info,
        figures.figure,
        reporting.report,
        reporting.compare,
        reporting.table,
    ),
    "Search": (searching.index, embedding.embed, scoring.calibrate, scoring.match),
    "Serve": (serving.export, serving.publish, serving.convert),
    "Shell": (completion.completion,),
}.items():
    for _command in _commands:
        main.add_command(_command)
        main.titles[_command.name] = _title

completion.complete_names(main)
