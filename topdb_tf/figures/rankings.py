"""Ranked lists of a run's queries: which are shown, and the figure of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from topdb_tf.data.records import ImageRecord, Split
from topdb_tf.drawing.rank_lists import Listed, RankList, rank_list_figure
from topdb_tf.evaluate.embedding import Embedded
from topdb_tf.evaluate.measured import list_set
from topdb_tf.figures.images import names_of
from topdb_tf.figures.view import View
from topdb_tf.retrieval.rank_lists import RankLists, chosen_queries, images_of_list
from topdb_tf.runs.machine import load_tensorflow


class QueryChoice(NamedTuple):
    """How many queries are shown of the lowest AP, the highest, and wrong at rank 1.

    Of the persons `pids` all are. The seed is that of the draws, and of the order among
    equal queries.
    """

    lowest: int = 0
    highest: int = 0
    wrong: int = 0
    pids: Sequence[int] = ()
    seed: int = 1


@dataclass(frozen=True)
class RankingLists:
    """The lists of all queries by name of the ranking, and why some are shown."""

    embedded: Embedded
    lists: Mapping[str, RankLists]
    reasons: Mapping[int, str]

    def to_dict(self) -> dict:
        """Returns what `--json` prints of it."""
        embedded, origin = self.embedded, self.embedded.origin
        queries = [
            {
                **_whom(self.embedded.split.query[query]),
                "why": why,
                "place": query,
                "lists": [self._list(ranking, query) for ranking in self.lists],
            }
            for query, why in self.reasons.items()
        ]
        run = embedded.run
        return {
            **({"run": str(run.path)} if run else embedded.to_dict()),
            "dataset": origin.path or origin.dataset,
            "metric": embedded.evaluation.metric,
            "queries": queries,
        }

    def _list(self, ranking, query):
        lists, gallery = self.lists[ranking], self.embedded.split.gallery
        has_match = lists.first_match_rank[query] > 0
        precision = float(lists.average_precision[query])
        images = [
            {
                **_whom(gallery[image.index]),
                "place": image.index,
                "kind": image.kind,
                "rank": image.rank,
                "distance": image.distance,
            }
            for image in images_of_list(lists, query)
        ]
        return {
            "ranking": ranking,
            "average_precision": precision if has_match else None,
            "first_match_rank": int(lists.first_match_rank[query]) or None,
            "images": images,
        }


def rankings(
    embedded: Embedded,
    choice: QueryChoice,
    *,
    top: int = 10,
    rerank: bool = False,
    with_junk: bool = False,
) -> View:
    """Returns ranked lists of some queries of a run, the re-ranked one below each.

    Metric and cameras are those of the run's settings. Junk is images of the query's
    person by its own camera, which are not ranked.
    """
    if not embedded.has_paths:
        raise ValueError(
            f"Ranked lists show images: {embedded.model} must hold their files, "
            "query_paths and gallery_paths. Received: features without them"
        )
    lists = {
        name: list_set(
            embedded.images,
            embedded.evaluation,
            k=top,
            rerank=name == "re-ranked",
            with_junk=with_junk,
        )
        for name in ("plain", "re-ranked")[: 1 + rerank]
    }
    reasons = shown_queries(embedded.split, lists["plain"], choice)

    aspect = 3.0  # of the images of the paper
    if embedded.run is not None:
        data = embedded.run.config.data
        aspect = data.image_height / data.image_width

    def picture(width):
        drawn = [one for query in reasons.items() for one in _pictures(facts, *query)]
        return rank_list_figure(drawn, aspect=aspect, width=width)

    facts = RankingLists(embedded, lists, reasons)
    return View(facts, picture)


def shown_queries(
    split: Split, lists: RankLists, choice: QueryChoice
) -> Mapping[int, str]:
    """Returns the places of the chosen queries, each with why it is shown.

    A query is shown once. Those without a match have no average precision and are
    chosen by their person alone.
    """
    reasons = chosen_queries(
        lists,
        lowest=choice.lowest,
        wrong=choice.wrong,
        highest=choice.highest,
        seed=choice.seed,
    )
    for place, record in enumerate(split.query):
        if record.pid in choice.pids:
            reasons.setdefault(place, "chosen")
    if not reasons:
        raise ValueError(
            "At least one query must be shown. Received: "
            f"wrong={choice.wrong} of 0 queries that are wrong at rank 1"
        )
    return reasons


def check_choice(split: Split, choice: QueryChoice) -> None:
    """Raises a `ValueError` if no query, or a person without a query, is chosen."""
    if not (choice.lowest or choice.highest or choice.wrong or choice.pids):
        raise ValueError(f"At least one query must be shown. Received: {choice}")
    missing = sorted(set(choice.pids) - {record.pid for record in split.query})
    if missing:
        raise ValueError(
            f"A person must have a query in {split.name}. Received: pid={missing[0]}"
        )


def _whom(record: ImageRecord):
    return {"path": str(record.path), "pid": record.pid, "camid": record.camid}


def _pictures(facts, query, why):
    """Yields the lists of a query as they are drawn."""
    load_tensorflow()
    from topdb_tf.data.decoding import decode_image

    split = facts.embedded.split
    record = split.query[query]
    pixels, label = decode_image(record.path), "\n".join(names_of(split, record))
    for ranking, lists in facts.lists.items():
        beginning = f"{why}: {record.path.name}" if ranking == "plain" else ranking
        listed = []
        for image in images_of_list(lists, query):
            found = split.gallery[image.index]
            text = "\n".join(names_of(split, found))
            pixels_found = decode_image(found.path)
            listed.append(Listed(pixels_found, image.kind, image.distance, text))
        title = f"{beginning}, {_score_text(lists, query)}"
        yield RankList(pixels, label, title, listed)


def _score_text(lists, query):
    rank = lists.first_match_rank[query]
    if not rank:
        return "no match in the gallery"
    precision = 100 * lists.average_precision[query]
    return f"AP {precision:.1f} %, first match at rank {rank:,}"
