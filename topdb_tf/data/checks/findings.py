"""What a look over a data set finds."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from topdb_tf.texts import listed

SEVERITIES = ("error", "warning", "note")


class Finding(NamedTuple):
    """Something about a data set that its user should know.

    Args:
        severity: "error": nothing sound can come of the data set as it is;
            "warning": it can be used, but not as one might think; "note": it is as it
            is, and good to know.
        kind: Short name of what was looked for, such as "unreadable".
        message: What is the case.
        fix: What to do about it.
        groups: The files in question; those that belong together, such as a pair of
            the same content, are one group.
    """

    severity: str
    kind: str
    message: str
    fix: str
    groups: tuple[tuple[Path, ...], ...] = ()


def findings_of_files(
    severity: str,
    kind: str,
    what: str,
    fix: str,
    paths: Sequence[Path],
    details: Sequence[str] = (),
) -> list[Finding]:
    """Returns what is the case with some files, if any, and names the first three.

    Args:
        severity: How severe it is, as in `Finding`.
        kind: Short name of what was looked for.
        what: What is the case.
        fix: What to do about it.
        paths: The files, each a group of its own.
        details: What is shown after the name of each file, if anything.
    """
    if not paths:
        return []
    groups = tuple((path,) for path in paths)
    names = [path.name for path in paths]
    if details:
        pairs = zip(names, details, strict=True)
        names = [f"{name} ({detail})" for name, detail in pairs]
    return [Finding(severity, kind, f"{what}: {listed(names, 3)}.", fix, groups)]
