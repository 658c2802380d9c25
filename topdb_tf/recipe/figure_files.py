"""Where figures go, and how they get there whole."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from topdb_tf.figures.style import check_format, save_figure
from topdb_tf.run_folder import whole_file


def figure_files(files: Sequence[Path], *, run: Path, name: str) -> list[Path]:
    """Returns the files that a figure is written to, before anything is computed.

    Args:
        files: Those that are asked for; none: `figures/NAME.png` in the run's folder.
        run: Folder of the run.
        name: Name of the figure.

    Raises:
        FileNotFoundError: If the folder of a file is missing.
        ValueError: If a name does not end in `.png`, `.svg` or `.pdf`.
    """
    for file in files:
        check_format(file)
        if not file.parent.is_dir():
            raise FileNotFoundError(
                f"There is no folder {file.parent} for the figure. Make it first."
            )
    return list(files) or [run / "figures" / f"{name}.png"]


def write_figure(figure: Figure, files: Sequence[Path]) -> None:
    """Writes a figure to each of some files, whole or not at all.

    Args:
        figure: The figure.
        files: Of `figure_files`; the folder of figures of a run is made.
    """
    for file in files:
        file.parent.mkdir(exist_ok=True)
        with whole_file(file) as partial:
            save_figure(figure, partial)
