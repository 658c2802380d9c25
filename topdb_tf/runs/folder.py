"""The folder of a run: its files, the newest one, whole writes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from topdb_tf.files import held_folder


class RunFolder(NamedTuple):
    """Paths inside the folder of one run.

    Args:
        path: The folder, `runs/<name>` by default.
    """

    path: Path

    @property
    def config(self) -> Path:
        """Resolved settings, YAML."""
        return self.path / "config.yaml"

    @property
    def split(self) -> Path:
        """Which of one's own images are trained on, query and gallery; CSV."""
        return self.path / "split.csv"

    @property
    def environment(self) -> Path:
        """Versions, device, commit and seed, JSON."""
        return self.path / "environment.json"

    @property
    def log(self) -> Path:
        """Figures by epoch, CSV."""
        return self.path / "log.csv"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard events."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """Folder of the training state: the newest checkpoints and the best."""
        return self.path / "checkpoints"

    @property
    def embedder(self) -> Path:
        """The result: the model from pixels to embeddings after the last epoch."""
        return self.path / "embedder.keras"

    @property
    def best_embedder(self) -> Path:
        """The model of the epoch with the highest mAP."""
        return self.path / "embedder_best.keras"

    @property
    def scores(self) -> Path:
        """Retrieval scores with their protocol, JSON."""
        return self.path / "scores.json"

    @property
    def calibration(self) -> Path:
        """Distance thresholds by false-match rate, JSON."""
        return self.path / "calibration.json"

    @property
    def report(self) -> Path:
        """The run on one page, HTML."""
        return self.path / "report.html"


def new_run(path: Path) -> RunFolder:
    """Returns the folder of a new run; it is made when the run begins.

    Raises:
        FileExistsError: If the folder already holds anything.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(
            f"{path} already exists and is not empty; a run is never overwritten. "
            "Choose another --run-dir, or remove it."
        )
    return RunFolder(path)


def open_run(path: Path | None, *, runs: Path = Path("runs")) -> RunFolder:
    """Returns a run's folder; without a path the newest one under `runs`.

    The seeds of `fit --seeds` are runs in a folder of theirs, `runs/NAME/seed-1`;
    without a path they are found too.

    Raises:
        FileNotFoundError: If there is no run.
    """
    if path is not None:
        run = RunFolder(Path(path))
        if not run.config.is_file():
            raise FileNotFoundError(_not_a_run(run))
        return run
    configs = [*runs.glob("*/config.yaml"), *runs.glob("*/*/config.yaml")]
    configs.sort(key=lambda file: file.stat().st_mtime)
    if not configs:
        raise FileNotFoundError(
            f"There is no run under {runs.resolve()}. Train one with `topdb-tf fit`, "
            "or name the folder of a run."
        )
    return RunFolder(configs[-1].parent)


def _not_a_run(run):
    """Returns what is said of a folder that is none of a run."""
    text = f"{run.path} is not the folder of a run: it has no {run.config.name}."
    inside = sorted(str(file.parent) for file in run.path.glob("*/config.yaml"))
    if not inside:
        return text
    more = ", …" if len(inside) > 3 else ""
    return f"{text} Name one of those in it: {', '.join(inside[:3])}{more}"


def model_file(run: RunFolder, *, best: bool = False) -> Path:
    """Returns the file of a run's model.

    Args:
        run: Folder of the run.
        best: Whether to take that of the best epoch instead of the last.

    Raises:
        FileNotFoundError: If there is none yet.
    """
    path = run.best_embedder if best else run.embedder
    if not path.is_file():
        raise FileNotFoundError(
            f"{run.path} has no {path.name}: its first epoch has not ended. Go on with "
            f"`topdb-tf fit --resume {run.path}`."
        )
    return path


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
