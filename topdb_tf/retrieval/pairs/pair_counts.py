"""How often pairs are taken for one person: counts by identity and by cameras."""

import functools
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

import numpy as np

from topdb_tf.retrieval.features import RetrievalSet, checked_distances
from topdb_tf.retrieval.identities import Identities
from topdb_tf.retrieval.matches import with_pairs_told_by_camids
from topdb_tf.retrieval.pairs.operating_points import (
    LOW_BITS,
    NUM_CELLS,
    DistanceHistogram,
)
from topdb_tf.retrieval.parallel import Workers, compiled
from topdb_tf.retrieval.ranking import BLOCK_BYTES, query_blocks


class PairTotals(NamedTuple):
    """Numbers of pairs of a query and a gallery image.

    A genuine pair shows one person by two cameras, an impostor pair two persons by
    two cameras. Where cameras are ignored all pairs of two images count.

    Pairs are counted by identity, in the order of the sorted `pids`: impostor pairs by
    that of the query and by that of the gallery image. `cameras` has the pairs of two
    persons by the cameras of the two images, those of one camera on the diagonal.
    """

    pids: np.ndarray
    camids: np.ndarray
    as_query: np.ndarray
    as_gallery: np.ndarray
    genuine: np.ndarray
    cameras: np.ndarray

    @property
    def num_impostors(self) -> int:
        """Number of impostor pairs."""
        return int(self.as_query.sum())

    @property
    def num_genuine(self) -> int:
        """Number of genuine pairs."""
        return int(self.genuine.sum())


class AcceptedPairs(NamedTuple):
    """Numbers of pairs up to each of several distances, as those of `PairTotals`.

    Each array has those of the distances along its first axis.
    """

    as_query: np.ndarray
    as_gallery: np.ndarray
    genuine: np.ndarray
    cameras: np.ndarray


def pair_totals(identities: Identities, *, ignore_cameras: bool = False) -> PairTotals:
    """Returns the numbers of pairs, which need no distances."""
    told = with_pairs_told_by_camids(identities, ignore_cameras=ignore_cameras)
    queries, gallery, _ = _count_images(told)
    num_queries, num_gallery = queries.sum(axis=0), gallery.sum(axis=0)
    # All pairs, less those of one person; then less the same of each camid alone.
    as_query = queries.sum(axis=1) * (num_gallery.sum() - gallery.sum(axis=1))
    as_gallery = gallery.sum(axis=1) * (num_queries.sum() - queries.sum(axis=1))
    genuine = queries.sum(axis=1) * gallery.sum(axis=1)
    as_query -= (queries * (num_gallery - gallery)).sum(axis=1)
    as_gallery -= (gallery * (num_queries - queries)).sum(axis=1)
    genuine -= (queries * gallery).sum(axis=1)
    queries, gallery, camids = _count_images(identities)
    cameras = np.outer(queries.sum(axis=0), gallery.sum(axis=0)) - queries.T @ gallery
    pids = np.union1d(identities.query_pids, identities.gallery_pids)
    return PairTotals(pids, camids, as_query, as_gallery, genuine, cameras)


class _Places(NamedTuple):
    """For the kernels: the pids and camids of the queries, then of the gallery.

    They are places in sorted lists; two images whose `alike` is one are no pair.
    """

    persons: np.ndarray
    cameras: np.ndarray
    alike: np.ndarray
    num_queries: int


