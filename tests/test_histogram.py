import numpy as np
import pytest
from PIL import Image

from topdb_tf.fit.histogram import color_histograms


def save_image(path, pixels):
    Image.fromarray(np.uint8(pixels)).save(path)
    return path


@pytest.fixture
def noise(tmp_path):
    rng = np.random.default_rng(0)
    return save_image(tmp_path / "noise.png", rng.integers(0, 256, (128, 64, 3)))


def halves(top, bottom):
    return np.repeat([top, bottom], 64, axis=0)[:, None, :].repeat(64, axis=1)


def test_histograms_of_red_by_hand(tmp_path):
    # Red is R, G, B = 255, 0, 0; hue 0, saturation 255; Y 76, Cb 85, Cr 255 (JFIF).
    # Of 16 bins, 16 values wide, these are 15, 0, 0, 0, 15, 4, 5, 15. Each of the 6 x 8
    # histograms holds everything in one bin: sqrt(1 / 48).
    red = save_image(tmp_path / "red.png", halves((255, 0, 0), (255, 0, 0)))
    features = color_histograms([red])
    expected = np.zeros((6, 8, 16), np.float32)
    expected[:, range(8), [15, 0, 0, 0, 15, 4, 5, 15]] = (1 / 48) ** 0.5
    np.testing.assert_array_equal(features, expected.reshape(1, -1))


def test_histograms_agree_with_counting_one_value_at_a_time(noise):
    features = color_histograms([noise])
    pixels = np.asarray(Image.open(noise))
    for stripe, rows in enumerate(np.array_split(pixels, 6)):
        for channel in range(3):
            counts = np.zeros(16)
            for value in rows[..., channel].ravel():
                counts[int(value) * 16 // 256] += 1
            start = (stripe * 8 + channel) * 16
            expected = np.sqrt(counts / counts.sum() / 48)
            np.testing.assert_allclose(
                features[0, start : start + 16], expected, rtol=1e-6
            )


def test_shape_type_and_length_of_the_features(noise):
    features = color_histograms([noise, noise])
    assert features.shape == (2, 6 * 8 * 16)
    assert features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-6)


def test_no_images_give_no_rows():
    assert color_histograms([]).shape == (0, 768)


def test_stripes_tell_above_from_below(tmp_path):
    red, blue = (255, 0, 0), (0, 0, 255)
    paths = [
        save_image(tmp_path / "one.png", halves(red, blue)),
        save_image(tmp_path / "other.png", halves(blue, red)),
    ]
    one, other = color_histograms(paths)
    assert np.abs(one - other).max() > 0.1


def test_a_mirrored_image_has_the_same_histograms(noise, tmp_path):
    mirrored = save_image(
        tmp_path / "mirror.png", np.asarray(Image.open(noise))[:, ::-1]
    )
    one, other = color_histograms([noise, mirrored])
    np.testing.assert_array_equal(one, other)


def test_size_and_file_format_do_not_matter_to_plain_images(tmp_path):
    grey = np.full((40, 30), 100)
    paths = [
        save_image(tmp_path / "grey.jpg", grey),
        save_image(tmp_path / "rgb.png", np.dstack([grey] * 3)),
    ]
    one, other = color_histograms(paths)
    np.testing.assert_array_equal(one, other)


def test_a_truncated_image_is_named(noise, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(noise.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"must be complete.*broken\.png"):
        color_histograms([broken])


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must exist.*nothing\.png"):
        color_histograms([tmp_path / "nothing.png"])
