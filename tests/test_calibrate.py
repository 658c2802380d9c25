"""Thresholds for false-match rates: found on some persons, measured on others."""

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import calibrations, commands
from topdb_tf.cli import main
from topdb_tf.data.drawn.synthetic import write_synthetic
from topdb_tf.data.records import ImageRecord, Split
from topdb_tf.evaluate.calibrate import (
    _stated_rates,
    calibration_lines,
    read_calibration,
)
from topdb_tf.files import plain
from topdb_tf.json_files import record_of
from topdb_tf.model.backbones import tiny
from topdb_tf.model.network import build_network, embedder
from topdb_tf.retrieval.distances import pairwise_distances
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.pairs.calibration import (
    Calibrated,
    CameraMistakes,
    calibration_of,
)
from topdb_tf.retrieval.pairs.halves import checked_halves
from topdb_tf.retrieval.pairs.intervals import Share, share_of_pairs
from topdb_tf.retrieval.pairs.operating_points import compact_roc, threshold_at
from topdb_tf.retrieval.pairs.pair_counts import PairDistances, pair_totals
from topdb_tf.retrieval.pairs.verification import roc_curve
from topdb_tf.texts import rate_text

CELL = 1 / 2048  # how far a threshold may be rounded up, as a share of it


def hand_set():
    # On a line. Queries: person 1 at 0 by camera 1, person 2 at 10 by camera 2.
    # Gallery: person 1 at 2 (camera 2) and at 1 (camera 1), person 2 at 7 (camera 1),
    # person 3 at 3 (camera 2), at 4 (camera 1).
    gallery = [[2.0], [1.0], [7.0], [3.0], [4.0]]
    return RetrievalSet(
        np.array([[0.0], [10.0]]),
        np.array(gallery),
        *map(np.array, ([1, 2], [1, 1, 2, 3, 3], [1, 2], [2, 1, 1, 2, 1])),
    )


def random_set(seed, *, num_queries=40, num_gallery=70, dim=3):
    rng = np.random.default_rng(seed)
    return RetrievalSet(
        rng.standard_normal((num_queries, dim), "float32"),
        rng.standard_normal((num_gallery, dim), "float32"),
        rng.integers(1, 9, num_queries),
        rng.integers(1, 12, num_gallery),
        rng.integers(0, 3, num_queries),
        rng.integers(0, 4, num_gallery),
    )


