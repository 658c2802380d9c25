"""What a figure is before it is drawn: the numbers in it, and how to draw them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure


@dataclass(frozen=True)
class View:
    """A figure of a run, which commands write to files and pages show.

    `--json` prints its facts, as `topdb_tf.files.plain` has them. The picture is drawn
    from its width in inches.
    """

    facts: Any
    picture: Callable[[float], Figure]
