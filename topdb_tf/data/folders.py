"""Anybody's own images: a folder for each person."""

import os
from pathlib import Path

from topdb_tf.data.market import (
    OTHER_FORMATS,
    is_image,
    is_left_out,
    note_of_other_formats,
    record_of,
)
from topdb_tf.data.sightings import GALLERY, TRAIN, VALIDATION, Sighting
from topdb_tf.data.trees.levels import (
    AUTO,
    PUBLISHED_NAME,
    Levels,
    judged,
    parse_layout,
)
from topdb_tf.data.trees.name_pattern import CAMID, PID, parse_pattern, told_by_names
from topdb_tf.data.trees.words import (
    CAMERA,
    DISTRACTORS,
    LEFT_OUT,
    PERSON,
    SPLIT,
    TRACKLET,
    TRAIN_ALL,
    UNUSED,
    camera_in,
    kind_of,
    part_of,
)
from topdb_tf.texts import counted, listed, natural_order

LAYOUT = (
    "There must be one folder for each person, people/anna/1.jpg, or within it one for "
    "each camera, people/anna/cam2/1.jpg; or --layout says what the levels are"
)


def read_folders(
    folder: Path, *, layout: str = AUTO, pattern: str | None = None
) -> tuple[list[Sighting], list[str]]:
    """Reads images that lie in a folder for each person.

    Within the folder of a person there can be one for each camera. Where there are
    none, and the name of every image tells its camera (`anna_c2_0001.jpg`), the names
    are believed. Above the persons there can be the parts of a split, by their usual
    names, and cameras. A folder of images alone is read by names as in Market-1501.
    Files that are not images, and hidden ones, are skipped.

    Args:
        folder: The folder.
        layout: What each level of folders is, such as `camera/person`; `auto` judges
            by names and shape.
        pattern: What the names of the images tell, such as `{camid}-{pid}-{n}`.

    Returns:
        The images, sorted by their paths, and notes for the user.
    """
    images, skipped, empty, notes = [], [], [], []
    _look_below(folder, (folder.resolve(),), images, skipped, empty)
    pictures = [path for path in skipped if path.suffix.lower() in OTHER_FORMATS]
    if not images:
        names = listed([path.name for path in pictures], 3)
        received = f" Received images of other formats: {names}." if names else ""
        raise ValueError(
            f"{folder} must hold images, .jpg or .png. {LAYOUT}.{received}"
        )
    inner = folder if layout != AUTO else _innermost(images, folder)
    fields = None if pattern is None else parse_pattern(pattern)
    levels = _levels(images, inner, layout, fields)
    told = told_by_names(images, fields) if fields else [None] * len(images)
    if inner != folder:
        notes.append(f"Read from {inner}, which is alone in {folder}.")
    notes += [levels.note] if levels.note else []
    sightings = [
        _sighting(path, levels, inner, folder, by_name)
        for path, by_name in zip(images, told, strict=True)
    ]
    sightings = _with_parts(sightings, inner, notes)
    if empty:
        names = listed([path.name for path in empty])
        notes.append(f"Folders without images are left out: {names}.")
    notes += note_of_other_formats(pictures)
    skipped = [path.name for path in skipped if path not in pictures]
    if skipped:
        notes.append(f"Skipped, as no images: {listed(skipped, 3)}.")
    return sightings if fields else _with_cameras(sightings, notes), notes


def _look_below(folder, above, images, skipped, empty):
    """Lists what lies in a folder, and then in those within it."""
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            path = folder / entry.name
            if entry.is_dir():
                folders += [] if is_left_out(path) else [path]
            elif not (entry.is_file() or entry.is_symlink()):
                skipped.append(path)  # a pipe would be waited for
            elif not path.name.startswith("."):
                files.append(path)
    number = len(images)
    images += sorted(filter(is_image, files), key=lambda path: path.name)
    skipped += sorted(path for path in files if not is_image(path))
    for inner in sorted(folders, key=lambda path: natural_order(path.name)):
        if inner.resolve() not in above:  # a link to a folder that it lies in
            _look_below(inner, (*above, inner.resolve()), images, skipped, empty)
    if len(images) == number:
        empty.append(folder)


def _innermost(images, folder):
    """Returns the first folder that is not alone: many archives hold one of a name."""
    trees = [path.relative_to(folder).parts for path in images]
    while len({tree[0] for tree in trees}) == 1 and all(
        len(tree) > 2 for tree in trees
    ):
        kinds = [kind_of({tree[i] for tree in trees}, below=i > 0) for i in (0, 1)]
        is_person = kinds[1] == CAMERA and max(map(len, trees)) == 3
        if kinds[0] is not None or is_person:
            break
        folder, trees = folder / trees[0][0], [tree[1:] for tree in trees]
    return folder


def _levels(images, folder, layout, names):
    relative = [path.relative_to(folder) for path in images]
    if layout != AUTO:
        levels = parse_layout(layout)
    elif names and PID in names.fields:
        levels = _levels_above_names(relative, folder)
    else:
        levels = _judged(images, relative, folder)
    if names:
        _check_told_once(names, levels)
    return levels


def _levels_above_names(relative, folder):
    """Returns the levels of a folder whose images' names tell the persons."""
    tops = {path.parts[0] for path in relative if len(path.parts) > 1}
    parts = sorted(filter(part_of, tops))
    if parts and len(parts) < len(tops):
        raise ValueError(
            f"{folder}: {listed(parts)} look like parts of a split, and "
            f"{listed(sorted(tops - {*parts}), 3)} do not. Move out what is no part, "
            "or say that none is, with --layout '*' (setting data.layout)."
        )
    return Levels((SPLIT, UNUSED) if parts else (UNUSED,))


