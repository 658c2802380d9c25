"""Which rows of a table may be compared, and what is to be said if not."""

from collections.abc import Mapping

from topdb_tf.data.records import load_card
from topdb_tf.evaluate import published
from topdb_tf.evaluate.averages import check_same_protocol
from topdb_tf.retrieval.protocol import Protocol, RetrievalResult


def notes_on_group(scored: list, label: str) -> list[str]:
    """Checks that the seeds of one cell can be averaged.

    Returned are lines about what these `topdb_tf.evaluate.table.ScoredRun`, of the same
    settings and data set, lack, or what differs between them.
    """
    notes = []
    for reranked in (False, True):
        if results := results_of(scored, reranked=reranked):
            check_same_protocol(results)
    without = [str(one.run.path) for one in scored if one.scores.reranked is None]
    if without:
        notes.append(
            f"Not in Table II: {', '.join(without)}. Add the re-ranked scores with "
            "`topdb-tf evaluate RUN --rerank`."
        )
    precisions = [one.run.environment.precision for one in scored]
    names = sorted({precision.name for precision in precisions if precision})
    if len(names) > 1:
        notes.append(
            f"{label} on {scored[0].dataset}: seeds of different precision "
            f"({', '.join(names)})."
        )
    return notes


def results_of(scored: list, *, reranked: bool) -> Mapping[str, RetrievalResult]:
    """Returns the plain or re-ranked results that runs have, by their folders."""
    results = {
        str(one.run.path): one.scores.result(reranked=reranked) for one in scored
    }
    return {path: result for path, result in results.items() if result}


def notes_on_columns(rows: list, columns: list[str]) -> list[str]:
    """Returns a line for each row of a column that was scored by another protocol."""
    notes = []
    for name in columns:
        first, *others = (row for row in rows if name in row.scored)
        for row in others:
            keys = []
            for reranked in (False, True):
                pair = [
                    r.scored[name][0].scores.result(reranked=reranked)
                    for r in (first, row)
                ]
                if None not in pair:
                    keys += pair[0].protocol.differences(pair[1].protocol)
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
        for name in sorted(set(row.scored) & set(published.TITLES)):
            protocol = row.scored[name][0].scores.plain.protocol
            others = differences_from_published(name, protocol)
            if others:
                notes.append(
                    f"{row.label} on {name} is not comparable with the published "
                    f"figures: {', '.join(others)}."
                )
    return notes


def differences_from_published(dataset: str, protocol: Protocol) -> list[str]:
    """Returns what is not as the paper scored a data set, one of `published.TITLES`.

    The texts are such as "metric=cosine instead of sqeuclidean".
    """
    parts = load_card(dataset).parts
    expected = {
        "metric": "sqeuclidean",
        "ignore_cameras": False,
        "camera_normalization": None,
        "tracklets": None,
        "num_queries": parts["query"].images,
        "num_gallery": parts["gallery"].images,
    }
    return [
        f"{key}={getattr(protocol, key)} instead of {value}"
        for key, value in expected.items()
        if getattr(protocol, key) != value
    ]
