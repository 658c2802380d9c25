"""Histograms of the distances of pairs, held against a count of every pair."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topdb_tf.retrieval.distances import METRICS, pairwise_distances
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.pairs.distance_bins import bin_edges, binned, pair_histograms


def random_set(seed, *, distractors=True):
    rng = np.random.default_rng(seed)
    num_queries, num_gallery = 25, 60
    return RetrievalSet(
        rng.standard_normal((num_queries, 3), "float32"),
        rng.standard_normal((num_gallery, 3), "float32"),
        rng.integers(1, 6, num_queries),
        rng.integers(-1 if distractors else 1, 6, num_gallery),
        rng.integers(0, 3, num_queries),
        rng.integers(0, 3, num_gallery),
    )


def slow_counts(images, edges, metric):
    """Counts every pair with Python's comparisons, by kind."""
    distances = pairwise_distances(*images[:2], metric=metric)
    counts = {}
    for i, j in np.ndindex(distances.shape):
        if images.gallery_pids[j] in (-1, 0):
            continue
        kind = (
            bool(images.query_pids[i] == images.gallery_pids[j]),
            bool(images.query_camids[i] == images.gallery_camids[j]),
        )
        own = counts.setdefault(kind, [0] * (len(edges) - 1))
        place = sum(edge < max(float(distances[i, j]), 0) for edge in edges[1:])
        own[place] += 1
    return counts


@settings(deadline=None, max_examples=6)
@given(st.integers(0, 2**32), st.sampled_from(METRICS), st.integers(1, 40))
def test_bins_hold_what_a_slow_count_finds(seed, metric, num_bins):
    images = random_set(seed)
    found = pair_histograms(images, metric=metric)
    edges = bin_edges(found, num_bins=num_bins)
    slow = slow_counts(images, edges, metric)
    for kind, counts in {
        (True, False): found.counted.genuine,
        (False, False): found.counted.impostors,
        (True, True): found.by_one_camera.genuine,
        (False, True): found.by_one_camera.impostors,
    }.items():
        none = [0] * (len(edges) - 1)
        assert binned(counts, edges).tolist() == slow.get(kind, none)


def test_counts_by_hand():
    # On a line: a query of person 1 at 0 by camera 1; person 1 at 1 (camera 2) and at 2
    # (camera 1), person 2 at 3 (camera 2) and at 4 (camera 1). Distances are squares.
    images = RetrievalSet(
        np.array([[0.0]]),
        np.array([[1.0], [2.0], [3.0], [4.0]]),
        *map(np.array, ([1], [1, 1, 2, 2], [1], [2, 1, 2, 1])),
    )
    found = pair_histograms(images)
    edges = np.array([0.0, 1.5, 4.5, 10.0, 20.0], "float32")
    counts = [binned(c, edges).tolist() for kind in found[:2] for c in kind]
    assert counts == [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]


def test_where_cameras_are_ignored_all_pairs_of_two_images_count():
    # As above. The query is in the gallery too, which the negative number tells.
    images = RetrievalSet(
        np.array([[0.0]]),
        np.array([[1.0], [0.0], [3.0], [4.0]]),
        *map(np.array, ([1], [1, 1, 2, 2], [-9], [2, -9, 2, 1])),
    )
    found = pair_histograms(images, ignore_cameras=True)
    edges = np.array([0.0, 1.5, 4.5, 10.0, 20.0], "float32")
    assert binned(found.counted.genuine, edges).tolist() == [1, 0, 0, 0]
    assert binned(found.counted.impostors, edges).tolist() == [0, 0, 1, 1]
    assert not found.by_one_camera.genuine.any()
    assert not found.by_one_camera.impostors.any()
    known = random_set(3)
    by_camera, by_any = (
        pair_histograms(known, ignore_cameras=ignored) for ignored in (False, True)
    )
    for kind in ("genuine", "impostors"):
        np.testing.assert_array_equal(
            getattr(by_any.counted, kind),
            getattr(by_camera.counted, kind) + getattr(by_camera.by_one_camera, kind),
        )


def test_edges_are_nearly_even_and_hold_all():
    found = pair_histograms(random_set(2))
    edges = bin_edges(found, num_bins=10)
    even = np.linspace(edges[0], edges[-1], 11)
    assert np.all(np.abs(edges - even) <= edges / 2048)
    kinds = [counts for histogram in found[:2] for counts in histogram]
    for counts in kinds:
        assert binned(counts, edges).sum() == counts.sum()


def test_equal_images_have_a_bin():
    images = random_set(1)
    alike = images._replace(
        query_features=np.ones((25, 3)), gallery_features=np.ones((60, 3))
    )
    found = pair_histograms(alike)
    edges = bin_edges(found, num_bins=10)
    assert (edges[0], len(edges)) == (0, 11)
    counts = found.counted.impostors
    assert binned(counts, edges).tolist() == [counts.sum(), *[0] * 9]


def test_images_of_nobody_known_are_left_out_and_counted():
    images = random_set(4)
    found = pair_histograms(images)
    assert found.num_left_out == np.isin(images.gallery_pids, (-1, 0)).sum() > 0
    # Pid 0 is a person where a query has it.
    pids = images.query_pids.copy()
    pids[0] = 0
    named = pair_histograms(images._replace(query_pids=pids))
    assert named.num_left_out == (images.gallery_pids == -1).sum()


def test_progress_ends_with_all_distances():
    reports = []
    images = random_set(5, distractors=False)
    pair_histograms(images, progress=lambda *report: reports.append(report))
    assert reports[-1] == (2 * 25 * 60, 2 * 25 * 60)
    assert reports == sorted(reports)


def test_no_bins_are_refused():
    with pytest.raises(ValueError, match="at least one bin.*num_bins=0"):
        bin_edges(pair_histograms(random_set(0)), num_bins=0)


def test_as_many_cameras_as_images_take_no_memory_for_each_pair_of_them():
    count = 3000
    camids = -1 - np.arange(count)
    features = np.zeros((count, 1), "float32")
    pids = np.arange(count) // 2 + 1
    images = RetrievalSet(features, features, pids, pids, camids, camids)
    pair_histograms(images)  # compiles
    tracemalloc.start()
    found = pair_histograms(images)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.counted.genuine.sum() == count
    assert peak < 8 * count**2


def test_one_odd_image_does_not_take_the_bins_of_all_others():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((200, 8))
    features[7] *= 30
    ids = np.arange(200) // 5, np.arange(200) % 2
    some = [each[::4] for each in (features, *ids)]
    images = RetrievalSet(some[0], features, some[1], ids[0], some[2], ids[1])
    pairs = pair_histograms(images)
    edges = bin_edges(pairs, num_bins=40)
    distances = pairwise_distances(features[::4], features)
    usual = distances[:, np.arange(200) != 7].max()
    assert edges[-1] > 10 * usual
    assert (edges < usual).sum() > 20  # of 41
    counted = [binned(counts, edges).sum() for two in pairs[:2] for counts in two]
    assert sum(counted) == distances.size


def test_distances_that_are_all_equal_are_told():
    images = random_set(0)
    assert pair_histograms(images).warning is None
    same = images._replace(
        query_features=np.ones_like(images.query_features),
        gallery_features=np.ones_like(images.gallery_features),
    )
    assert "equally far" in pair_histograms(same).warning
