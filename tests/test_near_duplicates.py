"""Pictures that are nearly the same are found, and no others."""

import numpy as np
import pytest
from PIL import Image

from topdb_tf.data.checks import near_duplicates as near
from topdb_tf.data.checks.image_contents import image_contents
from topdb_tf.data.checks.near_duplicates import near_duplicates
from topdb_tf.data.drawn.synthetic import write_synthetic


def everything(rows, columns):
    return np.ones((rows.stop - rows.start, columns.stop - columns.start), bool)


def pairs_of(thumbnails, is_relevant=everything):
    found = near_duplicates(thumbnails, is_relevant)
    return list(zip(found.first.tolist(), found.second.tolist(), strict=True))


def noise(number, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(40, 200, (number, 24, 12, 3), dtype=np.uint8)


def test_the_difference_by_hand():
    # Half of the pixels are 4 lighter in all channels: after the mean of 2 is taken
    # off, each pixel differs by 2. In the second pair all are 30 lighter: 0.
    images = noise(2)
    half = images[0].copy()
    half[:12] += 4
    thumbnails = np.stack([images[0], half, images[1], images[1] + 30])
    found = near_duplicates(thumbnails, everything)
    assert found.first.tolist() == [2, 0]
    assert found.second.tolist() == [3, 1]
    np.testing.assert_allclose(found.differences, [0, 2], atol=1e-5)


def test_more_than_the_difference_is_no_pair():
    image = noise(1)[0]
    other = image.copy()
    other[::2] += 20  # 10 of each pixel after the mean is taken off
    assert pairs_of(np.stack([image, other])) == []


def test_other_colours_are_no_pair_though_grey_is_the_same():
    image = noise(1)[0]
    other = image[..., [1, 2, 0]]
    assert pairs_of(np.stack([image, other])) == []


def test_images_without_contrast_are_like_no_other():
    assert pairs_of(np.full((3, 24, 12, 3), 90, np.uint8)) == []


def test_only_relevant_pairs_are_compared():
    image = noise(1)[0]
    pids = np.array([1, 1, 2])

    def other_pid(rows, columns):
        return pids[rows, None] != pids[None, columns]

    assert pairs_of(np.stack([image] * 3), other_pid) == [(0, 2), (1, 2)]


def test_blocks_find_what_a_plain_loop_finds(monkeypatch):
    monkeypatch.setattr(near, "_BLOCK", 7)
    thumbnails = noise(40)
    rng = np.random.default_rng(1)
    for copy, original in ((5, 3), (39, 0), (20, 13), (14, 13)):
        step = rng.integers(-4, 5, (24, 12, 3))
        thumbnails[copy] = thumbnails[original] + step
    expected = []
    for i in range(40):
        for j in range(i + 1, 40):
            gap = thumbnails[i].astype(float) - thumbnails[j]
            gap -= gap.mean(axis=(0, 1))
            if np.abs(gap).mean() <= near.DIFFERENCE:
                expected.append((i, j))
    assert len(expected) == 5  # 14 and 20 are copies of one
    assert sorted(pairs_of(thumbnails)) == expected


def test_of_too_many_pairs_the_closest_are_kept(monkeypatch):
    monkeypatch.setattr(near, "MAX_PAIRS", 2)
    image = noise(1)[0].astype(int)
    steps = np.zeros((4, 24, 12, 3), int)
    for index, size in enumerate((0, 1, 3, 8)):  # apart by 1, 3, 8, 2, 7 and 5
        steps[index, ::2], steps[index, 1::2] = size, -size
    found = near_duplicates((image + steps).astype(np.uint8), everything)
    assert found.differences.round(3).tolist() == [1, 2]
    assert list(zip(found.first, found.second, strict=True)) == [(0, 1), (1, 2)]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Paths of 26 drawn images of 6 persons."""
    root = tmp_path_factory.mktemp("drawn")
    counts = {"num_train_pids": 3, "num_test_pids": 3, "images_per_pid": 4}
    write_synthetic(root, **counts, num_cameras=2)
    return sorted(path for path in root.rglob("*.jpg") if path.name[0] != "-")


def test_drawn_people_are_not_near_duplicates_of_each_other(drawn):
    assert pairs_of(image_contents(drawn).thumbnails) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda image, path: image.save(path, quality=30),
        lambda image, path: image.save(path.with_suffix(".png")),
        lambda image, path: image.resize((100, 200)).save(path, quality=90),
        lambda image, path: image.resize((40, 80)).save(path, quality=90),
        lambda image, path: image.point(lambda level: level * 1.05).save(path),
    ],
    ids=["quality 30", "PNG", "larger", "smaller", "lighter"],
)
def test_an_image_that_was_saved_again_is_found(drawn, tmp_path, change):
    with Image.open(drawn[4]) as image:
        change(image, tmp_path / "copy.jpg")
    [copy] = tmp_path.iterdir()
    facts = image_contents([*drawn, copy])
    assert len(set(facts.digests)) == len(drawn) + 1
    assert pairs_of(facts.thumbnails) == [(4, len(drawn))]


def test_facts_tell_damaged_files_from_whole_ones(drawn, tmp_path):
    cut, page = tmp_path / "cut.jpg", tmp_path / "page.jpg"
    cut.write_bytes(drawn[0].read_bytes()[:-400])
    page.write_text("<html>")
    facts = image_contents([drawn[0], cut, page, tmp_path / "missing.jpg"])
    assert facts.errors[0] is None
    assert facts.errors[1] == "is damaged or cut off"
    assert facts.errors[2] == "is neither a JPEG nor a PNG file"
    assert facts.errors[3] == "there is no such file"
    assert facts.formats == ["JPEG", "JPEG", "", ""]
    np.testing.assert_array_equal(facts.sizes[0], [128, 64])  # height, width
    assert facts.digests[3] == b""
    assert not facts.thumbnails[1:].any()


def test_progress_ends_with_all(drawn):
    told = []
    image_contents(drawn, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (len(drawn), len(drawn))
