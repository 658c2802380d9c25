"""The paper's tables from the runs on disk, beside the figures that it printed.

A third table holds what runs score on other data sets than they were trained on.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from topdb_tf.data.benchmarks import dataset_name, joined_names
from topdb_tf.evaluate import published
from topdb_tf.evaluate.averages import Spread, check_same_protocol, spread
from topdb_tf.evaluate.comparability import (
    notes_on_columns,
    notes_on_group,
    notes_on_published,
    results_of,
)
from topdb_tf.evaluate.scores import PAPER_METRICS, Scores, read_scores_file
from topdb_tf.evaluate.trainings import deciding_settings
from topdb_tf.files import files_below
from topdb_tf.runs.data import origin_of
from topdb_tf.runs.folder import TEST, Run, open_run
from topdb_tf.runs.nearest import nearest_recipe
from topdb_tf.runs.recipes import settings_text

_TABLES = (
    ("Table I: without re-ranking", False, published.TABLE_1),
    ("Table II: with k-reciprocal re-ranking", True, published.TABLE_2),
)
_TRANSFER = "Trained on the data sets of a row, tested on those of the columns"
OURS, PUBLISHED = "ours", "published"


class ScoredRun(NamedTuple):
    """A run with its scores, and its data set by a short name, or path in a clash."""

    run: Run
    dataset: str
    scores: Scores

    @property
    def settings(self) -> tuple:
        """The settings that make its training what it is."""
        return deciding_settings(self.run.saved)

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.run.saved.train.seed

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Short names of the data sets that it was trained on."""
        return tuple(map(dataset_name, joined_names(self.run.saved.data.dataset)))


class _Row(NamedTuple):
    """Runs of the same settings by data set, each from another seed."""

    label: str
    method: str | None
    scored: dict[str, list[ScoredRun]]


class PaperRow(NamedTuple):
    """One row of a table; `cells` hold scores by data set and key of the metric."""

    label: str
    source: str
    cells: Mapping[str, Mapping[str, Spread]]
    runs: Sequence[str] = ()


class PaperTable(NamedTuple):
    """Table I or II of the paper, or of transfers; its columns are data sets."""

    title: str
    reranked: bool
    columns: Sequence[str]
    rows: Sequence[PaperRow]


class PaperTables(NamedTuple):
    """The tables that there are runs for, and lines on what to compare with care."""

    tables: Sequence[PaperTable]
    notes: Sequence[str]


def paper_tables(folders: Sequence[Path]) -> PaperTables:
    """Returns Table I and Table II of the paper for the runs below some folders.

    Runs of several data sets, and what runs score on other data sets than their own,
    are in a table of transfers, without re-ranking.

    Runs that differ in the seed and the data set alone make one row. It is named by
    its recipe, or, where the settings are those of no recipe, by its folder, and a
    note then tells them. Whatever is left out or should not be compared is noted.
    Folders are those of runs, of seeds, or of folders of them.
    """
    notes = []
    scored = _newest_of_each_seed(_scored_runs(folders, notes), notes)
    every_row = _rows(scored, notes)
    rows = [row for row in map(_of_one_data_set, every_row) if row.scored]
    columns = _columns(rows)
    for row in rows:
        for group in row.scored.values():
            notes += notes_on_group(group, row.label)
    notes += notes_on_columns(rows, columns) + notes_on_published(rows)
    tables = [_table(*table, rows, columns) for table in _TABLES]
    tables.append(_transfers(every_row, notes))
    notes += [published.NOTES[name] for name in columns if name in published.NOTES]
    return PaperTables([table for table in tables if table.rows], notes)


def _scored_runs(folders, notes):
    paths = {}
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(
                f"There is no folder {folder}. Train with `topdb-tf fit`, or name the "
                "folder of a run."
            )
        for file in files_below(folder):
            if file.name == "config.yaml":
                paths.setdefault(file.parent.resolve(), file.parent)
    scored = {}
    for path in paths.values():
        run = open_run(path)
        scores = read_scores_file(run.folder.scores)
        if scores is None:
            notes.append(f"Left out: {path}, which has no scores yet.")
        else:
            scored[run] = scores
    if not scored:
        raise FileNotFoundError(
            f"There is no run with scores below {', '.join(map(str, folders))}. Train "
            "one with `topdb-tf fit`, or name the folder of a run."
        )
    # One's own images are called by name, or by path where two have the same name.
    names = {run.saved.data.dataset for run in scored}
    short = {name: dataset_name(name) for name in names}
    common = Counter(short.values())
    short = {n: name if common[name] == 1 else n for n, name in short.items()}
    return [
        ScoredRun(run, short[run.saved.data.dataset], scores)
        for run, scores in scored.items()
    ]


def _newest_of_each_seed(scored, notes):
    newest = {}
    for one in sorted(scored, key=lambda one: one.run.folder.scores.stat().st_mtime):
        key = (one.settings, one.dataset, one.seed)
        if key in newest:
            notes.append(
                f"Left out: {newest[key].run.path}, as {one.run.path} is of the same "
                "settings and the same seed."
            )
        newest[key] = one
    return sorted(newest.values(), key=lambda one: (one.seed, one.run.path))


