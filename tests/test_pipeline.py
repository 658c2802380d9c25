import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from topdb_tf.data.augment import ERASED_PIXEL
from topdb_tf.data.decoding import ImageFiles, decode_images
from topdb_tf.data.pipeline import (
    PixelOptions,
    TrainingBatches,
    evaluation_dataset,
    resize_pixels,
)

GOLDEN = Path(__file__).parent / "golden" / "transform.npz"
PLAIN = {"flip": 0, "zoom": 0, "erase": 0}
NUM_PIDS, IMAGES_PER_PID = 6, 9


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    sizes = rng.integers(10, 60, (NUM_PIDS * IMAGES_PER_PID, 2))
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.fixture(scope="module")
def usual(images):
    """Pixels and labels of epoch 0, by the default options."""
    return arrays(batches_of(images).dataset())


def batches_of(images, *, seed=0, **options):
    return TrainingBatches(
        images,
        np.arange(len(images)) % NUM_PIDS,
        PixelOptions(**{"image_size": (48, 16), **options}),
        pids_per_batch=3,
        images_per_pid=2,
        seed=seed,
    )


def arrays(dataset):
    """Returns all pixels, (steps, batch, ...), and all labels of a data set."""
    pixels, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.stack(pixels), np.stack(labels)


def assert_same(dataset, expected):
    for array, other in zip(arrays(dataset), expected, strict=True):
        np.testing.assert_array_equal(array, other)


def test_batches_are_the_planned_images_with_their_labels(images):
    batches = batches_of(images, **PLAIN)
    pixels, labels = arrays(batches.epoch_dataset(2))
    plan = batches.plan(2)
    np.testing.assert_array_equal(labels, plan % NUM_PIDS)
    np.testing.assert_allclose(
        pixels[1, 4], resize_pixels(images[plan[1, 4]], (48, 16)), atol=1
    )


def test_the_data_set_tells_its_shapes_and_its_length(images):
    batches = batches_of(images)
    pixels, labels = batches.dataset().element_spec
    assert (tuple(pixels.shape), pixels.dtype) == ((6, 48, 16, 3), "float32")
    assert (tuple(labels.shape), labels.dtype) == ((6,), "int32")
    assert batches.dataset().cardinality() == batches.num_batches


def test_pixels_are_grey_levels_of_which_some_are_erased(usual):
    pixels, _ = usual
    assert 0 <= pixels.min() < 20
    assert 235 < pixels.max() <= 255
    # Boxes of a fifth of the area on half of the images, a tenth in all.
    assert 0.05 < np.mean(np.all(pixels == np.float32(ERASED_PIXEL), -1)) < 0.2


@pytest.mark.parametrize("num_threads", [1, 3])
def test_batches_do_not_depend_on_the_number_of_threads(images, usual, num_threads):
    assert PixelOptions().num_threads != num_threads
    assert_same(batches_of(images, num_threads=num_threads).dataset(), usual)


def test_an_epoch_can_begin_at_any_step(images):
    pixels, labels = arrays(batches_of(images).epoch_dataset(4))
    rest = batches_of(images).epoch_dataset(4, first_step=3)
    assert rest.cardinality() == len(pixels) - 3
    assert_same(rest, (pixels[3:], labels[3:]))


def test_the_data_set_follows_the_epoch(images):
    batches = batches_of(images)
    dataset = batches.dataset()
    for epoch in (5, 1):
        batches.epoch = epoch
        assert_same(dataset, arrays(batches.epoch_dataset(epoch)))


def test_iterating_advances_nothing(images, usual):
    dataset = batches_of(images).dataset()
    next(iter(dataset))
    assert_same(dataset, usual)


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}])
def test_another_seed_or_epoch_changes_plan_and_augmentation(images, usual, other):
    batches = batches_of(images, seed=other.get("seed", 0))
    changed, _ = arrays(batches.epoch_dataset(other.get("epoch", 0)))
    pixels, _ = usual
    assert np.all(np.any(pixels != changed, axis=(1, 2, 3, 4)))


def test_one_image_is_augmented_in_many_ways(images):
    pixels, _ = arrays(batches_of(images[:1] * len(images)).dataset())
    pixels = pixels.reshape(-1, 48 * 16 * 3)
    # Neither flipped nor zoomed nor erased: one in eight; the others all differ but
    # for the flip.
    assert len(np.unique(pixels, axis=0)) > 0.7 * len(pixels)


def test_uint8_batches_are_the_float_batches_rounded(images, usual):
    floats, _ = usual
    integers, _ = arrays(batches_of(images, dtype="uint8").dataset())
    assert integers.dtype == "uint8"
    np.testing.assert_array_equal(integers, np.floor(floats + 0.5))


