import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.harness import check_layer, to_numpy
from tests.reference import generalized_mean_reference, top_drop_reference
from topdb_tf.model.layers import BatchDropBlock, GeneralizedMeanPooling, TopDropBlock


def feature_map(*rows):
    """One image, one channel: a row of the map for each tuple of values."""
    return np.array(rows, dtype="float32")[None, :, :, None]


def random_maps(height=8, seed=0, batch=2, width=3):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.1, 1, (batch, height, width, 4)).astype("float32")


def dropped_rows(outputs):
    """Sets of the rows that are zero throughout, one an image."""
    zero = (to_numpy(outputs) == 0).all(axis=(2, 3))
    return [set(np.flatnonzero(rows)) for rows in zero]


@pytest.mark.parametrize("relevance", ["mean", "max"])
def test_top_drop_block_is_a_layer(relevance):
    layer = TopDropBlock(0.3, relevance)
    check_layer(layer, random_maps(), identity_at_inference=True)


def test_top_drop_block_with_an_activation_is_a_layer():
    layer = TopDropBlock(0.3, name="drop")
    check_layer(layer, random_maps(), random_maps(seed=1), identity_at_inference=True)


@pytest.mark.parametrize("ratios", [(0.3, 0.7), (1, 0.4)])
def test_top_drop_block_of_columns_is_a_layer(ratios):
    layer = TopDropBlock(ratios[0], "max", ratios[1])
    check_layer(layer, random_maps(), random_maps(seed=1), identity_at_inference=True)


def test_a_block_is_where_the_top_rows_cross_the_top_columns_of_these():
    # Energies: 9 16 0; 1 1 1; 16 0 1; 25 25 25 are of rows 25, 3, 17 and 75: rows 3
    # and 0 go. In these, columns have 34, 41 and 25: columns 1 and 0 go.
    images = feature_map((3, 4, 0), (1, 1, 1), (4, 0, 1), (5, 5, 5))
    mask = TopDropBlock(0.5, width_ratio=0.67).position_mask(images)
    kept = [[0, 0, 1], [1, 1, 1], [1, 1, 1], [0, 0, 1]]
    np.testing.assert_array_equal(mask, [kept])
    dropped = TopDropBlock(0.5, width_ratio=0.67)(images, training=True)[0, :, :, 0]
    np.testing.assert_array_equal(dropped, images[0, :, :, 0] * kept)


def test_columns_of_rows_that_stay_do_not_count():
    # Row 0 goes. The whole map has most in column 1, 4 + 6.25, row 0 in column 0, 9.
    images = feature_map((3, 2), (1, 2.5))
    mask = TopDropBlock(0.5, width_ratio=0.5).position_mask(images)
    np.testing.assert_array_equal(mask, [[[0, 1], [1, 1]]])


def test_a_height_ratio_of_one_takes_the_most_active_columns():
    # Energies of the columns: 1 + 16, 9 + 4, 0 + 25: means 8.5, 6.5, 12.5. Maxima of
    # the second image: 4, 9, 1.
    images = np.concatenate([feature_map((1, 3, 0), (4, 2, 5))] * 2)
    images[1] = feature_map((2, 3, 1), (2, 0, 1))[0]
    mask = TopDropBlock(1, width_ratio=0.33).position_mask(images)
    np.testing.assert_array_equal(mask[:, 0], mask[:, 1])
    np.testing.assert_array_equal(mask[:, 0], [[1, 1, 0], [1, 0, 1]])


@pytest.mark.parametrize("relevance", ["mean", "max"])
@pytest.mark.parametrize("ratios", [(0.3, 1), (0.3, 0.5), (0.6, 0.34), (1, 0.2)])
def test_what_is_dropped_is_what_sorting_gives(relevance, ratios):
    images = np.concatenate(
        [random_maps(12, batch=4, width=7), np.ones((1, 12, 7, 4), "float32")]
    )
    reduce = {"mean": np.mean, "max": np.max}[relevance]
    layer = TopDropBlock(ratios[0], relevance, ratios[1])
    expected = top_drop_reference(images, *ratios, reduce)
    outputs = layer(images, training=True).numpy()
    np.testing.assert_array_equal((outputs == 0).all(axis=3), expected)
    np.testing.assert_array_equal(outputs[~expected], images[~expected])


