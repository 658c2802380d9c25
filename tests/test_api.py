"""The public interface: its names and signatures, and what they give."""

import importlib
import inspect
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

import topdb_tf
from tests.commands import topdb
from tests.reference import rerank_reference, retrieval_reference
from topdb_tf.retrieval.distances import pairwise_distances

# Adding a name or an argument with a default is free; other changes break programs.
SIGNATURES = {
    "Embedder": "model, *, best=False, batch_size=32, channel_order='RGB'",
    "TopDBImageEmbedder": "backbone, preprocessor=None, **kwargs",
    "TopDropBlock": "height_ratio, relevance='mean', width_ratio=1.0, **kwargs",
    "build_network": "backbone, *, num_pids, image_size=(384, 128), "
    "drop_block='top', streams=('global', "
    "'top_drop', 'regularization'), mask_from='backbone', num_bottlenecks=2, "
    "bottleneck_channels=0, pool='average', neck='no_shift'",
    "compare": "first, second, **options",
    "evaluate": "run, dataset=None, *, best=False, rerank=False, validation=False, "
    "normalize_cameras=False, tracklets=None, say=…",
    "fit": "dataset=None, *, recipe='paper', run_dir=None, settings=(), callbacks=(), "
    "triplet=None, cross_entropy=None, say=…",
    "load_embedder": "path",
    "load_features": "path",
    "pool": "features, tracklets, *, how='mean'",
    "register_backbone": "name, function=None",
    "register_dataset": "name, reader=None, *, card=None",
    "register_drop_block": "name, function=None",
    "register_loss": "name, function=None, *, on='features'",
    "register_stream": "name, function=None, *, at_inference=True",
    "rerank": "query_features, gallery_features, *, metric='sqeuclidean', **parameters",
    "score": "query_features, gallery_features, query_pids, gallery_pids, "
    "query_camids=None, gallery_camids=None, *, metric='sqeuclidean', rerank=False, "
    "ignore_cameras=False, normalize_cameras=False",
}


def signature_text(function):
    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        if callable(parameter.default) and parameter.default is not parameter.empty:
            parameter = parameter.replace(default=Ellipsis)
        parameters.append(parameter.replace(annotation=parameter.empty))
    text = str(inspect.Signature(parameters))[1:-1]
    return text.replace("=Ellipsis", "=…")


def test_every_public_name_has_the_signature_that_programs_use():
    assert sorted(SIGNATURES) == sorted(topdb_tf.__all__)
    assert set(topdb_tf.__all__) <= set(dir(topdb_tf))
    for name, expected in SIGNATURES.items():
        assert signature_text(getattr(topdb_tf, name)) == expected, name


def test_there_is_no_other_name():
    with pytest.raises(AttributeError, match="no attribute 'evaluator'"):
        topdb_tf.evaluator  # noqa: B018


def test_the_rooms_can_be_called_and_imported_from():
    for name in ("evaluate", "fit"):
        room = importlib.import_module(f"topdb_tf.{name}")
        assert getattr(topdb_tf, name) is room
        assert inspect.ismodule(room)


def run_python(code, folder):
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.strip().splitlines()[-1]


def test_scores_need_no_tensorflow(tmp_path):
    code = """
        import sys, topdb_tf
        topdb_tf.score([[0.0]], [[0.1]], ["a"], ["a"], rerank=True)
        topdb_tf.rerank([[0.0]], [[0.1]], k1=1, k2=1)
        print(sorted({"tensorflow", "keras"} & set(sys.modules)))
        """
    assert run_python(code, tmp_path) == "[]"


@pytest.mark.parametrize("order", ["topdb_tf, keras", "keras, topdb_tf"])
def test_keras_loads_an_embedder_by_itself(small_run, order):
    code = f"""
        import {order}
        print(keras.saving.load_model("embedder.keras").output_shape)
        """
    assert run_python(code, small_run) == "(None, 192)"


