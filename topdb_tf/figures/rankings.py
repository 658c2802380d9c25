"""Ranked lists of a run's queries: which are shown, and the figure of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from topdb_tf.data.records import Split
from topdb_tf.drawing.rank_lists import Listed, RankList, rank_list_figure
from topdb_tf.evaluate.embedding import Embeddings
from topdb_tf.evaluate.measured import list_set
from topdb_tf.figures.images import names_of
from topdb_tf.retrieval.rank_lists import RankLists
from topdb_tf.runs.data import Say, read_data
from topdb_tf.runs.folder import RunFolder, model_file
from topdb_tf.runs.machine import load_tensorflow
from topdb_tf.runs.settings import Config


class QueryChoice(NamedTuple):
    """Which queries are shown.

    Args:
        lowest: How many of the lowest average precision.
        highest: How many of the highest.
        wrong: How many, drawn, whose first image is wrong.
        pids: Persons all of whose queries are shown.
        seed: Of what is drawn, and of the order among equal ones.
    """

    lowest: int = 0
    highest: int = 0
    wrong: int = 0
    pids: Sequence[int] = ()
    seed: int = 1


def rankings(
    run: RunFolder,
    config: Config,
    choice: QueryChoice,
    *,
    dataset: str | None = None,
    best: bool = False,
    top: int = 10,
    rerank: bool = False,
    with_junk: bool = False,
    width: float,
    say: Say | None = None,
) -> tuple[Figure, dict]:
    """Returns ranked lists of some queries of a run, and the facts about them.

    Args:
        run: Folder of the run.
        config: Its settings; metric and cameras are those of `config.evaluation`.
        choice: Which queries.
        dataset: Another data set than the run's own.
        best: Whether to take the model of the best epoch instead of the last.
        top: Length of the lists.
        rerank: Whether the re-ranked list follows each list.
        with_junk: Whether images by the query's own camera are shown among the others.
        width: Of `topdb_tf.drawing.rank_lists.rank_list_figure`.
        say: Function that shows a line to the user. Defaults to silence.

    Returns:
        The figure; and `run`, `dataset`, `metric` and `queries` with `path`, `why` and
        `lists`, each with its scores and images.

    Raises:
        FileNotFoundError: If the run has no model yet, or the data is missing.
        ValueError: If no query is chosen, or the data cannot be scored.
    """
    path = model_file(run, best=best)
    dataset = dataset or config.data.dataset
    split = read_data(dataset, config, run=run, say=say)
    _check(split, choice)
    load_tensorflow()
    from topdb_tf.model.extraction import load_embedder

    embedder = load_embedder(path)
    retrieval_set = Embeddings(split, config).retrieval_set(embedder)
    options = {"k": top, "with_junk": with_junk}
    found = {"plain": list_set(retrieval_set, config, **options)}
    if rerank:
        found["re-ranked"] = list_set(retrieval_set, config, rerank=True, **options)
    queries = [
        _facts_of_query(split, query, why, found)
        for query, why in chosen_queries(split, found["plain"], choice).items()
    ]
    height, breadth = embedder.input_shape[1:3]
    drawn = rank_list_figure(
        [own for query in queries for own in _pictures(split, query)],
        aspect=height / breadth,
        width=width,
    )
    metric = config.evaluation.metric
    facts = {"run": str(run.path), "dataset": dataset, "metric": metric}
    return drawn, {**facts, "queries": queries}


def chosen_queries(
    split: Split, lists: RankLists, choice: QueryChoice
) -> dict[int, str]:
    """Returns the places of the chosen queries, each with why it is shown.

    A query is shown once. Those without a match have no average precision and are
    chosen by their person alone.

    Args:
        split: The data set.
        lists: The ranking that the choice is made by.
        choice: Which queries.

    Raises:
        ValueError: If no query is chosen.
    """
    precision, first = lists.average_precision, lists.first_match_rank
    rng = np.random.default_rng(choice.seed)
    drawn = rng.permutation(np.flatnonzero(first > 0))
    order = drawn[np.argsort(precision[drawn], kind="stable")]
    pools = {
        "lowest AP": (order, choice.lowest),
        "wrong at rank 1": (drawn[first[drawn] > 1], choice.wrong),
        "highest AP": (order[::-1], choice.highest),
    }
    chosen = {}
    for why, (pool, number) in pools.items():
        free = [int(query) for query in pool if int(query) not in chosen]
        chosen |= dict.fromkeys(free[:number], why)
    for pid in choice.pids:
        own = [i for i, record in enumerate(split.query) if record.pid == pid]
        chosen |= {query: "chosen" for query in own if query not in chosen}
    if not chosen:
        raise ValueError(
            "At least one query must be shown. Received: "
            f"wrong={choice.wrong} of 0 queries that are wrong at rank 1"
        )
    return chosen


def _check(split, choice):
    """Checks a choice before anything is embedded for it."""
    if not (choice.lowest or choice.highest or choice.wrong or choice.pids):
        raise ValueError(f"At least one query must be shown. Received: {choice}")
    missing = sorted(set(choice.pids) - {record.pid for record in split.query})
    if missing:
        raise ValueError(
            f"A person must have a query in {split.name}. Received: pid={missing[0]}"
        )


def _facts_of_query(split, query, why, found):
    record = split.query[query]
    facts = {"path": str(record.path), "pid": record.pid, "camid": record.camid}
    lists = [_facts_of_list(split, query, name, own) for name, own in found.items()]
    return {**facts, "why": why, "place": query, "lists": lists}


def _facts_of_list(split, query, name, lists):
    precision = float(lists.average_precision[query])
    images, rank = [], 0
    for place, index in enumerate(lists.gallery_indices[query].tolist()):
        if index < 0:
            break
        kind = "right" if lists.is_match[query, place] else "wrong"
        kind = "junk" if lists.is_junk[query, place] else kind
        rank += kind != "junk"
        record = split.gallery[index]
        images.append(
            {
                "path": str(record.path),
                "pid": record.pid,
                "camid": record.camid,
                "place": index,
                "kind": kind,
                "rank": None if kind == "junk" else rank,
                "distance": float(lists.distances[query, place]),
            }
        )
    return {
        "ranking": name,
        "average_precision": None if np.isnan(precision) else precision,
        "first_match_rank": int(lists.first_match_rank[query]) or None,
        "images": images,
    }


def _pictures(split, query):
    """Yields the lists of a query as the figure takes them."""
    from topdb_tf.data.decoding import decode_image

    record = split.query[query["place"]]
    pixels, label = decode_image(record.path), "\n".join(names_of(split, record))
    for own in query["lists"]:
        beginning = f"{query['why']}: {record.path.name}"
        title = beginning if own["ranking"] == "plain" else "re-ranked"
        listed = []
        for item in own["images"]:
            shown = split.gallery[item["place"]]
            image, text = decode_image(shown.path), "\n".join(names_of(split, shown))
            listed.append(Listed(image, item["kind"], item["distance"], text))
        yield RankList(pixels, label, f"{title}, {_score_text(own)}", listed)


def _score_text(own):
    if own["first_match_rank"] is None:
        return "no match in the gallery"
    precision = 100 * own["average_precision"]
    return f"AP {precision:.1f} %, first match at rank {own['first_match_rank']:,}"
