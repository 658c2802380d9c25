"""A run: its folder, its settings, and what its folder tells of it."""

import contextlib
import datetime
import functools
import itertools
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from topdb_tf.data.trees.levels import AUTO
from topdb_tf.files import contents_of, held_folder, remove_empty, sha256_of
from topdb_tf.model.preset_files import hub_address, is_preset
from topdb_tf.runs.machine import Environment
from topdb_tf.runs.recipes import read_config
from topdb_tf.runs.settings import Config
from topdb_tf.texts import Say, silent
from topdb_tf.training.checkpoint_files import positions, read_record

VALIDATION, TEST = "validation", "test"
"""The identities that a training holds out, and those of the test."""


def _inside(name: str) -> property:
    return property(lambda folder: folder.path / name)


class Choice(NamedTuple):
    """The epoch whose weights were chosen by its mAP on the validation or the test."""

    epoch: int
    by: str
    mean_ap: float

    def __str__(self):
        return (
            f"weights of epoch {self.epoch}, chosen by its {self.by} mAP of "
            f"{self.mean_ap:.1%}"
        )


class RunFolder(NamedTuple):
    """Paths inside the folder of one run, which is `runs/<name>` by default."""

    path: Path

    config_file = _inside("config.yaml")
    """Resolved settings, YAML."""
    split = _inside("split.csv")
    """Which of one's own images are trained on, query and gallery; CSV.

    Of several data sets each that is one's own has `split-NAME.csv`.
    """
    environment = _inside("environment.json")
    """Versions, device, commit and seed, JSON."""
    log = _inside("log.csv")
    """Figures by epoch, CSV."""
    tensorboard = _inside("tensorboard")
    """Folder of TensorBoard events."""
    checkpoints = _inside("checkpoints")
    """Folder of the training state: the newest checkpoints and the best."""
    embedder = _inside("embedder.keras")
    """The result: the model from pixels to embeddings after the last epoch.

    Where identities are held out, it is that of the best epoch when training is done.
    """
    best_embedder = _inside("embedder_best.keras")
    """The model of the epoch with the highest mAP."""
    scores = _inside("scores.json")
    """Retrieval scores with their protocol, JSON."""
    calibration = _inside("calibration.json")
    """Distance thresholds by false-match rate, JSON."""
    report = _inside("report.html")
    """The run on one page, HTML."""

    @property
    def holds_run(self) -> bool:
        """Whether it is the folder of a run."""
        return self.config_file.is_file()


def folder_of_new_run(name: str) -> Path:
    """Makes the folder of a new run, `runs/NAME-TIME`, which no other process takes."""
    path = first = Path("runs") / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    for number in itertools.count(2):
        try:
            path.mkdir(parents=True)
        except FileExistsError:  # of a run that began in the same second
            path = first.with_name(f"{first.name}-{number}")
        else:
            return path


def new_run(path: Path) -> RunFolder:
    """Returns the folder of a new run; it is made when the run begins.

    What a training left that was killed before its first checkpoint is nothing to keep.

    Raises:
        FileExistsError: If the folder already holds anything else.
    """
    path = Path(path)
    is_free = not path.exists() or (path.is_dir() and not contents_of(path))
    if not is_free and not _is_of_killed_start(RunFolder(path)):
        raise FileExistsError(
            f"{path} already exists and is not empty; a run is never overwritten. "
            "Choose another --run-dir, or remove it."
        )
    return RunFolder(path)


@contextlib.contextmanager
def new_folder(run: RunFolder) -> Iterator[None]:
    """Makes and holds the folder of a run that begins.

    After an error before the first checkpoint nothing is left of it, so that the same
    command can be started again. A run with a checkpoint always stays.

    Raises:
        ValueError: If another process is training in it.
    """
    made = [path for path in (run.path, *run.path.parents) if not path.exists()]
    run.path.mkdir(parents=True, exist_ok=True)
    try:
        with held(run):
            new_run(run.path)  # another process may have trained there meanwhile
            _clear(run)
            try:
                yield
            except BaseException:
                _clear(run)
                raise
    finally:
        remove_empty(made)


def _clear(run):
    """Removes what a training wrote, unless it has a checkpoint."""
    if positions(run.checkpoints):
        return
    others = [path for path in contents_of(run.path) if not _is_of_start(path)]
    for path in {*run.path.iterdir()} - {*others}:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _is_of_start(path):
    """Returns whether a training writes such a file before it is scored at the end."""
    run = RunFolder(path.parent)
    written = (run.config_file, run.split, run.environment, run.log, run.tensorboard)
    models = (run.embedder, run.best_embedder, run.checkpoints)
    return path in (*written, *models) or path.match("split-*.csv")


