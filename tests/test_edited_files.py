"""Files of a run that people edit: what they hold is checked where it is read."""

import json
import re

import pytest

from topdb_tf.evaluate.calibrate import ModelCalibration
from topdb_tf.evaluate.scores import read_scores_file
from topdb_tf.fit.seeds import read_seeds
from topdb_tf.json_files import read_json
from topdb_tf.runs.machine import Environment

SCORES = {
    "dataset": "market1501",
    "mean_ap": 0.5,
    "cmc": {"1": 0.25},
    "num_valid_queries": 3,
    "protocol": {"metric": "cosine", "ignore_cameras": False},
}
SHARE = {"value": 0.1, "low": 0.0, "high": 0.2}
HALF = dict.fromkeys(
    ("persons", "queries", "gallery", "impostor_pairs", "genuine_pairs"), 2
)
CALIBRATION = {
    "format": 1,
    "topdb_tf": "0.1.0",
    "date": "2026-01-01",
    "model": "embedder.keras",
    "model_sha256": "0",
    "dataset": "people",
    "ignore_cameras": False,
    "seed": 1,
    "metric": "sqeuclidean",
    "operating_points": [
        {
            "wanted_false_match_rate": 0.1,
            "threshold": 3.5,
            "false_match_rate": SHARE,
            "true_match_rate": SHARE,
            "false_non_match_rate": SHARE,
            "worst_cameras": None,
            "same_camera_false_match_rate": None,
        }
    ],
    "camera_pairs": [],
    "found_on": HALF,
    "measured_on": HALF,
    "num_left_out": 0,
    "confidence": 0.95,
    "roc": {
        "distances": [1.0, 2.0],
        "false_match_rates": [0.1, 0.2],
        "true_match_rates": [0.3, 0.4],
    },
    "seconds": {"embedding": 1.0, "judging": 1},
}
SEEDS = {
    "run": "runs/x",
    "dataset": "market1501",
    "seeds": [],
    "reranked": {},
}


def edited(record, change):
    """Returns a copy of a record with `{"a.b": value}` changed; `...` takes it out."""
    record = json.loads(json.dumps(record))
    for key, value in change.items():
        place, *way = record, *key.split(".")
        for one in way[:-1]:
            place = place[int(one) if isinstance(place, list) else one]
        last = int(way[-1]) if isinstance(place, list) else way[-1]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return record


def refused(tmp_path, read, text, named):
    file = tmp_path / "edited.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=re.escape(named)) as refusal:
        read(file)
    assert "edited.json" in str(refusal.value)


def calibration(file):
    return read_json(file, ModelCalibration.from_dict, "must be a calibration.")


def test_what_was_not_edited_is_read(tmp_path):
    for read, record in ((read_scores_file, SCORES), (calibration, CALIBRATION)):
        file = tmp_path / "edited.json"
        file.write_text(json.dumps(record))
        assert read(file)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"mean_ap": float("nan")}, "`mean_ap` must be a number, not nan"),
        ({"mean_ap": "0.5"}, "`mean_ap` must be a number, not '0.5'"),
        ({"mean_ap": ...}, "'mean_ap' is missing"),
        ({"mean_ap": 50}, "shares, in [0, 1]"),
        ({"cmc.1": True}, "`cmc.1` must be a number"),
        ({"cmc": [0.25]}, "`cmc` must be an object"),
        ({"num_valid_queries": 2.5}, "`num_valid_queries` must be a whole number"),
        ({"num_valid_queries": 10**30}, "`num_valid_queries` must be a whole number"),
        (
            {"protocol.ignore_cameras": "false"},
            "`protocol.ignore_cameras` must",
        ),
        ({"protocol.reranking": 3}, "`protocol.reranking` must be an object"),
        ({"protocol.reranking": {"k1": 0}}, "`k1` and `k2` must be at least 1"),
        ({"model": 3}, "`model` must be a text"),
        ({"dataset": ["a"]}, "`dataset` must be a text"),
    ],
)
def test_edited_scores_name_the_key(change, named, tmp_path):
    refused(tmp_path, read_scores_file, json.dumps(edited(SCORES, change)), named)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"ignore_cameras": "false"}, "`ignore_cameras` must be true/false"),
        ({"metric": "l1"}, "`metric` must be one of"),
        ({"operating_points": []}, "an operating point"),
        ({"operating_points.0.threshold": "3"}, "`operating_points[0].threshold` must"),
        ({"operating_points.0.false_match_rate.low": -1}, "shares, in [0, 1]"),
        ({"roc.distances": [2.0, 1.0]}, "ascending distances"),
        ({"roc.distances": [1.0]}, "two rates at each"),
        ({"roc.distances": "12"}, "`roc.distances` must be a list"),
        ({"seconds": 3}, "`seconds` must be an object"),
        ({"found_on.persons": ...}, "`found_on.persons` is missing"),
    ],
)
def test_an_edited_calibration_names_the_key(change, named, tmp_path):
    refused(tmp_path, calibration, json.dumps(edited(CALIBRATION, change)), named)


@pytest.mark.parametrize("read", [read_scores_file, calibration, Environment.read])
@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "no JSON"),
        ("[]", "it must be an object, not []"),
        ("null", "it must be an object, not None"),
        ('{"a":' * 100_000, "recursion"),
        ("9" * 5000, "digits"),
    ],
)
def test_what_is_no_record_is_named(read, text, named, tmp_path):
    refused(tmp_path, read, text, named)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seeds": {}}, "`seeds` must be a list"),
        ({"seeds": [3]}, "`seeds[0]` must be an object"),
        ({"run": 3}, "must be a text"),
    ],
)
def test_an_edited_summary_of_seeds_names_the_key(change, named, tmp_path):
    (tmp_path / "seeds.json").write_text(json.dumps(edited(SEEDS, change)))
    with pytest.raises(ValueError, match=r"seeds\.json must be what") as refusal:
        read_seeds(tmp_path)
    assert named in str(refusal.value) or "is missing" in str(refusal.value)


def test_a_key_that_stands_twice_is_refused(tmp_path):
    # Python takes the last one in silence.
    file = tmp_path / "scores.json"
    file.write_text('{"mean_ap": 0.5, "cmc": {}, "mean_ap": 0.9}')
    with pytest.raises(ValueError, match="the key `mean_ap` stands twice"):
        read_json(file, dict, "must be scores.")
