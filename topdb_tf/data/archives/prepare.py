"""Puts the archive of a public data set where it belongs, and counts it."""

import time
from pathlib import Path

from topdb_tf.data.archives.archive import open_archive
from topdb_tf.data.archives.kinds import KINDS, members_below, recognised
from topdb_tf.data.archives.unpacking import unpack
from topdb_tf.data.benchmarks import data_root
from topdb_tf.data.checks.check import check_data
from topdb_tf.data.market import holds_part
from topdb_tf.data.records import load_card
from topdb_tf.progress import progress_bar

_PROTOCOL = "cuhk03_new_protocol_config_{}.mat"


def prepare(
    archive_path: Path, root: Path | None = None, *, dataset: str | None = None
) -> dict:
    """Unpacks the archive of a public data set, and counts its images.

    Nothing is downloaded. The archive stays as it is.

    Args:
        archive_path: A zip or tar file.
        root: Folder of all benchmarks. Defaults to that of `data_root`.
        dataset: A name in `KINDS`. Defaults to what the members tell.

    Returns:
        `kind`, `archive`, the new `folder`, the numbers of `files`, `bytes` and files
        `left_out`, `checks` by data set (as `check_data` gives them), what to do `next`
        and `seconds`.

    Raises:
        FileNotFoundError: If there is no such file.
        FileExistsError: If the data set is there already.
        ValueError: If the archive cannot be unpacked safely and whole; nothing is
            left of it then.
    """
    if dataset is not None and dataset not in KINDS:
        raise ValueError(
            f"The data set must be one of {', '.join(KINDS)}. "
            f"Received: dataset={dataset!r}"
        )
    start, root = time.monotonic(), data_root(root)
    with open_archive(Path(archive_path)) as archive:
        kind, folder = recognised(archive, dataset)
        _check_absent(kind, root)
        members, target = members_below(archive, folder), root / kind.folder
        with progress_bar(f"unpacking {kind.name} (MiB)") as progress:
            unpack(archive, members, folder, target, progress=progress)
    missing = _missing_protocols(kind, root)
    checks = {}
    for name in () if kind.name == "cuhk03" else kind.datasets:
        if any(holds_part(root / place) for place in load_card(name).folders) or (
            name.startswith("msmt17")
        ):
            checks[name] = check_data(name, root, quick=True)
    return {
        "kind": kind.name,
        "archive": str(archive_path),
        "folder": str(target),
        "files": len(members),
        "bytes": sum(member.size for member in members),
        "left_out": len(archive.members) - len(members),
        "checks": checks,
        "next": _next_steps(kind, root, missing, checks),
        "seconds": round(time.monotonic() - start, 1),
    }


def prepare_lines(result: dict) -> list[str]:
    """Returns what was unpacked, and what comes next, for people."""
    lines = [
        f"{result['kind']}: {result['files']:,} files, {result['bytes'] / 2**20:,.0f} "
        f"MiB, in {result['folder']} ({result['seconds']:.1f} s)"
    ]
    if result["left_out"]:
        lines.append(f"left out: {result['left_out']:,} files that do not belong to it")
    for name, check in result["checks"].items():
        found = [f for f in check["findings"] if f["severity"] == "error"]
        parts = [f"{part} {n['images']:,}" for part, n in check["parts"].items()]
        state = "complete" if not found else "NOT COMPLETE"
        lines.append(f"{name}: {', '.join(parts)} images, {state}")
        lines += [f"error: {one['message']} {one['fix']}" for one in found]
    return [*lines, "next:", *(f"    {step}" for step in result["next"])]


def exit_status(result: dict) -> int:
    """Returns 1 if what was unpacked is not what the card says, else 0."""
    return int(any(check["counts"]["error"] for check in result["checks"].values()))


def _check_absent(kind, root):
    for name in kind.datasets:
        card = load_card(name)
        inside = [place for place in card.folders if holds_part(root / place)]
        if inside and kind.name != "cuhk03":
            raise FileExistsError(
                f"{card.title} is there already, in {root / inside[0]}; nothing is "
                "overwritten. Remove it first, or name another --data-root."
            )


def _missing_protocols(kind, root):
    if kind.name != "cuhk03":
        return []
    names = [_PROTOCOL.format(box) for box in ("labeled", "detected")]
    places = (root / "cuhk03", root / kind.folder)
    return [n for n in names if not any((place / n).is_file() for place in places)]


def _next_steps(kind, root, missing, checks):
    steps = []
    if missing:
        steps.append(
            f"put {' and '.join(missing)} into {root / 'cuhk03'}: datasets/README.md "
            "says where they are"
        )
    for name in checks or kind.datasets:
        steps.append(f"topdb-tf data check {name} --data-root {root}")
        steps.append(f"topdb-tf fit --dataset {name} --data-root {root}")
    return steps