def gaussian_set(seed, *, num_persons=200, spread=3.0):
    """Persons around normal centres on a line, their images around them."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, spread, num_persons + 1)
    query_pids = np.repeat(np.arange(1, num_persons + 1), 2)
    gallery_pids = np.repeat(np.arange(1, num_persons + 1), 4)
    features = [
        (centres[pids] + rng.normal(0, 1, len(pids)))[:, np.newaxis]
        for pids in (query_pids, gallery_pids)
    ]
    camids = [rng.integers(0, 3, len(pids)) for pids in (query_pids, gallery_pids)]
    return RetrievalSet(*features, query_pids, gallery_pids, *camids)


def pairs_of(retrieval_set, ignore_cameras=False):
    """Yields each pair that counts: the places of its images, slowly."""
    _, _, query_pids, gallery_pids, query_camids, gallery_camids = retrieval_set
    for i in range(len(query_pids)):
        for j in range(len(gallery_pids)):
            if ignore_cameras or query_camids[i] != gallery_camids[j]:
                yield i, j, query_pids[i] == gallery_pids[j]


def test_pairs_are_counted_by_hand():
    # By two cameras. Query 1 (camera 1) meets person 1 at 2 and person 3 at 3; query
    # 2 (camera 2) meets person 1 at 1, person 2 at 7 and person 3 at 4.
    totals = pair_totals(hand_set().identities)
    assert totals.as_query.tolist() == [1, 2, 0]
    assert totals.as_gallery.tolist() == [1, 0, 2]
    assert totals.genuine.tolist() == [1, 1, 0]
    # Two persons: query 1 with cameras 1, 1, 2 (7, 4, 3), query 2 with 2, 2, 1, 1.
    assert totals.cameras.tolist() == [[2, 1], [2, 2]]
    # Squared distances of those: impostors 9, 81 and 36; genuine 4 and 9.
    accepted = PairDistances(hand_set()).up_to(np.array([36.0, 3.0, 9.0]))
    assert accepted.as_query.tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 0]]
    assert accepted.as_gallery.tolist() == [[0, 0, 2], [0, 0, 0], [0, 0, 1]]
    assert accepted.genuine.tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 0]]
    # By one camera: 16 (query 1 with 4); 64 and 49 lie above 36.
    assert accepted.cameras[0].tolist() == [[1, 1], [1, 0]]


def test_cameras_may_be_ignored_in_the_counts():
    # Query 1 meets persons 2, 3 and 3, query 2 persons 1, 1, 3 and 3.
    totals = pair_totals(hand_set().identities, ignore_cameras=True)
    assert totals.as_query.tolist() == [3, 4, 0]
    assert totals.as_gallery.tolist() == [2, 1, 4]
    assert totals.genuine.tolist() == [2, 1, 0]


def test_a_threshold_by_hand():
    # Impostors at 9, 36 and 81: a third may be accepted up to 9, two thirds up to 36.
    histogram = PairDistances(hand_set()).histogram()
    for rate, distance in ((0.34, 9), (0.66, 9), (0.67, 36), (0.99, 36)):
        threshold = threshold_at(histogram, rate)
        assert distance <= threshold < distance * (1 + CELL)
    with pytest.raises(ValueError, match="the 1 nearest pairs"):
        threshold_at(histogram, 0.33)


def test_the_roc_by_hand():
    histogram = PairDistances(hand_set()).histogram()
    roc = compact_roc(histogram, num_points=50, fewest=1)
    np.testing.assert_allclose(roc.distances, [9, 36, 81], rtol=CELL)
    assert roc.false_match_rates == [1 / 3, 2 / 3, 1]
    assert roc.true_match_rates == [1, 1, 1]  # at 4 and 9


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.booleans(), st.sampled_from([1, 1 << 24]))
def test_counts_agree_with_a_loop_over_all_pairs(seed, ignore_cameras, memory):
    retrieval_set = random_set(seed)
    distances = pairwise_distances(*retrieval_set[:2])
    pairs = PairDistances(retrieval_set, ignore_cameras=ignore_cameras, memory=memory)
    accepted = pairs.up_to(np.array([0.5, 2.0]))
    pids = pairs.totals.pids.tolist()
    expected = np.zeros((4, 2, len(pids)), int)
    for i, j, same in pairs_of(retrieval_set, ignore_cameras):
        near = distances[i, j] <= np.array([0.5, 2.0])
        one, other = (pids.index(p) for p in (retrieval_set[2][i], retrieval_set[3][j]))
        expected[2, :, one] += same & near
        expected[0, :, one] += ~same & near
        expected[1, :, other] += ~same & near
        expected[3, 0, one] += same
        expected[3, 1, one] += ~same
    np.testing.assert_array_equal(accepted.as_query, expected[0])
    np.testing.assert_array_equal(accepted.as_gallery, expected[1])
    np.testing.assert_array_equal(accepted.genuine, expected[2])
    np.testing.assert_array_equal(pairs.totals.genuine, expected[3, 0])
    np.testing.assert_array_equal(pairs.totals.as_query, expected[3, 1])


def test_rates_agree_with_the_exact_roc_where_cameras_are_ignored():
    retrieval_set = random_set(3)
    pairs = PairDistances(retrieval_set, ignore_cameras=True)
    curve = roc_curve(retrieval_set, ignore_cameras=True)
    accepted = pairs.up_to(curve.thresholds)
    assert pairs.totals.num_impostors == curve.num_impostors
    np.testing.assert_array_equal(accepted.as_query.sum(axis=1), curve.false_positives)
    np.testing.assert_array_equal(accepted.genuine.sum(axis=1), curve.true_positives)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine"])
def test_a_threshold_is_the_last_distance_that_keeps_the_rate(metric):
    retrieval_set = random_set(5)
    distances = pairwise_distances(*retrieval_set[:2], metric=metric)
    impostors = np.array(
        [distances[i, j] for i, j, same in pairs_of(retrieval_set) if not same]
    )
    pairs = PairDistances(retrieval_set, metric=metric)
    threshold = threshold_at(pairs.histogram(), 0.1)
    allowed = len(impostors) // 10
    last = np.sort(impostors)[allowed - 1]
    assert last * (1 - 3 * CELL) <= threshold <= last * (1 + CELL)
    assert np.mean(impostors <= np.float32(threshold)) <= 0.1
    assert pairs.up_to([threshold]).as_query.sum() == np.sum(impostors <= threshold)


def test_no_person_is_in_both_halves():
    retrieval_set = random_set(1)
    for seed in range(5):
        halves = checked_halves(retrieval_set.identities, rates=[0.5], seed=seed)
        pids = [
            {
                *retrieval_set.query_pids[h.queries],
                *retrieval_set.gallery_pids[h.gallery],
            }
            for h in halves
        ]
        assert not pids[0] & pids[1]
        assert pids[0] | pids[1] == set(range(1, 12))
        persons = [len(set(retrieval_set.query_pids[h.queries])) for h in halves]
        assert persons == [4, 4]  # of 8 with queries


def test_the_halves_come_from_the_seed():
    first, again, other = (
        checked_halves(random_set(1).identities, rates=[0.5], seed=seed)[
            0
        ].queries.tolist()
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_images_of_nobody_known_are_left_out():
    whole = random_set(2)
    gallery_pids = np.where(np.arange(70) < 20, np.arange(70) % 2 - 1, whole[3])
    changed = whole._replace(gallery_pids=gallery_pids)
    result = calibration_of(changed, rates=[0.2])
    kept = whole._replace(
        gallery_features=whole[1][20:],
        gallery_pids=whole[3][20:],
        gallery_camids=whole[5][20:],
    )
    expected = calibration_of(kept, rates=[0.2])
    assert (result.num_left_out, expected.num_left_out) == (20, 0)
    assert replace(result, num_left_out=0) == expected


def test_person_0_counts_where_a_query_shows_it():
    retrieval_set = random_set(2)
    shifted = retrieval_set._replace(
        query_pids=retrieval_set[2] - 1, gallery_pids=retrieval_set[3] - 1
    )
    assert calibration_of(shifted, rates=[0.2]).num_left_out == 0


def test_rates_are_those_of_the_second_half_at_the_threshold_of_the_first():
    retrieval_set = random_set(7)
    result = calibration_of(retrieval_set, rates=[0.1, 0.3], seed=4)
    halves = checked_halves(retrieval_set.identities, rates=[0.1], seed=4)
    distances = pairwise_distances(*retrieval_set[:2])
    first, second = (
        {
            kind: [
                distances[i, j]
                for i, j, same in pairs_of(retrieval_set)
                if i in half.queries and j in half.gallery and same == kind
            ]
            for kind in (True, False)
        }
        for half in halves
    )
    for point, rate in zip(result.operating_points, (0.1, 0.3), strict=True):
        threshold = np.float32(point.threshold)
        num_first, num_second = len(first[False]), len(second[False])
        assert rate - 2 / num_first < np.mean(first[False] <= threshold) <= rate
        share = np.sum(second[False] <= threshold) / num_second
        assert point.false_match_rate.value == share
        assert point.true_match_rate.value == np.mean(second[True] <= threshold)
        missed = point.false_non_match_rate
        assert missed.value == 1 - point.true_match_rate.value
        assert missed.low <= missed.value <= missed.high
    assert result.measured_on.impostor_pairs == num_second
    assert result.found_on.genuine_pairs == len(first[True])
    again = json.loads(json.dumps(plain(result)))
    assert record_of(Calibrated, again) == result


def test_cameras_are_listed_in_either_order_and_the_worst_is_named():
    retrieval_set = random_set(9, num_queries=200, num_gallery=200)
    result = calibration_of(retrieval_set, rates=[0.3])
    point = result.operating_points[0]
    half = checked_halves(retrieval_set.identities, rates=[0.3])[1]
    distances = pairwise_distances(*retrieval_set[:2])
    counts = {}
    for i, j, same in pairs_of(retrieval_set, ignore_cameras=True):
        if not same and i in half.queries and j in half.gallery:
            seen = retrieval_set.query_camids[i], retrieval_set.gallery_camids[j]
            pairs, near = counts.get(tuple(sorted(seen)), (0, 0))
            near += distances[i, j] <= point.threshold
            counts[tuple(sorted(seen))] = pairs + 1, near
    listed = {
        row.cameras: (row.pairs, row.false_matches[0]) for row in result.camera_pairs
    }
    assert listed == counts
    rates = {pair: near / n for pair, (n, near) in counts.items() if len({*pair}) == 2}
    worst = max(rates, key=rates.get)
    assert point.worst_cameras == CameraMistakes(worst, rates[worst])
    own = [counts[pair] for pair in counts if len({*pair}) == 1]
    rate = sum(near for _, near in own) / sum(n for n, _ in own)
    assert point.same_camera_false_match_rate == rate


def test_intervals_hold_the_true_rates_where_those_of_single_pairs_do_not():
    # Two images of two persons differ by a normal number of variance 2 (9 + 1), two
    # of one person by one of variance 2: the rate up to t is erf(sqrt(t / 2) / sd).
    hits = np.zeros(3)
    for seed in range(40):
        result = calibration_of(gaussian_set(seed), rates=[0.05], seed=seed)
        point = result.operating_points[0]
        shares = point.false_match_rate, point.true_match_rate
        for place, (share, variance) in enumerate(zip(shares, (20, 2), strict=True)):
            true = math.erf(math.sqrt(point.threshold / 2 / variance))
            hits[place] += share.low <= true <= share.high
        value = shares[0].value
        true = math.erf(math.sqrt(point.threshold / 2 / 20))
        num_pairs = result.measured_on.impostor_pairs
        hits[2] += abs(value - true) < 1.96 * (value * (1 - value) / num_pairs) ** 0.5
    # 95 % of 40 is 38, by chance hardly ever below 33.
    assert hits[0] >= 33
    assert hits[1] >= 33
    assert hits[2] < 30


def test_an_interval_by_hand():
    # Four persons with 10 pairs each, 1, 1, 2 and 4 of them accepted: 0.2 in all.
    # Without one each: 7/30, 7/30, 6/30, 4/30; mean 0.2; squares of the differences
    # (1 + 1 + 0 + 4) / 900. Variance 3/4 of that: 0.005; its root 0.0707. In odds:
    # log(0.25) = -1.386, reach 1.96 * 0.0707 / 0.16 = 0.866.
    share = share_of_pairs(
        8,
        40,
        accepted_with=np.array([1, 1, 2, 4, 0]),
        total_with=np.array([10, 10, 10, 10, 0]),
    )
    low, high = (1 / (1 + math.exp(1.386 - sign * 0.866)) for sign in (-1, 1))
    assert share.value == 0.2
    assert share.low == pytest.approx(low, rel=1e-3)
    assert share.high == pytest.approx(high, rel=1e-3)


def test_an_interval_without_any_or_with_every_match_follows_the_rule_of_three():
    persons = np.full(60, 7)
    none = share_of_pairs(0, 420, accepted_with=0 * persons, total_with=persons)
    every = share_of_pairs(420, 420, accepted_with=persons, total_with=persons)
    assert none == Share(0, 0, 3 / 60)
    assert every == Share(1, 1 - 3 / 60, 1)


def test_two_persons_tell_nothing_about_others():
    two = np.array([3, 3])
    share = share_of_pairs(2, 6, accepted_with=np.array([1, 1]), total_with=two)
    assert (share.low, share.high) == (0, 1)
    with pytest.raises(ValueError, match="must be a pair"):
        share_of_pairs(0, 0, accepted_with=0 * two, total_with=0 * two)


def test_a_rate_below_what_the_pairs_can_state_names_the_smallest():
    retrieval_set = random_set(7)
    halves = checked_halves(retrieval_set.identities, rates=[0.5])
    fewest = min(half.totals.num_impostors for half in halves)
    with pytest.raises(ValueError, match="smallest false-match rate") as caught:
        calibration_of(retrieval_set, rates=[0.5, 9.9 / fewest])
    named = float(str(caught.value).split("stated is ")[1].split(". ")[0])
    assert 10 / fewest <= named < 11 / fewest
    assert calibration_of(retrieval_set, rates=[named]).operating_points


@pytest.mark.parametrize("rates", [[], [0.0], [1.0], [0.1, -0.1], [float("nan")]])
def test_a_rate_that_is_no_share_is_refused(rates):
    with pytest.raises(ValueError, match="must be a share of the pairs"):
        calibration_of(random_set(0), rates=rates)


def test_too_few_persons_are_refused():
    one = np.ones(4, int)
    features = np.ones((4, 1), "float32")
    alone = RetrievalSet(features, features, one, one, one, one + 1)
    with pytest.raises(ValueError, match="must have pairs of one person"):
        calibration_of(alone, rates=[0.1])
    pids = np.array([1, 1, 2, 2])
    two = alone._replace(query_pids=pids, gallery_pids=pids)
    with pytest.raises(ValueError, match="must have pairs of different persons"):
        calibration_of(two, rates=[0.1])
    with pytest.raises(ValueError, match="--ignore-cameras"):
        calibration_of(two._replace(gallery_camids=one), rates=[0.1])


def test_features_that_are_all_the_same_are_explained():
    retrieval_set = random_set(7)
    same = [np.ones_like(features) for features in retrieval_set[:2]]
    with pytest.raises(ValueError, match="No threshold has a false-match rate of 0.2"):
        calibration_of(RetrievalSet(*same, *retrieval_set.identities), rates=[0.2])


def test_progress_reaches_its_end():
    reports = []
    calibration_of(
        random_set(7), rates=[0.2], progress=lambda *report: reports.append(report)
    )
    assert reports == sorted(reports)
    assert reports[-1][0] == reports[-1][1]


def test_rates_for_people_keep_their_digits():
    rates = (1, 0.1234567, 1e-4, 1.2345e-7, 0)
    texts = ["100%", "12.3%", "0.01%", "0.0000123%", "0%"]
    assert [rate_text(rate) for rate in rates] == texts


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run with a model of random weights, and data of 8 persons."""
    folder = tmp_path_factory.mktemp("run")
    write_synthetic(
        folder / "data/synthetic",
        num_train_pids=2,
        num_test_pids=8,
        images_per_pid=4,
        num_cameras=2,
    )
    (folder / "config.yaml").write_text(
        f"data: {{split: synthetic, root: {folder}/data, check_counts: false}}"
    )
    model = embedder(build_network(tiny((32, 16)), num_pids=3))
    for name in ("embedder.keras", "embedder_best.keras"):
        model.save(folder / name)
    return folder


