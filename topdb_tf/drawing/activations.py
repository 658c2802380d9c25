"""Where a network looks: activation maps laid over images."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from topdb_tf.drawing.heat import heat, kept, overlay
from topdb_tf.drawing.panels import LINE, Canvas, check_images, layout_of
from topdb_tf.drawing.style import BLACK, PAGE_WIDTH, styled

PERSON_ASPECT = 3.0  # height over width, as the paper has its images
_GAP, _GROUP_GAP, _MARGIN = 0.05, 0.22, 0.06  # inches
_SIDES = 0.5, 0.95
_BAR, _BAR_WIDTH = 0.36, 2.6  # inches that the bar of colours takes, at least


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
        for own in maps.values():
            shares = heat(own[index], image.shape[:2])
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
    _check(images, {f"epoch {n}": own for n, own in zip(epochs, maps, strict=True)})
    titles = ["image", *(f"epoch {epoch}" for epoch in epochs)]
    rows = []
    for index, image in enumerate(images):
        size = image.shape[:2]
        row = [(image, labels[index] if labels else "")]
        row += [(overlay(image, heat(own[index], size)), "") for own in maps]
        rows.append(row)
    return _panels_figure(rows, titles, aspect=aspect, width=width)


def _check(images, maps, threshold=0.5):
    check_images(images)
    if not maps:
        raise ValueError("There must be activation maps of at least one model.")
    for name, own in maps.items():
        if own.ndim != 3 or len(own) != len(images):
            raise ValueError(
                "There must be one activation map an image, of shape (num_images, "
                f"rows, columns). Received: {len(images)} images and maps of shape "
                f"{own.shape} ({name})"
            )
        if not np.isfinite(own).all():
            raise ValueError(
                f"Activation maps must be finite. Received: those of {name}"
            )
    if not 0 < threshold < 1:
        raise ValueError(
            f"`threshold` must be a share, in (0, 1). Received: {threshold=}"
        )


def _panels_figure(rows, titles, *, aspect, width, models=(), mark=None):
    """Draws rows of (image, label), as many beside each other as the width allows."""
    num_panels = len(titles)

    top = _MARGIN + LINE * (2 if models else 1) + 0.02
    below = LINE + 0.08

    def side_of(num_beside):
        gaps = num_beside * (num_panels - 1) * _GAP + (num_beside - 1) * _GROUP_GAP
        return (width - 2 * _MARGIN - gaps) / (num_beside * num_panels)

    def height_of(side, num_lines):
        return top + num_lines * (aspect * side + below) + _BAR

    side, num_beside, num_lines = layout_of(
        len(rows), side_of=side_of, height_of=height_of, sides=_SIDES
    )
    pitch = num_panels * (side + _GAP) - _GAP + _GROUP_GAP  # of the groups
    with styled():
        total = 2 * _MARGIN + num_beside * pitch - _GROUP_GAP
        canvas = Canvas(max(total, _BAR_WIDTH), height_of(side, num_lines))
        margin = _MARGIN + (canvas.width - total) / 2
        for index, row in enumerate(rows):
            left = margin + index % num_beside * pitch
            down = top + index // num_beside * (aspect * side + below)
            if index < num_beside:
                _draw_titles(canvas, left, top - 0.05, side, titles, models)
            _draw_row(canvas, left, down, side, aspect * side, row)
        _draw_heat_bar(canvas, mark)
    return canvas.figure


def _draw_titles(canvas, left, bottom, side, titles, models):
    options = {"ha": "center", "va": "baseline"}
    for place, title in enumerate(titles):
        middle = left + place * (side + _GAP) + side / 2
        canvas.text(middle, bottom, title, room=side, **options)
    pair = 2 * (side + _GAP)
    for place, model in enumerate(models):
        middle = left + side + _GAP + place * pair + side + _GAP / 2
        canvas.text(middle, bottom - LINE, model, room=pair - _GAP, **options)


def _draw_row(canvas, left, top, side, height, row):
    for place, (pixels, label) in enumerate(row):
        at = left + place * (side + _GAP)
        canvas.image(at, top, side, height, pixels)
        if place == 0:  # the panel beside it has no label
            canvas.text(at, top + height + 0.03, label, room=2 * side)
        else:
            middle = at + side / 2
            canvas.text(middle, top + height + 0.03, label, ha="center")


def _draw_heat_bar(canvas, mark):
    length = min(2.2, canvas.width - 2 * _MARGIN - 1.2)
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
