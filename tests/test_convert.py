"""Checkpoints become models: held against the authors' figures, or refused."""

import json

import numpy as np
import pytest

import topdb_tf
from tests.checkpoint_files import (
    BDB_NAMES,
    golden_weights,
    renamed,
    small_backbone,
    state_dict_of,
    write_safetensors,
    write_torch,
)
from tests.commands import refused, topdb
from tests.golden_rules import golden_figures, golden_pixels
from topdb_tf.export import convert as convert_recipe
from topdb_tf.export.convert import convert
from topdb_tf.model.backbones import BACKBONES

VARIANTS = ["topdb", "no_reg", "no_drop", "bdb"]
DIMS = {"topdb": 48, "no_reg": 48, "no_drop": 80, "bdb": 48}  # of 64 channels


@pytest.fixture
def small(monkeypatch):
    """Makes the first convolution stand for the whole backbone."""
    monkeypatch.setitem(BACKBONES, "resnet50", small_backbone)


@pytest.fixture(scope="module")
def small_weights():
    """State dicts of the variants on the first convolution alone."""
    weights = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "resnet50", small_backbone)
        for variant in VARIANTS:
            network, _ = convert_recipe._build(variant, 7, (32, 16))
            weights[variant] = state_dict_of(network, variant)
    return weights


@pytest.fixture
def checkpoint(tmp_path, small, small_weights):
    """A file of the full network."""
    path = tmp_path / "model.safetensors"
    write_safetensors(path, small_weights["topdb"])
    return path


def convert_small(checkpoint, out, *options):
    return topdb("convert", checkpoint, out, "--image-size", 32, 16, *options)


def embeddings_of(path):
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 16, 3))
    return topdb_tf.load_embedder(path)(pixels.astype("float32")).numpy()


def assert_golden(path, variant):
    ours = topdb_tf.load_embedder(path)(golden_pixels("eval_images", 2)).numpy()
    theirs = golden_figures(variant)["eval_embedding"]
    assert ours.shape == theirs.shape
    assert np.linalg.norm(ours - theirs) <= 1e-4 * np.linalg.norm(theirs)


def test_bdb_by_the_names_of_its_authors_embeds_as_theirs(tmp_path):
    checkpoint, out = tmp_path / "bdb.safetensors", tmp_path / "bdb.keras"
    write_safetensors(checkpoint, renamed(golden_weights("bdb"), BDB_NAMES))
    conversion = convert(checkpoint, out)
    assert (conversion.variant, conversion.num_pids) == ("bdb", 7)
    assert_golden(out, "bdb")


@pytest.mark.slow
@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_file_of_the_authors_embeds_as_theirs(tmp_path, variant, is_zip):
    torch = pytest.importorskip("torch")
    checkpoint, out = tmp_path / "model.pth.tar-400", tmp_path / "model.keras"
    facts = {"epoch": 400, "rank1": np.float32(0.949)}
    prefix = "" if is_zip else "module."
    weights = golden_weights(variant)
    write_torch(torch, checkpoint, weights, prefix=prefix, is_zip=is_zip, **facts)
    assert convert(checkpoint, out).variant == variant
    assert_golden(out, variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_is_told_from_its_keys(tmp_path, small, small_weights, variant):
    checkpoint, out = tmp_path / "model.safetensors", tmp_path / "model.keras"
    weights = small_weights[variant]
    write_safetensors(checkpoint, weights)
    answer = convert_small(checkpoint, out, "--json")
    facts = json.loads(answer.stdout)
    assert facts.pop("seconds") > 0
    assert facts == {
        "checkpoint": str(checkpoint),
        "model": str(out),
        "variant": variant,
        "num_pids": 7,
        "epoch": None,
        "rank_1": None,
        "image_size": [32, 16],
        "embedding_dim": DIMS[variant],
        "taken_off": [],
    }
    embedder = topdb_tf.load_embedder(out)
    np.testing.assert_array_equal(
        embedder.get_layer("global_reduction").kernel,
        weights["reduction_global.0.weight"][:, :, 0, 0].T,
    )
    assert embeddings_of(out).shape == (2, DIMS[variant])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        out.name,
        checkpoint.name,
    ]


