"""Holds this package's triplet losses against TensorFlow Addons', in its environment.

    python3.11 -m venv addons
    addons/bin/pip install -r tests/addons/requirements.txt
    python -m tests.addons.ours ours.npz              # where this package is installed
    addons/bin/python -m tests.addons.compare ours.npz

Values and gradients of `tfa.losses.TripletHardLoss(distance_metric="L2")` are computed
anew and compared with ours and with the figures on record, `figures.npz`, which
`tests/test_losses.py` reads; `--write` puts them on record. The status is 1 if anything
differs.

Conventions that are the same: Euclidean distances of features as they are, not
normalised; the hardest positive of a lone image is at distance zero; where several
images are equally hard the gradient is shared; the mean over the batch. Those that
differ, and so are left out or expected to differ, stand in `batches.py`. At the very
point where the hinge begins the subgradients differ (1 there, 0 here); no batch is.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np

from tests.addons.batches import MARGINS, NO_NEGATIVES, NOT_COMPARED, batches

FIGURES = Path(__file__).with_name("figures.npz")
RTOL, ATOL = 1e-5, 1e-6


def addons_figures():
    """Returns Addons' loss and gradient of every batch by `BATCH/MARGIN/NAME`."""
    warnings.simplefilter("ignore")  # its end of life, its tracing
    import tensorflow as tf
    from tensorflow_addons.losses import TripletHardLoss

    tf.get_logger().setLevel("ERROR")
    figures = {}
    for batch, (labels, features) in batches().items():
        for margin, value in MARGINS.items():
            if (batch, margin) in NOT_COMPARED:
                continue
            loss_of = (
                TripletHardLoss(soft=True)
                if value == "soft"
                else TripletHardLoss(value)
            )
            variable = tf.Variable(features)
            with tf.GradientTape() as tape:
                loss = loss_of(labels, variable)
            figures[f"{batch}/{margin}/loss"] = loss.numpy()
            figures[f"{batch}/{margin}/gradient"] = tape.gradient(
                loss, variable
            ).numpy()
    return figures


def expected_of_ours(figures):
    """Returns what ours must give: Addons' figures, but 0 where nothing is negative."""
    return {
        key: np.zeros_like(figure) if key.split("/")[0] in NO_NEGATIVES else figure
        for key, figure in figures.items()
    }


def differences(expected, figures):
    """Returns a line for each figure that is missing or differs."""
    lines = []
    for key, figure in expected.items():
        if key not in figures:
            lines.append(f"{key}: missing")
        elif not np.allclose(figures[key], figure, rtol=RTOL, atol=ATOL):
            lines.append(f"{key}: off by {np.abs(figures[key] - figure).max():.3g}")
    return lines


def check_conventions(figures):
    """Fails unless Addons does give the margin where a batch has no negatives."""
    for batch in NO_NEGATIVES:
        for margin, value in MARGINS.items():
            expected = np.log(2) if value == "soft" else value
            np.testing.assert_allclose(
                figures[f"{batch}/{margin}/loss"], expected, rtol=RTOL
            )


def write_figures(figures):
    """Puts the batches and Addons' figures on record."""
    arrays = {}
    for batch, (labels, features) in batches().items():
        arrays[f"{batch}/labels"] = labels
        arrays[f"{batch}/features"] = features
    np.savez_compressed(FIGURES, **arrays, **figures)


def main():
    """Compares, or puts on record, and says what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("ours", type=Path, help="file that tests.addons.ours wrote")
    parser.add_argument("--write", action="store_true", help="put figures on record")
    arguments = parser.parse_args()
    figures = addons_figures()
    check_conventions(figures)
    if arguments.write:
        write_figures(figures)
    lines = [
        f"ours, {line}"
        for line in differences(expected_of_ours(figures), np.load(arguments.ours))
    ]
    lines += [f"on record, {line}" for line in differences(figures, np.load(FIGURES))]
    for (batch, margin), reason in NOT_COMPARED.items():
        print(f"not compared: {batch}, {margin}: {reason}")  # noqa: T201 (a script)
    for line in lines:
        print(line)  # noqa: T201 (a script)
    print(f"{len(figures)} figures of Addons, {len(lines)} differ")  # noqa: T201
    return 1 if lines else 0


if __name__ == "__main__":
    raise SystemExit(main())