@pytest.fixture
def arrays(rng=None):
    rng = np.random.default_rng(7)
    people = rng.normal(size=(6, 8))
    gallery_pids = np.arange(30) % 6
    return {
        "query_features": (people + rng.normal(size=(6, 8))).astype("float32"),
        "gallery_features": (people[gallery_pids] + rng.normal(size=(30, 8))).astype(
            "float32"
        ),
        "query_pids": np.arange(6),
        "gallery_pids": gallery_pids,
        "query_camids": np.array([1, 1, 2, 2, 3, 3]),
        "gallery_camids": np.arange(30) // 10 + 1,
    }


@pytest.mark.parametrize("ignore_cameras", [False, True])
def test_scores_are_those_of_sorting(arrays, ignore_cameras):
    scores = topdb_tf.score(**arrays, metric="cosine", ignore_cameras=ignore_cameras)
    query, gallery, *identities = arrays.values()
    distances = pairwise_distances(query, gallery, metric="cosine")
    expected = retrieval_reference(
        distances, *identities, ignore_cameras=ignore_cameras
    )
    assert scores.plain.scores.mean_ap == pytest.approx(np.mean(expected["ap"]))
    table = scores.per_query()
    assert table["average_precision"] == pytest.approx(expected["ap"])
    assert table["first_match_rank"].tolist() == expected["first"]
    assert table["pid"].tolist() == list(range(6))
    assert table["camid"].tolist() == [1, 1, 2, 2, 3, 3]


def test_lists_and_texts_are_taken_where_arrays_are(arrays):
    lists = {name: array.tolist() for name, array in arrays.items()}
    texts = {
        name: [f"person {i}" for i in ids] if "pids" in name else ids
        for name, ids in lists.items()
    }
    expected = topdb_tf.score(**arrays).to_dict()["mean_ap"]
    assert topdb_tf.score(**lists).to_dict()["mean_ap"] == expected
    assert topdb_tf.score(**texts).to_dict()["mean_ap"] == expected


def test_scores_tell_themselves_in_a_line_and_in_a_table(arrays):
    scores = topdb_tf.score(**arrays, rerank=True)
    plain, again = (f"{100 * r.scores.mean_ap:.1f}" for _, r in scores.results)
    assert repr(scores).startswith(f"mAP {plain} %, rank-1 ")
    assert ", 6 queries; re-ranked mAP " + again in repr(scores)
    page = scores._repr_html_()
    assert f"<tr><td>mAP</td><td>{plain}</td><td>{again}</td></tr>" in page
    assert scores.per_query().dtype.names[-1] == "reranked_first_match_rank"


def test_without_cameras_every_image_of_the_person_is_a_match():
    scores = topdb_tf.score([[0.0], [1.0]], [[0.1], [0.2], [0.9]], [1, 2], [1, 2, 2])
    # The second query has images at 0.1 and 0.8; the first one its only one first.
    assert scores.per_query()["average_precision"].tolist() == [1.0, 1.0]
    assert repr(scores).endswith("2 queries, no cameras")


def test_a_query_that_finds_itself_is_told(tmp_path):
    # The first query is the first gallery image; without its camera it is a match.
    query, gallery = [[0.5], [1.0]], [[0.5], [0.7], [0.9]]
    pids = {"query_pids": [1, 2], "gallery_pids": [1, 1, 2]}
    with pytest.warns(UserWarning, match="^1 of 2 queries have the features of a gal"):
        topdb_tf.score(query, gallery, *pids.values())
    topdb_tf.score(query, gallery, *pids.values(), [1, 1], [1, 2, 2])
    arrays = {"query_features": query, "gallery_features": gallery}
    arrays = {name: np.array(array, "float32") for name, array in arrays.items()}
    np.savez(tmp_path / "plain.npz", **arrays, **pids)
    answer = topdb("score", tmp_path / "plain.npz")
    assert "warning: 1 of 2 queries have the features" in answer.output
    assert "the query image itself does not" not in answer.output
    paths = {"query_paths": ["a", "b"], "gallery_paths": ["a", "c", "d"]}
    np.savez(tmp_path / "named.npz", **arrays, **pids, **paths)
    answer = topdb("score", tmp_path / "named.npz")
    assert "queries have the features" not in answer.output
    assert "the query image itself does not" in answer.output