def test_a_width_ratio_of_one_is_the_rule_of_the_paper_to_the_bit():
    images = random_maps(24, batch=3, width=8)
    layer, whole = TopDropBlock(0.3), TopDropBlock(0.3, width_ratio=1.0)
    # By all the columns of the dropped rows; it rounds to all of them.
    by_columns = TopDropBlock(0.3, width_ratio=0.99)
    assert layer.position_mask(images).shape == (3, 24, 1)
    assert by_columns.position_mask(images).shape == (3, 24, 8)
    expected = layer(images, training=True)
    for other in (whole, by_columns):
        np.testing.assert_array_equal(other(images, training=True), expected)
    old = {k: v for k, v in layer.get_config().items() if k != "width_ratio"}
    assert TopDropBlock.from_config(old).width_ratio == 1


def test_no_gradient_flows_through_the_choice_of_columns():
    images = tf.constant(random_maps(width=6))
    layer = TopDropBlock(0.4, width_ratio=0.5)
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = layer(images, training=True)
    mask = layer.position_mask(images)[:, :, :, None]
    gradient = tape.gradient(outputs, images)
    np.testing.assert_array_equal(gradient, mask * np.ones_like(images))


def test_float16_does_not_tie_columns():
    images = feature_map((300, 400, 1), (1, 1, 1))
    layer = TopDropBlock(0.5, width_ratio=0.33, dtype="mixed_float16")
    outputs = to_numpy(layer(images, training=True))[0, :, :, 0]
    np.testing.assert_array_equal(outputs, [[300, 0, 1], [1, 1, 1]])


def test_whole_rows_can_be_ranked_on_a_map_of_another_width():
    images, activation = random_maps(width=3), random_maps(seed=1, width=5)
    assert TopDropBlock(0.3)(images, activation=activation).shape == images.shape
    with pytest.raises(ValueError, match="same height and width"):
        TopDropBlock(0.3, width_ratio=0.5)(images, activation=activation)


@pytest.mark.parametrize("layer", [TopDropBlock, BatchDropBlock])
def test_ratios_that_drop_nothing_or_everything_are_refused(layer):
    with pytest.raises(ValueError, match="or 1 with a `width_ratio` below 1"):
        layer(1, width_ratio=1.0)
    with pytest.raises(ValueError, match="and not all.*rounds to 3"):
        layer(0.9, width_ratio=0.9)(random_maps(4))  # 3.6 of 4 and 2.7 of 3
    with pytest.raises(ValueError, match="and not all.*0.1 of 3 columns"):
        layer(0.5, width_ratio=0.1)(random_maps(4))
    with pytest.raises(ValueError, match="width of the feature map must be known"):
        layer(0.5, width_ratio=0.5)(keras.Input((4, None, 1)))


def test_batch_drop_block_is_a_layer():
    layer = BatchDropBlock(0.3, width_ratio=0.7, seed=1)
    check_layer(layer, random_maps(), identity_at_inference=True)


def test_each_image_loses_its_own_rows():
    images = np.concatenate(
        [feature_map((1, 1), (2, 2), (3, 3)), feature_map((3, 3), (2, 2), (1, 1))]
    )
    outputs = TopDropBlock(0.33)(images, training=True).numpy()
    np.testing.assert_array_equal(outputs[0], feature_map((1, 1), (2, 2), (0, 0))[0])
    np.testing.assert_array_equal(outputs[1], feature_map((0, 0), (2, 2), (1, 1))[0])


def test_paper_and_authors_rank_rows_differently():
    # Energies: 16, 0; 9, 9; 1, 1. Means 8, 9, 1: row 1. Maxima 16, 9, 1: row 0.
    images = feature_map((4, 0), (3, 3), (1, 1))
    assert dropped_rows(TopDropBlock(0.33, "mean")(images, training=True)) == [{1}]
    assert dropped_rows(TopDropBlock(0.33, "max")(images, training=True)) == [{0}]


def test_energy_sums_the_squares_of_the_channels():
    # Row 0: 3^2 + 0 = 9. Row 1: 2^2 + 2^2 = 8. Row 2: 0 + 2.5^2 = 6.25.
    images = np.array([[3, 0], [2, 2], [0, 2.5]], "float32").reshape(1, 3, 1, 2)
    np.testing.assert_array_equal(TopDropBlock(0.33).row_mask(images), [[0, 1, 1]])


def test_rows_are_ranked_on_the_activation():
    images, activation = feature_map((3,), (2,), (1,)), feature_map((0,), (5,), (0,))
    layer = TopDropBlock(0.33)
    assert dropped_rows(layer(images, activation=activation, training=True)) == [{1}]


def test_dropped_rows_need_not_be_adjacent():
    images = feature_map((5,), (1,), (2,), (4,), (3,))
    assert dropped_rows(TopDropBlock(0.5)(images, training=True)) == [{0, 3}]


