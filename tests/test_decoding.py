import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.image_zoo import BAD, GOOD
from topdb_tf.data import decoding
from topdb_tf.data.decoding import ImageFiles, decode_image, decode_images, free_memory


@pytest.fixture
def files(tmp_path):
    """Seven JPEG files of different sizes."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(7):
        pixels = rng.integers(0, 256, (4 + i, 3, 3), dtype=np.uint8)
        paths.append(tmp_path / f"{i:04d}_c1s1_000000_00.jpg")
        Image.fromarray(pixels).resize((64, 100 + i)).save(paths[-1], quality=90)
    return paths


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def test_a_jpeg_has_the_pixels_that_pillow_decodes(files):
    with Image.open(files[3]) as image:
        np.testing.assert_array_equal(decode_image(files[3]), np.array(image))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_a_png_of_any_kind_becomes_rgb(tmp_path, mode):
    colours = np.random.default_rng(0).integers(0, 256, (9, 5, 3), dtype=np.uint8)
    image = Image.fromarray(colours).convert(mode)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        decode_image(tmp_path / "a.png"), np.array(image.convert("RGB"))
    )


def test_a_grey_jpeg_has_three_equal_channels(tmp_path):
    grey = Image.fromarray(np.arange(0, 250, 2, dtype=np.uint8).reshape(25, 5))
    grey.save(tmp_path / "a.jpg")
    pixels = decode_image(tmp_path / "a.jpg")
    assert pixels.shape == (25, 5, 3)
    np.testing.assert_array_equal(pixels, pixels[:, :, :1].repeat(3, axis=2))


@pytest.fixture(scope="module")
def of_people(tmp_path_factory):
    """The files of `GOOD` by name, and their pixels, decoded together."""
    folder = tmp_path_factory.mktemp("good")
    paths = {name: folder / f"{place}.jpg" for place, name in enumerate(GOOD)}
    for name, path in paths.items():
        path.write_bytes(GOOD[name])
    return paths, dict(zip(paths, decode_images([*paths.values()]), strict=True))


@pytest.mark.parametrize("name", GOOD)
def test_files_that_people_bring_are_read_as_pillow_reads_them(name, of_people):
    paths, together = of_people
    with Image.open(paths[name]) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode_image(paths[name]), expected)
    np.testing.assert_array_equal(together[name], expected)


def test_nothing_is_told_of_files_that_people_bring(of_people, capfd):
    paths, _ = of_people
    decode_images([*paths.values()])
    for path in paths.values():
        decode_image(path)
    assert "Corrupt" not in capfd.readouterr().err


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_refused_is_named_with_the_reason(tmp_path, name):
    contents, reason = BAD[name]
    path = tmp_path / "a.jpg"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=rf"a\.jpg \(.*{reason}"):
        decode_image(path)


def test_files_that_are_refused_together_are_named_with_their_reasons(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(decoding, "listed", "\n".join)  # all of them
    for place, (contents, _) in enumerate(BAD.values()):
        (tmp_path / f"{place:03d}.jpg").write_bytes(contents)
    with pytest.raises(ValueError, match=r"Received: path=") as error:
        decode_images(sorted(tmp_path.iterdir()))
    lines = str(error.value).partition("path=")[2].splitlines()
    for place, (line, (_, reason)) in enumerate(zip(lines, BAD.values(), strict=True)):
        assert re.search(rf"{place:03d}\.jpg \(.*{reason}", line), line


def test_images_keep_their_order_and_size(files):
    images = decode_images(files)
    assert [image.shape for image in images] == [(100 + i, 64, 3) for i in range(7)]
    np.testing.assert_array_equal(images[4], decode_image(files[4]))


def test_images_that_do_not_fit_are_read_when_needed(files):
    kept, read = decode_images(files), decode_images(files, cache_bytes=100_000)
    assert isinstance(kept, list)
    assert isinstance(read, ImageFiles)
    assert len(read) == 7
    for first, second in zip(kept, read, strict=True):
        np.testing.assert_array_equal(first, second)


def test_images_that_just_fit_are_kept(files):
    num_bytes = sum(image.nbytes for image in decode_images(files))
    assert isinstance(decode_images(files, cache_bytes=num_bytes), list)
    assert isinstance(decode_images(files, cache_bytes=num_bytes - 1), ImageFiles)


def test_more_images_than_are_decoded_ahead(files):
    images = decode_images(files * 50)
    assert [len(image) for image in images] == [*range(100, 107)] * 50


def test_progress_is_told_after_each_file(files):
    calls = []
    decode_images(files, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i, 7) for i in range(1, 8)]


@pytest.mark.parametrize("cache_bytes", [None, 0])
def test_all_truncated_files_are_named(files, cache_bytes):
    truncate(files[2])
    truncate(files[5])
    names = rf"whole 8-bit JPEG.*{files[2].name} \(is dam.*{files[5].name} \(is dam"
    with pytest.raises(ValueError, match=names):
        decode_images(files, cache_bytes=cache_bytes)


def test_of_many_damaged_files_the_first_are_named(files):
    for path in files:
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{files[4].name} .is empty. and 2 more$"):
        decode_images(files)


def test_a_file_of_another_kind_is_named(tmp_path):
    path = tmp_path / "Thumbs.db"
    path.write_bytes(b"no image")
    with pytest.raises(ValueError, match="Received: path=.*Thumbs.db"):
        decode_image(path)


def test_a_truncated_png_is_named(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(tf.io.encode_png(np.zeros((50, 50, 3), np.uint8)).numpy()[:60])
    with pytest.raises(ValueError, match="a.png"):
        decode_image(path)


def test_missing_files_are_named(files):
    files[1].unlink()
    message = rf"datasets/README.md.*Received: path=.*{files[1].name}$"
    with pytest.raises(FileNotFoundError, match=message):
        decode_images(files)


def test_free_memory_is_read():
    assert free_memory() > 2**20
