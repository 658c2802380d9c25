"""The demo: a small network on drawn people, beside what needs no training."""

import time
from pathlib import Path
from typing import NamedTuple

from topdb_tf.evaluate.embedding import Embedder, retrieval_set_of
from topdb_tf.evaluate.scores import read_scores, score_set
from topdb_tf.fit.fit import fit
from topdb_tf.fit.histogram import color_histograms
from topdb_tf.runs.data import read_data
from topdb_tf.runs.settings import Config
from topdb_tf.texts import Say


class WayToRank(NamedTuple):
    """One way to rank the drawn people, and its scores, shares."""

    name: str
    rank_1: float
    mean_ap: float


class DemoTable(NamedTuple):
    """What the demo shows: the run that it leaves, its time, and the ways to rank."""

    run: Path
    seconds: float
    rows: tuple[WayToRank, ...]


def demo(config: Config, run_dir: Path, *, say: Say) -> DemoTable:
    """Trains on the data set of the settings and scores three ways of ranking it."""
    if config.train.strategy == "multiworker":
        raise ValueError("The demo trains in one process: see `topdb-tf fit`.")
    start = time.monotonic()
    run = fit(config, run_dir, say=say)
    import keras

    from topdb_tf.model.extraction import load_embedder

    split = read_data(config.data.dataset, config)
    untrained = keras.models.clone_model(load_embedder(run.model()))
    paths = [record.path for record in split.query + split.gallery]
    histograms = retrieval_set_of(color_histograms(paths), split)
    embedded = Embedder(split, config).retrieval_set(untrained)
    results = {
        "colour histogram": score_set(histograms, config),
        "same network, untrained": score_set(embedded, config),
        "trained network": read_scores(run).plain,
    }
    rows = tuple(
        WayToRank(name, float(result.scores.cmc[0]), result.scores.mean_ap)
        for name, result in results.items()
    )
    return DemoTable(run.path, time.monotonic() - start, rows)


def table_lines(table: DemoTable) -> list[str]:
    """Returns the demo's table for people."""
    lines = [f"{'ranked by':26}{'rank-1':>8}{'mAP':>8}"]
    lines += [f"{row.name:26}{row.rank_1:8.1%}{row.mean_ap:8.1%}" for row in table.rows]
    lines.append(f"{table.seconds:.0f} s in all; the run is in {table.run}")
    return lines