def test_ties_drop_the_upper_row():
    images = feature_map((1,), (2,), (2,), (2,))
    assert dropped_rows(TopDropBlock(0.5)(images, training=True)) == [{1, 2}]


# 0.3 * 24 = 7.2, 0.33 * 24 = 7.92; halves go to the even number: 2.5, 3.5, 0.5 * 7.
@pytest.mark.parametrize(
    ("ratio", "height", "num_dropped"),
    [(0.3, 24, 7), (0.33, 24, 8), (0.5, 5, 2), (0.25, 14, 4), (0.5, 7, 4)],
)
def test_number_of_dropped_rows_is_rounded(ratio, height, num_dropped):
    outputs = TopDropBlock(ratio)(random_maps(height), training=True)
    assert [len(rows) for rows in dropped_rows(outputs)] == [num_dropped] * 2


def test_kept_values_are_not_rescaled():
    images = random_maps()
    outputs = TopDropBlock(0.5)(images, training=True).numpy()
    np.testing.assert_array_equal(outputs[outputs != 0], images[outputs != 0])


@pytest.mark.parametrize("relevance", ["mean", "max"])
@pytest.mark.parametrize("scale", [1e-6, 0.25, 3.0, 1e6])
def test_mask_does_not_depend_on_a_positive_scale(relevance, scale):
    layer, images = TopDropBlock(0.4, relevance), random_maps(24, batch=8)
    scaled = (images * scale).astype("float32")
    np.testing.assert_array_equal(layer.row_mask(scaled), layer.row_mask(images))


def test_mask_does_not_depend_on_the_other_images():
    layer, images = TopDropBlock(0.4), random_maps(batch=4)
    alone = [layer.row_mask(images[i : i + 1])[0] for i in range(4)]
    np.testing.assert_array_equal(layer.row_mask(images), alone)


def test_no_gradient_flows_through_the_choice():
    images, activation = tf.constant(random_maps()), tf.constant(random_maps(seed=1))
    layer = TopDropBlock(0.4)
    with tf.GradientTape() as tape:
        tape.watch([images, activation])
        outputs = layer(images, activation=activation, training=True)
    of_images, of_activation = tape.gradient(outputs, [images, activation])
    mask = layer.row_mask(activation)[:, :, None, None]
    np.testing.assert_array_equal(of_images, mask * np.ones_like(images))
    assert of_activation is None


def test_float16_does_not_overflow():
    # 300^2 and 400^2 are both infinite in float16, which would tie the rows.
    images = feature_map((300,), (400,), (1,))
    layer = TopDropBlock(0.33, dtype="mixed_float16")
    assert dropped_rows(layer(images, training=True)) == [{1}]


@pytest.mark.parametrize("height_ratio", [0, 1, 1.5, -0.1])
def test_height_ratio_must_be_a_share(height_ratio):
    for layer in (TopDropBlock, BatchDropBlock):
        with pytest.raises(ValueError, match=r"height_ratio.*in \(0, 1\)"):
            layer(height_ratio)


def test_relevance_must_be_known():
    with pytest.raises(ValueError, match="Received: relevance='median'"):
        TopDropBlock(0.3, "median")


@pytest.mark.parametrize(("ratio", "height"), [(0.3, 1), (0.1, 4), (0.9, 4)])
def test_too_few_rows_are_refused(ratio, height):
    for layer in (TopDropBlock(ratio), BatchDropBlock(ratio)):
        with pytest.raises(ValueError, match="too small. Use a larger image"):
            layer(random_maps(height))


def test_unknown_height_is_refused():
    with pytest.raises(ValueError, match="height of the feature map must be known"):
        TopDropBlock(0.3)(keras.Input((None, 3, 4)))


def test_activation_of_another_height_is_refused():
    with pytest.raises(ValueError, match="must have the same height"):
        TopDropBlock(0.3)(random_maps(8), activation=random_maps(4))


def test_batch_drop_block_drops_one_rectangle_of_all_images():
    images = np.ones((3, 8, 5, 2), "float32")
    outputs = BatchDropBlock(0.4, width_ratio=0.5, seed=3)(images, training=True)
    zero = outputs.numpy() == 0
    assert (zero == zero[:1, :, :, :1]).all()
    rows, columns = np.flatnonzero(zero[0, :, :, 0].any(1)), zero[0, :, :, 0].any(0)
    assert len(rows) == 3  # 0.4 * 8 = 3.2
    assert np.ptp(rows) == 2
    assert np.count_nonzero(columns) == 2  # 0.5 * 5 = 2.5, half to even
    assert zero[0, :, :, 0].sum() == 6


