"""Which gallery images count for a query: its matches, and what is not ranked."""

from typing import NamedTuple

import numpy as np

_JUNK_PID = -1
_FEW = 256


class Matches(NamedTuple):
    """True matches and junk of some queries, as numbers of gallery images.

    The matches of query `i` are `match_ids[match_ends[i]:match_ends[i + 1]]`, in the
    order of the gallery; junk likewise.

    Args:
        match_ends: Shape `(num_queries + 1,)`.
        match_ids: Gallery images of the query's person that are ranked.
        junk_ends: Shape `(num_queries + 1,)`.
        junk_ids: Gallery images of the query's person that are not ranked for it.
        excluded: Gallery images that are ranked for no query.
    """

    match_ends: np.ndarray
    match_ids: np.ndarray
    junk_ends: np.ndarray
    junk_ids: np.ndarray
    excluded: np.ndarray


class GalleryIndex:
    """The gallery images of each person.

    Args:
        gallery_pids: Shape `(num_gallery,)`. Images of pid -1 are ranked for no query.
        gallery_camids: Shape `(num_gallery,)`; a negative one numbers the image, which
            is of no camera.
        ignore_cameras: Whether images by the query's own camera count as well.
    """

    def __init__(self, gallery_pids, gallery_camids, *, ignore_cameras=False):
        self._order = np.argsort(gallery_pids, kind="stable")
        self._pids = gallery_pids[self._order]
        self._camids = gallery_camids
        self._excluded = np.flatnonzero(gallery_pids == _JUNK_PID)
        self._ignore_cameras = ignore_cameras

    def matches(self, query_pids, query_camids) -> Matches:
        """Returns the matches and the junk of the queries; pid -1 has none."""
        first = np.searchsorted(self._pids, query_pids, side="left")
        last = np.searchsorted(self._pids, query_pids, side="right")
        counts = np.where(query_pids == _JUNK_PID, 0, last - first)
        queries = np.repeat(np.arange(len(query_pids)), counts)
        steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        ids = self._order[np.repeat(first, counts) + steps]
        is_junk = self._camids[ids] == query_camids[queries]
        if self._ignore_cameras:
            is_junk &= query_camids[queries] < 0  # an image is never its own match
        return Matches(
            _ends(queries[~is_junk], len(query_pids)),
            ids[~is_junk],
            _ends(queries[is_junk], len(query_pids)),
            ids[is_junk],
            self._excluded,
        )


def check_identities(query_pids, gallery_pids, query_camids, gallery_camids) -> None:
    """Raises `ValueError` unless pids and camids are whole numbers of one length each.

    Raises:
        ValueError: If an array is not one-dimensional, not of integers, does not fit
            its partner, or if there are no queries or the gallery is empty.
    """
    arrays = {
        "query_pids": query_pids,
        "query_camids": query_camids,
        "gallery_pids": gallery_pids,
        "gallery_camids": gallery_camids,
    }
    for name, array in arrays.items():
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ValueError(
                f"`{name}` must be a list of whole numbers, one an image. "
                f"Received: {name} of shape {array.shape} and type {array.dtype}"
            )
    for part, pids, camids in (
        ("query", query_pids, query_camids),
        ("gallery", gallery_pids, gallery_camids),
    ):
        if len(pids) != len(camids):
            raise ValueError(
                f"`{part}_pids` and `{part}_camids` must have one entry an image. "
                f"Received: {len(pids)} pids and {len(camids)} camids"
            )
        if not len(pids):
            raise ValueError(
                f"The {part} must have at least one image. Received: 0 images"
            )


def check_same_size(source, query_pids, gallery_pids) -> None:
    """Raises `ValueError` unless there is one pid an image of the distances."""
    expected = source.num_queries, source.num_gallery
    received = len(query_pids), len(gallery_pids)
    if expected != received:
        raise ValueError(
            "There must be one pid an image. Received: "
            f"{expected[0]} queries with {received[0]} pids, "
            f"{expected[1]} gallery images with {received[1]} pids"
        )


def check_any_match(index: GalleryIndex, query_pids, query_camids) -> None:
    """Raises `ValueError` unless at least one query has a match that is ranked."""
    any_junk = False
    for start in range(0, len(query_pids), _FEW):
        few = slice(start, start + _FEW)
        matches = index.matches(query_pids[few], query_camids[few])
        if len(matches.match_ids):
            return
        any_junk |= len(matches.junk_ids) > 0
    if any_junk:
        raise ValueError(
            "At least one query needs a match by another camera, but every query's "
            "matches were taken by its own camera. Camera ids look constant, or are "
            "read wrongly; to count matches by the same camera, use "
            "`ignore_cameras=True` (`--ignore-cameras`). "
            f"Received: query_camids from {query_camids.min()} to {query_camids.max()}"
        )
    raise ValueError(
        "At least one query must have a match, but no pid of a query occurs in the "
        "gallery. Received: query_pids "
        f"from {query_pids.min()} to {query_pids.max()}"
    )


def _ends(owners, num_owners):
    counts = np.bincount(owners, minlength=num_owners)
    return np.concatenate([[0], np.cumsum(counts)])