def _is_of_killed_start(run):
    """Returns whether a folder holds what a training left that was killed early."""
    if not run.holds_run or run.embedder.exists() or positions(run.checkpoints):
        return False
    return all(map(_is_of_start, contents_of(run.path)))


@dataclass(frozen=True)
class Run:
    """A run as it is used: its folder, and the settings that it is used with.

    `saved` are its settings as its folder has them, `config` those with what the user
    changes for this use, such as where the data lie.
    """

    folder: RunFolder
    config: Config
    saved: Config

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder.path

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.resolve().name

    @functools.cached_property
    def environment(self) -> Environment:
        """Where it was trained; empty where the folder does not tell."""
        return Environment.read(self.folder.environment)

    @property
    def chooses_by(self) -> str:
        """What the best epoch is chosen by: "validation" or "test"."""
        return VALIDATION if self.saved.data.validation_share else TEST

    def choice(self, model: Path) -> Choice | None:
        """Returns how the weights in a file of its model were chosen, if they were.

        Where identities were held out, the model that a finished training leaves is
        that of the best epoch.
        """
        best = self.folder.best_embedder
        if model != best and (
            self.chooses_by == TEST
            or not best.is_file()
            or sha256_of(model) != sha256_of(best)
        ):
            return None
        try:
            last, *_ = positions(self.folder.checkpoints)
            found = read_record(self.folder.checkpoints, last).best
        except (ValueError, OSError):  # none is left, or it cannot be read
            return None
        return found and Choice(found.epochs_done, self.chooses_by, found.mean_ap)

    def model(self, *, best: bool = False) -> Path:
        """Returns the file of its model.

        Args:
            best: Whether to take that of the best epoch instead of the last.

        Raises:
            FileNotFoundError: If there is none yet.
        """
        path = self.folder.best_embedder if best else self.folder.embedder
        if not path.is_file():
            raise FileNotFoundError(
                f"{self.path} has no {path.name}: its first epoch has not ended. Go on "
                f"with `topdb-tf fit --resume {self.path}`."
            )
        return path


def open_run(
    path: Path | None = None,
    overrides: Iterable[str] = (),
    *,
    runs: Path = Path("runs"),
    say: Say = silent,
) -> Run:
    """Returns a run; without a path the newest one under `runs`.

    The seeds of `fit --seeds` are runs in a folder of theirs, `runs/NAME/seed-1`;
    without a path they are found too.

    Args:
        path: Folder of the run.
        overrides: Texts `section.key=value` over its settings, for this use.
        runs: Folder in which the newest run is looked for.
        say: Function that shows a line to the user, here about settings by old names.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If its settings cannot be read.
    """
    folder = RunFolder(Path(path)) if path is not None else _newest(runs)
    if not folder.holds_run:
        raise FileNotFoundError(_not_a_run(folder))
    saved = read_config(folder.config_file, say=say)
    overrides = list(overrides)
    # Those of its own images, not of what is named now.
    if saved.data.layout != AUTO:
        overrides.insert(0, f"data.layout={AUTO}")
    if saved.data.pattern is not None:
        overrides.insert(0, "data.pattern=null")
    config = read_config(folder.config_file, overrides) if overrides else saved
    return Run(folder, config, saved)


def _newest(runs):
    configs = [*runs.glob("*/config.yaml"), *runs.glob("*/*/config.yaml")]
    configs.sort(key=lambda file: file.stat().st_mtime)
    if not configs:
        raise FileNotFoundError(
            f"There is no run under {runs.resolve()}. Train one with `topdb-tf fit`, "
            "or name the folder of a run."
        )
    return RunFolder(configs[-1].parent)


def _not_a_run(folder):
    """Returns what is said of a folder that is none of a run."""
    name = hub_address(folder.path) or folder.path
    text = f"{name} is not the folder of a run: it has no config.yaml."
    if is_preset(name):
        return (
            f"{name} is a preset, and this asks for a run: its data and its training. "
            f"Score the preset by `topdb-tf evaluate --weights {name} --dataset NAME`; "
            "for more, name a file of its features, which `topdb-tf embed --query … "
            f"--gallery … --model {name}` writes."
        )
    inside = sorted(str(file.parent) for file in folder.path.glob("*/config.yaml"))
    if not inside:
        return text
    more = ", …" if len(inside) > 3 else ""
    return f"{text} Name one of those in it: {', '.join(inside[:3])}{more}"


@contextlib.contextmanager
def held(run: RunFolder) -> Iterator[None]:
    """Holds a run's folder for this process while it trains, where the system can.

    Raises:
        ValueError: If another process is training in it.
    """
    refusal = (
        f"Another process is training in {run.path}. Wait for its end, or end it with "
        "Ctrl-C or SIGTERM."
    )
    with held_folder(run.path, refusal):
        yield