def _check_told_once(names, levels):
    for field, role in ((PID, PERSON), (CAMID, CAMERA)):
        if field in names.fields and role in levels.roles:
            raise ValueError(
                f"The {role} must be told by the pattern of the names or by a level of "
                f"folders, not by both. Received: pattern={names.text!r}, "
                f"layout={str(levels)!r}"
            )
    if PID not in names.fields and PERSON not in levels.roles:
        raise ValueError(
            "The person must be told by {pid} in the pattern of the names, or by a "
            f"level of folders. Received: pattern={names.text!r}, "
            f"layout={str(levels)!r}"
        )


def _judged(images, relative, folder):
    depths = {len(path.parts) for path in relative}
    if 1 not in depths:
        return judged(relative, folder)
    if len(depths) > 1:
        raise ValueError(_misplaced(images[0], folder))
    return Levels(())


def _sighting(path, levels, folder, root, told_by_name):
    """Returns an image; its part is still the name of its folder in the split."""
    roles, told = levels.roles, path.relative_to(folder).parts[:-1]
    must = {SPLIT, PERSON} if PERSON in roles else {SPLIT, CAMERA}
    least = max((i for i, role in enumerate(roles, 1) if role in must), default=0)
    if len(told) < least:
        raise ValueError(_misplaced(path, path.parent))
    if len(told) > len(roles) and roles[-1:] != (UNUSED,):
        deeper = folder.joinpath(*told[: len(roles) + 1])
        raise ValueError(f"{LAYOUT}, and nothing deeper. Received: folder={deeper}")
    by_role = dict(zip(roles, told, strict=False))
    person, camera = by_role.get(PERSON, "").strip(), by_role.get(CAMERA)
    if told_by_name:
        person = (told_by_name.person or person).strip()
        camera = told_by_name.camera or camera
    elif PERSON not in roles:
        try:
            record = record_of(path)
        except ValueError as error:
            raise ValueError(f"{LAYOUT}. {error}") from error
        person, camera = str(record.pid), camera or str(record.camid)
    camera = camera and camera.strip()  # as a list of them is read again
    place = str(path.relative_to(root))
    tracklet = None
    if TRACKLET in by_role:  # such names begin anew in each folder
        tracklet = "/".join(told[: roles.index(TRACKLET) + 1])
    told = person, camera, by_role.get(SPLIT), place
    return Sighting(path, *told, tracklet=tracklet)


def _misplaced(path, folder):
    return f"{LAYOUT}. Received: {path.name} directly in {folder}"


def _with_parts(sightings, folder, notes):
    """Returns the images with the parts of a split that their folders are named by."""
    parts = {one.part: part_of(one.part) for one in sightings if one.part}
    unknown = [name for name, part in parts.items() if part is None]
    if unknown:
        raise ValueError(
            f"{folder}: folders of a split must be train, val, test, query or gallery. "
            f"Received: {listed(unknown)}"
        )
    whole, pieces = [
        {(one.person, one.path.name) for one in sightings if parts.get(one.part) in of}
        for of in ((TRAIN_ALL,), (TRAIN, VALIDATION))
    ]
    if whole and not pieces <= whole:
        raise ValueError(
            f"{folder}: a folder of training and validation together must hold all "
            "images of both. Leave it out, or the two. Received: "
            f"{listed([name for name, part in parts.items() if part == TRAIN_ALL])}"
        )
    unused = {LEFT_OUT, *([TRAIN, VALIDATION] if whole else [])}
    out = [name for name, part in parts.items() if part in unused]
    if out:
        notes.append(f"Folders of the split that are not used: {listed(out)}.")
    numbers = {one.person for one in sightings if one.part not in out}
    nobody = DISTRACTORS if any(n.strip("0") == "" for n in numbers) else "0"
    used = []
    for one in sightings:
        part = parts.get(one.part)
        if part == DISTRACTORS:
            one, part = one._replace(person=nobody), GALLERY
        if one.part not in out:
            used.append(one._replace(part=TRAIN if part == TRAIN_ALL else part))
    asked = [one for one in used if not _is_distractor(one)]
    if len(asked) < len(used):
        notes.append(
            f"{counted(len(used) - len(asked), 'image')} of pid 0 left out: by their "
            "names they are distractors, which belong into a gallery alone."
        )
    other = [f"{n} is {p}" for n, p in parts.items() if n.lower() != p and n not in out]
    if other:
        notes.append(f"Of the folders of the split {listed(other)}.")
    return asked


def _is_distractor(one):
    """Returns whether an image outside a gallery is named as in a benchmark, pid 0."""
    is_published = PUBLISHED_NAME.match(one.path.name) and not one.person.strip("0")
    return is_published and one.part != GALLERY


def _with_cameras(sightings, notes):
    """Returns the images with the cameras that all names tell, if no folder does."""
    if any(one.camera for one in sightings):
        return sightings
    named, silent = [], []
    for one in sightings:
        if camera := camera_in(one.path.stem):
            named.append(one._replace(camera=camera))
        else:
            silent.append(one.path.name)
    if not silent:
        return named
    if named:
        notes.append(
            f"No camera is read from the names of images, as {len(silent):,} of "
            f"{len(sightings):,} do not tell it: {listed(silent, 3)}."
        )
    return sightings
