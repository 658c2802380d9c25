import itertools

import numpy as np
import pytest

from tests.test_protocol import random_set
from topdb_tf.evaluate.feature_files import load_features
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.identities import Identities, whole_numbers
from topdb_tf.retrieval.protocol import score
from topdb_tf.search.changes import create_index
from topdb_tf.search.index import SearchIndex

INTEGERS = [f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)]
FLOATS = ["f2", "f4", "f8"]
PAIRS = list(itertools.product(INTEGERS + FLOATS, repeat=2))
PAIRS_OF_64_BITS = list(itertools.product(["i8", "u8", object], repeat=2))


def identities(query=(1, 2, 3), gallery=(3, 1, 1), camids=(1, 1, 1), others=(2, 2, 2)):
    return Identities(query, gallery, camids, others)


def who_matches(ids):
    """Returns which query and gallery image show one person whom somebody knows."""
    same = ids.query_pids[:, None] == ids.gallery_pids
    return (same & (ids.query_pids != -1)[:, None]).tolist()


def same_camera(ids):
    return (ids.query_camids[:, None] == ids.gallery_camids).tolist()


MATCHES = who_matches(identities())


@pytest.mark.parametrize("types", PAIRS)
def test_persons_of_any_two_types_are_compared_as_numbers(types):
    query, gallery = np.array([1, 2, 3], types[0]), np.array([3, 1, 1], types[1])
    read = identities(query, gallery, gallery, query)
    assert who_matches(read) == MATCHES
    assert {array.dtype for array in read} == {np.dtype("int64")}
    assert read.query_camids.tolist() == [3, 1, 1]


@pytest.mark.parametrize("base", [2**53, 2**60, 2**62, 2**63 - 4, 2**63, 2**64 - 4])
@pytest.mark.parametrize(
    "types", list(itertools.product(["i8", "u8", object], repeat=2))
)
def test_persons_of_64_bits_are_told_apart(base, types):
    persons = [base + 1, base + 2, base + 3], [base + 3, base + 1, base + 1]
    if base >= 2**63:  # int64 holds no such number
        types = [kind if kind == "u8" else object for kind in types]
    arrays = [np.array(ids, kind) for ids, kind in zip(persons, types, strict=True)]
    assert who_matches(identities(*arrays)) == MATCHES
    assert who_matches(identities(*persons)) == MATCHES  # lists


def test_persons_above_64_bits_keep_junk_and_distractors():
    read = identities([2**63 + 5, 1, 2], [-1, 0, 2**63 + 5])
    assert read.query_pids.tolist() == [3, 1, 2]
    assert read.gallery_pids.tolist() == [-1, 0, 3]


@pytest.mark.parametrize(
    ("query", "gallery"),
    [
        (["anna", "bob", "carl"], ["carl", "anna", "anna"]),
        ([b"anna", b"bob", b"carl"], ["carl", "anna", "anna"]),
        ([" anna", "bob\t", "carl"], ["carl ", "anna", "anna\n"]),
        (["1", "2", "3"], [3, 1, 1]),
        ([b"1", b"2", b"3"], [3.0, 1.0, 1.0]),
        (["0001", "0002", "0003"], ["0003", "0001", "0001"]),
        (["1.0", "2.0", "3.0"], np.array([3, 1, 1], "u8")),
    ],
)
def test_texts_are_compared_by_what_they_say(query, gallery):
    assert who_matches(identities(query, gallery)) == MATCHES
    assert who_matches(identities(np.array(query), np.array(gallery))) == MATCHES
    read = identities(query, gallery, camids=query, others=gallery)
    assert same_camera(read) == MATCHES


@pytest.mark.parametrize(
    "unknown", [None, float("nan"), "", " ", "unknown", "NaN", "None", "-1", b"N/A"]
)
def test_what_is_not_known_is_nobody_and_no_camera(unknown):
    query, gallery = [unknown, 2, 3], [3, unknown, unknown]
    if isinstance(unknown, str | bytes):
        query, gallery = [[str(i) if i is not unknown else i for i in ids]
                          for ids in (query, gallery)]  # fmt: skip
    read = identities(query, gallery, query, gallery)
    assert read.query_pids.tolist() == [-1, 2, 3]
    assert read.gallery_pids.tolist() == [3, -1, -1]
    unknown_camids = [read.query_camids[0], *read.gallery_camids[1:]]
    assert max(unknown_camids) < 0
    assert len(set(unknown_camids)) == 3
    assert same_camera(read)[2] == [True, False, False]


def test_masked_ids_and_nan_are_not_known():
    masked = np.ma.array([1, 2, 3], mask=[True, False, False])
    for query in (masked, np.array([np.nan, 2, 3]), np.array([np.nan, 2, 3], "f2")):
        assert identities(query).query_pids.tolist() == [-1, 2, 3]


