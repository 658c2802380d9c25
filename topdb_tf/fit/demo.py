"""The demo: a small network on drawn people, beside what needs no training."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from topdb_tf.evaluate.embedding import Embeddings, retrieval_set_of
from topdb_tf.evaluate.evaluate import read_data
from topdb_tf.evaluate.scores import score_set
from topdb_tf.fit.fit import fit
from topdb_tf.fit.histogram import color_histograms
from topdb_tf.runs.settings import Config


def demo(config: Config, run_dir: Path, *, say: Callable[[str], None]) -> dict:
    """Trains on the data set of the settings and scores three ways of ranking it.

    Args:
        config: Settings of the training.
        run_dir: The run's folder, new or empty.
        say: Function that shows a line.

    Returns:
        `run`, `seconds`, and `rows`: for each way its `name`, `rank_1` and `mean_ap`.
    """
    if config.train.strategy == "multiworker":
        raise ValueError("The demo trains in one process: see `topdb-tf fit`.")
    start = time.monotonic()
    run = fit(config, run_dir, say=say)
    import keras

    from topdb_tf.model.extraction import load_embedder

    split = read_data(config.data.dataset, config)
    untrained = keras.models.clone_model(load_embedder(run.embedder))
    histograms = color_histograms(
        [record.path for record in split.query + split.gallery]
    )
    sets = {
        "colour histogram": retrieval_set_of(histograms, split),
        "same network, untrained": Embeddings(split, config).retrieval_set(untrained),
    }
    scores = {name: score_set(s, config).to_dict() for name, s in sets.items()}
    scores["trained network"] = json.loads(run.scores.read_text(encoding="utf-8"))
    rows = [
        {"name": name, "rank_1": result["cmc"]["1"], "mean_ap": result["mean_ap"]}
        for name, result in scores.items()
    ]
    return {
        "run": str(run.path),
        "seconds": time.monotonic() - start,
        "rows": rows,
    }


def table_lines(table: dict) -> list[str]:
    """Returns the demo's table for people."""
    lines = [f"{'ranked by':26}{'rank-1':>8}{'mAP':>8}"]
    lines += [
        f"{row['name']:26}{row['rank_1']:8.1%}{row['mean_ap']:8.1%}"
        for row in table["rows"]
    ]
    lines.append(f"{table['seconds']:.0f} s in all; the run is in {table['run']}")
    return lines
