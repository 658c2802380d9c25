"""Pictures of what an index found: each query beside its list."""

from collections.abc import Sequence
from pathlib import Path

from topdb_tf.retrieval.identities import JUNK_PID
from topdb_tf.search.query import Query

_PICTURED_QUERIES = 20


def rank_lists(queries: Sequence[Query]) -> list:
    """Returns the lists of `topdb_tf.drawing.rank_lists.rank_list_figure`.

    Raises:
        ValueError: If there are more queries than fit on a picture, or an image is
            damaged.
        FileNotFoundError: If an image is not where it was.
    """
    from topdb_tf.drawing.rank_lists import RankList

    if len(queries) > _PICTURED_QUERIES:
        raise ValueError(
            f"A picture shows at most {_PICTURED_QUERIES} queries. "
            f"Received: {len(queries)}"
        )
    return [
        RankList(
            _pixels(query.path),
            _label(query),
            Path(query.path).name,
            [_listed(query, image) for image in query.found],
        )
        for query in queries
    ]


def _pixels(path):
    from topdb_tf.data.decoding import decode_image

    if not Path(path).is_file():
        raise FileNotFoundError(
            f"There is no image {path}: a picture needs the images where they were "
            "when the index was built, seen from the same folder."
        )
    return decode_image(Path(path))


def _listed(query, image):
    from topdb_tf.drawing.rank_lists import Listed

    kind = _kind(query, image)
    return Listed(_pixels(image.path), kind, image.distance, _label(image))


def _kind(query, image):
    """Returns how an image is marked: by the persons, else by the threshold."""
    is_right = image.is_same_person
    if not {None, JUNK_PID} & {query.pid, image.pid}:
        is_right = query.pid == image.pid
    if is_right is None:
        return "unknown"
    return "right" if is_right else "wrong"


def _label(image):
    return f"pid {image.person or '?'}\ncam {image.camera or '?'}"
