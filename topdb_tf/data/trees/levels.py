"""What the levels of a tree of folders are: split, camera, person, or not used."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from topdb_tf.data.market import tells_person
from topdb_tf.data.sightings import QUERY, VALIDATION
from topdb_tf.data.trees.words import (
    CAMERA,
    PERSON,
    SPLIT,
    TRACKLET,
    UNUSED,
    camera_in,
    kind_of,
    part_of,
)
from topdb_tf.texts import listed

AUTO = "auto"
LAYOUT_HELP = (
    "split, person, camera, tracklet, or * for one that is not used, from the top, "
    "such as split/camera/person"
)
PUBLISHED_NAME = re.compile(r"((?:00)?-1|\d+)(?:_c\d+(?:s\d+_|_f)\d{5,}|C\d+T\d+F\d+)")
"""The start of an image's name in Market-1501, DukeMTMC and MARS: the person first."""


class Levels(NamedTuple):
    """What each level of folders is, from the top, and what to tell of it, if anything.

    Without a level of persons the names of the images tell them, as in Market-1501.
    """

    roles: tuple[str, ...]
    note: str = ""

    def __str__(self):
        return "/".join(self.roles)


def parse_layout(text: str) -> Levels:
    """Returns the levels that `data.layout` names, known ones and each of them once."""
    roles = tuple(part.strip() for part in text.split("/"))
    used = [role for role in roles if role != UNUSED]
    known = {SPLIT, PERSON, CAMERA, TRACKLET}
    if not set(used) <= known or len(set(used)) < len(used):
        raise ValueError(
            f"`data.layout` (--layout) must be {AUTO}, or name each level of folders "
            f"once: {LAYOUT_HELP}. Received: {text!r}"
        )
    return Levels(roles)


def judged(images: Sequence[Path], folder: Path) -> Levels:
    """Returns what the levels of folders are, by their names and the shape of the tree.

    Persons are no level whose names repeat below many folders of a smaller number:
    cameras repeat below persons, persons below cameras, and both below the parts of a
    split. Where names do not tell which it is, there must be more persons than cameras.
    Where it is not sure, the error names the most likely reading.

    Paths are relative to the folder, and at least one image is in a folder of its own.
    """
    above, trees = _split_above(images, folder)
    depth = max(map(len, trees)) - 1
    names = [{tree[i] for tree in trees if len(tree) > i + 1} for i in range(depth)]
    kinds = [kind_of(level, below=i > 0) for i, level in enumerate(names)]
    pairs = {tree[:2] for tree in trees if len(tree) > 2}
    roles = _sure_roles(kinds, names, pairs)
    if PERSON not in (roles or [PERSON]) and not all(map(tells_person, images)):
        roles = None
    likely = _likely_roles(kinds, names, pairs)
    is_told = PERSON in likely
    if roles and PERSON in roles and _shows_others(trees, roles.index(PERSON)):
        roles, likely, is_told = None, [UNUSED] * depth, True
    if roles and CAMERA in roles and _has_other_cameras(trees, kinds, roles):
        likely = [UNUSED if role == CAMERA else role for role in roles]
        roles, is_told = None, True
    if roles is None:
        likely = "/".join((*above, *likely))
        raise ValueError(_unsure(folder, likely, names, is_told))
    levels = Levels((*above, *roles))
    as_documented = roles == (PERSON,) or CAMERA in kinds[1:]
    if as_documented and not any(map(part_of, names[0])):
        return levels
    told = [
        f"{role}s are {listed(sorted(level), 3)}"
        for role, level in zip(roles, names, strict=True)
    ]
    told += [] if PERSON in roles else ["the names of the images tell the persons"]
    note = f"Read as {levels}: {'; '.join(told)}. --layout says otherwise."
    return levels._replace(note=note)