def test_reranked_distances_are_those_of_the_dense_definition(arrays):
    query, gallery = arrays["query_features"], arrays["gallery_features"]
    together = np.concatenate([query, gallery])
    squares = pairwise_distances(together, together)
    expected = rerank_reference(squares, len(query), k1=5, k2=3, lambda_value=0.2)
    found = topdb_tf.rerank(query, gallery, k1=5, k2=3, lambda_value=0.2)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_a_comparison_is_query_by_query(arrays, tmp_path):
    before = {
        **arrays,
        "query_features": arrays["query_features"][:, :3],
        "gallery_features": arrays["gallery_features"][:, :3],
    }
    np.savez(tmp_path / "before.npz", **before)
    np.savez(tmp_path / "after.npz", **arrays)
    by_files = topdb_tf.compare(tmp_path / "before.npz", str(tmp_path / "after.npz"))
    first, second = topdb_tf.score(**before), topdb_tf.score(**arrays)
    found = by_files.differences["mAP"]
    change = (
        second.per_query()["average_precision"] - first.per_query()["average_precision"]
    )
    assert found.mean == pytest.approx(change.mean())
    assert found.num_better == (change > 0).sum()
    assert topdb_tf.compare(first, second).differences == by_files.differences
    assert repr(by_files).splitlines()[0] == f"first:  {first!r}"


def test_what_cannot_be_compared_is_refused(arrays, small_run):
    scores = topdb_tf.score(**arrays)
    with pytest.raises(ValueError, match="differ in: metric"):
        topdb_tf.compare(scores, topdb_tf.score(**arrays, metric="cosine"))
    other = {**arrays, "query_pids": arrays["query_pids"][::-1].copy()}
    with pytest.raises(ValueError, match="differ in: split_sha256"):
        topdb_tf.compare(scores, topdb_tf.score(**other))


