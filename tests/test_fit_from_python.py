"""`topdb_tf.fit`: a loss and callbacks of one's own, and what a terminal shows."""

import os
import pty
import re
import sys
import threading
from functools import partial

import click
import keras
import numpy as np
import pytest

import topdb_tf
from tests.conftest import SMALL
from topdb_tf.training.losses import CROSS_ENTROPIES, TRIPLETS, register_loss

pytestmark = pytest.mark.usefixtures("step_by_step")

COLOURS = re.compile(r"\x1b\[[\d;]*m")
BAR = "━"


class Seen(keras.callbacks.Callback):
    """Keeps the logs of each epoch."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(dict(logs))


class Constant(keras.losses.Loss):
    def __init__(self, value=2.5, **kwargs):
        super().__init__(**kwargs)
        self.value = value

    def call(self, y_true, y_pred):
        return 0 * keras.ops.sum(y_pred, axis=-1) + self.value


class Terminal:
    """A pseudo-terminal of 120 columns in the place of standard error."""

    def __init__(self):
        ours, theirs = pty.openpty()
        self.file = open(theirs, "w", encoding="utf-8")  # noqa: PTH123 - no path
        self._written = b""
        self._reader = threading.Thread(target=self._drain, args=(ours,), daemon=True)
        self._reader.start()

    def _drain(self, ours):
        while not self._written.endswith(b"\0"):
            self._written += os.read(ours, 4096)

    def text(self):
        """Returns what was written, for once."""
        print("\0", end="", file=self.file, flush=True)
        self._reader.join()
        return self._written.decode()


@pytest.fixture(scope="module")
def trained(small_data_root, tmp_path_factory):
    """A run of two epochs, the logs that a callback got, and a terminal's text."""
    from rich.progress import Progress

    seen, terminal, update = Seen(), Terminal(), Progress.update

    def draw(*arguments, **state):  # now, and not ten times a second
        update(*arguments, refresh=True, **state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", terminal.file)
        patch.setattr(Progress, "update", draw)
        for name, value in {"TERM": "xterm", "COLUMNS": "120"}.items():
            patch.setenv(name, value)
        patch.delenv("NO_COLOR", raising=False)
        patch.setattr("topdb_tf.training.losses.TRIPLETS", {**TRIPLETS})
        run = topdb_tf.fit(
            "synthetic",
            recipe="demo",
            run_dir=tmp_path_factory.mktemp("trained") / "run",
            settings=[*SMALL, f"data.root={small_data_root}"],
            callbacks=[seen],
            triplet=Constant(),
            say=partial(click.echo, err=True),
        )
    return run, seen.epochs, terminal.text()


def test_a_loss_that_is_there_is_trained_by_and_named_in_the_settings(trained):
    run, epochs, _ = trained
    assert run.config.train.triplet == "Constant"
    assert [logs["global_triplet"] for logs in epochs] == [2.5, 2.5]
    assert repr(topdb_tf.evaluate(run, say=list)).startswith("mAP ")


def test_callbacks_get_the_scores_of_the_epochs_that_are_scored(trained):
    run, epochs, _ = trained
    first, last = epochs
    assert np.isnan([first["mean_ap"], first["rank_1"]]).all()
    scores = topdb_tf.evaluate(run, say=list).plain.scores
    assert last["mean_ap"] == pytest.approx(scores.mean_ap, abs=1e-6)
    assert last["rank_1"] == pytest.approx(scores.cmc[0])
    assert {"loss", "accuracy", "learning_rate", "top_drop_triplet"} <= set(last)


def test_a_terminal_shows_one_bar_of_all_that_is_to_be_known(trained):
    # Each state of a bar is a line that is drawn over; the other lines were said.
    *_, text = trained
    lines = re.split(r"(?:\x1b\[[\d;?]*[A-Za-z]|[\r\n])+", COLOURS.sub("", text))
    bars = [line.rstrip() for line in lines if re.match(f"epoch .*{BAR}", line)]
    steps = [re.match(r"epoch (\d)/2 \D+(\d)/2 ", bar).groups() for bar in bars]
    states = dict(zip(steps, bars, strict=True))
    assert list(states) == [("1", "0"), ("1", "1"), ("2", "1")]
    begun, first, second = states.values()
    figures = r"loss \d+\.\d{3}, accuracy [01]\.\d{3}"
    assert begun.endswith(" compiling")
    assert re.search(rf" {figures}; an unknown time left$", first)
    assert re.search(rf" {figures}, [\d.e+]+ images/s; [\d.]+ \w+ left$", second)
    said = [line for line in lines if BAR not in line]
    assert "compiling the first step, which takes longer than the others" in said
    epochs = [line for line in said if line.startswith("epoch")]
    assert [line[:10] for line in epochs] == ["epoch 1/2:", "epoch 2/2:"]


def test_a_loss_of_the_same_class_takes_the_place_of_the_last(monkeypatch):
    monkeypatch.setattr("topdb_tf.training.losses.CROSS_ENTROPIES", {})
    for value in (1.0, 2.0):
        loss = Constant(value)
        register_loss("Constant", loss, on="logits")
        table = sys.modules["topdb_tf.training.losses"].CROSS_ENTROPIES
        assert table["Constant"](label_smoothing=0.1) is loss
    register_loss("Constant", Constant, on="logits")
    assert table["Constant"] is Constant
    with pytest.raises(ValueError, match="a loss of the logits 'Constant' already"):
        register_loss("Constant", keras.losses.MeanSquaredError(), on="logits")
    assert "Constant" not in CROSS_ENTROPIES


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"triplet": Constant}, "`triplet` must be a Keras loss. Received: <class"),
        ({"cross_entropy": "mse"}, "`cross_entropy` must be a Keras loss"),
    ],
)
def test_what_is_no_loss_is_refused_before_any_data(arguments, words):
    with pytest.raises(ValueError, match=words):
        topdb_tf.fit("nowhere", recipe="demo", **arguments)
