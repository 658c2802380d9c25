import numpy as np
import pytest

from tests.test_reranking import clustered_features
from topdb_tf.retrieval.distances import pairwise_distances
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.neighbors import expand_features
from topdb_tf.retrieval.postprocessing import (
    CameraNormalization,
    camera_statistics,
    pool,
)
from topdb_tf.retrieval.protocol import score
from topdb_tf.retrieval.reranking import Reranking


def test_expanded_features_are_means_of_the_nearest():
    query, gallery = clustered_features(20, 300)
    joint = np.concatenate([query, gallery])
    order = np.argsort(pairwise_distances(joint, joint), axis=1, kind="stable")
    expanded = np.concatenate(expand_features(query, gallery, k=4))
    np.testing.assert_allclose(expanded, joint[order[:, :4]].mean(axis=1), rtol=1e-6)


def test_expansion_by_one_changes_nothing():
    query, gallery = clustered_features(3, 20)
    for before, after in zip(
        (query, gallery), expand_features(query, gallery, k=1), strict=True
    ):
        np.testing.assert_array_equal(before, after)
    with pytest.raises(ValueError, match="k=0"):
        expand_features(query, gallery, k=0)


def images_of_cameras(seed=0, *, unit=1.0):
    """Returns images whose features say most of all which camera took them."""
    rng = np.random.default_rng(seed)
    pids, camids = np.tile(np.arange(8), 10), rng.integers(0, 4, 80)
    features = rng.standard_normal((8, 6))[pids] + 0.5 * rng.standard_normal((80, 6))
    spread, bias = rng.uniform(0.5, 2, (4, 6)), 5 * rng.standard_normal((4, 6))
    features = unit * (features * spread[camids] + bias[camids])
    return RetrievalSet(
        features[:24], features[24:], pids[:24], pids[24:], camids[:24], camids[24:]
    )


def slowly_normalized(images, *, statistics, prior_images, metric):
    query, gallery = (np.float64(part) for part in images[:2])
    if metric == "cosine":
        query, gallery = (
            np.array([row / np.linalg.norm(row) for row in part])
            for part in (query, gallery)
        )
    known, cameras = gallery, images.gallery_camids
    if statistics == "all":
        known = np.concatenate([query, gallery])
        cameras = np.concatenate([images.query_camids, images.gallery_camids])
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    parts = []
    for part, camids in (
        (query, images.query_camids),
        (gallery, images.gallery_camids),
    ):
        rows = []
        for row, camid in zip(part, camids, strict=True):
            # The further images: half of them a deviation above the mean, half below.
            ends = mean + deviation, mean - deviation
            more = np.repeat(ends, prior_images // 2, axis=0)
            own = np.concatenate([known[cameras == camid], more])
            rows.append((row - own.mean(axis=0)) / own.std(axis=0))
        parts.append(np.array(rows))
    return parts


@pytest.mark.parametrize("metric", ["sqeuclidean", "cosine"])
@pytest.mark.parametrize("statistics", ["all", "gallery"])
@pytest.mark.parametrize("prior_images", [0, 6])
@pytest.mark.parametrize("unit", [1.0, 1e-12, 1e12])
def test_features_are_normalised_by_camera(metric, statistics, prior_images, unit):
    images = images_of_cameras(unit=unit)
    how = CameraNormalization(statistics, prior_images)
    expected = slowly_normalized(
        images, statistics=statistics, prior_images=prior_images, metric=metric
    )
    for found, wanted in zip(how.normalized(images, metric)[:2], expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_camera_with_one_image_is_normalised_almost_as_all():
    features, camids = np.array([[0.0], [4.0], [8.0]]), np.array([1, 1, 2])
    found = camera_statistics([features], [camids], prior_images=2)
    # All: mean 4, variance 32 / 3. Camera 1: its 0 and 4, and 2 further images with
    # that mean, so (0 + 4 + 4 + 4) / 4; camera 2: (8 + 4 + 4) / 3.
    np.testing.assert_allclose(found.means.ravel(), [3, 16 / 3, 4])
    # Mean squares: (0 + 16 + 2 (32 / 3 + 16)) / 4 and (64 + 2 (32 / 3 + 16)) / 3.
    squares = np.array([52 / 3 - 9, 352 / 9 - 256 / 9, 32 / 3])
    np.testing.assert_allclose(found.deviations.ravel() ** 2, squares)
    # A camera that is not known is normalised as all images are.
    unknown = found.normalized(features[:1], np.array([7]))
    np.testing.assert_allclose(unknown, -4 / np.sqrt(32 / 3), rtol=1e-6)


def test_numbers_that_do_not_differ_stay_numbers():
    features, camids = np.array([[2.0, 1.1], [2.0, 1.1]], np.float32), np.array([1, 1])
    alone = camera_statistics([features], [camids], prior_images=0)
    np.testing.assert_allclose(alone.normalized(features, camids), 0, atol=1e-7)
    np.testing.assert_array_equal(pool(np.zeros((1, 2)), [0]).features, 0)
    tall = pool(np.array([[3e30, 4e30]], np.float32), [0]).features
    np.testing.assert_allclose(tall, [[0.6, 0.8]], rtol=1e-6)
    tall = pool(np.array([[3e200, 4e200], [3e-200, 4e-200]]), [0, 1]).features
    np.testing.assert_allclose(tall, [[0.6, 0.8]] * 2, rtol=1e-6)


@pytest.mark.parametrize("rerank", [None, Reranking(k1=5, k2=2)])
def test_normalised_scores_are_those_of_normalised_features(rerank):
    images, how = images_of_cameras(), CameraNormalization(prior_images=0)
    parameters = {"statistics": "all", "prior_images": 0, "metric": "cosine"}
    features = slowly_normalized(images, **parameters)
    wanted = score(
        RetrievalSet._make((*features, *images.identities)),
        metric="cosine",
        rerank=rerank,
    )
    plain = score(images, metric="cosine", rerank=rerank)
    result = score(images, metric="cosine", rerank=rerank, normalize_cameras=how)
    assert result.scores.mean_ap == pytest.approx(wanted.scores.mean_ap, abs=1e-6)
    assert result.scores.mean_ap > plain.scores.mean_ap + 0.1  # the bias is gone
    assert result.protocol.differences(plain.protocol) == ["camera_normalization"]
    assert "camera_normalization" not in plain.protocol.to_dict()
    record = result.to_dict()["protocol"]["camera_normalization"]
    assert record == {"statistics": "all", "prior_images": 0}
    assert type(result).from_dict(result.to_dict()).protocol == result.protocol


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"query_camids": np.full(24, -1)}, "24 of 80 images without a camera"),
        ({"query_features": np.full((24, 6), np.nan)}, "query_features, rows 0, 1"),
        ({"query_features": np.zeros((24, 5))}, r"query_features \(24, 5\)"),
    ],
)
def test_what_cannot_be_normalised_is_explained(changed, words):
    images = images_of_cameras()._replace(**changed)
    with pytest.raises(ValueError, match=words):
        score(images, normalize_cameras=CameraNormalization())


