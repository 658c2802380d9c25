"""What a training did, by epoch or time: losses by stream, accuracy, rate, scores."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from topdb_tf.drawing.curves import PERCENT
from topdb_tf.drawing.style import (
    COLORS,
    LINE_STYLES,
    MARKERS,
    PAGE_WIDTH,
    new_figure,
    styled,
)

_LOSSES = {"cross_entropy": "cross-entropy", "triplet": "triplet loss"}
_SCORES = {
    "mean_ap": "mAP",
    "rank_1": "rank-1",
    "val_mean_ap": "validation mAP",
    "val_rank_1": "validation rank-1",
}
_TITLES = {
    "loss": "loss, all streams",
    "accuracy": "training accuracy, %",
    "learning_rate": "learning rate",
    **{column: f"{name}, %" for column, name in _SCORES.items()},
}
_SHARES = ("accuracy", *_SCORES)
_STREAMS = ("global", "top_drop", "regularization")  # drawn first, in this order


class Band(NamedTuple):
    """A figure of one or several runs by epoch, each array of shape `(num_epochs,)`.

    Epochs are those in which at least one run has it. The sample standard deviation is
    zero where one run alone has it; there is none if there is one run.
    """

    epochs: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray | None


class _Line(NamedTuple):
    """What one line of a panel shows: a column of the logs of some runs."""

    logs: Sequence[Mapping[str, np.ndarray]]
    column: str
    label: str
    style: int


def band_of(logs: Sequence[Mapping[str, np.ndarray]], column: str) -> Band:
    """Returns mean and deviation of a column of the logs of several runs.

    Args:
        logs: One a run: arrays by the name of the column, `epoch` among them; NaN
            where an epoch has no figure.
        column: Name of the column; a log without it does not count.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.drawing.training_curves import band_of
        >>> one = {"epoch": np.array([1, 2]), "loss": np.array([4.0, 2.0])}
        >>> other = {"epoch": np.array([1]), "loss": np.array([6.0])}
        >>> [array.tolist() for array in band_of([one, other], "loss")]
        [[1, 2], [5.0, 2.0], [1.4142135623730951, 0.0]]
    """
    values = {}
    for log in logs:
        figures = log.get(column, np.full(len(log["epoch"]), np.nan))
        for epoch, value in zip(log["epoch"], figures, strict=True):
            if np.isfinite(value):
                values.setdefault(int(epoch), []).append(float(value))
    epochs = sorted(values)
    mean = np.array([np.mean(values[epoch]) for epoch in epochs])
    deviation = [
        np.std(values[epoch], ddof=1) if len(values[epoch]) > 1 else 0.0
        for epoch in epochs
    ]
    return Band(
        np.array(epochs, int), mean, np.array(deviation) if len(logs) > 1 else None
    )


def training_figure(
    runs: Mapping[str, Sequence[Mapping[str, np.ndarray]]],
    *,
    by: str = "epoch",
    width: float = PAGE_WIDTH,
) -> Figure:
    """Returns the curves of one training, or of several over one another.

    With one training, a panel has a line for each stream; with several, a panel shows
    one stream and has a line for each training. A training that was repeated from
    several seeds is drawn as the mean of its runs in a band of their sample standard
    deviation.

    Args:
        runs: Logs by the name of the training, one a seed: arrays by the name of the
            column as in `log.csv` (`epoch`, `STREAM_cross_entropy`, `STREAM_triplet`,
            `loss`, `accuracy`, `learning_rate`, `mean_ap`, `rank_1`, or with `val_`
            before these two), NaN where an epoch has no figure.
        by: Column that the horizontal axis tells, `epoch` or one that rises with it,
            such as the hours until its end; of several seeds it is their mean.
        width: In inches.

    Raises:
        ValueError: If there is no log, or one without an epoch.
    """
    if not runs or not all(
        logs and all(len(log["epoch"]) for log in logs) for logs in runs.values()
    ):
        raise ValueError(
            "There must be at least one log, each with at least one epoch."
        )
    panels = _panels_of_one(*runs.values()) if len(runs) == 1 else _panels(runs)
    columns = 3 if width >= 5 else 2
    rows = -(-len(panels) // columns)
    with styled():
        figure = new_figure(width, (1.75 if width >= 5 else 1.4) * rows + 0.35)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (title, lines) in zip(grid, panels.items(), strict=False):
            _draw_panel(
                axes, title if columns == 3 else title.replace(": ", "\n"), lines, by
            )
        for axes in grid[len(panels) :]:
            axes.remove()
        _share_limits(grid[: len(panels)], list(panels))
        figure.supxlabel(by, fontsize=9)
        _name(figure, grid, panels, runs)
    return figure


def _panels_of_one(logs):
    streams = _streams_of(logs)
    panels = {
        title: [
            _Line(logs, f"{stream}_{loss}", stream, place)
            for place, stream in enumerate(streams)
        ]
        for loss, title in _LOSSES.items()
        if streams
    }
    for column in ("loss", "accuracy", "learning_rate"):
        panels[_TITLES[column]] = [_Line(logs, column, "", 6)]
    scored = [column for column in _SCORES if len(band_of(logs, column).epochs)]
    if scored:
        panels["retrieval, %"] = [
            _Line(logs, column, _SCORES[column], place)
            for place, column in enumerate(scored)
        ]
    return panels


def _panels(runs):
    streams = _streams_of([log for logs in runs.values() for log in logs])
    columns = {
        f"{stream}: {title}": f"{stream}_{loss}"
        for loss, title in _LOSSES.items()
        for stream in streams
    }
    columns |= {title: column for column, title in _TITLES.items()}
    panels = {}
    for title, column in columns.items():
        lines = [
            _Line(logs, column, label, place)
            for place, (label, logs) in enumerate(runs.items())
            if len(band_of(logs, column).epochs)
        ]
        if lines:
            panels[title] = lines
    return panels


def _streams_of(logs):
    suffix = "_cross_entropy"
    streams = {
        name.removesuffix(suffix) for log in logs for name in log if suffix in name
    }
    known = [stream for stream in _STREAMS if stream in streams]
    return known + sorted(streams - set(known))


def _draw_panel(axes, title, lines, by):
    last = max(log[by][-1] for line in lines for log in line.logs)
    axes.set_xlim(0, last * 1.04)
    for line in lines:
        band, places = band_of(line.logs, line.column), band_of(line.logs, by)
        across = places.mean[np.isin(places.epochs, band.epochs)]
        color = COLORS[line.style % len(COLORS)]
        scored = line.column in _SCORES
        alone = scored and len(band.epochs) == 1
        style = LINE_STYLES[line.style % len(LINE_STYLES)] if line.label else "-"
        axes.plot(
            across,
            band.mean,
            color=color,
            linestyle="none" if alone else style,
            linewidth=1.4,
            marker=MARKERS[line.style % len(MARKERS)] if scored else None,
            markersize=4 if len(band.epochs) <= 40 else 2,
            label=line.label,
        )
        if alone:
            _write_value(axes, across, band, color)
        if band.deviation is not None:
            low, high = band.mean - band.deviation, band.mean + band.deviation
            axes.fill_between(across, low, high, color=color, alpha=0.18, lw=0)
    axes.set_title(title, loc="left", fontsize=8.5)
    axes.tick_params(labelsize=7.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    if any(line.column in _SHARES for line in lines):
        axes.yaxis.set_major_formatter(PERCENT)
    elif lines[0].column == "learning_rate":
        _log_scale(axes)
    if any(line.column in _SCORES for line in lines):
        axes.margins(y=0.15)


def _log_scale(axes):
    """Makes the vertical axis logarithmic, with labels that a small panel has room for.

    (Within a decade or two matplotlib labels the minor ticks, one over the other.)
    """
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    few = high / low < 100
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    axes.yaxis.set_major_formatter(lambda x, _: f"{x:.0e}".replace("e-0", "e-"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _write_value(axes, across, band, color):
    """Writes the only value of a line beside its mark."""
    text = f"{100 * band.mean[0]:.1f}"
    if band.deviation is not None:
        text += f" ± {100 * band.deviation[0]:.1f}"
        axes.errorbar(across, band.mean, band.deviation, color=color, capsize=2)
    is_left = across[0] < axes.get_xlim()[1] / 2
    axes.annotate(
        text,
        (across[0], band.mean[0]),
        xytext=(6 if is_left else -6, 0),
        textcoords="offset points",
        ha="left" if is_left else "right",
        va="center",
        fontsize=7.5,
    )


def _share_limits(grid, titles):
    """Gives panels of the same loss, one a stream, the same axis."""
    for loss in _LOSSES.values():
        same = [
            axes
            for axes, title in zip(grid, titles, strict=True)
            if title.endswith(f": {loss}")
        ]
        limits = [axes.get_ylim() for axes in same]
        for axes in same:
            axes.set_ylim(
                min(low for low, _ in limits), max(high for _, high in limits)
            )


def _name(figure, grid, panels, runs):
    if len(runs) == 1 and "retrieval, %" in panels:
        scores = grid[len(panels) - 1]
        alone = all(len(line.get_xdata()) == 1 for line in scores.get_lines())
        place = "center left" if alone else "lower right"  # scores rise, as a rule
        scores.legend(frameon=False, fontsize=7.5, loc=place)
    by_label = {}
    for axes in grid[: len(panels) if len(runs) > 1 else 1]:
        handles, labels = axes.get_legend_handles_labels()
        for handle, label in zip(handles, labels, strict=True):
            by_label.setdefault(label, handle)
    figure.legend(
        by_label.values(),
        by_label,
        loc="outside upper center",
        ncols=min(len(by_label), 3),
        frameon=False,
        fontsize=8,
        handlelength=3,
    )