def test_images_may_be_read_from_their_files_each_time(tmp_path, images, usual):
    paths = [tmp_path / f"{i:02d}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(tf.io.encode_png(image).numpy())
    files = decode_images(paths, cache_bytes=0)
    assert isinstance(files, ImageFiles)
    assert_same(batches_of(files).dataset(), usual)


def test_all_epochs_are_equally_long(images):
    batches = batches_of(images)
    lengths = {len(batches.plan(epoch)) for epoch in range(20)}
    assert lengths == {batches.num_batches}


class FollowEpoch(keras.callbacks.Callback):
    def __init__(self, batches):
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.epoch = epoch


class Recorder(keras.Model):
    """A model that remembers the labels it is trained on."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def call(self, pixels):
        return pixels

    def train_step(self, data):
        self.seen.append(data[1].numpy())
        return {"loss": 0.0}


def test_fit_sees_the_plan_of_each_epoch(images):
    batches, model = batches_of(images), Recorder()
    model.compile(run_eagerly=True)
    model.fit(
        batches.dataset(),
        epochs=4,
        initial_epoch=1,
        callbacks=[FollowEpoch(batches)],
        shuffle=False,
        verbose=0,
    )
    expected = [batches.plan(epoch) % NUM_PIDS for epoch in (1, 2, 3)]
    np.testing.assert_array_equal(model.seen, np.concatenate(expected))


LEFT_HALFWAY = """
import numpy as np
from topdb_tf.data.pipeline import PixelOptions, TrainingBatches

images = [np.zeros((128, 64, 3), np.uint8)] * 3000
batches = iter(TrainingBatches(images, np.arange(3000) % 100, PixelOptions()).dataset())
next(batches)
raise SystemExit(7)
"""


@pytest.mark.slow
def test_a_process_ends_while_batches_are_being_made():
    # With Python callbacks in the data set, its threads waited for an interpreter
    # that was waiting for them.
    process = subprocess.run([sys.executable, "-c", LEFT_HALFWAY], timeout=120)
    assert process.returncode == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": (384,)}, r"`image_size` must be \(height, width\)"),
        ({"image_size": (0, 128)}, r"Received: image_size=\(0, 128\)"),
        ({"flip": -0.1}, "`flip` must be a probability"),
        ({"zoom": 2}, "`zoom` must be a probability"),
        ({"erase": float("nan")}, "`erase` must be a probability"),
        ({"dtype": "float16"}, "`dtype` must be.*float16"),
        ({"num_threads": 0}, "`num_threads` must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PixelOptions(**options)


def test_every_image_needs_a_label(images):
    with pytest.raises(ValueError, match="54 images, 2 labels"):
        TrainingBatches(images, [0, 1], PixelOptions())


@pytest.mark.parametrize("labels", [[0, 0, 2, 2], [-1, -1, 0, 0]])
def test_labels_with_gaps_are_refused(images, labels):
    with pytest.raises(ValueError, match="`labels` must be 0 … num_pids - 1"):
        TrainingBatches(images[:4], labels, PixelOptions(), pids_per_batch=2)


def test_a_step_outside_of_the_epoch_is_refused(images):
    batches = batches_of(images)
    with pytest.raises(ValueError, match="`first_step` must be a step of the epoch"):
        batches.epoch_dataset(0, first_step=batches.num_batches)


def test_evaluation_keeps_every_image_in_order(images):
    dataset = evaluation_dataset(images, image_size=(48, 16), batch_size=20)
    assert [len(batch) for batch in dataset] == [20, 20, 14]
    pixels = np.concatenate(list(dataset))
    for image, resized in zip(images, pixels, strict=True):
        np.testing.assert_array_equal(resized, resize_pixels(image, (48, 16)))


def test_evaluation_reads_files(tmp_path):
    for name, level in [("b.png", 9), ("a.png", 200)]:
        grey = np.full((20, 10, 3), level, np.uint8)
        (tmp_path / name).write_bytes(tf.io.encode_png(grey).numpy())
    paths = [tmp_path / "b.png", tmp_path / "a.png"]
    (batch,) = evaluation_dataset(paths, image_size=(48, 16), batch_size=2)
    np.testing.assert_array_equal(batch[:, 0, 0, 0], [9, 200])


def test_evaluation_names_a_damaged_file_at_once(tmp_path):
    (tmp_path / "0001_c1.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="0001_c1.jpg"):
        evaluation_dataset(
            [tmp_path / "0001_c1.jpg"], image_size=(48, 16), batch_size=2
        )


@pytest.mark.parametrize(("count", "batch_size"), [(0, 1), (1, 0)])
def test_evaluation_needs_images_and_a_batch(images, count, batch_size):
    with pytest.raises(ValueError, match=f"{count} images, batch_size={batch_size}"):
        evaluation_dataset(images[:count], image_size=(48, 16), batch_size=batch_size)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_resizing_is_that_of_the_authors_preprocessing(index):
    golden = np.load(GOLDEN)
    expected = golden[f"pixels{index}"].astype("float32")
    pixels = resize_pixels(golden[f"in{index}"], (384, 128)).numpy()
    np.testing.assert_allclose(pixels, expected, atol=1)
    assert np.mean(pixels != expected) < 0.005


def test_resizing_works_in_a_graph_of_unknown_sizes():
    image = np.random.default_rng(0).integers(0, 256, (3, 30, 20, 3), dtype=np.uint8)
    signature = [tf.TensorSpec((None, None, None, 3), tf.uint8)]
    resize = tf.function(
        lambda x: resize_pixels(x, (48, 16)), signature, autograph=False
    )
    np.testing.assert_array_equal(resize(image), resize_pixels(image, (48, 16)))
    assert tuple(resize(image).shape) == (3, 48, 16, 3)
