"""What the commands share: lines and results, data options, names of new runs."""

import contextlib
import errno
import json
import math
import platform
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from click.core import ParameterSource

from topdb_tf import __version__
from topdb_tf.files import os_error_text, plain, remove_empty, user_path
from topdb_tf.model.preset_files import DEMO_NOTE, is_demo
from topdb_tf.progress import Verbosity, verbosity
from topdb_tf.runs.folder import folder_of_new_run
from topdb_tf.runs.settings import Config
from topdb_tf.texts import printable

PROGRAM = "topdb-tf"


class UserPath(click.Path):
    """A path, in which `~` is the home folder where no shell has made it so."""

    def __init__(self, **attributes):
        super().__init__(path_type=Path, **attributes)

    def convert(self, value, param, ctx):
        try:
            path = user_path(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        home, *inside = path.parts or [""]
        if home.startswith("~") and inside and not Path(home).exists():
            self.fail(f"There is no user {home}. For a folder here, write ./{path}.")
        return super().convert(str(path), param, ctx)


PATH = UserPath()
_READING_KEY = f"{__name__}.reading"


def options_of(*options):
    """Returns a decorator that adds some options to a command, in this order."""

    def add_to(command):
        for option in reversed(options):
            command = option(command)
        return command

    return add_to


# Options that several commands have, each spelled once.
RUN = click.argument("run", required=False, type=PATH)


def _keep(ctx, param, text):
    if text is not None:
        ctx.meta.setdefault(_READING_KEY, {})[param.name] = text


LAYOUT = options_of(
    click.option(
        "--layout",
        metavar="LEVELS",
        expose_value=False,
        callback=_keep,
        help="Of a folder: its levels, as camera/person or person/tracklet/*. [auto]",
    ),
    click.option(
        "--pattern",
        expose_value=False,
        callback=_keep,
        help="Of a folder: what names tell, such as '{camid}-{date}-{pid}-{n}'.",
    ),
)
DATASET = options_of(
    click.option(
        "--dataset",
        help="Another data set than the run's own: a name, CSV file or folder, or "
        "several joined by +.",
    ),
    LAYOUT,
)
DATA_ROOT = click.option(
    "--data-root",
    type=PATH,
    help="Folder of all benchmarks.  [default: $TOPDB_DATA, else datasets]",
)
BEST = click.option(
    "--best", is_flag=True, help="The epoch of the highest mAP, not the last."
)
RERANK = click.option(
    "--rerank", is_flag=True, help="Add k-reciprocal re-ranked scores."
)
IGNORE_CAMERAS = click.option(
    "--ignore-cameras", is_flag=True, help="Count matches of the query's own camera."
)
NORMALIZE_CAMERAS = options_of(
    click.option(
        "--normalize-cameras",
        is_flag=True,
        help="First normalise features by camera; looks at the test set as a whole.",
    ),
    click.option(
        "--camera-statistics",
        type=click.Choice(["all", "gallery"]),
        help="Those of all images, or of the gallery alone.  [default: all]",
    ),
)
TRACKLETS = click.option(
    "--tracklets",
    type=click.Choice(["mean", "median", "first"]),
    help="Pool the embeddings of each track, and rank tracks.",
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")
OVERRIDES = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another setting, such as train.epochs=1; may be repeated.",
)


METRIC = click.option(
    "--metric",
    help="Of the distance: sqeuclidean, euclidean or cosine.  [default: the run's; of "
    "features sqeuclidean]",
)


class NumberRange(click.FloatRange):
    """A range of numbers that infinity and NaN are not in, which Click lets pass."""

    def convert(self, value, param, ctx):
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no number that can be reckoned with.", param, ctx)
        return number


SHARE = NumberRange(0, 1, min_open=True, max_open=True)
"""A number in (0, 1)."""


class NamesOption(click.Option):
    """An option in whose help `{names}` stands for the names that `names()` gives.

    What knows them is imported for a help that is shown, not for every command.
    """

    def __init__(self, *args, names, **kwargs):
        super().__init__(*args, **kwargs)
        self.names = names

    def get_help_record(self, ctx):
        option, meaning = super().get_help_record(ctx)
        return option, meaning.replace("{names}", ", ".join(self.names()))


@contextlib.contextmanager
def explained_os_errors(ctx: click.Context | None = None) -> Iterator[None]:
    """Turns an error of the system into one line: the path, what happened, a way out.

    Raises:
        click.ClickException: For any `OSError`, unless `--traceback` is set.
    """
    try:
        yield
    except OSError as error:
        # Nobody reads standard output any more, as after `| head`: click ends quietly.
        if error.errno == errno.EPIPE or (ctx and ctx.params.get("traceback")):
            raise
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        if any(frame.f_code is click.echo.__code__ for frame in frames):
            error = OSError(error.errno, None, "standard output")
        raise click.ClickException(" ".join(os_error_text(error).split())) from error


def dataset_names() -> list[str]:
    """Returns the names of all data sets that can be read."""
    from topdb_tf.data.benchmarks import DATASETS

    return list(DATASETS)


def say(line: str) -> None:
    """Shows a line to people, on standard error, unless the command is quiet."""
    if verbosity() > Verbosity.QUIET:
        click.echo(printable(line), err=True)


def say_more(line: str) -> None:
    """Shows a line to people, on standard error, if the command is verbose."""
    if verbosity() > Verbosity.NORMAL:
        click.echo(printable(line), err=True)


def say_settings(config: Config) -> None:
    """Shows all settings of a run if the command is verbose."""
    for line in config.to_yaml().splitlines():
        say_more(line)


def show(result, lines_of, as_json: bool, *, is_exact: bool = False) -> None:
    """Writes a result to standard output: JSON alone, or its lines for people.

    Args:
        result: A record, which JSON has by the names of its fields.
        lines_of: Function from the result to its lines.
        as_json: Whether JSON is written.
        is_exact: Whether the lines are for programs, and keep every character.
    """
    if as_json:
        click.echo(json.dumps(plain(result), indent=2))
    else:
        lines = lines_of(result)
        click.echo("\n".join(lines if is_exact else map(printable, lines)))


def show_record(record, as_json: bool) -> None:
    """Writes a record to standard output: its `to_dict` as JSON, or its `lines`."""
    show(record, lambda record: record.lines(), as_json)


def chosen_reading() -> list[tuple[str, str]]:
    """Returns what `--layout` and `--pattern` say in the command that is run."""
    context = click.get_current_context(silent=True)
    return [*context.meta.get(_READING_KEY, {}).items()] if context else []


def data_overrides(dataset: str | None, data_root: Path | None) -> list[str]:
    """Returns `--dataset`, `--data-root` and how images are read as overrides.

    Paths are absolute, and quoted, as they may hold what YAML reads otherwise.
    """
    overrides = []
    if dataset is not None:
        from topdb_tf.data.benchmarks import absolute_name, check_name, joined_names

        if len(joined_names(dataset)) > 1:
            check_name(dataset)
        overrides.append(f"data.dataset={json.dumps(absolute_name(dataset))}")
    for name, text in chosen_reading():
        overrides.append(f"data.{name}={json.dumps(text)}")
    if data_root is not None:
        overrides.append(f"data.root={json.dumps(str(data_root.resolve()))}")
    return overrides


def evaluation_overrides(metric: str | None, ignore_cameras: bool) -> list[str]:
    """Returns `--metric` and `--ignore-cameras` as overrides of the settings."""
    overrides = [f"evaluation.metric={metric}"] if metric else []
    return overrides + ["evaluation.ignore_cameras=true"] * ignore_cameras


def camera_normalization(is_wanted: bool, statistics: str | None):
    """Returns what `--normalize-cameras` and `--camera-statistics` ask for."""
    from topdb_tf.retrieval.postprocessing import CameraNormalization

    if not is_wanted:
        if statistics is not None:
            raise click.UsageError("--camera-statistics goes with --normalize-cameras.")
        return None
    return CameraNormalization(statistics) if statistics else CameraNormalization()


def features_in(places: Sequence[Path], *needless: str) -> tuple[Path, ...]:
    """Returns the places that are files of features and no runs.

    Args:
        places: What the command was given.
        *needless: Parameters of the command that mean nothing where all are files.

    Raises:
        click.UsageError: If one of those was given.
    """
    from topdb_tf.evaluate.feature_files import holds_features

    files = tuple(filter(holds_features, places))
    context, given = click.get_current_context(), ParameterSource.COMMANDLINE
    for parameter in context.command.params:
        is_given = context.get_parameter_source(parameter.name) == given
        if files and files == tuple(places) and parameter.name in needless and is_given:
            raise click.UsageError(
                f"{parameter.opts[0]} is for runs alone, and not for features in a "
                f"file. Received: {files[0]}"
            )
    return files


def read_features(file: Path, metric: str | None, ignore_cameras: bool):
    """Returns the images of a file of features, and says what there is to say."""
    from topdb_tf.evaluate.feature_files import embed_file
    from topdb_tf.runs.settings import EvaluationConfig

    chosen = {"metric": metric} if metric else {}
    evaluation = EvaluationConfig(ignore_cameras=ignore_cameras, **chosen)
    embedded = embed_file(file, evaluation)
    for note in embedded.notes:
        say(f"warning: {note}")
    return embedded


def new_run_dir(name: str) -> Path:
    """Makes the folder of a new run; it goes if the command leaves it empty."""
    path = folder_of_new_run(name)
    click.get_current_context().call_on_close(lambda: remove_empty([path, path.parent]))
    return path


def version_lines() -> list[str]:
    """Returns the versions of this program, and of what it stands on."""
    import importlib.metadata

    libraries = ("tensorflow", "keras", "keras-hub", "numpy", "numba")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in libraries]
    return [
        f"{PROGRAM} {__version__}",
        ", ".join([f"Python {platform.python_version()}", *versions]),
    ]


def count_option(*names, least: int = 1, most: int = 10**6, **attributes):
    """Returns an option that takes a whole number; its default stands in its help."""
    kind = click.IntRange(least, most)
    return click.option(*names, type=kind, show_default=True, **attributes)


def seed_option(meaning: str):
    """Returns the option of a seed, what NumPy and scikit-learn take for one."""
    return count_option("--seed", least=0, most=2**32 - 1, default=1, help=meaning)


def note_on_demo(ctx, param, model):
    """Returns the model of an option or argument; says what the demo's is not for."""
    if model is not None and is_demo(model):
        say(f"note: {DEMO_NOTE}")
    return model


data_options = options_of(DATASET, DATA_ROOT, BEST)
output_options = options_of(
    click.option(
        "--out",
        type=PATH,
        multiple=True,
        metavar="FILE",
        help="File .png, .svg or .pdf; may be repeated.  [default: "
        "RUN/figures/NAME.png; of features FILE-NAME.png]",
    ),
    click.option(
        "--column",
        is_flag=True,
        help="3.5 inches wide, for a column of a paper, instead of 7.2.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print what is drawn."),
)
