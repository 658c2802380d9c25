import numpy as np
import pytest
from PIL import Image

from topdb_tf.data.benchmarks import read_market_layout
from topdb_tf.data.drawn import synthetic
from topdb_tf.data.drawn.cameras import draw_background, random_camera, take_photo
from topdb_tf.data.drawn.people import draw_person, random_person, random_pose
from topdb_tf.data.drawn.synthetic import write_synthetic
from topdb_tf.data.records import load_card

SMALL = {
    "num_train_pids": 3,
    "num_test_pids": 2,
    "images_per_pid": 4,
    "num_cameras": 3,
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return write_synthetic(tmp_path_factory.mktemp("drawn") / "set", **SMALL)


@pytest.fixture
def blank_images(monkeypatch):
    blank = Image.new("RGB", (64, 128))
    monkeypatch.setattr(synthetic, "_draw_image", lambda *_: blank)


def files_of(folder):
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_the_same_seed_draws_the_same_bytes(drawn, tmp_path):
    assert files_of(write_synthetic(tmp_path / "again", **SMALL)) == files_of(drawn)


def test_another_seed_draws_other_images(drawn, tmp_path):
    other = files_of(write_synthetic(tmp_path / "other", seed=1, **SMALL))
    assert not set(other.values()) & set(files_of(drawn).values())


def test_people_stay_the_same_when_the_counts_change(drawn, tmp_path):
    counts = SMALL | {"num_train_pids": 1, "num_test_pids": 1, "images_per_pid": 5}
    more_images = files_of(write_synthetic(tmp_path / "set", **counts))
    before = {name.split("/")[-1]: data for name, data in files_of(drawn).items()}
    after = {name.split("/")[-1]: data for name, data in more_images.items()}
    shared = before.keys() & after.keys()
    assert {name[:4] for name in shared} >= {"0000", "0001", "0002"}
    assert all(before[name] == after[name] for name in shared)


def test_the_loader_of_benchmarks_reads_all_but_the_junk(drawn):
    split = read_market_layout(drawn, name="synthetic")
    assert {record.pid for record in split.train} == {1, 3, 5}
    assert {record.pid for record in split.query} == {2, 4}
    assert {record.pid for record in split.gallery} == {0, 2, 4}
    assert len(split.train) == 3 * 4
    assert len(split.query) == 2 * 1
    assert len(split.gallery) == 2 * 3 + 2
    assert len(list(drawn.glob("bounding_box_test/-1_*.jpg"))) == 1


def test_images_are_128_pixels_high_and_64_wide(drawn):
    with Image.open(next(drawn.glob("query/*.jpg"))) as image:
        assert (image.size, image.mode, image.format) == ((64, 128), "RGB", "JPEG")


@pytest.mark.parametrize(("images_per_pid", "num_cameras"), [(3, 2), (5, 4), (13, 6)])
def test_each_query_has_a_match_in_another_camera(
    images_per_pid, num_cameras, blank_images, tmp_path
):
    folder = write_synthetic(
        tmp_path / "set",
        num_train_pids=1,
        num_test_pids=5,
        images_per_pid=images_per_pid,
        num_cameras=num_cameras,
    )
    split = read_market_layout(folder, name="synthetic")
    assert len({record.pid for record in split.query}) == 5
    for query in split.query:
        camids = {match.camid for match in split.gallery if match.pid == query.pid}
        assert camids - {query.camid}


def test_a_person_has_at_most_one_query_a_camera(blank_images, tmp_path):
    split = read_market_layout(
        write_synthetic(tmp_path / "set", num_train_pids=1, num_test_pids=4),
        name="synthetic",
    )
    seen = [(record.pid, record.camid) for record in split.query]
    assert len(seen) == len(set(seen)) == 4 * 6


def test_the_card_tells_the_counts_of_the_defaults(blank_images, tmp_path):
    split = read_market_layout(write_synthetic(tmp_path / "set"), name="synthetic")
    for part, counts in load_card("synthetic").parts.items():
        records = getattr(split, part)
        found = len(records), len({record.pid for record in records})
        assert found == (counts.images, counts.pids)


def test_progress_counts_up_to_the_number_of_images(blank_images, tmp_path):
    calls = []
    write_synthetic(
        tmp_path / "set", progress=lambda *call: calls.append(call), **SMALL
    )
    assert calls == [(done, 23) for done in range(1, 24)]


def test_an_interrupted_call_leaves_nothing_behind(blank_images, tmp_path):
    def interrupt(done, _):
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_synthetic(tmp_path / "set", progress=interrupt, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_nothing_is_left_beside_it(
    blank_images, tmp_path
):
    folder = tmp_path / "set"
    folder.mkdir()
    assert write_synthetic(folder, **SMALL) == folder
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert len(files_of(folder)) == 23


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="must not exist yet, or be empty"):
        write_synthetic(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("seed", -1),
        ("num_train_pids", 0),
        ("num_train_pids", 5000),
        ("num_test_pids", 0),
        ("num_cameras", 1),
        ("num_cameras", 10),
        ("images_per_pid", 3),
        ("images_per_pid", 100),
    ],
)
def test_counts_out_of_range_are_refused(name, count, tmp_path):
    with pytest.raises(ValueError, match=rf"`{name}` must be .*{name}={count}"):
        write_synthetic(tmp_path / "set", **SMALL | {name: count})
    assert list(tmp_path.iterdir()) == []


def test_a_print_on_the_chest_is_not_seen_from_behind():
    person = random_person(np.random.default_rng(0))
    red_chest = np.zeros((8, 16, 3))
    red_chest[:, 5:11, 0] = 1  # the middle columns face forward
    outfit = person.outfit._replace(torso=red_chest, bags=())
    pose = random_pose(np.random.default_rng(0), yaw=0)

    def red_pixels(yaw):
        canvas = np.zeros((256, 128, 3), np.float32)
        draw_person(
            canvas,
            person._replace(outfit=outfit),
            pose._replace(yaw=yaw),
            foot=(64, 240),
            height=220,
        )
        return np.sum((canvas[..., 0] > 0.5) & (canvas[..., 1] == 0))

    assert red_pixels(0.0) > 500
    assert red_pixels(np.pi) == 0


def test_a_person_outside_the_canvas_leaves_it_as_it_is():
    rng = np.random.default_rng(0)
    canvas = np.zeros((64, 32, 3), np.float32)
    pose = random_pose(rng, yaw=0)
    for foot in ((-200, 60), (300, 60), (16, -50), (16, 300)):
        draw_person(canvas, random_person(rng), pose, foot=foot, height=60)
    assert not canvas.any()


def test_cameras_see_the_same_colours_differently():
    canvas = np.full((256, 128, 3), 0.4, np.float32)
    casts = []
    for camid in range(1, 7):
        rng = np.random.default_rng(camid)
        photos = [take_photo(rng, random_camera(rng, camid), canvas) for _ in range(4)]
        colours = np.mean(photos, axis=(0, 1, 2))
        casts.append(colours / colours.mean())
    apart = np.abs(np.subtract(casts, np.expand_dims(casts, 1))).max(axis=-1)  # (6, 6)
    assert apart[~np.eye(6, dtype=bool)].min() > 0.01


def test_backgrounds_of_one_camera_vary():
    camera = random_camera(np.random.default_rng(0), 1)
    one, other = (draw_background(np.random.default_rng(i), camera) for i in range(2))
    assert one.shape == (256, 128, 3)
    assert np.abs(one - other).mean() > 0.05
