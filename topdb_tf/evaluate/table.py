"""The paper's tables from the runs on disk, beside the figures that it printed."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from topdb_tf.data.benchmarks import dataset_name
from topdb_tf.evaluate import published
from topdb_tf.evaluate.comparability import (
    notes_on_columns,
    notes_on_group,
    notes_on_published,
)
from topdb_tf.evaluate.scores import FIGURES, figures_of, spread
from topdb_tf.runs.folder import RunFolder
from topdb_tf.runs.recipes import (
    flat_settings,
    is_neutral,
    read_config,
    read_recipe,
    recipes,
)
from topdb_tf.runs.settings import Config

_TABLES = (
    ("Table I: without re-ranking", False, published.TABLE_1),
    ("Table II: with k-reciprocal re-ranking", True, published.TABLE_2),
)


class _Run(NamedTuple):
    path: Path
    config: Config
    scores: dict
    precision: str | None

    @property
    def settings(self):
        return _settings(self.config)


class _Row(NamedTuple):
    """Runs of the same settings by data set, each from another seed."""

    label: str
    method: str | None
    runs: dict[str, list[_Run]]


def paper_tables(folders: Sequence[Path]) -> dict:
    """Returns Table I and Table II of the paper for the runs below some folders.

    Runs that differ in the seed and the data set alone make one row. It is named by
    its recipe, or, where the settings are those of no recipe, by its folder, and a
    note then tells them. Whatever is left out or should not be compared is noted.

    Args:
        folders: Folders of runs, of seeds, or of folders of them.

    Returns:
        `tables`: records with `title`, `reranked`, `columns` (names of data sets) and
        `rows`. A row has `label`, `source` (`ours` or `published`) and `cells`, by
        data set `mean_ap` and `rank_1` with `mean`, `deviation` (of a sample; none
        for a single seed) and `num_seeds`, shares in [0, 1]; ours have `runs`.
        `notes`: lines.

    Raises:
        FileNotFoundError: If there is no such folder, or no run with scores.
        ValueError: If runs of the same settings were scored by different protocols.
    """
    notes = []
    runs = _with_short_names(_read_runs(folders, notes))
    runs = _newest_of_each_seed(runs, notes)
    rows = _rows(runs, notes)
    columns = _columns(rows)
    for row in rows:
        for group in row.runs.values():
            notes += notes_on_group(group, row.label)
    notes += notes_on_columns(rows, columns) + notes_on_published(rows)
    tables = [_table(*facts, rows, columns) for facts in _TABLES]
    notes += [published.NOTES[name] for name in columns if name in published.NOTES]
    return {"tables": [table for table in tables if table["rows"]], "notes": notes}


def _read_runs(folders, notes):
    paths = {}
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(
                f"There is no folder {folder}. Train with `topdb-tf fit`, or name the "
                "folder of a run."
            )
        for file in sorted(folder.rglob(RunFolder(folder).config.name)):
            paths.setdefault(file.parent.resolve(), file.parent)
    runs = []
    for path in paths.values():
        run = RunFolder(path)
        if run.scores.is_file():
            environment = _read_json(run.environment) or {}
            precision = (environment.get("precision") or "").split(" ")[0] or None
            config = read_config(run.config)
            runs.append(_Run(path, config, _read_json(run.scores), precision))
        else:
            notes.append(f"Left out: {path}, which has no scores yet.")
    if not runs:
        raise FileNotFoundError(
            f"There is no run with scores below {', '.join(map(str, folders))}. Train "
            "one with `topdb-tf fit`, or name the folder of a run."
        )
    return runs


def _read_json(path):
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON file: {error}. Remove it.") from error


def _with_short_names(runs):
    """Returns the runs with one's own images by name, or by path where names clash."""
    names = {
        run.config.data.dataset: dataset_name(run.config.data.dataset) for run in runs
    }
    common = Counter(names.values())
    renamed = []
    for run in runs:
        path = run.config.data.dataset
        name = names[path] if common[names[path]] == 1 else path
        data = replace(run.config.data, dataset=name)
        renamed.append(run._replace(config=replace(run.config, data=data)))
    return renamed


