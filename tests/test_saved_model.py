import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

from tests.test_folding import SIZE, trained_embedder
from topdb_tf.data.pipeline import evaluation_dataset
from topdb_tf.export import serving
from topdb_tf.export.saved_model import ServedEmbedder
from topdb_tf.export.serving import newest_version, next_version, publish, versions
from topdb_tf.export.session import SessionModel
from topdb_tf.files import partial_path, whole_folder
from topdb_tf.model.folding import folded

# What TensorFlow Serving does, by TensorFlow alone; then its command-line tool.
LOAD_IN_A_SESSION = """
import json, sys
import numpy as np
import tensorflow as tf
from tensorflow.python.tools import saved_model_cli
folder, images, out, *files = sys.argv[1:]
contents = [open(file, "rb").read() for file in files]
feeds = {"serving_default": contents, "activation_map": contents}
feeds["pixels"] = np.load(images)
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    model = tf.compat.v1.saved_model.load(session, ["serve"], folder)
    answers = {}
    for name, feed in feeds.items():
        signature = model.signature_def[name]
        (given,), (wanted,) = signature.inputs.values(), signature.outputs.items()
        values = session.run(wanted[1].name, {given.name: feed})
        answers[name] = [wanted[0], values.tolist()]
assert not any(name.startswith("topdb_tf") for name in sys.modules)
print(json.dumps(answers), flush=True)
sys.argv = ["saved_model_cli", "run", "--dir", folder, "--tag_set", "serve"]
sys.argv += ["--signature_def", "pixels", "--inputs", f"images={images}"]
sys.argv += ["--outdir", out]
saved_model_cli.main()
"""


def save(served, folder):
    version = next_version(folder)
    with whole_folder(version) as partial:
        served.write(partial)
    return version


@pytest.fixture(scope="module")
def embedder():
    return trained_embedder()


@pytest.fixture(scope="module")
def version(embedder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "topdb"
    return save(ServedEmbedder(embedder), folder)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Four JPEG files of different sizes."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    paths = [folder / f"{index}.jpg" for index in range(4)]
    for index, path in enumerate(paths):
        small = rng.integers(0, 256, (10 + index, 6, 3), dtype=np.uint8)
        Image.fromarray(small).resize((24, 40 + index)).save(path)
    return paths


@pytest.fixture(scope="module")
def pixels(files):
    (batch,) = evaluation_dataset(files, image_size=SIZE, batch_size=len(files))
    return batch.numpy()


def test_a_generalised_mean_is_served(tmp_path, pixels):
    model = trained_embedder(pool="gem", bottleneck_channels=32)
    loaded = tf.saved_model.load(save(ServedEmbedder(model), tmp_path / "gem"))
    (found,) = loaded.signatures["pixels"](tf.cast(pixels, "uint8")).values()
    expected = model(np.trunc(pixels), training=False)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def alone(version, files, pixels, tmp_path_factory):
    """What a process without this package answers, and the folder of what it wrote."""
    folder = tmp_path_factory.mktemp("alone")
    np.save(folder / "images.npy", pixels.astype(np.uint8))
    command = [sys.executable, "-c", LOAD_IN_A_SESSION, version]
    command += [folder / "images.npy", folder, *files]
    answer = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    return json.loads(answer.stdout.splitlines()[0]), folder


def test_every_signature_answers_in_a_session_without_keras(alone, pixels, embedder):
    answers, _ = alone
    expected = embedder(pixels, training=False)
    for name in ("serving_default", "pixels"):
        output, values = answers[name]
        assert output == "embedding"
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4)
    output, values = answers["activation_map"]
    assert output == "activation_map"
    assert np.shape(values) == (4, 4, 2)  # the tiny backbone's stride is 8


def test_the_activation_map_is_the_sum_of_the_squared_channels(
    version, files, pixels, embedder
):
    import keras

    layer = embedder.get_layer("feature_map")
    maps = keras.Model(embedder.input, layer.output)(pixels, training=False).numpy()
    expected = np.sum(maps.astype(np.float64) ** 2, axis=-1)
    with SessionModel(version) as model:
        contents = [path.read_bytes() for path in files]
        answer = model.run("activation_map", image_bytes=contents)
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, expected, rtol=1e-4)


def test_the_command_line_tool_of_tensorflow_runs_it(alone, pixels, embedder):
    _, folder = alone
    np.testing.assert_allclose(
        np.load(folder / "embedding.npy"),
        embedder(pixels, training=False),
        rtol=1e-4,
        atol=1e-4,
    )


def test_weights_are_constants_of_the_streams_that_embed(version, embedder):
    contents = (version / "saved_model.pb").read_bytes()
    graph = saved_model_pb2.SavedModel.FromString(contents).meta_graphs[0].graph_def
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    operations = {node.op for node in nodes}
    assert "Conv2D" in operations
    assert not operations & {"VarHandleOp", "ReadVariableOp", "VariableV2"}
    assert not [n for n in nodes if "classifier" in n.name or "regulariz" in n.name]
    constants = sum(
        np.prod([d.size for d in node.attr["value"].tensor.tensor_shape.dim])
        for node in nodes
        if node.op == "Const" and node.attr["value"].tensor.dtype == 1
    )
    weights = sum(w.value.shape.num_elements() for w in folded(embedder).weights)
    assert weights <= constants < 1.05 * weights  # once, not once a signature