class PairDistances:
    """The distances of all pairs of a set without pid -1, some queries at a time.

    An `advance` is called with the number of distances since its last call.
    """

    def __init__(
        self,
        retrieval_set: RetrievalSet,
        *,
        metric: str = "sqeuclidean",
        ignore_cameras: bool = False,
        memory: int = BLOCK_BYTES,
    ):
        self._source = checked_distances(retrieval_set, metric)
        self._memory = memory
        self._ignore_cameras = ignore_cameras
        self._identities = identities = retrieval_set.identities
        told = with_pairs_told_by_camids(identities, ignore_cameras=ignore_cameras)
        self._places = _Places(
            _places(identities.query_pids, identities.gallery_pids),
            _places(identities.query_camids, identities.gallery_camids),
            _places(told.query_camids, told.gallery_camids),
            self._source.num_queries,
        )

    @functools.cached_property
    def totals(self) -> PairTotals:
        """Numbers of all pairs; takes memory for each pair of cameras."""
        return pair_totals(self._identities, ignore_cameras=self._ignore_cameras)

    def doubt(self) -> str | None:
        """Returns why these distances mean little, if they do."""
        return self._source.doubt()

    @property
    def num_distances(self) -> int:
        """Number of distances of one pass over the pairs."""
        return self._source.num_queries * self._source.num_gallery

    def histogram(
        self, advance: Callable[[int], None] | None = None
    ) -> DistanceHistogram:
        """Returns the numbers of pairs by distance."""
        counts = np.zeros((2, NUM_CELLS), np.int64)
        # Passed, as a kernel on disk would keep the number that it was compiled with.
        counts = self._counted(_bin_pairs, (counts,), advance, LOW_BITS)
        return DistanceHistogram(*counts[0])

    def up_to(
        self, thresholds: np.ndarray, advance: Callable[[int], None] | None = None
    ) -> AcceptedPairs:
        """Returns how many pairs each threshold accepts: those up to that distance."""
        thresholds = np.asarray(thresholds, np.float32)
        order = np.argsort(thresholds, kind="stable")
        num_pids, num_camids = len(self.totals.pids), len(self.totals.camids)
        counts = (
            np.zeros((3, len(thresholds), num_pids), np.int64),
            np.zeros((len(thresholds), num_camids, num_camids), np.int64),
        )
        by_pid, cameras = self._counted(
            _judge_pairs, counts, advance, thresholds[order]
        )
        by_pid, cameras = by_pid.cumsum(axis=1), cameras.cumsum(axis=0)
        back = np.argsort(order)
        return AcceptedPairs(*by_pid[:, back], cameras[back])

    def _counted(self, kernel, totals, advance, *arguments):
        """Adds up what a kernel counts in pieces of all blocks."""
        lock = Lock()
        with Workers() as workers:
            blocks = query_blocks(self._source, memory=self._memory, advance=advance)
            for block in blocks:

                def count(first, last, block=block):
                    block.finish(first, last)
                    counts = tuple(np.zeros_like(total) for total in totals)
                    rows, start = block.distances[first:last], block.queries.start
                    kernel(start + first, rows, self._places, *arguments, *counts)
                    with lock:
                        for total, part in zip(totals, counts, strict=True):
                            np.add(total, part, out=total)

                workers.run(count, len(block.distances))
        return totals


def _places(query_ids, gallery_ids):
    return np.unique(np.concatenate([query_ids, gallery_ids]), return_inverse=True)[1]


def _count_images(identities):
    """Returns the numbers of queries and of gallery images by pid and camid.

    Both are of shape `(num_pids, num_camids)`; the camids come along.
    """
    pids = np.union1d(identities.query_pids, identities.gallery_pids)
    camids = np.union1d(identities.query_camids, identities.gallery_camids)
    counts = np.zeros((2, len(pids), len(camids)), np.int64)
    for part, own_pids, own_camids in (
        (counts[0], identities.query_pids, identities.query_camids),
        (counts[1], identities.gallery_pids, identities.gallery_camids),
    ):
        places = np.searchsorted(pids, own_pids), np.searchsorted(camids, own_camids)
        np.add.at(part, places, 1)
    return *counts, camids


@compiled
def _bin_pairs(start, block, places, low_bits, counts):
    """Counts impostors in the first row and genuine pairs in the second.

    The bits of float32 numbers that are not negative are in the order of the numbers.
    """
    persons, _, alike, num_queries = places
    bits = block.view(np.int32)
    for i in range(len(block)):
        person, apart = persons[start + i], alike[start + i]
        for j in range(block.shape[1]):
            if alike[num_queries + j] != apart:
                same = np.int64(persons[num_queries + j] == person)
                counts[same, max(0, bits[i, j]) >> low_bits] += 1


@compiled
def _judge_pairs(start, block, places, thresholds, by_pid, by_cameras):
    """Counts each pair at the first threshold that accepts it."""
    persons, cameras, alike, num_queries = places
    for i in range(len(block)):
        person, camera = persons[start + i], cameras[start + i]
        for j in range(block.shape[1]):
            if block[i, j] > thresholds[-1]:
                continue
            place = 0
            while thresholds[place] < block[i, j]:
                place += 1
            other, other_camera = persons[num_queries + j], cameras[num_queries + j]
            counts = alike[num_queries + j] != alike[start + i]
            if other == person:
                by_pid[2, place, person] += counts
                continue
            by_cameras[place, camera, other_camera] += 1
            by_pid[0, place, person] += counts
            by_pid[1, place, other] += counts
