"""The embedded data set: drawn people, written in the Market-1501 layout."""

from collections.abc import Callable, Iterator
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from topdb_tf.data.drawn.cameras import (
    HEIGHT,
    WIDTH,
    ZOOM,
    Camera,
    draw_background,
    draw_occluder,
    random_camera,
    take_photo,
)
from topdb_tf.data.drawn.people import Person, draw_person, random_person, random_pose
from topdb_tf.data.market import DISTRACTOR_PID, JUNK_PID, PARTS
from topdb_tf.files import contents_of, whole_folder

_MAX_PIDS = 4999  # pids have four digits; train pids are odd, test pids even
_MAX_CAMERAS = 9  # cameras have one digit

# A person is drawn from [seed, number], its images from [seed, number, index] with
# index 1, 2, …: NumPy pads short seeds with zeros, so 0 would repeat the person's. A
# number is a pid, or starts here for what has no pid of its own.
_DISTRACTORS, _JUNK, _CAMERAS = 10_000, 20_000, 30_000


class _Shot(NamedTuple):
    """One image to draw: which person (a seed), which image of it, where it goes."""

    folder: str
    pid: int
    number: int
    index: int
    camid: int

    @property
    def name(self) -> str:
        pid = f"{JUNK_PID}" if self.pid == JUNK_PID else f"{self.pid:04d}"
        frame = 25 * (self.number % 10_000) + self.index
        return f"{pid}_c{self.camid}s1_{frame:06d}_{self.index:02d}.jpg"


