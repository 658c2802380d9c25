"""The maps inside an embedder, and the rows that it would drop."""

import keras
import numpy as np
import pytest

from topdb_tf.model.backbones import build_backbone
from topdb_tf.model.feature_maps import dropped_parts, feature_maps, random_block
from topdb_tf.model.layers import BatchDropBlock, TopDropBlock
from topdb_tf.model.network import build_network, embedder

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 64, 32, 3)).astype(np.float32)
BATCHES = (PIXELS[:2], PIXELS[2:])


def network(drop_block, **options):
    keras.utils.set_random_seed(1)
    backbone = build_backbone("tiny", (64, 32))
    return build_network(backbone, num_pids=3, drop_block=drop_block, **options)


@pytest.fixture(scope="module")
def paper():
    return network(TopDropBlock(0.3))


def test_maps_are_those_of_their_layers(paper):
    model = embedder(paper)
    for name, layer in (
        ("backbone", "feature_map"),
        ("bottlenecks", "bottleneck2_out"),
    ):
        expected = keras.Model(model.input, model.get_layer(layer).output)(PIXELS)
        found = feature_maps(model, BATCHES, name=name)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mask_from", ["backbone", "bottlenecks"])
@pytest.mark.parametrize("relevance", ["mean", "max"])
def test_rows_are_those_that_the_layer_drops(mask_from, relevance):
    block = TopDropBlock(0.3, relevance)
    whole = network(block, mask_from=mask_from)
    maps = [whole.get_layer(name).output for name in ("feature_map", "bottleneck2_out")]
    backbone, bottlenecks = keras.Model(whole.input, maps)(PIXELS)
    ranked = backbone if mask_from == "backbone" else bottlenecks
    ones = np.ones_like(bottlenecks)
    kept = np.asarray(block(ones, activation=ranked, training=True))
    (found,) = dropped_parts(embedder(whole), BATCHES)
    expected = (kept == 0).all(axis=(2, 3))
    rows = found.is_dropped[:, :, 0]
    assert found.is_dropped.shape == (*rows.shape, 1)
    np.testing.assert_array_equal(rows, expected)
    # Each dropped row is at least as active as every other.
    least = np.where(rows, found.row_relevance, np.inf).min(axis=1)
    most = np.where(rows, -np.inf, found.row_relevance).max(axis=1)
    assert (least >= most).all()


def test_a_model_from_its_file_drops_the_same_rows(paper, tmp_path):
    model = embedder(paper)
    model.save(tmp_path / "embedder.keras")
    loaded = keras.models.load_model(tmp_path / "embedder.keras", compile=False)
    np.testing.assert_array_equal(
        dropped_parts(loaded, BATCHES)[0].is_dropped,
        dropped_parts(model, BATCHES)[0].is_dropped,
    )


def test_a_random_block_has_as_many_rows_all_adjacent(paper):
    model = embedder(paper)
    rows = dropped_parts(model, BATCHES)[0].is_dropped
    starts = set()
    for seed in range(12):
        block = random_block(model, seed=seed)
        assert block.shape == model.get_layer("feature_map").output.shape[1:3]
        places = np.flatnonzero(block.all(axis=1))
        assert block.sum() == block.shape[1] * len(places)
        assert len(places) == rows[0].sum()
        assert (np.diff(places) == 1).all()
        starts.add(int(places[0]))
    assert len(starts) > 1
    first, again = (random_block(model, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_each_of_several_blocks_has_its_part_and_its_size():
    blocks = [
        TopDropBlock(0.3, width_ratio=0.5, name="block_2"),
        TopDropBlock(0.5, name="block_10"),
    ]
    whole = network(blocks)
    model, maps = embedder(whole), whole.get_layer("feature_map").output
    activation = keras.Model(whole.input, maps)(PIXELS)
    found = dropped_parts(model, BATCHES)
    for block, part in zip(blocks, found, strict=True):
        mask = np.asarray(block.position_mask(activation))
        np.testing.assert_array_equal(part.is_dropped, mask == 0)
    # 0.3 of 8 rows and half of 4 columns.
    assert random_block(model, seed=1).sum() == found[0].is_dropped[0].sum() == 4


@pytest.mark.parametrize(
    ("block", "drops"), [(None, "nothing"), (BatchDropBlock(0.3), "random blocks")]
)
def test_a_network_without_top_drop_block_is_refused(block, drops):
    with pytest.raises(ValueError, match=f"Top DropBlock.*drops {drops}"):
        dropped_parts(embedder(network(block)), BATCHES)


def test_unknown_maps_are_refused(paper):
    with pytest.raises(ValueError, match="backbone, bottlenecks.*name='logits'"):
        feature_maps(embedder(paper), BATCHES, name="logits")
    without = embedder(network(TopDropBlock(0.3), num_bottlenecks=0))
    with pytest.raises(ValueError, match="map of the bottlenecks"):
        feature_maps(without, BATCHES, name="bottlenecks")
