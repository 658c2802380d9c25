"""Where a network looks: activation maps laid over images."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from topdb_tf.drawing.heat import heat, kept, overlay
from topdb_tf.drawing.panels import LINE, MARGIN, check_images, grouped_panels
from topdb_tf.drawing.style import BLACK, PAGE_WIDTH, styled

PERSON_ASPECT = 3.0  # height over width, as the paper has its images
_BAR_SIZE = 2.6, 0.36  # inches that the bar of colours takes


def activation_figure(
    images: Sequence[np.ndarray],
    maps: Mapping[str, np.ndarray],
    *,
    threshold: float = 0.5,
    labels: Sequence[str] = (),
    aspect: float = PERSON_ASPECT,
    width: float = PAGE_WIDTH,
) -> Figure:
    """Returns each image, its activation as heat over it, and what passes a threshold.

    Heat goes from the least to the most within the image (see
    `topdb_tf.drawing.heat.heat`). Below the last panel stands the share of the image
    that is kept. Images stand beside each other as far as the width allows.

    Args:
        images: RGB, uint8, each of shape `(height, width, 3)`.
        maps: Activation maps by name of the model, each `(num_images, rows,
            columns)`; a single model is not named.
        threshold: Share of the heat that pixels must reach to be kept, in (0, 1).
        labels: What stands below each image.
        aspect: Height over width of the panels.
        width: The most it takes, in inches.

    Raises:
        ValueError: If there is no image or model, maps do not fit, or the threshold
            is out of range.
    """
    _check(images, maps, threshold)
    titles = ["image", *["heat", f"≥ {100 * threshold:.3g} %"] * len(maps)]
    models = list(maps) if len(maps) > 1 else []
    rows = []
    for index, image in enumerate(images):
        label = labels[index] if labels else ""
        row = [(image, label)]
        for of_model in maps.values():
            shares = heat(of_model[index], image.shape[:2])
            share = np.mean(shares >= threshold)
            row += [
                (overlay(image, shares), ""),
                (kept(image, shares, threshold), f"{100 * share:.0f} % kept"),
            ]
        rows.append(row)
    sizes = {"aspect": aspect, "width": width}
    return _panels_figure(rows, titles, models=models, mark=threshold, **sizes)


def epochs_figure(
    images: Sequence[np.ndarray],
    maps: np.ndarray,
    *,
    epochs: Sequence[int],
    labels: Sequence[str] = (),
    aspect: float = PERSON_ASPECT,
    width: float = PAGE_WIDTH,
) -> Figure:
    """Returns the activation through a training: a row an image, a column an epoch.

    Heat goes from the least to the most within each panel: columns compare where the
    network looks, not how strongly.

    Args:
        images: RGB, uint8, each of shape `(height, width, 3)`.
        maps: Activation maps, `(num_epochs, num_images, rows, columns)`.
        epochs: Number of whole epochs at each of the maps.
        labels: What stands below each image.
        aspect: Height over width of the panels.
        width: The most it takes, in inches.

    Raises:
        ValueError: If there is no image or epoch, or maps do not fit.
    """
    by_epoch = zip(epochs, maps, strict=True)
    _check(images, {f"epoch {epoch}": of_epoch for epoch, of_epoch in by_epoch})
    titles = ["image", *(f"epoch {epoch}" for epoch in epochs)]
    rows = []
    for index, image in enumerate(images):
        size = image.shape[:2]
        row = [(image, labels[index] if labels else "")]
        row += [(overlay(image, heat(of_epoch[index], size)), "") for of_epoch in maps]
        rows.append(row)
    return _panels_figure(rows, titles, aspect=aspect, width=width)


def _check(images, maps, threshold=0.5):
    check_images(images)
    if not maps:
        raise ValueError("There must be activation maps of at least one model.")
    for name, of_model in maps.items():
        if of_model.ndim != 3 or len(of_model) != len(images):
            raise ValueError(
                "There must be one activation map an image, of shape (num_images, "
                f"rows, columns). Received: {len(images)} images and maps of shape "
                f"{of_model.shape} ({name})"
            )
        if not np.isfinite(of_model).all():
            raise ValueError(
                f"Activation maps must be finite. Received: those of {name}"
            )
    if not 0 < threshold < 1:
        raise ValueError(
            f"`threshold` must be a share, in (0, 1). Received: {threshold=}"
        )


def _panels_figure(rows, titles, *, aspect, width, models=(), mark=None):
    """Draws rows of (image, label), as many beside each other as the width allows."""
    with styled():
        canvas, groups = grouped_panels(
            len(rows),
            [1] * len(titles),
            title_lines=2 if models else 1,
            legend=_BAR_SIZE,
            aspect=aspect,
            width=width,
        )
        for row, boxes in zip(rows, groups, strict=True):
            if boxes[0].top == groups[0][0].top:  # in the first line
                _draw_titles(canvas, boxes, titles, models)
            _draw_row(canvas, boxes, row)
        _draw_heat_bar(canvas, mark)
    return canvas.figure


def _draw_titles(canvas, boxes, titles, models):
    bottom = boxes[0].top - 0.05
    options = {"ha": "center", "va": "baseline"}
    for box, title in zip(boxes, titles, strict=True):
        middle = box.left + box.width / 2
        canvas.text(middle, bottom, title, room=box.width, **options)
    pairs = zip(boxes[1::2], boxes[2::2], strict=False)
    for model, (first, second) in zip(models, pairs, strict=False):
        right = second.left + second.width
        middle, room = (first.left + right) / 2, right - first.left
        canvas.text(middle, bottom - LINE, model, room=room, **options)


def _draw_row(canvas, boxes, row):
    for box, (pixels, label) in zip(boxes, row, strict=True):
        canvas.image(*box, pixels)
        below = box.top + box.height + 0.03
        if box is boxes[0]:  # the panel beside it has no label
            canvas.text(box.left, below, label, room=2 * box.width)
        else:
            canvas.text(box.left + box.width / 2, below, label, ha="center")


def _draw_heat_bar(canvas, mark):
    length = min(2.2, canvas.width - 2 * MARGIN - 1.2)
    left = (canvas.width - length) / 2
    grey = np.full((1, 256, 3), 128, np.uint8)
    colors = overlay(grey, np.linspace(0, 1, 256)[None])
    axes = canvas.image(left, canvas.height - 0.3, length, 0.09, colors)
    texts = {0: "least in the image", 1: "most in the image"}
    if mark is not None:
        texts[mark] = f"{100 * mark:.3g} %"
        axes.plot([mark, mark], [0, 1], color=BLACK, linewidth=0.8)
    for share, text in texts.items():
        at = left + share * length
        canvas.text(at, canvas.height - 0.19, text, ha="center")
