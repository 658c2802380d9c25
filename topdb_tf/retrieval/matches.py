"""Which gallery images count for a query: its matches, and what is not ranked."""

from typing import NamedTuple

import numpy as np

from topdb_tf.retrieval.identities import JUNK_PID, Identities

DISTRACTOR_PID = 0
_FEW = 256


def with_pairs_told_by_camids(
    identities: Identities, *, ignore_cameras: bool
) -> Identities:
    """Returns identities with camids that differ for all pairs that count.

    A query and a gallery image of one camid are no pair, as one camera took both: the
    query's own image is easily found. Where cameras are ignored these pairs count as
    well, so all queries get one camera and the gallery another. Negative camids stay
    in any case, since an image is never its own match.
    """
    if not ignore_cameras:
        return identities
    query_camids, gallery_camids = identities.query_camids, identities.gallery_camids
    return identities._replace(
        query_camids=np.where(query_camids < 0, query_camids, 0),
        gallery_camids=np.where(gallery_camids < 0, gallery_camids, 1),
    )


def of_known_persons(query_pids, gallery_pids) -> tuple[np.ndarray, np.ndarray]:
    """Returns masks of the queries and of the gallery images whose person is known.

    Nobody knows whom images of pid -1 show, nor distractors: those of pid 0, unless a
    query shows that person.
    """
    gallery = gallery_pids != JUNK_PID
    if DISTRACTOR_PID not in query_pids:
        gallery &= gallery_pids != DISTRACTOR_PID
    return query_pids != JUNK_PID, gallery


class Matches(NamedTuple):
    """True matches and junk of some queries, as numbers of gallery images.

    The matches of query `i` are `match_ids[match_ends[i]:match_ends[i + 1]]`, in the
    order of the gallery; likewise junk, images of its person that are not ranked for
    it. The excluded are ranked for no query.
    """

    match_ends: np.ndarray
    match_ids: np.ndarray
    junk_ends: np.ndarray
    junk_ids: np.ndarray
    excluded: np.ndarray


class MatchIndex:
    """Finds the gallery images that count for a query."""

    def __init__(self, identities: Identities, *, ignore_cameras: bool = False):
        self.identities = identities
        self._told = with_pairs_told_by_camids(
            identities, ignore_cameras=ignore_cameras
        )
        self._order = np.argsort(identities.gallery_pids, kind="stable")
        self._pids = identities.gallery_pids[self._order]
        self._excluded = np.flatnonzero(identities.gallery_pids == JUNK_PID)

    def matches(self, queries: slice) -> Matches:
        """Returns the matches and the junk of some queries; pid -1 has none."""
        query_pids = self._told.query_pids[queries]
        query_camids = self._told.query_camids[queries]
        first = np.searchsorted(self._pids, query_pids, side="left")
        last = np.searchsorted(self._pids, query_pids, side="right")
        counts = np.where(query_pids == JUNK_PID, 0, last - first)
        owners = np.repeat(np.arange(len(query_pids)), counts)
        steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        ids = self._order[np.repeat(first, counts) + steps]
        is_junk = self._told.gallery_camids[ids] == query_camids[owners]
        return Matches(
            _ends(owners[~is_junk], len(query_pids)),
            ids[~is_junk],
            _ends(owners[is_junk], len(query_pids)),
            ids[is_junk],
            self._excluded,
        )

    def check_any(self) -> None:
        """Raises `ValueError` unless at least one query has a match that is ranked."""
        query_pids = self.identities.query_pids
        query_camids = self.identities.query_camids
        any_junk = False
        for start in range(0, len(query_pids), _FEW):
            matches = self.matches(slice(start, start + _FEW))
            if len(matches.match_ids):
                return
            any_junk |= len(matches.junk_ids) > 0
        if any_junk:
            raise ValueError(
                "At least one query needs a match by another camera, but every query's "
                "matches were taken by its own camera. Camera ids look constant, or "
                "are read wrongly; to count matches by the same camera, use "
                "`ignore_cameras=True` (`--ignore-cameras`). Received: query_camids "
                f"from {query_camids.min()} to {query_camids.max()}"
            )
        raise ValueError(
            "At least one query must have a match, but no pid of a query occurs in the "
            "gallery. Received: query_pids "
            f"from {query_pids.min()} to {query_pids.max()}"
        )


def check_identities(identities: Identities, source) -> None:
    """Raises `ValueError` unless each image of the distances has a pid and a camid."""
    query_pids, gallery_pids, query_camids, gallery_camids = identities
    for part, num_images, pids, camids in (
        ("query", source.num_queries, query_pids, query_camids),
        ("gallery", source.num_gallery, gallery_pids, gallery_camids),
    ):
        if not num_images == len(pids) == len(camids):
            raise ValueError(
                f"`{part}_pids` and `{part}_camids` must have one entry an image. "
                f"Received: {num_images} images, {len(pids)} pids and {len(camids)} "
                "camids"
            )
        if not num_images:
            raise ValueError(
                f"The {part} must have at least one image. Received: 0 images"
            )


def _ends(owners, num_owners):
    counts = np.bincount(owners, minlength=num_owners)
    return np.concatenate([[0], np.cumsum(counts)])
