"""Calibrations of runs, written by hand."""

import json

from topdb_tf.files import sha256_of

_HALF = {
    "persons": 4,
    "queries": 8,
    "gallery": 8,
    "impostor_pairs": 48,
    "genuine_pairs": 16,
}


def share(value):
    return {"value": value, "low": value / 2, "high": min(1, 2 * value)}


def point(rate, threshold, **changes):
    """Returns the record of an operating point."""
    return {
        "wanted_false_match_rate": rate,
        "threshold": threshold,
        "false_match_rate": share(1.25 * rate),
        "true_match_rate": share(0.75),
        "false_non_match_rate": share(0.25),
        "worst_cameras": None,
        "same_camera_false_match_rate": None,
        **changes,
    }


def write_calibration(run, **changes):
    """Writes a calibration of three operating points and a ROC of three distances."""
    calibration = {
        "format": 1,
        "topdb_tf": "0.1.0",
        "date": "2026-11-22T10:00:00+00:00",
        "model": "embedder.keras",
        "model_sha256": sha256_of(run / "embedder.keras"),
        "dataset": "synthetic",
        "ignore_cameras": False,
        "seed": 1,
        "metric": "sqeuclidean",
        "operating_points": [point(0.01, 1e9), point(0.001, 1e-4), point(0.5, 0.0)],
        "roc": {
            "distances": [1e-5, 1e9, 2e9],
            "false_match_rates": [0.0001, 0.01, 0.02],
            "true_match_rates": [0.1, 0.75, 0.9],
        },
        "camera_pairs": [],
        "found_on": _HALF,
        "measured_on": _HALF,
        "num_left_out": 0,
        "confidence": 0.95,
        "seconds": {"embedding": 1.0, "judging": 1.0},
        **changes,
    }
    (run / "calibration.json").write_text(json.dumps(calibration))