def test_parameters_of_the_normalisation_are_checked():
    with pytest.raises(ValueError, match="statistics"):
        CameraNormalization("queries")
    with pytest.raises(ValueError, match="prior_images=-1"):
        CameraNormalization(prior_images=-1)
    with pytest.raises(ValueError, match="`CameraNormalization`. Received: 'all'"):
        CameraNormalization.of("all")


def test_tracks_are_pooled_by_hand():
    # Track b is first: (1, 0) and (0, 1) after division by lengths; a: (0.6, 0.8).
    features = [[2.0, 0.0], [3.0, 4.0], [0.0, 5.0]]
    pooled = pool(features, ["b", "a", "b"])
    np.testing.assert_allclose(pooled.features, [[0.5**0.5] * 2, [0.6, 0.8]], rtol=1e-6)
    assert pooled.tracklets.tolist() == ["b", "a"]
    assert pooled.rows.tolist() == [0, 1]
    first = pool(features, [7, 7, 7], how="first")
    np.testing.assert_allclose(first.features, [[1, 0]])
    # Medians of 1, 0.6, 0 and of 0, 0.8, 1: (0.6, 0.8), of length 1 already.
    median = pool(features, [7, 7, 7], how="median")
    np.testing.assert_allclose(median.features, [[0.6, 0.8]], rtol=1e-6)


def test_an_image_of_no_track_stays_by_itself():
    pooled = pool([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]], ["", "a", ""])
    np.testing.assert_array_equal(pooled.features, [[1, 0], [0, 1], [0, 1]])
    assert pooled.tracklets.tolist() == ["", "a", ""]
    none = pool(np.empty((0, 2), np.float32), [])
    assert none.features.shape == (0, 2)


@pytest.mark.parametrize("how", ["mean", "median"])
def test_pooling_is_that_of_each_track_by_itself(how):
    rng = np.random.default_rng(0)
    features, tracks = rng.standard_normal((50, 5)), rng.integers(0, 9, 50)
    pooled = pool(features, tracks, how=how)
    for row, track in zip(pooled.features, pooled.tracklets, strict=True):
        own = features[tracks == track]
        own = own / np.linalg.norm(own, axis=1, keepdims=True)
        wanted = getattr(np, how)(own, axis=0)
        np.testing.assert_allclose(row, wanted / np.linalg.norm(wanted), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([[1.0]], ["a", "b"]), "tracklets of \\(2,\\)"),
        (([[np.nan]], ["a"]), "finite"),
        (([["x"]], ["a"]), "rows of numbers"),
    ],
)
def test_what_cannot_be_pooled_is_explained(arguments, words):
    with pytest.raises(ValueError, match=words):
        pool(*arguments)
    with pytest.raises(ValueError, match="how"):
        pool([[1.0]], ["a"], how="max")