BAD_ARRAYS = [
    ({"query_features": [[0.0], [1.0, 2.0]]}, "rows of one length"),
    ({"query_features": np.zeros((6, 8), int)}, "float type"),
    ({"query_features": "features.npz"}, "shapes|float|number"),
    ({"query_features": None}, "shapes|float|number"),
    ({"query_features": [["a"] * 8] * 6}, "float type"),
    ({"query_pids": [1, 2]}, "query_pids"),
    ({"query_pids": 3}, "query_pids"),
    ({"query_pids": None}, "query_pids"),
    ({"metric": "manhattan"}, "`metric` must be one of"),
    ({"rerank": "yes"}, "rerank"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_ARRAYS)
def test_what_does_not_fit_is_refused_in_words(arrays, changes, message):
    with pytest.raises(ValueError, match=message):
        topdb_tf.score(**{**arrays, **changes})


def test_an_embedder_takes_files_pixels_and_images(small_run, small_data_root):
    paths = sorted((small_data_root / "synthetic" / "query").glob("*.jpg"))
    embedder = topdb_tf.Embedder(small_run)
    expected = embedder(paths)
    assert expected.shape == (len(paths), 192)
    assert expected.dtype == np.float32
    pixels = [np.asarray(Image.open(path)) for path in paths]
    mixed = [str(paths[0]), pixels[1], Image.open(paths[2])]
    np.testing.assert_array_equal(embedder(mixed), expected[:3])
    np.testing.assert_array_equal(embedder(np.stack(pixels)), expected)
    content = paths[0].read_bytes()
    np.testing.assert_array_equal(embedder(content), expected[:1])
    np.testing.assert_array_equal(embedder([bytearray(content)]), expected[:1])
    of_opencv = topdb_tf.Embedder(small_run / "embedder.keras", channel_order="BGR")
    np.testing.assert_array_equal(of_opencv(pixels[1][..., ::-1]), expected[1:2])


def test_an_embedding_is_the_one_that_was_scored(small_run, small_data_root, tmp_path):
    small_run = shutil.copytree(small_run, tmp_path / "run")  # scores go into it
    run = topdb_tf.evaluate(small_run, say=print)
    with np.load(small_run / "features-synthetic.npz") as features:
        scored = features["query_features"]
    paths = sorted((small_data_root / "synthetic" / "query").glob("*.jpg"))
    found = topdb_tf.Embedder(small_run)(paths)
    np.testing.assert_allclose(found, scored, atol=1e-5)
    assert len(run.per_query()) == len(paths)


NO_IMAGES = [
    (3, "must be an image, or several of them"),
    ([], "must be an image to embed"),
    (np.zeros((3, 64, 32), np.uint8), r"shape \(height, width, 3\).*\(3, 64, 32\)"),
    (np.zeros((64, 32, 3)), "type float64"),
    ([b"nothing"], "image 0"),
    (["missing.jpg"], "missing.jpg"),
    ({"a": b""}, "several of them in an order"),
    ({"a.jpg"}, "several of them in an order"),
    (np.zeros((0, 32, 3), np.uint8), r"\(0, 32, 3\)"),
]


def test_what_is_no_image_is_refused(small_run):
    embedder = topdb_tf.Embedder(small_run)
    for images, message in NO_IMAGES:
        with pytest.raises(ValueError, match=message):
            embedder(images)


def test_no_model_is_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model at"):
        topdb_tf.Embedder(tmp_path / "missing")
    with pytest.raises(ValueError, match="channel_order"):
        topdb_tf.Embedder(tmp_path, channel_order="GBR")
    for size in (0, "32"):
        with pytest.raises(ValueError, match=f"`batch_size` .*{size!r}"):
            topdb_tf.Embedder(tmp_path, batch_size=size)
    run = tmp_path / "run"
    run.mkdir()
    (run / "embedder.keras").touch()
    with pytest.raises(FileNotFoundError, match=rf"That of the run is {run}/emb"):
        topdb_tf.load_embedder(run)


@pytest.mark.parametrize("wrong", [None, 3])
def test_what_is_no_path_is_refused(wrong):
    preset = topdb_tf.TopDBImageEmbedder.from_preset
    for ask in (topdb_tf.Embedder, topdb_tf.load_embedder, topdb_tf.load_features):
        with pytest.raises(ValueError, match=f"A path must be a text .*{wrong}"):
            ask(wrong)
    for ask in (preset, lambda path: topdb_tf.compare(path, path)):
        with pytest.raises(ValueError, match="A path must be a text"):
            ask(wrong)
    with pytest.raises(ValueError, match="A path must be a text"):
        topdb_tf.evaluate(3)


def test_a_network_is_made_of_names():
    network = topdb_tf.build_network("tiny", num_pids=3, image_size=(32, 16))
    assert network.input_shape == (None, 32, 16, 3)
    (block,) = (x for x in network.layers if isinstance(x, topdb_tf.TopDropBlock))
    assert block.height_ratio == 0.3
    for wrong, message in (
        ({"backbone": "tinny"}, "one of .*tiny.*Received: 'tinny'"),
        ({"backbone": None}, "`backbone` must be a `keras.Model`.*None"),
        ({"num_pids": "3"}, "`num_pids` must be a whole number above 0.*'3'"),
        ({"num_pids": 0}, "above 0"),
        ({"drop_block": 0.3}, "`drop_block` must be a layer of Keras"),
        ({"drop_block": "tops"}, "`drop_block` must be one of top, batch"),
    ):
        with pytest.raises(ValueError, match=message):
            topdb_tf.build_network(
                **{"backbone": "tiny", "num_pids": 3, "image_size": (32, 16), **wrong}
            )
    with pytest.raises(ValueError, match="share of the rows.*a"):
        topdb_tf.TopDropBlock("a")


@pytest.mark.parametrize("callbacks", [3, ["CSVLogger"]])
def test_what_is_no_callback_is_told_before_data_is_read(callbacks, tmp_path):
    with pytest.raises(ValueError, match="`callbacks` must be a list of Keras"):
        topdb_tf.fit("synthetic", run_dir=tmp_path / "run", callbacks=callbacks)
    assert not (tmp_path / "run").exists()


def test_a_single_setting_is_one(tmp_path):
    with pytest.raises(ValueError, match=r"train\.epochs=0"):
        topdb_tf.fit("x", run_dir=tmp_path / "run", settings="train.epochs=0")