def calibrate(*arguments):
    return CliRunner().invoke(main, ["calibrate", *map(str, arguments)])


refused = partial(commands.refused, status=1)


def test_a_run_is_calibrated(run):
    answer = calibrate(
        run, "--false-match-rate", 0.6, "--false-match-rate", 0.5, "--json"
    )
    assert answer.exit_code == 0, answer.output
    calibration = json.loads(answer.stdout)
    assert json.loads((run / "calibration.json").read_text()) == calibration
    assert not list(run.glob("*.partial"))
    assert calibration["model"] == "embedder.keras"
    assert len(calibration["model_sha256"]) == 64
    assert (calibration["metric"], calibration["dataset"]) == (
        "sqeuclidean",
        "synthetic",
    )
    rates = [p["wanted_false_match_rate"] for p in calibration["operating_points"]]
    assert rates == [0.6, 0.5]
    # 8 persons, 2 queries each by 2 cameras and 2 in the gallery; 8 distractors.
    assert calibration["measured_on"]["persons"] == 4
    assert calibration["measured_on"]["queries"] == 8
    assert calibration["num_left_out"] == 8


def test_without_a_rate_few_persons_state_the_smallest_that_they_can(run):
    answer = calibrate(run, "--json")
    assert answer.exit_code == 0, answer.output
    calibration = json.loads(answer.stdout)
    (point,) = calibration["operating_points"]
    rate = point["wanted_false_match_rate"]
    pairs = min(
        calibration[half]["impostor_pairs"] for half in ("found_on", "measured_on")
    )
    assert 10 / pairs <= rate < 11 / pairs
    assert f"can state a false-match rate of {rate:g}" in answer.stderr
    refused(
        calibrate(run, "--false-match-rate", 0.9 * rate),
        f"stated is {rate:g}. Name such a rate",
    )