def test_both_formats_of_pytorch_give_the_same_model(tmp_path, small, small_weights):
    torch = pytest.importorskip("torch")
    embeddings = []
    for is_zip in (True, False):
        checkpoint, out = tmp_path / "model.pth.tar-9", tmp_path / f"{is_zip}.keras"
        write_torch(
            torch,
            checkpoint,
            small_weights["no_drop"],
            prefix="module.",
            is_zip=is_zip,
            epoch=9,
            rank1=np.float32(0.875),
            optimizer={"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}},
        )
        answer = convert_small(checkpoint, out)
        for line in ("variant     no_drop", "identities  7", "epoch       9"):
            assert f"{line}\n" in answer.stdout
        assert "rank-1      87.5%\n" in answer.stdout
        embeddings.append(embeddings_of(out))
    np.testing.assert_array_equal(*embeddings)


WRAPPERS = [
    (["net"], "module._orig_mod.", "net, module., _orig_mod."),
    (["model", "state_dict"], "model.", "model, state_dict, model."),
    ([], "module.", "module."),
]


@pytest.mark.parametrize(("nests", "start", "line"), WRAPPERS)
def test_wrappers_are_taken_off_and_told(
    tmp_path, small, small_weights, nests, start, line
):
    torch = pytest.importorskip("torch")
    content = {
        f"{start}{key}": torch.from_numpy(np.ascontiguousarray(value))
        for key, value in small_weights["topdb"].items()
    }
    for name in reversed(nests):
        content = {name: content, "optimizer": {}}
    checkpoint, out = tmp_path / "wrapped.pth", tmp_path / "out.keras"
    torch.save(content, checkpoint)
    answer = convert_small(checkpoint, out)
    assert f"taken off   {line}\n" in answer.stdout, answer.stderr
    plain, plain_out = tmp_path / "plain.safetensors", tmp_path / "plain.keras"
    write_safetensors(plain, small_weights["topdb"])
    assert "taken off" not in convert_small(plain, plain_out).stdout
    np.testing.assert_array_equal(embeddings_of(out), embeddings_of(plain_out))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_file_without_classifiers_embeds_the_same(
    tmp_path, small, small_weights, variant
):
    weights = small_weights[variant]
    files = {
        "whole": weights,
        "bare": {k: v for k, v in weights.items() if "classifier" not in k},
    }
    answers = {}
    for name, content in files.items():
        write_safetensors(tmp_path / f"{name}.safetensors", content)
        answers[name] = convert_small(
            tmp_path / f"{name}.safetensors", tmp_path / f"{name}.keras"
        ).stdout
    assert "identities  not in the file: no classifiers\n" in answers["bare"]
    assert f"variant     {variant}\n" in answers["bare"]
    whole, bare = (embeddings_of(tmp_path / f"{name}.keras") for name in files)
    np.testing.assert_array_equal(whole, bare)


def test_another_variant_than_asked_for_is_named(tmp_path, checkpoint):
    out = tmp_path / "out.keras"
    answer = convert_small(checkpoint, out, "--variant", "no_reg")
    refused(answer, "model.safetensors", "no_reg", "bottleneck_drop_bottleneck_feat")
    assert not out.exists()


def test_the_network_without_regularization_is_not_the_full_one(
    tmp_path, small, small_weights
):
    checkpoint, out = tmp_path / "model.safetensors", tmp_path / "out.keras"
    write_safetensors(checkpoint, small_weights["no_reg"])
    answer = convert_small(checkpoint, out, "--variant", "topdb")
    refused(answer, "topdb", "Missing: bottleneck_drop_bottleneck_features.weight")
    assert not out.exists()


def without(weights):
    del weights["bottleneck_db.running_var"]


def with_a_stranger(weights):
    weights["stranger.weight"] = np.zeros(3, "float32")


def with_another_head(weights):
    weights["classifier_db.weight"] = np.zeros((8, 32), "float32")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without, ["Missing: bottleneck_db.running_var"]),
        (with_a_stranger, ["Received: stranger.weight of shape (3,)"]),
        (with_another_head, ["classifier_db.weight of shape (8, 32)", "(32, 7)"]),
    ],
)
def test_a_key_that_does_not_fit_is_named(
    tmp_path, small, small_weights, change, words
):
    checkpoint, out = tmp_path / "model.safetensors", tmp_path / "out.keras"
    weights = dict(small_weights["topdb"])
    change(weights)
    write_safetensors(checkpoint, weights)
    refused(convert_small(checkpoint, out), "model.safetensors", "topdb", *words)
    assert not out.exists()


def test_weights_of_no_variant_are_named(tmp_path):
    checkpoint = tmp_path / "other.safetensors"
    write_safetensors(checkpoint, {"conv1.weight": np.zeros((64, 3, 7, 7), "float32")})
    answer = convert_small(checkpoint, tmp_path / "out.keras")
    refused(answer, "other.safetensors", "Missing: classifier_global.weight")


def test_a_file_that_exists_is_kept_unless_forced(tmp_path, checkpoint):
    out = tmp_path / "out.keras"
    out.write_text("precious")
    refused(convert_small(checkpoint, out), "out.keras already exists", "--force")
    assert out.read_text() == "precious"
    checkpoint_of_nothing = tmp_path / "empty.safetensors"
    checkpoint_of_nothing.touch()
    refused(convert_small(checkpoint_of_nothing, out, "--force"), "empty.safetensors")
    assert out.read_text() == "precious"
    assert convert_small(checkpoint, out, "--force").exit_code == 0
    assert embeddings_of(out).shape == (2, 48)


def test_a_write_that_fails_leaves_nothing(tmp_path, checkpoint, monkeypatch):
    def fails(self, path):
        path.write_text("half")
        raise OSError("no space left")

    monkeypatch.setattr("keras.Model.save", fails)
    with pytest.raises(OSError, match="no space left"):
        convert(checkpoint, tmp_path / "out.keras", image_size=(32, 16))
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.name]


def test_a_target_that_cannot_be_is_named_first(tmp_path):
    nowhere = tmp_path / "nowhere.pth.tar"
    refused(
        topdb("convert", nowhere, tmp_path / "out.h5"), "must end in .keras", "out.h5"
    )
    refused(topdb("convert", nowhere, tmp_path / "no" / "o.keras"), "no folder")
    refused(topdb("convert", nowhere, tmp_path / "o.keras"), "nowhere.pth.tar")