def test_normalized_embeddings_have_unit_length(embedder, pixels):
    images = pixels.astype(np.uint8)
    served = ServedEmbedder(embedder)
    plain = served.embed_images(images)["embedding"].numpy()
    served = ServedEmbedder(embedder, normalize=True)
    unit = served.embed_images(images)["embedding"].numpy()
    lengths = np.linalg.norm(plain, axis=1, keepdims=True)
    assert lengths.min() > 1.5
    np.testing.assert_allclose(unit, plain / lengths, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precisions_are_served_as_float32_embeddings(
    dtype, embedder, pixels, tmp_path
):
    served = ServedEmbedder(embedder, dtype=dtype)
    version = save(served, tmp_path / "topdb")
    with SessionModel(version) as model:
        images = pixels.astype(np.uint8)
        embeddings = model.run("pixels", images=images)
    assert embeddings.dtype == np.float32
    expected = embedder(pixels, training=False).numpy()
    np.testing.assert_allclose(embeddings, expected, atol=0.02 * np.abs(expected).max())


def test_a_bad_image_is_refused_and_the_next_request_works(version, files):
    contents = [path.read_bytes() for path in files]
    with SessionModel(version) as model:
        expected = model.run("serving_default", image_bytes=contents)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"image_bytes\[1\] "):
            model.run("serving_default", image_bytes=[contents[0], b"no image"])
        again = model.run("serving_default", image_bytes=contents)
    np.testing.assert_array_equal(again, expected)


def test_versions_count_on_whatever_is_missing(embedder, tmp_path):
    served, folder = ServedEmbedder(embedder), tmp_path / "topdb"
    (folder / "7").mkdir(parents=True)
    assert save(served, folder) == folder / "8"
    assert versions(folder) == [7, 8]
    assert newest_version(folder) == folder / "8"
    assert newest_version(folder / "8") == folder / "8"
    with pytest.raises(FileNotFoundError, match="topdb-tf export"):
        newest_version(folder / "7")


def test_no_two_exports_get_the_same_number(tmp_path, monkeypatch):
    folder = tmp_path / "topdb"
    (folder / "1").mkdir(parents=True)
    with partial_path(folder / "2") as mine, partial_path(folder / "2") as other:
        for model, text in ((mine, "mine"), (other, "other")):
            model.mkdir()
            (model / "card").write_text(text)

        # The other is published after the number has been chosen.
        def chosen_before(folder):
            monkeypatch.undo()
            number = next_version(folder)
            assert publish(other, folder) == number
            return number

        monkeypatch.setattr(serving, "next_version", chosen_before)
        assert publish(mine, folder) == folder / "3"
    assert (folder / "2" / "card").read_text() == "other"
    assert (folder / "3" / "card").read_text() == "mine"


def test_a_full_disk_is_an_error_of_the_system(embedder, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise tf.errors.ResourceExhaustedError(
            None, None, "m/saved_model.pb.tmp73; No space left on device"
        )

    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        save(ServedEmbedder(embedder), tmp_path / "m")
    assert caught.value.filename == str(tmp_path / "m" / "1")
    assert list(tmp_path.iterdir()) == []


def write_and_fail(served, folder):
    with whole_folder(next_version(folder)) as partial:
        served.write(partial)
        assert (partial / "saved_model.pb").is_file()
        raise ValueError("not good enough")


def test_a_version_that_fails_leaves_nothing(embedder, tmp_path):
    served = ServedEmbedder(embedder)
    with pytest.raises(ValueError, match="not good enough"):
        write_and_fail(served, tmp_path / "new" / "topdb")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "topdb" / "1").mkdir(parents=True)
    with pytest.raises(ValueError, match="not good enough"):
        write_and_fail(served, tmp_path / "topdb")
    assert versions(tmp_path / "topdb") == [1]
    assert len(list((tmp_path / "topdb").iterdir())) == 1


def test_what_a_killed_export_left_is_removed(embedder, tmp_path):
    left = tmp_path / "topdb" / ".partial-12345678" / "new"
    left.mkdir(parents=True)
    (left / "half").write_text("half")
    version = save(ServedEmbedder(embedder), tmp_path / "topdb")
    assert not (version / "half").exists()
    assert list((tmp_path / "topdb").iterdir()) == [version]


def test_a_folder_with_anything_else_is_left_alone(embedder, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    served = ServedEmbedder(embedder)
    with pytest.raises(ValueError, match="--out.*notes.txt"):
        save(served, tmp_path)
    with pytest.raises(ValueError, match="must be a folder"):
        save(served, tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_model_without_a_feature_map_is_refused():
    import keras

    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(inputs))
    with pytest.raises(ValueError, match="feature_map"):
        ServedEmbedder(model)
