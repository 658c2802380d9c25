"""What a comparison of runs says in words and tables."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from topdb_tf.evaluate.comparability import protocol_differences
from topdb_tf.evaluate.measured import Measured
from topdb_tf.evaluate.scores import figures_of_scores, spread
from topdb_tf.evaluate.trainings import RunGroup
from topdb_tf.report.words import warnings_of
from topdb_tf.retrieval.paired import paired_difference
from topdb_tf.runs.recipes import (
    FREE_SETTINGS,
    flat_settings,
    yaml_text,
)
from topdb_tf.texts import signed, spread_text

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MOST = len(_LETTERS)
_ENVIRONMENT = ("precision", "device", "topdb_tf", "git_commit")


class Compared(NamedTuple):
    """One of the trainings that are compared.

    Args:
        letter: Its short name.
        training: Its runs, one a seed.
        measured: What was measured of its first run.
        scores: Scores of each run, as in `scores.json`.
    """

    letter: str
    training: RunGroup
    measured: Measured
    scores: tuple[dict, ...]

    @property
    def label(self) -> str:
        """Its short name and the name of its folder."""
        return f"{self.letter}: {self.training.label}"

    @property
    def config(self):
        """Settings of its first run."""
        return self.measured.config


def letters(number: int) -> str:
    """Returns short names for some trainings."""
    return _LETTERS[:number]


def comparison_notes(compared: Sequence[Compared]) -> list[str]:
    """Returns lines on what must not be compared, or only with care."""
    first, *others = compared
    notes = []
    for other in others:
        keys = protocol_differences(
            first.measured.scores["protocol"], other.measured.scores["protocol"]
        )
        if keys:
            notes.append(
                f"{first.letter} and {other.letter} are not comparable: they were "
                f"scored on other images or by another protocol ({', '.join(keys)})."
            )
        if first.measured.trained_on != other.measured.trained_on:
            notes.append(
                f"{first.letter} was trained on {first.measured.trained_on}, "
                f"{other.letter} on {other.measured.trained_on}."
            )
    warnings = {one.letter: warnings_of(one.measured) for one in compared}
    for line in dict.fromkeys(line for lines in warnings.values() for line in lines):
        owners = [letter for letter, lines in warnings.items() if line in lines]
        notes.append(f"{', '.join(owners)}: {line}")
    if any(len(one.scores) == 1 for one in compared):
        notes.append(
            "A single run says little of a method: seeds alone move mAP and rank-1. "
            "`topdb-tf fit --seeds 3` trains several."
        )
    return notes


def is_comparable(one: Compared, other: Compared) -> bool:
    """Returns whether two were scored on the same images by the same protocol."""
    protocols = (own.measured.scores["protocol"] for own in (one, other))
    return not protocol_differences(*protocols)


def settings_table(compared: Sequence[Compared]) -> dict:
    """Returns settings and facts of the environment that are not all the same.

    Settings that cannot change a result, such as the folder of the data, are left out.
    """
    columns = [flat_settings(one.config) for one in compared]
    rows = [
        [key, *(yaml_text(column[key]) for column in columns)]
        for key in columns[0]
        if len({str(column[key]) for column in columns}) > 1
        and key not in FREE_SETTINGS
    ]
    facts = [_environment(one) for one in compared]
    rows += [
        [key, *(str(own.get(key)) for own in facts)]
        for key in _ENVIRONMENT
        if len({str(own.get(key)) for own in facts}) > 1
    ]
    return {
        "caption": "Settings, and facts of the environment, that are not the same.",
        "head": ["", *(one.letter for one in compared)],
        "rows": rows,
        "words": True,
    }


def score_rows(compared: Sequence[Compared], *, reranked: bool) -> list[dict]:
    """Returns the scores of each training, and how far they are from the first.

    Args:
        compared: The trainings.
        reranked: Whether the re-ranked scores are meant.

    Returns:
        Records with `letter`, `label`, `num_seeds`, and `scores`: by name `mean`,
        `deviation`, `num_seeds` and `difference` from the first, none where it is not
        comparable.
    """
    rows = []
    for one in compared:
        own = [scores["reranked"] if reranked else scores for scores in one.scores]
        figures = [figures_of_scores(scores) for scores in own]
        spreads = {name: spread([f[name] for f in figures]) for name in figures[0]}
        for name, values in spreads.items():
            values["difference"] = (
                values["mean"] - rows[0]["scores"][name]["mean"]
                if rows and is_comparable(compared[0], one)
                else None
            )
        rows.append(
            {
                "letter": one.letter,
                "label": one.training.label,
                "num_seeds": len(own),
                "scores": spreads,
            }
        )
    return rows


def score_table(rows: list[dict], title: str) -> dict:
    """Returns the table of what `score_rows` returns."""
    names = list(rows[0]["scores"])
    return {
        "caption": f"{title}, in percent; in brackets the difference from A.",
        "head": ["", "seeds", *names],
        "rows": [
            [
                f"{row['letter']}: {row['label']}",
                str(row["num_seeds"]),
                *(_score_text(row["scores"][name]) for name in names),
            ]
            for row in rows
        ],
        "strong": [],
    }


def query_differences(compared: Sequence[Compared]) -> list[dict]:
    """Returns how the queries of the first training fare in each of the others.

    Returns:
        Records with `letter`, `mean`, `low` and `high` of the difference in AP (see
        `topdb_tf.retrieval.paired.paired_difference`), `num_better`, `num_worse`,
        `num_queries`, and `rank_1_gained` and `rank_1_lost`; none of a training that
        is not comparable.
    """
    first, *others = compared
    before = first.measured.plain.lists
    records = []
    for other in others:
        if not is_comparable(first, other):
            continue
        after = other.measured.plain.lists
        found = paired_difference(
            before.average_precision,
            after.average_precision,
            first.measured.retrieval_set.query_pids,
        )
        was, now = before.first_match_rank == 1, after.first_match_rank == 1
        records.append(
            {
                "letter": other.letter,
                **found._asdict(),
                "rank_1_gained": int((now & ~was).sum()),
                "rank_1_lost": int((was & ~now).sum()),
            }
        )
    return records


def difference_table(records: list[dict]) -> dict:
    """Returns the table of what `query_differences` returns."""
    return {
        "caption": "Query by query, beside A: the difference in average precision "
        "with its 95 % interval over the test persons (not over seeds), and at how "
        "many queries.",
        "head": ["", "mAP", "interval", "AP higher", "lower", "rank 1 won", "lost"],
        "rows": [
            [
                record["letter"],
                signed(record["mean"]),
                f"{signed(record['low'])} to {signed(record['high'])}",
                f"{record['num_better']:,}",
                f"{record['num_worse']:,}",
                f"{record['rank_1_gained']:,}",
                f"{record['rank_1_lost']:,}",
            ]
            for record in records
        ],
    }


def _environment(one):
    file = one.measured.run.environment
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _score_text(values):
    text = spread_text(values)
    difference = values["difference"]
    return text if difference is None else f"{text} ({signed(difference)})"
