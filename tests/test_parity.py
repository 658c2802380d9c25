"""Our network beside the figures of the authors' one, for the same weights.

The variants are those of `golden/`: the full network, without the regularization
stream, without the drop stream, and the BDB baseline with its random drop off.
"""

from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.checkpoint_files import variable_of
from tests.golden_rules import golden_figures, golden_pixels, golden_state_dict
from topdb_tf.model.backbones import resnet50
from topdb_tf.model.layers import TopDropBlock
from topdb_tf.model.network import build_network, embedder
from topdb_tf.model.state_dict import load_state_dict
from topdb_tf.training.losses import BatchHardTripletLoss, LabelSmoothedCrossEntropy

VARIANTS = {
    "topdb": {},
    "no_reg": {"streams": ("global", "top_drop")},
    "no_drop": {"streams": ("global", "regularization")},
    "bdb": {
        "streams": ("global", "top_drop"),
        "num_bottlenecks": 1,
        "neck": "none",
        "drop_block": None,
    },
}
LABELS = np.array([0, 0, 3, 3, 1, 1, 6, 6])


class Results(NamedTuple):
    """What our network gives beside what theirs gave."""

    golden: dict  # their figures by name
    embeddings: np.ndarray
    inference_maps: list  # of the backbone and of the bottlenecks
    outputs: dict  # of the training mode, by stream
    training_maps: list
    losses: dict
    variables: dict  # after the training step, by the authors' key
    gradients: dict  # of the heads, by the authors' key


@pytest.fixture(scope="module")
def backbone():
    return resnet50((384, 128))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[] if name == "topdb" else [pytest.mark.slow])
        for name in VARIANTS
    ],
)
def results(request, backbone):
    golden = golden_figures(request.param)
    options = {
        "drop_block": TopDropBlock(0.33, "max", name="drop"),
        "mask_from": "bottlenecks",
        "neck": "shift",
        **VARIANTS[request.param],
    }
    network = build_network(backbone, num_pids=7, **options)
    load_state_dict(network, golden_state_dict(golden["keys"]))
    last = f"bottleneck{options.get('num_bottlenecks', 2)}_out"
    maps = [network.get_layer(name).output for name in ("feature_map", last)]
    inference = keras.Model(network.input, [embedder(network).output, *maps])
    embeddings, *inference_maps = inference(golden_pixels("eval_images", 2))
    training = keras.Model(network.input, [network.output, *maps])
    keys = {name.split("/", 1)[1] for name in golden if "/" in name}
    variables = {key: variable_of(network, key) for key in keys}
    variables = {key: v for key, v in variables.items() if v is not None}
    trained = {key: v.value for key, v in variables.items() if v.trainable}
    with tf.GradientTape() as tape:
        outputs, *training_maps = training(
            golden_pixels("train_images", 8), training=True
        )
        losses = losses_of(outputs)
        total = tf.add_n(list(losses.values()))
    gradients = tape.gradient(total, trained)
    return Results(
        golden=golden,
        embeddings=embeddings.numpy(),
        inference_maps=[x.numpy() for x in inference_maps],
        outputs=outputs,
        training_maps=[x.numpy() for x in training_maps],
        losses={**losses, "total": total},
        variables={key: v.numpy() for key, v in variables.items()},
        gradients=gradients,
    )


def losses_of(outputs):
    cross_entropy, triplet = LabelSmoothedCrossEntropy(0.1), BatchHardTripletLoss(0.3)
    losses = {}
    for stream, output in outputs.items():
        losses[f"ce_{stream}"] = cross_entropy(LABELS, output["logits"])
        losses[f"triplet_{stream}"] = triplet(LABELS, output["features"])
    return losses


def relative_error(ours, theirs):
    return np.linalg.norm(np.asarray(ours) - theirs) / np.linalg.norm(theirs)


def test_embeddings(results):
    assert relative_error(results.embeddings, results.golden["eval_embedding"]) < 1e-4


def test_feature_maps_in_inference(results):
    for name, feature_map in zip("FG", results.inference_maps, strict=True):
        mean = feature_map.mean(axis=(1, 2))
        assert relative_error(mean, results.golden[f"eval_{name}_mean_hw"]) < 1e-5
    energy = (results.inference_maps[0] ** 2).sum(axis=-1)
    assert relative_error(energy, results.golden["eval_F_activation"]) < 1e-5


def test_features_and_logits_in_training(results):
    for stream, output in results.outputs.items():
        for kind, values in output.items():
            theirs = results.golden[f"train_{kind}_{stream}"]
            assert relative_error(values, theirs) < 2e-4, (stream, kind)


def test_losses(results):
    names = {name for name in results.golden if name.startswith("loss_")}
    assert names == {f"loss_{name}" for name in results.losses}
    for name, loss in results.losses.items():
        np.testing.assert_allclose(loss, results.golden[f"loss_{name}"], rtol=1e-4)


# The authors' rule drops 8 of 24 rows by the maximum on G, the paper's 7 by the mean
# on F.
@pytest.mark.parametrize(
    ("figure", "ratio", "relevance", "index"),
    [("train_G_row_max", 0.33, "max", 1), ("train_F_row_mean", 0.3, "mean", 0)],
)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dropped_rows_in_every_precision(
    results, figure, ratio, relevance, index, dtype
):
    theirs = results.golden[figure]
    layer = TopDropBlock(ratio, relevance, dtype=dtype)
    mask = layer.row_mask(tf.cast(results.training_maps[index], dtype)).numpy()
    top = np.argsort(theirs, axis=1)[:, -round(24 * ratio) :]
    np.testing.assert_array_equal(np.flatnonzero(mask == 0) % 24, np.sort(top).ravel())


# A bias before a batch normalisation has no gradient but rounding noise: hence `atol`.
def test_gradient_norms_of_the_heads(results):
    for key, gradient in results.gradients.items():
        norm = np.linalg.norm(gradient)
        theirs = results.golden[f"gradnorm/{key}"]
        np.testing.assert_allclose(norm, theirs, rtol=1e-3, atol=1e-6, err_msg=key)
    names = {name[9:] for name in results.golden if name.startswith("gradnorm/")}
    assert names == set(results.gradients)


def test_running_statistics_after_a_step(results):
    names = {name[6:] for name in results.golden if name.startswith("after/")}
    compared = names & set(results.variables)
    # The authors' network without regularization carries an unused neck.
    assert all("drop_bottleneck_features" in key for key in names - compared)
    for key in compared:
        error = relative_error(results.variables[key], results.golden[f"after/{key}"])
        assert error < 1e-5, key
