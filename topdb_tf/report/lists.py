"""The queries that a page shows, with their ranked lists and pictures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from topdb_tf.data.records import Split
from topdb_tf.report.thumbnails import Thumbnails
from topdb_tf.report.words import camera_name
from topdb_tf.retrieval.rank_lists import (
    RankedImage,
    RankLists,
    chosen_queries,
    images_of_list,
)
from topdb_tf.texts import natural_order

_LOWEST, _WRONG, _HIGHEST = 0.3, 0.25, 0.1  # shares of the queries; the rest is drawn
_KINDS = ("wrong", "right", "junk")  # by the number that the script knows them by


@dataclass(frozen=True)
class QueryLists:
    """The ranked lists of a page, by their names, and what is said above them.

    Reasons say why a query is shown, by its place. A list shows `top` ranked images;
    those that are not ranked come on top.
    """

    split: Split
    lead: str
    reasons: Mapping[int, str]
    rankings: Mapping[str, RankLists]
    top: int

    def images(self, query: int) -> list[list[RankedImage]]:
        """Returns the images that each ranking lists for a query."""
        return [
            images_of_list(lists, query, most_ranked=self.top)
            for lists in self.rankings.values()
        ]

    @property
    def has_junk(self) -> bool:
        """Whether images are listed that the protocol does not rank."""
        lists = [images for query in self.reasons for images in self.images(query)]
        return any(image.kind == "junk" for images in lists for image in images)

    @property
    def cameras(self) -> list[str]:
        """Names of the cameras that the queries are by."""
        records = [self.split.query[query] for query in self.reasons]
        names = {camera_name(self.split, record.camid) for record in records}
        return sorted(names, key=natural_order)


def queries_of_page(lists: RankLists, number: int) -> Mapping[int, str]:
    """Returns some queries with a match, and of each why it is among them.

    Three in ten have the lowest AP, a quarter is wrong at rank 1, one in ten has the
    highest AP, and the others are drawn at random.
    """
    number = min(number, int((lists.first_match_rank > 0).sum()))
    return chosen_queries(
        lists,
        lowest=round(_LOWEST * number),
        wrong=round(_WRONG * number),
        highest=round(_HIGHEST * number),
        in_all=number,
    )


def data_of_lists(lists: QueryLists, progress: Callable[[int, int], None]) -> dict:
    """Returns what the script of a page draws: queries, their lists and pictures.

    Returns:
        `lists` (names), `images` (WebP in Base64, each once), `gallery` (`[name,
        person, camera, image]`) and `queries`, whose `ranked` lists hold `[place in
        gallery, distance, kind]`; the kind is 0 for another person, 1 for a match and
        2 for an image that is not ranked.
    """
    split, thumbnails = lists.split, Thumbnails()
    places, queries = {}, []  # of the images in the gallery of the page
    for query, reason in lists.reasons.items():
        names = ("name", "person", "camera", "image")
        cells = _cells(split, split.query[query], thumbnails)
        ranked = []
        for images in lists.images(query):
            for shown in images:
                places.setdefault(shown.index, len(places))
            ranked.append([_ranked_cells(shown, places) for shown in images])
        rankings = lists.rankings.values()
        precisions = [float(one.average_precision[query]) for one in rankings]
        queries.append(
            {
                **dict(zip(names, cells, strict=True)),
                "reason": reason,
                "ap": [round(precision, 5) for precision in precisions],
                "first": [int(one.first_match_rank[query]) for one in rankings],
                "ranked": ranked,
            }
        )
    return {
        "lists": list(lists.rankings),
        "queries": queries,
        "gallery": [_cells(split, split.gallery[i], thumbnails) for i in places],
        "images": thumbnails.encoded(progress),
    }


def _cells(split, record, thumbnails):
    return [
        record.path.name,
        split.pid_name(record.pid),
        camera_name(split, record.camid),
        thumbnails.number_of(record.path),
    ]


def _ranked_cells(image, places):
    distance = float(f"{image.distance:.5g}")
    return [places[image.index], distance, _KINDS.index(image.kind)]