def test_batch_drop_block_reaches_every_row_evenly():
    # 3 of 8 rows go, from the starts 0 … 5: each start 25 times of 150.
    layer, images = BatchDropBlock(0.4, seed=0), np.ones((1, 8, 2, 1), "float32")
    starts = [min(dropped_rows(layer(images, training=True))[0]) for _ in range(150)]
    counts = np.bincount(starts)
    assert len(counts) == 6
    assert counts.min() > 12


def test_batch_drop_block_repeats_for_a_seed():
    images = np.ones((1, 24, 8, 1), "float32")
    first, second = BatchDropBlock(0.33, seed=5), BatchDropBlock(0.33, seed=5)
    draws = [dropped_rows(layer(images, training=True)) for layer in (first, second)]
    assert draws[0] == draws[1]
    assert any(dropped_rows(first(images, training=True)) != draws[0] for _ in range(5))


def test_width_ratio_must_be_a_share():
    for layer in (TopDropBlock, BatchDropBlock):
        with pytest.raises(ValueError, match=r"width_ratio.*in \(0, 1\]"):
            layer(0.3, width_ratio=1.1)


def test_generalized_mean_pooling_is_a_layer():
    check_layer(GeneralizedMeanPooling(2.5, epsilon=1e-3), random_maps())


def test_a_generalised_mean_by_hand():
    # p = 3: ((1 + 8 + 27 + 0) / 4)^(1/3) = 9^(1/3). p = 1: 6 / 4.
    images = feature_map((1, 2), (3, 0))
    found = GeneralizedMeanPooling()(images)
    np.testing.assert_allclose(found, [[9 ** (1 / 3)]], rtol=1e-6)
    np.testing.assert_allclose(GeneralizedMeanPooling(1.0)(images), [[1.5]], rtol=1e-6)


@pytest.mark.parametrize("p", [0.5, 1.0, 3.0, 7.3])
def test_generalised_means_are_those_of_the_definition(p):
    images = np.random.default_rng(0).normal(size=(3, 5, 4, 6)).astype("float32")
    images[1] = 0
    images[2] *= 1000
    found = GeneralizedMeanPooling(p)(images)
    np.testing.assert_allclose(
        found, generalized_mean_reference(images, p), rtol=3e-5, atol=1e-12
    )


def test_the_exponent_of_a_generalised_mean_learns():
    # By differences of the definition.
    images = random_maps(4)
    layer = GeneralizedMeanPooling()
    with tf.GradientTape() as tape:
        inputs = tf.constant(images)
        tape.watch(inputs)
        total = tf.reduce_sum(layer(inputs))
    of_inputs, of_p = tape.gradient(total, [inputs, layer.exponent.value])
    upper, lower = (generalized_mean_reference(images, p).sum() for p in (3.01, 2.99))
    np.testing.assert_allclose(of_p, (upper - lower) / 0.02, rtol=1e-3)
    images[0, 1, 2, 3] += 0.01
    upper = generalized_mean_reference(images, 3.0).sum()
    images[0, 1, 2, 3] -= 0.02
    lower = generalized_mean_reference(images, 3.0).sum()
    np.testing.assert_allclose(of_inputs[0, 1, 2, 3], (upper - lower) / 0.02, rtol=1e-3)


@pytest.mark.parametrize("p", [3.0, 20.0])
def test_a_generalised_mean_of_a_dead_channel_has_finite_gradients(p):
    # 1e-6^20 is zero in float32, and (1e4)^20 infinite.
    images = tf.constant(np.stack([np.zeros((2, 2, 1)), np.full((2, 2, 1), 1e4)]))
    images, layer = tf.cast(images, "float32"), GeneralizedMeanPooling(p)
    with tf.GradientTape() as tape:
        tape.watch(images)
        pooled = layer(images)
    np.testing.assert_allclose(pooled, [[1e-6], [1e4]], rtol=1e-5)
    gradients = tape.gradient(pooled, [images, layer.exponent.value])
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_a_generalised_mean_is_float32_inside():
    # 300^3 is infinite in float16.
    layer = GeneralizedMeanPooling(dtype="mixed_float16")
    images = feature_map((300, 200), (100, 0))
    found = layer(images.astype("float16"))
    assert found.dtype == "float16"
    expected = generalized_mean_reference(images, 3.0)
    np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-3)


@pytest.mark.parametrize("options", [{"p": 0}, {"p": -1}, {"epsilon": 0}])
def test_exponent_and_epsilon_must_be_positive(options):
    with pytest.raises(ValueError, match="`p` and `epsilon` must be positive"):
        GeneralizedMeanPooling(**options)
