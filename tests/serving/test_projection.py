"""Embeddings reduced by a PCA: fitted, kept in a file, applied to whatever is asked."""

import json

import numpy as np
import pytest
from sklearn.decomposition import PCA

from tests.serving.test_embed import (
    GALLERY,
    PEOPLE,
    QUERY,
    refused,
    topdb,
    write_images,
)
from topdb_tf.embed.projection import fit_projection, read_projection


def test_distances_are_those_of_scikit_learns_pca():
    rng = np.random.default_rng(5)
    features = rng.normal(size=(40, 6)).astype("float32") * [5, 4, 3, 1, 0.1, 0.1]
    projection = fit_projection(features, 3)
    expected = PCA(3, svd_solver="full").fit_transform(features)
    reduced = projection.reduced(features)
    np.testing.assert_allclose(np.abs(reduced), np.abs(expected), atol=1e-4)
    # 25 + 16 + 9 of 51.02 in expectation.
    assert projection.variance_kept == pytest.approx(50 / 51.02, abs=0.02)
    between = np.linalg.norm(reduced[0] - reduced[1])
    assert between == pytest.approx(np.linalg.norm(expected[0] - expected[1]), rel=1e-4)


@pytest.mark.parametrize("num_kept", [0, 6, 7])
def test_it_keeps_fewer_numbers(num_kept):
    with pytest.raises(ValueError, match=rf"keeps fewer .* Received: {num_kept} of 6"):
        fit_projection(np.eye(8, 6), num_kept)


@pytest.fixture
def folders(tmp_path):
    others = {f"{n}.png": (n * 37 % 255, n * 91 % 255, n * 13 % 255) for n in range(9)}
    return [
        write_images(tmp_path / name, colours)
        for name, colours in (("others", others), ("q", QUERY), ("g", GALLERY))
    ]


@pytest.fixture
def pca(folders, model_folder, tmp_path):
    """A PCA to 3 of 4 numbers, of which the last is the same for all."""
    out = tmp_path / "others.npz"
    words = "embed", folders[0], "--model", model_folder, "--out", out, "--pca", 3
    answer = topdb(*words)
    assert answer.exit_code == 0, answer.output
    assert "fitted to 9 images; it keeps 100.0% of the variance" in answer.stderr
    with np.load(out) as arrays:
        assert arrays["features"].shape == (9, 3)
    return tmp_path / "others.pca.npz"


def test_queries_and_gallery_are_reduced_alike(pca, folders, model_folder, tmp_path):
    scores, model = [], ("--model", model_folder)
    parts = "--query", folders[1], "--gallery", folders[2]
    for name, options in (("plain", ()), ("small", ("--pca", pca))):
        out = tmp_path / f"{name}.npz"
        answer = topdb("embed", *parts, *model, "--out", out, *options)
        assert answer.exit_code == 0, answer.output
        answer = json.loads(topdb("score", out, "--json").stdout)
        scores.append((answer["mean_ap"], answer["cmc"]))
    assert scores[0] == scores[1]  # what differs is in three numbers
    answer = topdb("embed", *parts, *model, "--pca", 3, "--out", out)
    refused(answer, "must be a file: what is scored must not fit it")


def test_the_parts_of_a_file_pair_must_be_reduced_alike(
    pca, folders, model_folder, tmp_path
):
    other = tmp_path / "g.npz"  # fitted to the gallery itself
    words = "embed", folders[2], "--model", model_folder, "--out"
    assert topdb(*words, other, "--pca", 3).exit_code == 0
    words = "embed", folders[1], "--model", model_folder, "--out"
    files = [tmp_path / "query.npz", tmp_path / "gallery.npz"]
    assert topdb(*words, files[0], "--pca", pca).exit_code == 0
    other.rename(files[1])
    refused(topdb("score", *files), "reduced by the same PCA file")


def test_a_data_set_fits_it_to_its_training_images(model_folder, tmp_path):
    write_images(tmp_path, PEOPLE)
    out = tmp_path / "test.parquet"
    words = "embed", "--dataset", tmp_path / "people", "--model", model_folder
    answer = topdb(*words, "--pca", 2, "--out", out, "--codes", "int8")
    assert answer.exit_code == 0, answer.output
    assert read_projection(tmp_path / "test.pca.npz").components.shape == (2, 4)
    assert topdb("score", out).exit_code == 0


def test_an_index_keeps_it_for_its_queries(pca, folders, model_folder, tmp_path):
    index, model = tmp_path / "people.index", ("--model", model_folder / "2")
    answer = topdb("index", "build", folders[2], *model, "--pca", pca, "--out", index)
    assert answer.exit_code == 0, answer.output
    image = folders[1] / "0001_c1s1_01_00.png"
    found = json.loads(topdb("index", "query", index, image, "--json").stdout)
    # (100, 0, 0) is 10 times 10 from the distractor: all that differs was kept.
    nearest = found["queries"][0]["found"][0]
    assert nearest["distance"] == pytest.approx(100.0**2, rel=1e-4)
    plain = tmp_path / "plain.npz"  # is reduced when it is asked for
    topdb("embed", image, *model, "--out", plain)
    again = json.loads(topdb("index", "query", index, plain, "--json").stdout)
    assert again["queries"][0]["found"][0]["path"] == nearest["path"]
    answer = topdb("index", "query", index, image, "--model", model_folder / "1")
    refused(answer, "fitted to embeddings of the same model")
    answer = topdb("index", "build", image, *model, "--pca", 2, "--out", tmp_path / "i")
    refused(answer, "With an index --pca must be a file")


def test_a_file_that_is_no_projection_is_told(folders, model_folder, tmp_path):
    words = "embed", folders[0], "--model", model_folder, "--out", tmp_path / "a.npz"
    refused(topdb(*words, "--pca", tmp_path / "none.npz"), "There is no PCA at")
    np.savez(tmp_path / "b.npz", mean=np.zeros(4))
    refused(topdb(*words, "--pca", tmp_path / "b.npz"), "It has no components")
    file, nothing = tmp_path / "c.npz", np.empty((0, 4))
    shapes = {"mean": np.zeros(3), "components": np.eye(2, 4), "probes": nothing}
    np.savez(file, **shapes, variance_kept=np.array(1.0))
    refused(topdb(*words, "--pca", file), "finite numbers of fitting shapes")
