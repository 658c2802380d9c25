"""Which runs and rows of a table may be compared, and what is to be said if not."""

from topdb_tf.data.records import load_card
from topdb_tf.evaluate import published


def notes_on_group(runs: list, label: str) -> list[str]:
    """Checks that the seeds of one cell can be averaged.

    Args:
        runs: Runs of the same settings and data set.
        label: Name of their row.

    Returns:
        Lines about what they lack, or what differs between them.

    Raises:
        ValueError: If they were scored by different protocols.
    """
    notes = []
    dataset = runs[0].config.data.dataset
    for pick in (_protocol, _reranked_protocol):
        having = [run for run in runs if pick(run) is not None]
        for run in having[1:]:
            keys = protocol_differences(pick(having[0]), pick(run))
            if keys:
                raise ValueError(
                    f"{having[0].path} and {run.path} have the same settings, but were "
                    f"scored by different protocols ({', '.join(keys)}). Score them "
                    "again with `topdb-tf evaluate RUN`, or name one of them alone."
                )
    without = [str(run.path) for run in runs if "reranked" not in run.scores]
    if without:
        notes.append(
            f"Not in Table II: {', '.join(without)}. Add the re-ranked scores with "
            "`topdb-tf evaluate RUN --rerank`."
        )
    precisions = sorted({run.precision for run in runs if run.precision})
    if len(precisions) > 1:
        notes.append(
            f"{label} on {dataset}: seeds of different precision "
            f"({', '.join(precisions)})."
        )
    return notes


def notes_on_columns(rows: list, columns: list[str]) -> list[str]:
    """Returns a line for each row of a column that was scored by another protocol."""
    notes = []
    for name in columns:
        first, *others = (row for row in rows if name in row.runs)
        for row in others:
            keys = []
            for pick in (_protocol, _reranked_protocol):
                pair = [pick(r.runs[name][0]) for r in (first, row)]
                if None not in pair:
                    keys += protocol_differences(*pair)
            if keys:
                notes.append(
                    f"{name}: {first.label} and {row.label} were scored by different "
                    f"protocols ({', '.join(dict.fromkeys(keys))})."
                )
    return notes


def notes_on_published(rows: list) -> list[str]:
    """Returns a line for each cell that is no match for the published one beside it."""
    notes = []
    for row in rows:
        for name in sorted(set(row.runs) & set(published.TITLES)):
            others = differences_from_published(name, _protocol(row.runs[name][0]))
            if others:
                notes.append(
                    f"{row.label} on {name} is not comparable with the published "
                    f"figures: {', '.join(others)}."
                )
    return notes


def differences_from_published(dataset: str, protocol: dict) -> list[str]:
    """Returns what of a protocol is not as the paper scored a data set.

    Args:
        dataset: One of `topdb_tf.evaluate.published.TITLES`.
        protocol: As in `scores.json`.

    Returns:
        Texts such as "metric=cosine instead of sqeuclidean"; none: it is the same.
    """
    parts = load_card(dataset).parts
    expected = {
        "metric": "sqeuclidean",
        "ignore_cameras": False,
        "num_queries": parts["query"].images,
        "num_gallery": parts["gallery"].images,
    }
    return [
        f"{key}={protocol.get(key)} instead of {value}"
        for key, value in expected.items()
        if protocol.get(key) != value
    ]


def protocol_differences(protocol: dict, other: dict) -> list[str]:
    """Returns the names of what two protocols of scores do not have in common."""
    keys = sorted(set(protocol) | set(other))
    return [key for key in keys if protocol.get(key) != other.get(key)]


def _protocol(run):
    return run.scores["protocol"]


def _reranked_protocol(run):
    return run.scores["reranked"]["protocol"] if "reranked" in run.scores else None