def write_synthetic(
    folder: Path,
    *,
    seed: int = 0,
    num_train_pids: int = 120,
    num_test_pids: int = 80,
    images_per_pid: int = 12,
    num_cameras: int = 6,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draws a re-identification data set and writes it in the Market-1501 layout.

    Training pids are odd, test pids even. All cameras see everybody. The first image
    that a camera takes of a test person is a query if there is a second one; the
    others are the gallery, with as many distractors (pid 0: strangers, empty places)
    as test persons and half as many junk images (pid -1: boxes that miss a person).

    Many people wear the same colours and differ in cut, pattern, print, bag, hair
    and build; each camera has its own light, colour cast, background, blur and
    viewpoint. Colours alone do not tell people apart.

    Equal arguments and versions of NumPy and Pillow give equal files, and a person
    stays the same when the counts change. An interrupted call leaves nothing behind:
    the files are drawn next to `folder` and moved there at the end.

    Args:
        folder: Where the data set goes; must not exist, or be empty.
        seed: Seed of everything that is drawn, at least 0.
        num_train_pids: Number of training persons, in [1, 4999].
        num_test_pids: Number of test persons, in [1, 4999].
        images_per_pid: Number of images of each person, more than `num_cameras` and
            at most 99.
        num_cameras: Number of cameras, in [2, 9].
        progress: Called with the number of images written and to be written.

    Returns:
        `folder`.

    Raises:
        ValueError: If an argument is out of its range, or if `folder` is not empty.
    """
    folder = Path(folder)
    _check_counts(seed, num_train_pids, num_test_pids, images_per_pid, num_cameras)
    _check_empty(folder)
    shots = [
        *_person_shots(seed, num_train_pids, images_per_pid, num_cameras, test=False),
        *_person_shots(seed, num_test_pids, images_per_pid, num_cameras, test=True),
        *_other_shots(DISTRACTOR_PID, _DISTRACTORS, num_test_pids, num_cameras),
        *_other_shots(JUNK_PID, _JUNK, num_test_pids // 2, num_cameras),
    ]
    with whole_folder(folder) as drawn:
        for name in PARTS.values():
            (drawn / name).mkdir()
        images = _draw(seed, shots, num_cameras)
        for done, (shot, image) in enumerate(images, start=1):
            image.save(drawn / shot.folder / shot.name, quality=92)
            if progress is not None:
                progress(done, len(shots))
        if folder.exists():
            folder.rmdir()
    return folder


def _check_counts(
    seed: int, num_train: int, num_test: int, images_per_pid: int, num_cameras: int
) -> None:
    if seed < 0:
        raise ValueError(f"`seed` must be at least 0. Received: seed={seed}")
    for name, count in (("num_train_pids", num_train), ("num_test_pids", num_test)):
        if not 1 <= count <= _MAX_PIDS:
            raise ValueError(
                f"`{name}` must be in [1, {_MAX_PIDS}]. Received: {name}={count}"
            )
    if not 2 <= num_cameras <= _MAX_CAMERAS:
        raise ValueError(
            f"`num_cameras` must be in [2, {_MAX_CAMERAS}]: a person is looked for in "
            f"other cameras. Received: num_cameras={num_cameras}"
        )
    if not num_cameras < images_per_pid <= 99:
        raise ValueError(
            "`images_per_pid` must be more than `num_cameras`, so that there are "
            "queries, and at most 99. "
            f"Received: images_per_pid={images_per_pid}, num_cameras={num_cameras}"
        )


def _check_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or contents_of(folder)):
        raise ValueError(
            "`folder` must not exist yet, or be empty. Delete it to draw the data set "
            f"again. Received: folder={folder}"
        )


def _person_shots(
    seed: int, num_pids: int, images_per_pid: int, num_cameras: int, *, test: bool
) -> Iterator[_Shot]:
    """Yields the images of persons; the cameras take turns, in an order of theirs."""
    for pid in range(2 if test else 1, 2 * num_pids + 1, 2):
        order = np.random.default_rng([seed, pid, 0, 1]).permutation(num_cameras) + 1
        for i in range(images_per_pid):
            camid = int(order[i % num_cameras])
            folder = "bounding_box_test" if test else "bounding_box_train"
            if test and i < num_cameras and i + num_cameras < images_per_pid:
                folder = "query"
            yield _Shot(folder, pid, pid, i + 1, camid)


def _other_shots(pid: int, first: int, count: int, num_cameras: int) -> Iterator[_Shot]:
    """Yields the images of the gallery that nobody looks for."""
    for i in range(count):
        yield _Shot("bounding_box_test", pid, first + i, 1, i % num_cameras + 1)


def _draw(
    seed: int, shots: list[_Shot], num_cameras: int
) -> Iterator[tuple[_Shot, Image.Image]]:
    """Yields each shot with its image."""
    cameras = {
        camid: random_camera(np.random.default_rng([seed, _CAMERAS + camid]), camid)
        for camid in range(1, num_cameras + 1)
    }
    for number, group in groupby(shots, key=attrgetter("number")):
        person = random_person(np.random.default_rng([seed, number]))
        for shot in group:
            rng = np.random.default_rng([seed, number, shot.index])
            yield shot, _draw_image(rng, shot, person, cameras[shot.camid])


def _draw_image(
    rng: np.random.Generator, shot: _Shot, person: Person, camera: Camera
) -> Image.Image:
    canvas = draw_background(rng, camera)
    yaw = camera.yaws[rng.choice(len(camera.yaws), p=(0.6, 0.2, 0.2))]
    pose = random_pose(rng, yaw)
    height = ZOOM * HEIGHT * rng.uniform(0.84, 0.96)
    x = ZOOM * WIDTH * rng.normal(0.5, 0.05)
    y = ZOOM * HEIGHT * 0.5 + height * rng.normal(0.5, 0.025)
    if shot.pid == JUNK_PID:
        height *= rng.uniform(1.6, 2.2)
        x += ZOOM * WIDTH * rng.choice((-0.5, 0.5))
        y += height * rng.uniform(-0.4, 0.4)
    # Every third distractor is an empty place.
    if shot.pid != DISTRACTOR_PID or shot.number % 3:
        draw_person(canvas, person, pose, foot=(x, y), height=height)
    if rng.random() < 0.15:
        draw_occluder(rng, canvas)
    return take_photo(rng, camera, canvas)
