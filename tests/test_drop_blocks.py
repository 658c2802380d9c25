"""Drop rules and drop blocks from outside the package, from a setting to a picture."""

import keras
import numpy as np
import pytest
from keras import ops

from topdb_tf.model.feature_maps import (
    dropped_parts,
    drops_ranked_rows,
    random_block,
)
from topdb_tf.model.layers import DROP_BLOCKS, RELEVANCES, TopDropBlock
from topdb_tf.runs.network import build_trainer, check_network
from topdb_tf.runs.recipes import read_recipe

SMALL = [
    "data.image_height=64",
    "data.image_width=32",
    "data.batch_size=8",
    "data.images_per_pid=2",
]
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 64, 32, 3)).astype("float32")
LABELS = np.repeat(np.arange(4), 2)


class LeastActiveRows(keras.layers.Layer):
    """Zeroes the rows that respond least; nothing of the package's own classes."""

    def __init__(self, height_ratio, **kwargs):
        super().__init__(**kwargs)
        self.height_ratio = height_ratio

    def call(self, inputs, activation=None, training=False):
        if not training:
            return inputs
        mask = self.row_mask(inputs if activation is None else activation)
        return inputs * ops.cast(mask, inputs.dtype)[:, :, None, None]

    def row_relevance(self, activation):
        return -ops.sum(ops.square(ops.stop_gradient(activation)), axis=(2, 3))

    def row_mask(self, activation):
        relevance, height = self.row_relevance(activation), activation.shape[1]
        _, rows = ops.top_k(relevance, k=round(self.height_ratio * height))
        return 1 - ops.sum(ops.one_hot(rows, height), axis=1)

    def compute_output_shape(self, inputs_shape, activation_shape=None):
        return inputs_shape


def trained_embedder(setting):
    """Returns the embedder of a network by a setting, after a step of training."""
    config = read_recipe("demo", [*SMALL, setting])
    trainer, embedder = build_trainer(config, num_pids=4)
    before = trainer.network.get_weights()
    trainer.run_eagerly = True  # one step
    history = trainer.fit(PIXELS, LABELS, batch_size=8, verbose=0).history
    assert np.isfinite(history["loss"][0])
    after = trainer.network.get_weights()
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    return embedder


def check_rows(embedder):
    """Checks that the rows of most relevance are those that would be dropped."""
    assert drops_ranked_rows(embedder)
    (part,) = dropped_parts(embedder, [PIXELS])
    rows = part.is_dropped[:, :, 0]
    assert (rows.sum(axis=1) == rows[0].sum()).all()
    least = np.where(rows, part.row_relevance, np.inf).min(axis=1)
    most = np.where(rows, -np.inf, part.row_relevance).max(axis=1)
    assert (least >= most).all()
    block = random_block(embedder, seed=1)
    assert block.any(axis=1).sum() == rows[0].sum()
    return rows


def test_another_relevance_is_a_line_in_a_table(monkeypatch):
    monkeypatch.setitem(RELEVANCES, "median", ops.median)
    check_rows(trained_embedder("model.relevance=median"))
    # Energies: 16, 0, 0; 9, 9, 9; 1, 4, 1. Medians 0, 9, 1: row 1, then row 2.
    rows = np.array([[4, 0, 0], [3, 3, 3], [1, 2, 1]], "float32")[None, :, :, None]
    mask = TopDropBlock(0.67, "median").row_mask(rows)
    np.testing.assert_array_equal(mask, [[1, 0, 0]])


def test_another_drop_block_is_a_line_in_a_table(monkeypatch):
    def least_active_rows(*, height_ratio, relevance, seed):
        return LeastActiveRows(height_ratio, name="least_active_rows")

    monkeypatch.setitem(DROP_BLOCKS, "least", least_active_rows)
    rows = check_rows(trained_embedder("model.drop=least"))
    # 0.3 of 8 rows, rounded: 2.
    assert rows.shape == (8, 8)
    assert (rows.sum(axis=1) == 2).all()
    setting = ["model.drop=least", "model.width_ratio=0.5"]
    with pytest.raises(ValueError, match="width_ratio` must be 1.*drop='least'"):
        check_network(read_recipe("demo", setting))


SEVERAL = ["model.height_ratio=[0.25, 0.5]", "model.width_ratio=0.5"]


def test_several_ratios_of_blocks_are_settings():
    _, embedder = build_trainer(read_recipe("demo", SMALL + SEVERAL), num_pids=4)
    first, second = dropped_parts(embedder, [PIXELS])
    # 8 rows of 4 columns: 2 of 2 and 4 of 2; both take the most active rows.
    assert (first.is_dropped.sum(axis=(1, 2)) == 4).all()
    assert (second.is_dropped.sum(axis=(1, 2)) == 8).all()
    rows = [part.is_dropped.any(axis=2) for part in (first, second)]
    assert (rows[1] | ~rows[0]).all()


def test_the_recipe_strong_trains_a_stream_for_each_ratio():
    tiny = ["model.backbone=tiny", "model.weights=none", "train.precision=float32"]
    config = read_recipe("strong", SMALL + tiny)
    trainer, embedder = build_trainer(config, num_pids=4)
    pool = embedder.get_layer("global_pool")
    before = float(pool.exponent)
    trainer.run_eagerly = True  # one step
    history = trainer.fit(PIXELS, LABELS, batch_size=8, verbose=0).history
    assert (before, embedder.output_shape) == (3, (None, 64 + 2 * 128))
    assert float(pool.exponent) != before
    streams = ("global", "top_drop_1", "top_drop_2", "regularization")
    losses = {f"{s}_{loss}" for s in streams for loss in ("cross_entropy", "triplet")}
    assert set(history) == {"loss", "accuracy", "spread", *losses}
    total = sum(history[name][0] for name in losses)
    np.testing.assert_allclose(history["loss"][0], total, rtol=1e-5)


@pytest.mark.parametrize("ratios", ["[0.2, 0.25]", "[0.5, 0.3, 0.2]"])
def test_ratios_that_round_to_the_same_rows_are_refused(ratios):
    # Of 8 rows 0.2 drops 1.6, 0.25 drops 2 and 0.3 drops 2.4: two each.
    config = read_recipe("demo", [*SMALL, f"model.height_ratio={ratios}"])
    with pytest.raises(ValueError, match="further from.*both drop 2 of 8 rows"):
        build_trainer(config, num_pids=4)
    # What is drawn at random differs all the same.
    drawn = [*SMALL, f"model.height_ratio={ratios}", "model.drop=batch"]
    build_trainer(read_recipe("demo", drawn), num_pids=4)


def test_several_random_blocks_are_not_drawn_alike():
    config = read_recipe("demo", [*SMALL, *SEVERAL, "model.drop=batch"])
    network = build_trainer(config, num_pids=4)[0].network
    blocks = [network.get_layer(f"batch_drop_block_{number}") for number in (1, 2)]
    assert [block.height_ratio for block in blocks] == [0.25, 0.5]
    assert [block.width_ratio for block in blocks] == [0.5, 0.5]
    assert blocks[0].seed != blocks[1].seed


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.drop=tops", "`model.drop` must be one of top, batch.*mean `top`"),
        ("model.relevance=maxi", "`model.relevance` must be one of mean.*mean `max`"),
        ("model.backbone=tinny", "`model.backbone` must be one of.*mean `tiny`"),
        ("model.streams=[globe]", "`model.streams` must be one of.*mean `global`"),
    ],
)
def test_a_part_that_there_is_not_is_refused_with_the_nearest(setting, message):
    with pytest.raises(ValueError, match=message):
        check_network(read_recipe("demo", [setting]))
