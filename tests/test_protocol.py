import json
import subprocess
import sys

import numba
import numpy as np
import pytest

from topdb_tf.retrieval import distances, encoding, neighbors, ranking, reranking
from topdb_tf.retrieval.distances import pairwise_distances
from topdb_tf.retrieval.protocol import (
    Protocol,
    Reranking,
    RetrievalResult,
    RetrievalSet,
    score,
)
from topdb_tf.retrieval.ranking import retrieval_scores

JSON_KEYS = [
    "mean_ap",
    "mean_ap_trapezoid",
    "mean_inp",
    "cmc",
    "num_valid_queries",
    "protocol",
    "seconds",
    "warmup_seconds",
]


def random_set(num_queries=40, num_gallery=300, dim=24, num_pids=15, seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((num_pids, dim))

    def part(num_images):
        pids = rng.integers(0, num_pids, num_images)
        features = centers[pids] + 1.2 * rng.standard_normal((num_images, dim))
        return features.astype("float32"), pids, rng.integers(0, 4, num_images)

    query, gallery = part(num_queries), part(num_gallery)
    return RetrievalSet(*(part[i] for i in range(3) for part in (query, gallery)))


def assert_same_scores(one, other):
    for before, after in zip(one.queries, other.queries, strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(one.cmc, other.cmc)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine"])
def test_features_score_as_their_distances(metric):
    query, gallery, *identities = retrieval_set = random_set()
    matrix = pairwise_distances(query, gallery, metric=metric)
    result = score(retrieval_set, metric=metric)
    assert_same_scores(result.scores, retrieval_scores(matrix, *identities))


@pytest.mark.parametrize("rerank", [None, Reranking()])
def test_memory_for_blocks_changes_nothing(rerank):
    retrieval_set = random_set()
    plain = score(retrieval_set, rerank=rerank)
    with pytest.raises(ValueError, match="at least") as refusal:
        score(retrieval_set, rerank=rerank, memory_limit=1)
    least = int(str(refusal.value).split("at least ")[1].split()[0])
    tight = score(retrieval_set, rerank=rerank, memory_limit=least)
    assert_same_scores(plain.scores, tight.scores)


def test_order_of_gallery_and_queries_changes_nothing():
    query, gallery, *identities = random_set()
    rng = np.random.default_rng(1)
    rows, columns = rng.permutation(len(query)), rng.permutation(len(gallery))
    moved = [query[rows], gallery[columns]]
    orders = rows, columns, rows, columns
    moved += [pids[order] for pids, order in zip(identities, orders, strict=True)]
    for rerank in (None, Reranking()):
        plain = score(RetrievalSet(query, gallery, *identities), rerank=rerank)
        other = score(RetrievalSet(*moved), rerank=rerank)
        for before, after in zip(
            plain.scores.queries, other.scores.queries, strict=True
        ):
            np.testing.assert_array_equal(before[rows], after)


@pytest.mark.parametrize(
    ("metric", "given", "equivalent"),
    [
        ("sqeuclidean", "squared", "sqeuclidean"),
        ("sqeuclidean", "euclidean", "euclidean"),
        ("cosine", "squared", "cosine"),
    ],
)
def test_reranking_starts_from_the_named_distances(metric, given, equivalent):
    query, gallery, *identities = retrieval_set = random_set()
    matrices = [
        pairwise_distances(left, right, metric=equivalent)
        for left, right in ((query, gallery), (query, query), (gallery, gallery))
    ]
    matrix = reranking.rerank_distances(*matrices)
    result = score(retrieval_set, metric=metric, rerank=Reranking(input=given))
    assert_same_scores(result.scores, retrieval_scores(matrix, *identities))


def test_reranking_by_cosine_equals_that_of_unit_vectors():
    retrieval_set = random_set()
    units = [
        features / np.linalg.norm(features, axis=1, keepdims=True)
        for features in retrieval_set[:2]
    ]
    for given in ("squared", "euclidean"):
        rerank = Reranking(input=given)
        plain = score(RetrievalSet(*units, *retrieval_set.identities), rerank=rerank)
        cosine = score(retrieval_set, metric="cosine", rerank=rerank)
        assert cosine.scores.mean_ap == pytest.approx(plain.scores.mean_ap, abs=1e-3)


def test_result_as_json():
    result = score(random_set(), rerank=Reranking())
    record = json.loads(json.dumps(result.to_dict()))
    assert list(record) == JSON_KEYS
    assert list(record["cmc"]) == [str(rank) for rank in range(1, 51)]
    assert record["protocol"]["metric"] == "sqeuclidean"
    assert record["protocol"]["reranking"] == {
        "k1": 20,
        "k2": 6,
        "lambda_value": 0.3,
        "input": "squared",
    }
    for key in JSON_KEYS[:3]:
        assert 0 < record[key] <= 1
    again = RetrievalResult.from_dict(record)
    assert again.to_dict() == record
    assert again.protocol == result.protocol


def test_a_record_of_another_version_lacks_what_it_did_not_have():
    record = {"mean_ap": 0.5, "cmc": {"1": 0.25, "10": 0.75}, "protocol": {"new": 1}}
    result = RetrievalResult.from_dict(record)
    assert result.scores.mean_ap == 0.5
    assert np.isnan(result.scores.mean_inp)
    assert result.protocol == Protocol()


def test_protocols_differ_by_name():
    one = Protocol(metric="cosine", reranking=Reranking())
    other = Protocol(metric="cosine", num_gallery=3)
    assert one.differences(one) == []
    assert one.differences(other) == ["num_gallery", "reranking"]


def test_hash_tells_splits_apart():
    retrieval_set = random_set()
    plain = score(retrieval_set).protocol.split_sha256
    narrow = retrieval_set._replace(query_pids=retrieval_set.query_pids.astype("int32"))
    assert score(narrow).protocol.split_sha256 == plain
    other = retrieval_set._replace(query_camids=retrieval_set.query_camids + 1)
    assert score(other).protocol.split_sha256 != plain


@pytest.mark.parametrize("rerank", [None, Reranking()])
def test_progress_ends_at_its_total(rerank):
    reports = []
    score(random_set(), rerank=rerank, progress=lambda *report: reports.append(report))
    done = [report[0] for report in reports]
    assert done == sorted(done)
    assert done[-1] == reports[-1][1]


def test_warm_up_leaves_nothing_to_compile():
    code = (
        "from tests.test_protocol import *\n"
        "from topdb_tf.retrieval.protocol import _compile_kernels\n"
        "_compile_kernels(True)\n"
        "before = num_signatures()\n"
        "score(random_set(num_gallery=2500), rerank=Reranking())\n"
        "assert before == num_signatures(), (before, num_signatures())"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert score(random_set(), rerank=Reranking()).warmup_seconds < 0.01


def num_signatures():
    modules = distances, encoding, neighbors, ranking, reranking
    kernels = [value for module in modules for value in vars(module).values()]
    return {
        kernel.__name__: len(kernel.signatures)
        for kernel in kernels
        if isinstance(kernel, numba.core.registry.CPUDispatcher)
    }


def test_arrays_in_memory_are_checked_as_well():
    retrieval_set = random_set()
    broken = retrieval_set.gallery_features.copy()
    broken[[4, 70], 2] = np.nan
    with pytest.raises(ValueError, match="2 rows.*gallery_features, rows 4, 70"):
        score(retrieval_set._replace(gallery_features=broken))
    with pytest.raises(ValueError, match="every query's matches.*--ignore-cameras"):
        score(
            retrieval_set._replace(
                query_camids=np.zeros(40, int), gallery_camids=np.zeros(300, int)
            )
        )
    with pytest.raises(ValueError, match="`memory_limit` must be at least"):
        score(retrieval_set, memory_limit=1000)
    with pytest.raises(ValueError, match="`metric` must be one of"):
        score(retrieval_set, metric="l1")


@pytest.mark.parametrize("rerank", [None, Reranking()])
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
def test_an_offset_of_all_features_changes_no_score(metric, rerank):
    query, gallery, *identities = random_set()
    plain = score(RetrievalSet(query, gallery, *identities), metric=metric)
    moved = [part.astype(float) + 1e4 for part in (query, gallery)]
    moved = score(RetrievalSet(*moved, *identities), metric=metric, rerank=rerank)
    if rerank is not None:
        plain = score(
            RetrievalSet(query, gallery, *identities), metric=metric, rerank=rerank
        )
    assert moved.scores.mean_ap == pytest.approx(plain.scores.mean_ap, abs=1e-4)
    assert moved.warning is None


def test_squares_of_distances_that_vanish_are_refused_by_the_reranking():
    query, gallery, *identities = random_set()
    for scale in (1e-9, 1e-11):
        small = RetrievalSet(query * scale, gallery * scale, *identities)
        with pytest.raises(ValueError, match="fit in float32, the smallest too"):
            score(small, rerank=Reranking())


def test_a_ranking_by_the_order_of_the_gallery_says_so_in_its_record():
    query, gallery, *identities = random_set()
    result = score(RetrievalSet(query * 0, gallery * 0, *identities))
    assert "100.0% of the pairs of gallery images" in result.warning
    record = json.loads(json.dumps(result.to_dict()))
    assert RetrievalResult.from_dict(record).warning == result.warning
    assert "warning" not in score(random_set()).to_dict()
