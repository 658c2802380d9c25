"""What the name of a folder says of its level."""

import re
from collections.abc import Collection

from topdb_tf.data.sightings import GALLERY, QUERY, TEST, TRAIN, VALIDATION

SPLIT, PERSON, CAMERA, UNUSED = "split", "person", "camera", "*"
TRACKLET = "tracklet"
TRAIN_ALL, DISTRACTORS, LEFT_OUT = "train_all", "distractors", "left out"
"""What a folder of a split can be besides a part: training and validation in one,
images of nobody known, or images that no protocol here uses."""

WORDS_OF_PARTS = {
    "train": TRAIN,
    "training": TRAIN,
    "trainval": TRAIN_ALL,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "dev": VALIDATION,
    "test": TEST,
    "testing": TEST,
    "query": QUERY,
    "queries": QUERY,
    "probe": QUERY,
    "probes": QUERY,
    "gallery": GALLERY,
    "galleries": GALLERY,
    "distractor": DISTRACTORS,
    "distractors": DISTRACTORS,
    "junk": LEFT_OUT,
    "multiquery": LEFT_OUT,
    "gt": LEFT_OUT,  # gt_bbox of Market-1501
    "train all": TRAIN_ALL,
    "train val": TRAIN_ALL,
    "multi query": LEFT_OUT,
    "test query": QUERY,
    "test probe": QUERY,
    "test gallery": GALLERY,
    "query test": QUERY,
    "probe test": QUERY,
    "gallery test": GALLERY,
}
_FILLING = {"bounding", "box", "bbox", "set", "split", "data", "image", "images"}
_FILLING |= {"img", "imgs", "crops", "new", "all"}
_CAMERA = re.compile(
    r"(?:c|ch|channel|v|view|cam|camera|kamera|cctv|sensor)[ _-]?\d+"
    r"|(?:cam|camera|kamera|cctv)(?:[a-z]|[ _-]\w+|[ _-]?\d+[ _-]\w+)"
    r"|[\w-]+[ _-](?:cam|camera|kamera|cctv)[ _-]?\d*",
    re.IGNORECASE,
)
_CAMERA_IN_NAME = re.compile(
    r"(?:^|[\W_])(?:c(?:am(?:era)?[ _-]?)?(\d+)|cam(?:era)?[ _-]?([a-z])(?![a-z]))"
    r"|^[\d-]+C(\d+)T\d+F\d+",  # MARS
    re.IGNORECASE,
)
_PERSON = re.compile(
    r"(?:p|person|pid|id|identity|ped|pedestrian|subject|human|people)[ _-]?\d+",
    re.IGNORECASE,
)
_DATE = r"(?:19|20)\d\d([-_. ]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])(?!\d).*"
_GROUP = r"(?:day|date|session|set|batch|part|group|fold|shot)s?[ _-]?\d+"
_PIECE = r"(?:seq|sequence|track|tracklet|clip|video|visit|walk|run)[ _-]?\d+"


def kind_of(names: Collection[str], *, below: bool) -> str | None:
    """Returns what all names of a level say that it is, `None` where they say nothing.

    Below another level, which can be that of persons, `track_7` is a piece of what
    there is of one; else it may well be one.
    """
    unused = [_DATE, _GROUP, *([_PIECE] if below else [])]
    tests = {
        SPLIT: part_of,
        CAMERA: _CAMERA.fullmatch,
        PERSON: _PERSON.fullmatch,
        UNUSED: re.compile("|".join(unused), re.IGNORECASE).fullmatch,
    }
    return next((kind for kind, test in tests.items() if all(map(test, names))), None)


def camera_in(name: str) -> str | None:
    """Returns the camera that the name of an image tells, or `None`.

    Example:
        >>> from topdb_tf.data.trees.words import camera_in
        >>> [camera_in(name) for name in ("anna_c2_1", "x cam-B", "0001C3T0001F001")]
        ['2', 'B', '3']
    """
    match = _CAMERA_IN_NAME.search(name)
    return match and next(filter(None, match.groups()))


def part_of(name: str) -> str | None:
    """Returns the part of a split that a folder's name tells, or `None`.

    Example:
        >>> from topdb_tf.data.trees.words import part_of
        >>> part_of("bounding_box_train"), part_of("querySet"), part_of("anna")
        ('train', 'query', None)
    """
    words = re.findall(r"[^\W\d_]+", name.lower())
    if name.lower() == "bounding_box_test":
        return GALLERY
    words = [re.sub(r"(?<=.)(?:set|data|imgs?|images?)$", "", word) for word in words]
    exact = WORDS_OF_PARTS.get(" ".join(words))
    filled = " ".join(word for word in words if word not in _FILLING)
    return exact or WORDS_OF_PARTS.get(filled)
