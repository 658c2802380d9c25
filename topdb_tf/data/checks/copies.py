"""Images that are copies of each other, to the byte or nearly, and what that means."""

from collections.abc import Callable

import numpy as np

from topdb_tf.data.checks.findings import Finding
from topdb_tf.data.checks.image_contents import ImageContents
from topdb_tf.data.checks.image_index import ImageIndex
from topdb_tf.data.checks.near_duplicates import near_duplicates
from topdb_tf.data.market import DISTRACTOR_PID
from topdb_tf.texts import counted, listed


def check_copies(images: ImageIndex, contents: ImageContents) -> list[Finding]:
    """Finds files of the same content, and tells the harmful from the harmless."""
    indices_of = {}
    for index, digest in enumerate(contents.digests):
        if digest:
            indices_of.setdefault(digest, []).append(index)
    copies = {kind: [] for kind in _RULES}
    for indices in indices_of.values():
        if len(indices) > 1:
            copies[_kind_of_copies(images, indices)].append(indices)
    return _findings(images, copies, "group")


def check_near_duplicates(
    images: ImageIndex,
    contents: ImageContents,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Finds pictures that are nearly the same where they should not be.

    Those are pairs in training and test, of two persons, or of two cameras; images of
    one person by one camera follow each other and are alike by nature. Copies to the
    byte are left to `check_copies`. `progress` is called with the numbers of blocks of
    pairs done and to do.
    """
    trained, unknown = images.is_trained, images.pids == DISTRACTOR_PID
    digests = np.array([digest.hex() for digest in contents.digests])

    def is_relevant(rows, columns):
        def differ(values):
            return values[rows, None] != values[None, columns]

        strangers = unknown[rows, None] & unknown[None, columns]
        odd = differ(trained) | differ(images.pids) | differ(images.camids)
        return odd & differ(digests) & ~(strangers & ~differ(trained))

    near = near_duplicates(contents.thumbnails, is_relevant, progress=progress)
    first, second = near.first, near.second
    pairs = np.stack([first, second], axis=1)
    crosses = trained[first] != trained[second]
    strange = unknown[first] | unknown[second]
    other = images.pids[first] != images.pids[second]
    pairs_of_kind = {
        "near-train-test": pairs[crosses],
        "near-pids": pairs[~crosses & other & ~strange],
        "near-distractor": pairs[~crosses & other & strange],
        "near-cameras": pairs[~crosses & ~other],
    }
    return _findings(images, pairs_of_kind, "pair")


# Severity, message and what to do, by the kind of finding.
_RULES = {
    "copy-train-test": (
        "error",
        "The same file is in training and in test, {}: {}.",
        "Remove one of each: the scores would be of images that were trained on.",
    ),
    "copy-pids": (
        "error",
        "The same file has different pids, {}: {}.",
        "Find out who is shown, and keep one of each.",
    ),
    "copy-cameras": (
        "error",
        "The same file of one person has different camids, {}: {}.",
        "Find out which camera it was, and keep one: in a test such a match by "
        "another camera is found at once.",
    ),
    "copy-query-gallery": (
        "note",
        "The same file is query and in the gallery, {}: {}.",
        "Nothing has to be done where cameras are known: a query's own camera is not "
        "ranked.",
    ),
    "copy": (
        "warning",
        "The same file is twice in one part, {}: {}.",
        "Keep one of each: a copy adds nothing, and is counted twice.",
    ),
    "near-train-test": (
        "warning",
        "Nearly the same picture is in training and in test, {}: {}.",
        "Look at them. If they are the same photo, remove one of each: the scores "
        "would be of images that were trained on.",
    ),
    "near-pids": (
        "warning",
        "Nearly the same picture has two pids, {}: {}.",
        "Look at them: one pid may be wrong, or two pids one person.",
    ),
    "near-distractor": (
        "warning",
        "Nearly the same picture shows a distractor and a person, {}: {}.",
        "Look at them: a match that is right is counted as wrong.",
    ),
    "near-cameras": (
        "warning",
        "Nearly the same picture has two camids, {}: {}.",
        "Look at them: one camid may be wrong.",
    ),
}


def _kind_of_copies(images, indices):
    parts = set(images.parts[indices])
    if "train" in parts and len(parts) > 1:
        return "copy-train-test"
    if len(set(images.pids[indices])) > 1:
        return "copy-pids"
    if len(set(images.camids[indices])) > 1:
        return "copy-cameras"
    once = len(parts) == len(indices)
    return "copy-query-gallery" if once else "copy"


def _findings(images, groups_of_kind, noun):
    """Returns a finding for each kind of which there are groups of images."""
    findings = []
    for kind, groups in groups_of_kind.items():
        if len(groups):
            severity, message, fix = _RULES[kind]
            names = listed([_names(images, indices) for indices in groups], 2)
            message = message.format(counted(len(groups), noun), names)
            files = tuple(images.group(indices) for indices in groups)
            findings.append(Finding(severity, kind, message, fix, files))
    return findings


def _names(images, indices):
    paths = images.group(indices)
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = [f"{path.parent.name}/{path.name}" for path in paths]
    return " = ".join(names[:3]) + (" = …" if len(names) > 3 else "")
