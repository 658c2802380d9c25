import io
import zipfile

import numpy as np
import pytest

from tests.test_protocol import assert_same_scores, random_set
from topdb_tf.evaluate.feature_files import load_features
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.protocol import score


def test_a_file_scores_as_its_arrays(tmp_path):
    retrieval_set = random_set()
    for dtype in ("float16", "float32", "float64"):
        arrays = [array.astype(dtype) for array in retrieval_set[:2]]
        arrays = RetrievalSet(*arrays, *retrieval_set.identities)
        np.savez(tmp_path / "set.npz", extra=np.zeros(1), **arrays._asdict())
        read = score(load_features(tmp_path / "set.npz"))
        assert_same_scores(read.scores, score(arrays).scores)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_pids": None}, "Missing: query_pids"),
        (
            {"query_pids": np.array(["a"] * 40, object)},
            "Python objects are not",
        ),
        ({"query_pids": np.zeros(3, int)}, "one entry an image|one pid an image"),
        ({"query_features": np.zeros((40, 24), int)}, "float type"),
        ({"query_features": np.zeros((40, 23))}, r"gallery_features \(300, 24\)"),
        ({"query_features": np.full((40, 24), np.nan)}, "query_features, rows 0, 1"),
        ({"query_features": np.full((40, 24), np.inf, "float16")}, "float16"),
        (
            {
                "gallery_features": np.zeros((0, 24)),
                "gallery_pids": np.zeros(0, int),
                "gallery_camids": np.zeros(0, int),
            },
            "gallery must have at least one image",
        ),
    ],
)
def test_bad_files_are_refused(tmp_path, changes, message):
    arrays = {**random_set()._asdict(), **changes}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_features(tmp_path / "set.npz")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.npz.*docs/coming-from.md"):
        load_features(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match="text.npz must be an NPZ file"):
        load_features(tmp_path / "text.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(ValueError, match="array.npy .*Missing: query_features"):
        load_features(tmp_path / "array.npy")


def npz_of(path, header, data=b"", **options):
    """Writes an NPZ file whose first array has a header of one's own."""
    entry = io.BytesIO()
    np.lib.format.write_array_header_1_0(entry, header)
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("query_features.npy", entry.getvalue() + data)
    return path


def test_an_array_is_no_larger_than_its_data(tmp_path):
    header = {"shape": (10**12, 24), "fortran_order": False, "descr": "<f4"}
    path = npz_of(tmp_path / "shape.npz", header)
    with pytest.raises(ValueError, match=r"shape \(1000000000000, 24\), and has"):
        load_features(path)
    packed = {"compression": zipfile.ZIP_DEFLATED}
    path = npz_of(tmp_path / "bomb.npz", header, bytes(200_000_000), **packed)
    with pytest.raises(ValueError, match="says to hold 200,000,128"):
        load_features(path)


@pytest.mark.parametrize("share", np.arange(10) / 10)
def test_a_file_that_is_cut_short_is_refused(tmp_path, share):
    path = tmp_path / "set.npz"
    np.savez(path, **random_set()._asdict())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ValueError, match="set.npz must be an NPZ file, whole"):
        load_features(path)


def test_flipped_bits_are_refused_or_without_effect(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, **random_set()._asdict())
    contents, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(50):
        changed = bytearray(contents)
        for place in rng.integers(len(contents), size=20):
            changed[place] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=r"set\.npz"):
            load_features(path)
