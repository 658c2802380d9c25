"""How the average precision of single queries is spread."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from topdb_tf.drawing.curves import PERCENT
from topdb_tf.drawing.style import COLORS, LINE_STYLES, PAGE_WIDTH, new_figure, styled

NUM_BINS = 20


def precision_figure(
    precisions: Mapping[str, np.ndarray], *, width: float = PAGE_WIDTH
) -> Figure:
    """Returns histograms of the queries' average precision, with their means.

    Args:
        precisions: Average precision of each query by name of the ranking, in [0, 1];
            NaN without a match, which does not count.
        width: In inches.

    Raises:
        ValueError: If a ranking has no query that counts.
    """
    edges = np.linspace(0, 1, NUM_BINS + 1)
    with styled():
        figure = new_figure(width, 0.72 * width if width < 5 else 3.2)
        axes = figure.subplots()
        for place, (name, values) in enumerate(precisions.items()):
            values = np.asarray(values)[np.isfinite(values)]
            if not len(values):
                raise ValueError(f"No query of {name!r} has a match.")
            color, style = COLORS[place % len(COLORS)], LINE_STYLES[place % 5]
            shares = np.histogram(values, edges)[0] / len(values)
            text = f"{name}, mean {100 * values.mean():.1f} %"
            line = {"color": color, "linestyle": style, "linewidth": 1.4}
            axes.stairs(shares, edges, label=text, **line)
            axes.stairs(shares, edges, color=color, alpha=0.12, fill=True)
            axes.axvline(values.mean(), **{**line, "linewidth": 0.9})
        axes.set_xlim(0, 1)
        axes.set_ylim(0)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PERCENT)
        axes.set_xlabel("average precision of a query, %")
        axes.set_ylabel("queries, %")
        figure.legend(
            loc="outside upper center",
            ncols=1 if len(precisions) > 2 else 2,
            frameon=False,
            fontsize=7 if width < 5 else 8,
        )
    return figure