def _rows(scored, notes):
    by_settings = {}
    for one in scored:
        groups = by_settings.setdefault(one.settings, {})
        groups.setdefault(one.dataset, []).append(one)
    rows = []
    for groups in by_settings.values():
        first = next(iter(groups.values()))[0]
        near = nearest_recipe(first.run.saved)
        if near.departures:
            path, method = first.run.path, None
            is_seed = re.fullmatch(r"seed-\d+", path.name)
            label = str(path.parent if is_seed else path)
            changes = settings_text(near.departures)
            notes.append(f"{label}: recipe {near.name} with {changes}.")
        else:
            method = published.METHOD_OF_RECIPE.get(near.name)
            label = f"recipe {near.name}"
            label = f"{method}, {label}" if method else label
        rows.append(_Row(label, method, groups))
    return sorted(rows, key=lambda row: row.label)


def _columns(rows):
    names = {name for row in rows for name in row.scored}
    order = [*published.TITLES, *sorted(names - set(published.TITLES))]
    return [name for name in order if name in names]


def _table(title, reranked, printed, rows, columns):
    methods = dict.fromkeys(published.METHOD_OF_RECIPE.values())
    lines, has_ours = [], False
    for method in (*methods, None):
        ours = [_our_row(row, reranked) for row in rows if row.method == method]
        ours = [row for row in ours if row.cells]
        has_ours |= bool(ours)
        lines += ours
        cells = printed.get(method, {})
        cells = {name: printed_scores(cells[name]) for name in columns if name in cells}
        if cells:
            lines.append(PaperRow(f"{method}, published", PUBLISHED, cells))
    return PaperTable(title, reranked, columns, lines if has_ours else [])


def _of_one_data_set(row):
    """Returns a row without the runs of several data sets."""
    groups = row.scored.items()
    return row._replace(
        scored={name: runs for name, runs in groups if len(runs[0].trained_on) == 1}
    )


def _transfers(rows, notes):
    """Returns the table of runs that were tested on other data sets, or on several."""
    lines, protocols = [], {}
    for row in rows:
        for trained_on, group in row.scored.items():
            tested = {}
            for one in group:
                for name, result in _tested(one).items():
                    tested.setdefault(name, {})[str(one.run.path)] = result
            own = group[0].trained_on
            if tuple(tested) == own and len(own) == 1:
                continue
            for results in tested.values():
                check_same_protocol(results)
            cells = {
                name: {
                    metric.key: spread([metric.of(one) for one in results.values()])
                    for metric in PAPER_METRICS
                }
                for name, results in tested.items()
            }
            paths = [str(one.run.path) for one in group]
            lines.append(PaperRow(f"{trained_on}, {row.label}", OURS, cells, paths))
            for name in tested:
                if text := published.transfer_name(own, name):
                    protocols[f"{trained_on} -> {name}: {text}."] = None
    notes += protocols
    if lines:
        notes.append(
            "Where a row was trained on a column's data set, the test persons alone "
            "are new to the model; its people and cameras are no unseen domain."
        )
    names = {name for line in lines for name in line.cells}
    order = [*published.TITLES, *sorted(names - set(published.TITLES))]
    return PaperTable(_TRANSFER, False, [n for n in order if n in names], lines)


def _tested(one):
    """Returns the plain results of a run's model on the tests that its folder has.

    They are by the protocol of its settings; of several data sets each is by itself.
    """
    saved, results = one.run.saved.evaluation, {}
    for file in sorted(one.run.path.glob("scores*.json")):
        scores = read_scores_file(file)
        protocol = scores.plain.protocol
        is_main = scores.part == TEST and protocol.metric == saved.metric
        is_main &= not protocol.changes()
        is_main &= scores.model in (None, one.run.folder.embedder.name)
        if protocol.cameras != "none":
            is_main &= protocol.ignore_cameras == saved.ignore_cameras
        if not is_main:
            continue
        origin = scores.origin or origin_of(one.dataset, None)
        place = origin.path or origin.dataset
        places = joined_names(place) if scores.data_sets else (place,)
        for place, part in zip(places, scores.data_sets or (scores,), strict=False):
            results[place] = part.plain
    short = [dataset_name(place) for place in results]
    return {
        name if short.count(name) == 1 else place: result
        for name, (place, result) in zip(short, results.items(), strict=True)
    }


def _our_row(row, reranked):
    cells, paths = {}, []
    for name, group in row.scored.items():
        if results := results_of(group, reranked=reranked):
            cells[name] = {
                metric.key: spread([metric.of(result) for result in results.values()])
                for metric in PAPER_METRICS
            }
            paths += results
    return PaperRow(row.label, OURS, cells, paths)


def printed_scores(printed: published.Published) -> Mapping[str, Spread]:
    """Returns what the paper printed, as far as it did, by the key of the metric."""
    cell = {}
    for metric in PAPER_METRICS:
        percent = getattr(printed, metric.key, None)
        if percent is not None:
            deviation = getattr(printed, f"{metric.key}_deviation")
            share = None if deviation is None else deviation / 100
            cell[metric.key] = Spread(percent / 100, share, printed.num_seeds)
    return cell