def test_people_are_told_the_rates(run):
    options = "--false-match-rate", 0.5, "--metric", "cosine", "--best", "--seed", 3
    answer = calibrate(run, *options)
    assert answer.exit_code == 0, answer.output
    assert "embedder_best.keras on synthetic, cosine distance" in answer.stdout
    assert "false-match rate 50%: threshold 0." in answer.stdout
    assert "worst cameras: 1 and 2" in answer.stdout
    calibration = json.loads((run / "calibration.json").read_text())
    assert (calibration["metric"], calibration["seed"]) == ("cosine", 3)
    assert calibration["model"] == "embedder_best.keras"


def test_cameras_have_the_names_that_their_owner_gave_them(run):
    worst = {"cameras": [1, 3], "false_match_rate": 0.25}
    calibrations.write_calibration(
        run,
        operating_points=[calibrations.point(0.01, 0.5, worst_cameras=worst)],
        camera_names={"1": "door", "2": "yard"},
    )
    calibration = read_calibration(run)
    lines = calibration_lines(calibration)
    assert "  worst cameras: door and 3, 25%" in lines
    assert calibration.to_dict()["camera_names"] == {"1": "door", "2": "yard"}


def test_too_small_a_rate_is_refused_before_anything_is_embedded(run, monkeypatch):
    monkeypatch.setattr("topdb_tf.evaluate.embedding.Embedder", None)
    answer = calibrate(run, "--false-match-rate", 0.001)
    refused(answer, "smallest false-match rate that can be stated is 0.")


def test_too_few_persons_are_named_where_no_rate_is():
    # In each half two persons, each compared with the other's image by camera 2.
    query, gallery = (
        tuple(ImageRecord(Path(f"{pid}_{camid}"), pid, camid) for pid in (1, 2, 3, 4))
        for camid in (1, 2)
    )
    split = Split("few", (), query, gallery)
    with pytest.raises(ValueError, match="more test persons") as caught:
        _stated_rates(split, (), False, 1, print)
    assert str(caught.value).endswith(
        "4 persons, with 2 pairs of two persons in a half"
    )
    with pytest.raises(ValueError, match=r"Received: 0\.3$"):
        _stated_rates(split, (0.3,), False, 1, print)


def test_a_run_without_a_model_is_named(run, tmp_path):
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    refused(calibrate(tmp_path), "has no embedder.keras")
    refused(calibrate(Path(tmp_path, "none")), "not the folder of a run")
