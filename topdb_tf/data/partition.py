"""Training, queries and gallery from images that were not divided yet.

Identities of a training that is given can be held out of it, to validate on.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from topdb_tf.data.records import ImageRecord, Split
from topdb_tf.data.sightings import (
    GALLERY,
    QUERY,
    TEST,
    TRAIN,
    VALIDATION,
    Sighting,
    camera_numbers,
    check_contradictions,
    check_tracks,
    person_numbers,
    tracks_of,
    with_ids,
)
from topdb_tf.texts import listed, natural_order

TEST_SHARE, DIVISION_SEED = 0.3, 1
LEAST_PERSONS = 2  # on either side

_WAY_OUT = (
    "Add images, or count matches by the same camera: --ignore-cameras "
    "(fit: --set evaluation.ignore_cameras=true)."
)


def split_of(
    sightings: Sequence[Sighting],
    *,
    name: str,
    source: Path,
    test_share: float = TEST_SHARE,
    division_seed: int = DIVISION_SEED,
    ignore_cameras: bool = False,
    notes: Sequence[str] = (),
) -> Split:
    """Numbers persons and cameras, and makes the parts that are not given.

    Where no parts are given, or training alone, the identities are divided: a share
    that the seed draws is for the test, of those that can be found again. Of each test
    identity one image a camera is a query, as long as the gallery keeps an image of it
    by another camera (without cameras: another image). The draw depends on the names
    of persons, cameras and files alone, not on where they lie or on the others.

    Args:
        sightings: The images.
        name: Name of the split.
        source: The file or folder that was read; for errors.
        test_share: Share of the identities that are for the test, in (0, 1).
        division_seed: Seed of the draws.
        ignore_cameras: Whether images by one camera count as matches, so that an
            identity seen by a single camera can be for the test.
        notes: What its reader should tell the user, before what is found here.
    """
    notes = list(notes)
    sightings = with_ids(list(sightings), source, notes)
    check_contradictions(sightings, source)
    check_tracks(tracks_of(sightings), source)
    cameras = camera_numbers(sightings, source)
    sightings = _known_parts(sightings, source, notes)
    given = {one.part for one in sightings}
    draw = _Draw(division_seed, alike=ignore_cameras or not cameras)
    if not given & {TEST, QUERY}:
        sightings = _divided(sightings, source, test_share, draw, notes)
    if QUERY not in given:
        sightings = _with_queries(sightings, source, draw, notes)
    pids = person_numbers(sightings)
    parts = {part: [] for part in (TRAIN, QUERY, GALLERY)}
    for one in sightings:
        pid, camid = pids[one.person], cameras.get(one.camera, 1)
        parts[one.part].append(ImageRecord(one.path, pid, camid, tracklet=one.tracklet))
    has_cameras = len({one.camid for one in parts[QUERY] + parts[GALLERY]}) != 1
    if not has_cameras:
        why = "are all of one camera" if cameras else "tell no camera, or all the same"
        notes.append(
            f"No cameras: the test images {why}, so matches by the same camera count. "
            "Such scores cannot be compared with those of the benchmarks."
        )
    return Split(
        name,
        **{part: tuple(records) for part, records in parts.items()},
        has_cameras=has_cameras,
        pid_names={pid: person for person, pid in pids.items()},
        camera_names={number: camera for camera, number in cameras.items()},
        notes=tuple(notes),
    )


def hold_out(
    split: Split, share: float, *, division_seed: int, ignore_cameras: bool = False
) -> tuple[Split, Split]:
    """Returns a data set without some training identities, and one to validate on.

    The second has the same training, and the images of a share of the training
    identities as queries and gallery, drawn as `split_of` draws those of a test.

    Raises:
        ValueError: If there are too few identities that can be found again.
    """
    cameras = {record.camid for record in split.train}
    draw = _Draw(division_seed, alike=ignore_cameras or len(cameras) == 1)
    names = split.pid_name, split.camera_name
    seen = [
        Sighting(one.path, names[0](one.pid), names[1](one.camid), TRAIN, split.name)
        for one in split.train
    ]
    drawn, _ = _drawn(seen, split.name, share, draw, "training and validation")
    seen = [one._replace(part=TEST) if one.person in drawn else one for one in seen]
    seen = _with_queries(seen, split.name, draw, [])
    parts = {part: [] for part in (TRAIN, QUERY, GALLERY)}
    for record, one in zip(split.train, seen, strict=True):
        parts[one.part].append(record)
    parts = {part: tuple(records) for part, records in parts.items()}
    seen_by = {record.camid for record in parts[QUERY] + parts[GALLERY]}
    validation = replace(split, **parts, has_cameras=len(seen_by) > 1, notes=())
    return replace(split, train=parts[TRAIN]), validation


class _Draw(NamedTuple):
    """Draws by names, so that a draw does not depend on what else there is."""

    seed: int
    alike: bool  # whether all cameras count as one

    def key(self, *what):
        """Returns what the drawn are sorted by."""
        return hashlib.sha256(repr((self.seed, *what)).encode()).hexdigest()

    def can_be_found(self, images):
        """Returns whether a person has a match for a query."""
        return len({one.path if self.alike else one.camera for one in images}) > 1

    @property
    def other(self):
        """What a match must be, for people."""
        return "a second image" if self.alike else "an image by another camera"


def _known_parts(sightings, source, notes):
    """Returns the images with `val` as training or test."""
    without = [one for one in sightings if one.part is None]
    if without and len(without) < len(sightings):
        raise ValueError(
            f"{source}: the split must be told for all images, or for none. "
            f"{len(without):,} of {len(sightings):,} have none: "
            f"{listed([one.place for one in without])}."
        )
    given = {one.part for one in sightings} - {None}
    has_both = TEST in given and given & {QUERY, GALLERY}
    if has_both or len(given & {QUERY, GALLERY}) == 1:
        raise ValueError(
            f"{source}: the split must name `query` and `gallery`, or `test`, from "
            "which queries are drawn. Is `test` the gallery? Name it so. Received: "
            f"{', '.join(sorted(given))}"
        )
    if VALIDATION not in given:
        return sightings
    role = TRAIN if given & {TEST, QUERY} else TEST
    use = "trained on too" if role == TRAIN else "what the model is tested on"
    notes.append(f"The images of `val` are {use}.")
    return [
        one._replace(part=role) if one.part == VALIDATION else one for one in sightings
    ]


def _divided(sightings, source, test_share, draw, notes):
    """Returns the images as training or test, by identities."""
    if not 0 < test_share < 1:
        raise ValueError(
            "`data.test_share` must be a share of the identities, in (0, 1). "
            f"Received: test_share={test_share}"
        )
    tested, unable = _drawn(sightings, source, test_share, draw, "training and test")
    others = len({one.person for one in sightings} - tested)
    notes.append(
        f"The identities were divided, {others:,} to train on and "
        f"{len(tested):,} to test (data.test_share={test_share:g}, data.division_seed="
        f"{draw.seed})."
    )
    if unable:
        notes.append(
            f"Of these, {unable:,} do not have {draw.other}; such are only trained on."
        )
    return [
        one._replace(part=TEST if one.person in tested else TRAIN) for one in sightings
    ]


def _drawn(sightings, source, share, draw, parts):
    """Returns a share of the persons, and how many could not be found again."""
    persons = _by_person(sightings)
    order = sorted(persons, key=draw.key)
    able = [person for person in order if draw.can_be_found(persons[person])]
    wanted = max(LEAST_PERSONS, round(share * len(persons)))
    number = min(wanted, len(able), len(persons) - LEAST_PERSONS)
    if number < LEAST_PERSONS:
        raise ValueError(
            f"{source}: to be divided into {parts}, the images must show at "
            f"least {2 * LEAST_PERSONS} identities, {LEAST_PERSONS} of them with "
            f"{draw.other}. Received: {len(persons)} identities, {len(able)} of them "
            f"such. {_WAY_OUT}"
        )
    return set(able[:number]), len(persons) - len(able)


def _with_queries(sightings, source, draw, notes):
    """Returns the images of `test` as queries or gallery."""
    tests = [one for one in sightings if one.part == TEST]
    if len({one.camera for one in tests}) == 1:
        draw = _Draw(draw.seed, alike=True)
    queries = set()
    for person, images in _by_person(tests).items():
        queries |= _queries_of(person, images, draw)
    if not queries:
        raise ValueError(
            f"{source}: no person of the test has {draw.other}, so there is no "
            f"query. {_WAY_OUT}"
        )
    tracks = {one.tracklet for one in tests if one.path in queries} - {None}
    if not draw.alike:  # all of a track is asked for; by one camera it is no match
        queries |= {one.path for one in tests if one.tracklet in tracks}
    notes.append(
        f"Queries were drawn, one a {'person' if draw.alike else 'camera'}: "
        f"{len(queries):,}, with {len(tests) - len(queries):,} images in the gallery."
    )
    parts = {one.path: QUERY if one.path in queries else GALLERY for one in tests}
    return [one._replace(part=parts.get(one.path, one.part)) for one in sightings]


def _queries_of(person, images, draw):
    """Returns the paths of a person's queries: one a camera while matches are left."""
    views = {}
    for one in images:
        views.setdefault(None if draw.alike else one.camera, []).append(one.path)
    left = {camera: len(paths) for camera, paths in views.items()}
    asked, queries = [], set()
    for camera in sorted(views, key=lambda camera: natural_order(camera or "")):
        left[camera] -= 1
        kept = {other for other, count in left.items() if count}
        matches = [kept if draw.alike else kept - {c} for c in [*asked, camera]]
        if not all(matches):
            left[camera] += 1
            continue
        asked.append(camera)
        paths = sorted(views[camera])
        queries.add(min(paths, key=lambda path: draw.key(person, camera, path.name)))
    return queries


def _by_person(sightings):
    persons = {}
    for one in sightings:
        persons.setdefault(one.person, []).append(one)
    return persons
