"""The queries that a page shows, with their ranked lists and pictures."""

from collections.abc import Sequence

import numpy as np

from topdb_tf.data.records import Split
from topdb_tf.report.thumbnails import Thumbnails
from topdb_tf.retrieval.rank_lists import RankLists

LOWEST, WRONG, HIGHEST, RANDOM = (
    "lowest AP",
    "wrong at rank 1",
    "highest AP",
    "drawn at random",
)
_SHARES = ((LOWEST, 0.3), (WRONG, 0.25), (HIGHEST, 0.1))  # the rest is drawn
_SEED = 1
_WRONG_KIND, _MATCH_KIND, _JUNK_KIND = range(3)


def chosen_queries(lists: RankLists, number: int) -> dict[int, str]:
    """Returns some queries, and of each why it is among them.

    Of the queries with a match: those of the lowest AP, others whose nearest image
    is wrong, those of the highest AP, and others drawn at random; all queries where
    there are no more than `number`.

    Args:
        lists: The ranking that they are judged by.
        number: How many, at least 1.

    Raises:
        ValueError: If `number` is below 1.
    """
    if number < 1:
        raise ValueError(f"At least one query must be shown. Received: {number}")
    precision, first = lists.average_precision, lists.first_match_rank
    valid = np.flatnonzero(first > 0)
    order = valid[np.argsort(precision[valid], kind="stable")]
    number = min(number, len(valid))
    rng = np.random.default_rng(_SEED)
    drawn = rng.permutation(valid)
    pools = {
        LOWEST: order,
        WRONG: drawn[first[drawn] > 1],
        HIGHEST: order[::-1],
        RANDOM: drawn,
    }
    quotas = {reason: round(share * number) for reason, share in _SHARES}
    chosen = {}
    for reason, pool in pools.items():
        free = [int(query) for query in pool if int(query) not in chosen]
        room = number - len(chosen)
        for query in free[: min(quotas.get(reason, room), room)]:
            chosen[query] = reason
    return chosen


def lists_data(
    split: Split,
    chosen: dict[int, str],
    rankings: dict[str, RankLists],
    *,
    top: int,
    progress=None,
) -> dict:
    """Returns what the script of a page draws: queries, their lists and pictures.

    Args:
        split: The data set.
        chosen: Why a query is shown, by its place among the queries.
        rankings: Ranked lists by name, all of this data set.
        top: Number of ranked images of a list; those that are not ranked come on top.
        progress: Called with the number of pictures done and of all.

    Returns:
        `lists` (names), `images` (WebP in Base64, each once), `gallery` (`[name,
        person, camera, image]`) and `queries`, whose `ranked` lists hold `[place in
        gallery, distance, kind]`; the kind is 0 for another person, 1 for a match and
        2 for an image that is not ranked.
    """
    thumbnails, places = Thumbnails(), {}
    queries = []
    for query, reason in chosen.items():
        record = split.query[query]
        ranked = [_entries(lists, query, top) for lists in rankings.values()]
        queries.append(
            {
                "name": record.path.name,
                "person": _person(split, record),
                "camera": _camera(split, record),
                "image": thumbnails.number_of(record.path),
                "reason": reason,
                "ap": [_ap(lists, query) for lists in rankings.values()],
                "first": [
                    int(lists.first_match_rank[query]) for lists in rankings.values()
                ],
                "ranked": [
                    [[places.setdefault(i, len(places)), *rest] for i, *rest in entries]
                    for entries in ranked
                ],
            }
        )
    gallery = []
    for index in places:
        record = split.gallery[index]
        number = thumbnails.number_of(record.path)
        facts = _person(split, record), _camera(split, record)
        gallery.append([record.path.name, *facts, number])
    return {
        "lists": list(rankings),
        "queries": queries,
        "gallery": gallery,
        "images": thumbnails.encoded(progress),
    }


def filters_of(data: dict, *, reasons: Sequence[str] = ()) -> dict:
    """Returns what the form above the lists offers.

    Args:
        data: Of `lists_data`.
        reasons: Why queries were chosen, each a filter of its own.
    """
    several = len(data["lists"]) > 1
    filters = [("all", "all queries"), ("wrong", "wrong at rank 1")]
    filters.append(("right", "right at rank 1"))
    sorts = [
        ("chosen", "why it is here"),
        ("lowest", "lowest AP"),
        ("highest", "highest AP"),
        ("first", "latest first match"),
        ("name", "file name"),
    ]
    if several:
        filters.append(("differ", "rank 1 differs between lists"))
        sorts.insert(1, ("change", "AP differs most"))
    if several and data["lists"][1] == "re-ranked":
        filters.append(("better", "better after re-ranking"))
        filters.append(("worse", "worse after re-ranking"))
    kinds = {kind for q in data["queries"] for r in q["ranked"] for *_, kind in r}
    present = {query["reason"] for query in data["queries"]}
    filters += [(reason, f"only: {reason}") for reason in reasons if reason in present]
    return {
        "lists": data["lists"],
        "filters": filters,
        "sorts": sorts,
        "cameras": sorted({q["camera"] for q in data["queries"]}, key=_by_number),
        "has_junk": _JUNK_KIND in kinds,
    }


def _person(split, record):
    return str(split.pid_names.get(record.pid, record.pid))


def _camera(split, record):
    if not split.has_cameras:
        return "unknown"
    return str(split.camera_names.get(record.camid, record.camid))


def _by_number(name):
    return (0, int(name), "") if name.isdigit() else (1, 0, name)


def _ap(lists, query):
    return round(float(lists.average_precision[query]), 5)


def _entries(lists, query, top):
    """Returns `(gallery index, distance, kind)` up to the last ranked image shown."""
    entries, ranked = [], 0
    for place, index in enumerate(lists.gallery_indices[query].tolist()):
        if index < 0 or ranked == top:
            break
        kind = _WRONG_KIND
        if lists.is_junk[query, place]:
            kind = _JUNK_KIND
        elif lists.is_match[query, place]:
            kind = _MATCH_KIND
        ranked += kind != _JUNK_KIND
        distance = float(f"{lists.distances[query, place]:.5g}")
        entries.append((index, distance, kind))
    return entries
