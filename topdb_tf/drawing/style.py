"""How all figures look, and how they are written."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

# Okabe and Ito's colours, which people with any colour vision tell apart
# (https://jfly.uni-koeln.de/color/).
BLACK = "#000000"
ORANGE = "#E69F00"
SKY_BLUE = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#767676"

COLORS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY_BLUE, BLACK)
RIGHT, WRONG, JUNK = BLUE, VERMILION, GREY  # also told apart by their marks
PAGE_WIDTH = 7.2  # inches
COLUMN_WIDTH = 3.5  # of a page with two of them
# Beside the colours, so that nothing is told by colour alone.
LINE_STYLES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p")

_SETTINGS = {
    "axes.prop_cycle": mpl.cycler(color=COLORS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "font.size": 9,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "topdb_tf",  # the same picture gives the same file
    "image.cmap": "cividis",
    "hatch.linewidth": 0.7,
}


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Draws what is drawn inside in the package's style, readable at page width.

    What a `matplotlibrc` or the program around it has set does not matter.
    """
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def new_figure(width: float = PAGE_WIDTH, height: float = 3.2) -> Figure:
    """Returns an empty figure of a size in inches; to be called inside `styled()`.

    It belongs to no window system and is freed like any object.
    """
    return Figure(figsize=(width, height))


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as a file `.png` (200 dots an inch), `.svg` or `.pdf`."""
    check_format(path)
    dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with styled():
        figure.savefig(path, metadata=dates.get(path.suffix))


def check_format(path: Path) -> None:
    """Checks, before anything is drawn, that a figure can be written."""
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"There is no folder {path.parent} for the figure. Make it first."
        )
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(
            f"A figure must be written as .png, .svg or .pdf. Received: path={path}"
        )


def svg_of(figure: Figure) -> str:
    """Returns a figure as an `<svg>` element, to stand in a page; letters stay text."""
    file = io.StringIO()
    with styled(), mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]