def _split_above(images, folder):
    """Returns the level of a split, if there is one, and the paths below it."""
    trees = [path.parts for path in images]
    tops = {tree[0] for tree in trees if len(tree) > 1}
    parts = sorted(filter(part_of, tops))
    if not parts:
        return (), trees
    if len(parts) == len(tops):
        inner = {(tree[1], tree[0]) for tree in trees if len(tree) > 2}
        nested = [pair for pair in inner if part_of(pair[0]) not in (None, VALIDATION)]
        if nested and {top for top, _ in inner} != {top for top, _ in nested}:
            raise ValueError(
                f"{folder}: all parts of a split must lie side by side. "
                f"Received: {' in '.join(min(nested))}"
            )
        return (SPLIT,), [tree[1:] for tree in trees]
    depths = {len(tree) for tree in trees if tree[0] not in parts}
    own = {len(tree) for tree in trees if tree[0] in parts}
    is_name = len(parts) == 1 and part_of(parts[0]) in (VALIDATION, QUERY)
    if is_name and own <= depths and len(tops) > 2:
        return (), trees  # somebody is called Val, or Query
    others = listed(sorted(tops - {*parts}), 3)
    raise ValueError(
        f"{folder}: {listed(parts)} look like parts of a split, and {others} do not. "
        "Move out what is no part, or, if all of them are persons, say so with "
        f"--layout person{'/camera' if max(own) > 2 else ''} (setting data.layout)."
    )


def _sure_roles(kinds, names, pairs):
    """Returns the levels below a split, or `None` where these could be others."""
    if not kinds:
        return ()
    if len(kinds) == 1:
        return {None: (PERSON,), PERSON: (PERSON,), CAMERA: (CAMERA,)}.get(kinds[0])
    if len(kinds) > 2:
        return None
    first, second = kinds
    repeats = len(pairs) > len(names[1])
    if second == CAMERA and first in (None, PERSON):
        return PERSON, CAMERA
    if first == CAMERA and second in (None, PERSON):
        return CAMERA, PERSON
    if not repeats or {first, second} - {None, PERSON} or first == second == PERSON:
        return None
    if second == PERSON:
        return CAMERA, PERSON
    is_wider = _width(names[1]) > _width(names[0]) > 0
    if first == PERSON or (len(names[0]) > len(names[1]) and not is_wider):
        return PERSON, CAMERA
    return None


def _width(names):
    """Returns the digits of names that are numbers, 0 if some are not."""
    return min(map(len, names)) if all(map(str.isdecimal, names)) else 0


def _likely_roles(kinds, names, pairs):
    """Returns the most likely levels where they are not sure."""
    repeats = len(pairs) > max(map(len, names), default=0)
    roles = [UNUSED if kind == SPLIT else kind for kind in kinds]
    kind = CAMERA if None not in roles and roles.count(CAMERA) > 1 else None
    places = [place for place, role in enumerate(roles) if role == kind]
    if PERSON not in roles and places:
        sizes = {place: (_width(names[place]), len(names[place])) for place in places}
        roles[max(places, key=sizes.get)] = PERSON
    for place, role in enumerate(roles):
        if role is None:
            is_camera = repeats and CAMERA not in roles
            roles[place] = CAMERA if is_camera else UNUSED
        elif role in roles[:place]:
            roles[place] = UNUSED
    return roles


def _shows_others(trees, place):
    """Returns whether images named as in a benchmark show many in one's folder."""
    pids = {}
    for tree in trees:
        match = PUBLISHED_NAME.match(tree[-1])
        if match is None:
            return False
        if len(tree) > place + 1:
            pids.setdefault(tree[place], set()).add(match[1])
    return any(len(several) > 1 for several in pids.values())


def _has_other_cameras(trees, kinds, roles):
    """Returns whether images of several cameras, by their names, share a folder."""
    place = roles.index(CAMERA)
    told = {(tree[place], camera_in(Path(tree[-1]).stem)) for tree in trees}
    is_told = kinds[place] != CAMERA and all(camera for _, camera in told)
    return is_told and len(told) > len({folder for folder, _ in told})


def _unsure(folder, likely, names, is_told):
    levels = "; below: ".join(listed(sorted(level), 3) for level in names)
    way_out = f"say so with --layout '{likely}'"
    if not is_told:
        persons = "/".join([SPLIT] * likely.startswith(SPLIT) + [PERSON])
        way_out = (
            "and no name of a folder or image tells the persons: put the images of "
            "each person into a folder, or, if these are persons, say so with "
            f"--layout {persons}"
        )
    return (
        f"{folder}: it is not sure whether the folders ({levels}) are persons, cameras "
        f"or something else. They look like {likely}, {way_out} (setting data.layout); "
        f"or tell what else each level is: {LAYOUT_HELP}."
    )