def test_a_camera_of_minus_one_for_several_images_matches_none():
    # Image numbers, as of data sets without cameras: the query is in the gallery, too.
    kept = identities(camids=[-1, -2, -3], others=[-3, -4, -1])
    assert kept.query_camids.tolist() == [-1, -2, -3]
    assert kept.gallery_camids.tolist() == [-3, -4, -1]
    marked = identities(camids=[-1, -1, 7], others=[-1, -9, 7])
    assert same_camera(marked) == [[False] * 3, [False] * 3, [False, False, True]]
    unmarked = score(random_set())
    all_unknown = random_set()._asdict() | {
        "query_camids": np.full(40, -1),
        "gallery_camids": np.full(300, -1),
    }
    result = score(RetrievalSet(**all_unknown))
    assert result.protocol.cameras == "none"
    assert result.scores.num_valid_queries >= unmarked.scores.num_valid_queries


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1.5, 2, 3], "`query_pids` must be.*Received: 1.5"),
        (np.array([1, 2, 2048], "f2"), "below 2,048, which float16 holds"),
        (np.array([1, 2, 2.0**24], "f4"), "below 16,777,216"),
        (np.array([1, 2, 2.0**53]), "below 9,007,199,254,740,992"),
        ([1, 2, 2.0**53], "whole numbers"),
        ([1, 2, float("inf")], "whole numbers"),
        (np.array([True, False, True]), "type bool"),
        ([True, False, True], "Received: True"),
        (np.array([1, 2, 3], "M8[D]"), "datetime64"),
        (np.array([1, 2, 3], complex), "complex"),
        (np.array([[1], [2], [3]]), r"shape \(3, 1\)"),
        (np.array(1), r"shape \(\)"),
        ("anna", r"shape \(\)"),
        (["p1", "p2", "p3"], "all numbers or all texts.*'p1' and the number 1"),
        ([1, "p2", 3], "all numbers or all texts.*'p2' and the number 1"),
        ([{}, 2, 3], "Received: {}"),
        ([-(2**63) - 1, 2, 3], "Received: -9223372036854775809"),
    ],
)
def test_other_ids_are_refused(ids, message):
    with pytest.raises(ValueError, match=message):
        identities(ids)


def test_a_file_of_mixed_types_scores_as_one_of_int64(tmp_path):
    arrays = random_set()._asdict()
    expected = score(RetrievalSet(**arrays)).scores
    arrays["query_pids"] = arrays["query_pids"].astype("u8") + np.uint64(2**60)
    arrays["gallery_pids"] = arrays["gallery_pids"] + 2**60
    arrays["query_camids"] = np.array([f"cam {i}" for i in arrays["query_camids"]])
    arrays["gallery_camids"] = np.array(
        [f"cam {i}".encode() for i in arrays["gallery_camids"]]
    )
    np.savez(tmp_path / "mixed.npz", **arrays)
    scores = score(load_features(tmp_path / "mixed.npz")).scores
    assert scores.mean_ap == expected.mean_ap < 1


def test_a_part_of_a_set_keeps_its_ids():
    names = ["anna", "bob", "carl"]
    features = np.eye(3, dtype="f4")
    whole = RetrievalSet(features, features, names, names, [None] * 3, [None] * 3)
    part = whole.take([1, 1], [2])
    assert part.query_pids.tolist() == [2, 2]
    assert part.gallery_pids.tolist() == [3]
    assert part.query_camids.tolist() == [whole.query_camids[1]] * 2


def test_an_index_keeps_ids_of_64_bits_and_refuses_others(tmp_path):
    features, names = np.eye(3, dtype="f4"), ["a", "b", "c"]
    pids = np.array([2**60, 2**60 + 1, 2**63 - 1], "u8")
    create_index(tmp_path / "index", features, names, pids=pids, camids=["7", "", "8"])
    entries = SearchIndex(tmp_path / "index").entries
    assert entries.pids.tolist() == pids.tolist()
    assert entries.camids[[0, 2]].tolist() == [7, 8]
    assert entries.camids[1] < -(2**62)  # nobody has told it
    for wrong in (pids + np.uint64(1), ["anna", "bob", "carl"]):
        with pytest.raises(ValueError, match="`pids` must be whole numbers of 64 bits"):
            create_index(tmp_path / "other", features, names, pids=wrong)
    assert not (tmp_path / "other").exists()


def test_whole_numbers_are_read_exactly():
    assert whole_numbers("pids", [2**63 - 1, -(2**63), "7"]).tolist() == [
        2**63 - 1,
        -(2**63),
        7,
    ]
    assert whole_numbers("pids", []).tolist() == []


def test_one_name_in_two_spellings_of_unicode_is_one_person():
    composed, decomposed = "Jos\u00e9", "Jose\u0301"
    ids = Identities([composed], [decomposed, "Ana"], [1], [2, 2])
    assert ids.query_pids[0] == ids.gallery_pids[0] != ids.gallery_pids[1]