def _newest_of_each_seed(runs, notes):
    newest = {}
    for run in sorted(runs, key=lambda run: RunFolder(run.path).scores.stat().st_mtime):
        key = (run.settings, run.config.data.dataset, run.config.train.seed)
        if key in newest:
            notes.append(
                f"Left out: {newest[key].path}, as {run.path} is of the same settings "
                "and the same seed."
            )
        newest[key] = run
    return sorted(newest.values(), key=lambda run: (run.config.train.seed, run.path))


def _settings(config):
    settings = flat_settings(config)
    return tuple((key, settings[key]) for key in settings if not is_neutral(key))


def _rows(runs, notes):
    by_settings = {}
    for run in runs:
        groups = by_settings.setdefault(run.settings, {})
        groups.setdefault(run.config.data.dataset, []).append(run)
    known = {_settings(read_recipe(name)): name for name in recipes()}
    rows = []
    for settings, groups in by_settings.items():
        recipe = known.get(settings)
        if recipe is None:
            label, method = _folder_of(next(iter(groups.values()))[0]), None
            notes.append(f"{label}: {_nearest_recipe(settings, known)}.")
        else:
            method = published.METHOD_OF_RECIPE.get(recipe)
            label = f"{method}, recipe {recipe}" if method else f"recipe {recipe}"
        rows.append(_Row(label, method, groups))
    return sorted(rows, key=lambda row: row.label)


def _folder_of(run):
    is_seed = re.fullmatch(r"seed-\d+", run.path.name)
    return str(run.path.parent if is_seed else run.path)


def _nearest_recipe(settings, known):
    def differences(recipe_settings):
        return [
            f"{key}={value}"
            for (key, value), (_, other) in zip(settings, recipe_settings, strict=True)
            if value != other
        ]

    nearest = min(known, key=lambda recipe: len(differences(recipe)))
    return f"recipe {known[nearest]} with {', '.join(differences(nearest))}"


def _columns(rows):
    names = {name for row in rows for name in row.runs}
    order = [*published.TITLES, *sorted(names - set(published.TITLES))]
    return [name for name in order if name in names]


def _table(title, reranked, printed, rows, columns):
    methods = dict.fromkeys(published.METHOD_OF_RECIPE.values())
    lines = []
    for method in (*methods, None):
        own = (_our_row(row, reranked) for row in rows if row.method == method)
        lines += [line for line in own if line["cells"]]
        cells = printed.get(method, {})
        cells = {name: _printed_cell(cells[name]) for name in columns if name in cells}
        if cells:
            label = f"{method}, published"
            lines.append({"label": label, "source": "published", "cells": cells})
    has_ours = any(line["source"] == "ours" for line in lines)
    return {
        "title": title,
        "reranked": reranked,
        "columns": columns,
        "rows": lines if has_ours else [],
    }


def _our_row(row, reranked):
    cells, paths = {}, []
    for name, group in row.runs.items():
        runs = [run for run in group if not reranked or "reranked" in run.scores]
        if runs:
            figures = [
                figures_of(run.scores["reranked"] if reranked else run.scores)
                for run in runs
            ]
            cells[name] = {
                key: spread([figure[key] for figure in figures]) for key in FIGURES
            }
            paths += [str(run.path) for run in runs]
    return {"label": row.label, "source": "ours", "cells": cells, "runs": paths}


def _printed_cell(printed):
    return {
        name: {
            "mean": getattr(printed, name) / 100,
            "deviation": _share(getattr(printed, f"{name}_deviation")),
            "num_seeds": printed.num_seeds,
        }
        for name in FIGURES
    }


def _share(percent):
    return None if percent is None else percent / 100
