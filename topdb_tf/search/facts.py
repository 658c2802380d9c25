"""What an index is, for people and programs."""

from pathlib import Path

import numpy as np

from topdb_tf.search.changes import check_index
from topdb_tf.search.index import SearchIndex
from topdb_tf.texts import duration_text, size_text


def index_facts(folder: Path, *, check: bool = False) -> dict:
    """Returns what an index is.

    Args:
        folder: Folder of the index.
        check: Whether all files are read and compared with their checksums.

    Returns:
        `index`, `kind`, `parameters`, `metric`, `dim`, `num_images`, `num_removed`
        (still on the disk), `num_unindexed` (compared one by one until FAISS is given
        them), `num_pids`, `num_camids`, `model` (name and `sha256`, or `None`),
        `bytes_on_disk`, `bytes_in_memory` (approximately, without the mapped
        features), `date` and `checked`.

    Raises:
        FileNotFoundError, ValueError: As `SearchIndex` and `check_index`.
    """
    if check:
        check_index(folder)
    index = SearchIndex(folder)
    manifest, entries = index.manifest, index.entries
    sizes = {name: file.size for name, file in manifest["files"].items()}
    model = manifest.get("model")
    live = entries.live_rows()
    indexed = manifest.get("approximate_rows", len(entries.ids))
    names = ("kind", "parameters", "metric", "dim", "date")
    return {
        "index": str(folder),
        **{name: manifest.get(name) for name in names},
        "num_images": len(live),
        "num_removed": len(entries.ids) - len(live),
        "num_unindexed": int(entries.is_live[indexed:].sum()),
        "num_pids": _num_known(entries.pids[live]),
        "num_camids": _num_known(entries.camids[live]),
        "model": model and {name: model[name] for name in ("name", "sha256")},
        "bytes_on_disk": sum(sizes.values()),
        "bytes_in_memory": sizes.get("approximate", 0) + 2 * sizes["entries"],
        "checked": check,
    }


def index_lines(facts: dict) -> list[str]:
    """Returns what was done to an index, and what it is, for people."""
    lines = [f"left out: {f['path']}: {f['reason']}" for f in facts.get("failures", ())]
    if "num_added" in facts:
        replaced = facts.get("num_replaced", 0)
        lines.append(
            f"{facts['num_added']:,} images added"
            + (f", {replaced:,} of them in the place of older ones" if replaced else "")
            + (
                f"; embedded in {duration_text(facts['seconds'])}"
                * (facts["seconds"] > 0)
            )
        )
    if "removed" in facts:
        lines.append(f"{len(facts['removed']):,} images removed")
    if "num_dropped" in facts:
        lines.append(f"{facts['num_dropped']:,} removed images are gone from the disk")
    settings = [f"{name}={value}" for name, value in facts["parameters"].items()]
    model = facts["model"]
    lines += [
        f"{facts['index']}: {facts['kind']}{' ' * bool(settings)}{' '.join(settings)}, "
        f"{facts['metric']} distance, {facts['dim']} numbers an image",
        f"  {facts['num_images']:,} images, {facts['num_pids']:,} persons, "
        f"{facts['num_camids']:,} cameras",
        f"  model: {model['name'] if model else 'not known'}",
        f"  {size_text(facts['bytes_on_disk'])} on disk, about "
        f"{size_text(facts['bytes_in_memory'])} in memory",
    ]
    if facts["num_unindexed"] and facts["kind"] != "exact":
        lines.append(f"  {facts['num_unindexed']:,} new images are compared one by one")
    if facts["num_removed"]:
        lines.append(
            f"  {facts['num_removed']:,} removed images are still on the disk; "
            f"`topdb-tf index compact {facts['index']}` clears them away"
        )
    return [*lines, *(["  all files are as they were written"] * facts["checked"])]


def _num_known(numbers):
    return len(np.unique(numbers[numbers >= 0]))
