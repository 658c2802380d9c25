"""Features of other programs: their files, and the commands that take them."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.io import savemat

import topdb_tf
from tests.commands import refused, topdb
from topdb_tf.evaluate.feature_files import holds_features
from topdb_tf.retrieval.pairs.intervals import means_over_persons


@pytest.fixture(scope="module")
def arrays():
    """Ten persons by three cameras, and one without a match."""
    rng = np.random.default_rng(3)
    people = rng.normal(size=(11, 12))
    gallery_pids = np.repeat(np.arange(1, 11), 6)
    query_pids = np.repeat(np.arange(1, 12), 2)
    query = people[query_pids - 1] + rng.normal(size=(22, 12))
    gallery = people[gallery_pids - 1] + rng.normal(size=(60, 12))
    return {
        "query_features": query.astype("float32"),
        "gallery_features": gallery.astype("float32"),
        "query_pids": query_pids,
        "gallery_pids": gallery_pids,
        "query_camids": np.tile([1, 2], 11),
        "gallery_camids": np.tile([1, 2, 3], 20),
    }


def renamed(arrays, *names):
    return dict(zip(names, arrays.values(), strict=True))


def write_npz(folder, arrays):
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


def write_short_names(folder, arrays):
    names = ("qf", "gf", "q_pids", "g_pids", "q_camids", "g_camids")
    np.savez(folder / "b.npz", **renamed(arrays, *names), other=np.zeros(3))
    return folder / "b.npz"


def write_npy(folder, arrays):
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def write_safetensors(folder, arrays):
    names = ("query_feature", "gallery_feature", "query_label", "gallery_label")
    arrays = renamed(arrays, *names, "query_cam", "gallery_cam")
    save_file(arrays, folder / "c.safetensors")
    return folder / "c.safetensors"


def write_mat(folder, arrays):
    """As layumi's baseline does: identities are rows of a matrix."""
    names = ("query_f", "gallery_f", "query_label", "gallery_label")
    arrays = renamed(arrays, *names, "query_cam", "gallery_cam")
    savemat(folder / "pytorch_result.mat", arrays)
    return folder / "pytorch_result.mat"


def write_torch_parts(folder, arrays):
    torch = pytest.importorskip("torch")
    for part in ("query", "gallery"):
        content = {
            "feats": torch.from_numpy(arrays[f"{part}_features"]),
            "pids": arrays[f"{part}_pids"].tolist(),
            "camids": arrays[f"{part}_camids"],  # an array of NumPy
        }
        torch.save(content, folder / f"{part}.pt")
    return [folder / "query.pt", folder / "gallery.pt"]


def write_nested_torch(folder, arrays):
    torch = pytest.importorskip("torch")
    content = {
        part: {
            name: torch.from_numpy(arrays[f"{part}_{name}"])
            for name in ("features", "pids", "camids")
        }
        for part in ("query", "gallery")
    }
    torch.save(content, folder / "d.pth")
    return folder / "d.pth"


def write_float_ids(folder, arrays):
    ids = {name: arrays[name].astype("float64") for name in list(arrays)[2:]}
    return write_npz(folder, {**arrays, **ids})


def write_text_ids(folder, arrays):
    texts = {name: [f"id {n:02}" for n in arrays[name]] for name in list(arrays)[2:]}
    return write_npz(folder, {**arrays, **texts})


def write_text_cells(folder, arrays):
    texts = {
        name: np.array([f"id {n}" for n in arrays[name]], object)
        for name in list(arrays)[2:]
    }
    savemat(folder / "cells.mat", {**arrays, **texts})
    return folder / "cells.mat"


@pytest.mark.parametrize(
    "write",
    [
        write_npz,
        write_short_names,
        write_npy,
        write_safetensors,
        write_mat,
        write_torch_parts,
        write_nested_torch,
        write_float_ids,
        write_text_ids,
        write_text_cells,
    ],
)
def test_every_format_gives_the_same_figures(arrays, write, tmp_path):
    expected = topdb_tf.score(**arrays)
    places = write(tmp_path, arrays)
    found = topdb_tf.score(*topdb_tf.load_features(places))
    for name in ("average_precision", "first_match_rank"):
        np.testing.assert_array_equal(
            found.per_query()[name], expected.per_query()[name]
        )
    places = places if isinstance(places, list) else [places]
    printed = json.loads(topdb("score", *places, "--json").stdout)
    assert printed["mean_ap"] == expected.to_dict()["mean_ap"]


BAD_NAMES = [
    ({"qf": "query_features"}, "must hold `query_features` once", "qf in bad.npz"),
    ({"query_camids": None}, "Missing: query_camids"),
    ({"query_pids": None}, "Missing: query_pids", "gallery_pids", "query_camids"),
    ({"query_paths": "query_pids"}, "Missing: gallery_paths"),
]


@pytest.mark.parametrize(
    ("changes", "words"), [(one, words) for one, *words in BAD_NAMES]
)
def test_names_that_do_not_suffice_are_told(arrays, tmp_path, changes, words):
    changed = dict(arrays)
    for name, of in changes.items():
        if of is None:
            del changed[name]
        else:
            changed[name] = arrays[of]
    np.savez(tmp_path / "bad.npz", **changed)
    refused(topdb("score", tmp_path / "bad.npz"), "bad.npz", *words)


def test_what_embed_writes_besides_is_no_query(arrays, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays, probe_features=np.eye(12, dtype="f4"))
    assert topdb_tf.load_features(tmp_path / "a.npz").query_features.shape == (22, 12)


def test_a_folder_of_runs_is_none_of_features(arrays, tmp_path):
    write_npz(tmp_path, arrays)
    assert holds_features(tmp_path)
    (tmp_path / "name" / "seed-1").mkdir(parents=True)
    (tmp_path / "name" / "seed-1" / "config.yaml").touch()
    assert not holds_features(tmp_path)
    assert not holds_features(tmp_path / "missing")


def test_files_that_are_none_are_told(arrays, tmp_path):
    refused(topdb("score", tmp_path / "none.pt"), "no file of features", "none.pt")
    for name in ("a.npy", "a.mat", "a.safetensors", "a.bin", "a.npz"):
        (tmp_path / name).write_bytes(b"nothing that could be read")
        refused(topdb("score", tmp_path / name), name)
    (tmp_path / "empty").mkdir()
    refused(topdb("score", tmp_path / "empty"), "none ends in .npz, .npy")


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"qf": csv.DictReader}, tmp_path / "evil.pt")
    refused(topdb("score", tmp_path / "evil.pt"), "evil.pt", "csv.DictReader")


def test_without_cameras_each_image_of_the_person_matches(arrays, tmp_path):
    few = {name: arrays[name] for name in list(arrays)[:4]}
    np.savez(tmp_path / "few.npz", **few, query_c=arrays["query_camids"])
    answer = topdb("score", tmp_path / "few.npz", "--json")
    assert "names no cameras, such as query_camids; not read: query_c" in answer.stderr
    expected = topdb_tf.score(**arrays, ignore_cameras=True)
    found = json.loads(answer.stdout)
    assert found["mean_ap"] == expected.to_dict()["mean_ap"]
    assert found["protocol"]["cameras"] == "none"


def test_an_image_is_not_its_own_match_where_cameras_are_ignored(arrays, tmp_path):
    gallery = np.concatenate([arrays["query_features"], arrays["gallery_features"]])
    pids = np.concatenate([arrays["query_pids"], arrays["gallery_pids"]])
    names = [f"q{place}.jpg" for place in range(22)]
    np.savez(
        tmp_path / "twice.npz",
        query_features=arrays["query_features"],
        gallery_features=gallery,
        query_pids=arrays["query_pids"],
        gallery_pids=pids,
        query_camids=np.zeros(22),
        gallery_camids=np.zeros(82),
        query_names=names,
        gallery_names=[*names, *(f"g{place}.jpg" for place in range(60))],
    )
    answer = topdb("score", tmp_path / "twice.npz", "--ignore-cameras", "--json")
    assert json.loads(answer.stdout)["cmc"]["1"] < 1


@pytest.fixture
def file(arrays, tmp_path):
    return write_npz(tmp_path, arrays)


def test_scores_of_each_query_are_written(arrays, tmp_path):
    names = {
        "query_paths": [f"q/{place}.jpg" for place in range(22)],
        "gallery_paths": [f"g/{place}.jpg" for place in range(60)],
        "query_pids": [f"p{pid}" for pid in arrays["query_pids"]],
        "gallery_pids": [f"p{pid}" for pid in arrays["gallery_pids"]],
    }
    np.savez(tmp_path / "named.npz", **{**arrays, **names})
    out = tmp_path / "queries.csv"
    assert topdb("score", tmp_path / "named.npz", "--per-query", out).exit_code == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    table = topdb_tf.score(**arrays).per_query()
    assert [row["path"] for row in rows] == names["query_paths"]
    assert [row["pid"] for row in rows] == names["query_pids"]
    assert [row["camid"] for row in rows] == [str(n) for n in arrays["query_camids"]]
    precision = [float(row["average_precision"] or "nan") for row in rows]
    np.testing.assert_array_equal(precision, table["average_precision"])
    assert rows[-1]["average_precision"] == ""  # nobody in the gallery
    assert rows[-1]["first_match_rank"] == "0"
    again = topdb("score", tmp_path / "named.npz", "--per-query", out)
    refused(again, "queries.csv already exists")


def test_drawn_galleries_have_no_single_queries(file, tmp_path):
    for options in (["--ci"], ["--per-query", tmp_path / "a.csv"]):
        refused(topdb("score", file, "--single-shot", 2, *options), "--single-shot")


def test_intervals_are_those_of_drawing_persons_one_by_one():
    rng = np.random.default_rng(0)
    pids = np.repeat(np.arange(40), rng.integers(1, 5, 40))
    scores = np.clip(rng.normal(size=len(pids)) * 0.2 + (pids % 7) / 9 + 0.1, 0, 1)
    means = []
    for _ in range(4000):
        drawn = rng.choice(40, 40)
        means.append(np.concatenate([scores[pids == pid] for pid in drawn]).mean())
    low, high = np.percentile(means, [2.5, 97.5])
    (found,) = means_over_persons(scores[:, None], pids, num_draws=4000)
    assert found.value == pytest.approx(scores.mean())
    assert found.low == pytest.approx(low, abs=0.004)
    assert found.high == pytest.approx(high, abs=0.004)
    (again,) = means_over_persons(scores[:, None], pids, num_draws=4000)
    assert again == found
    (other,) = means_over_persons(scores[:, None], pids, num_draws=4000, seed=2)
    assert other != found


def test_persons_are_drawn_whole_and_bounds_are_never_of_no_width():
    # Queries of one person alike: ten of each say no more than one of each.
    alone = (np.arange(20) % 3 == 0)[:, None]
    (one,) = means_over_persons(alone, np.arange(20))
    (ten,) = means_over_persons(np.repeat(alone, 10, axis=0), np.repeat(range(20), 10))
    assert (ten.low, ten.high) == pytest.approx((one.low, one.high))
    (none,) = means_over_persons(np.zeros((30, 1)), np.arange(30))
    assert (none.low, none.high) == (0, 0.1)  # 3 / 30
    (two,) = means_over_persons(np.full((2, 1), 0.5), [1, 2])
    assert (two.low, two.high) == (0, 1)


def test_scores_tell_their_intervals(arrays, file):
    scores = topdb_tf.score(**arrays, rerank=True)
    intervals = scores.intervals(seed=5)
    names = ["mAP", "rank-1", "mINP"]
    assert [*intervals] == [*names, *(f"re-ranked {name}" for name in names)]
    for (name, value), found in zip(scores.metrics(), [intervals["mAP"]], strict=False):
        assert name == "mAP"
        assert found.value == pytest.approx(value)
    assert intervals["mAP"].low < intervals["mAP"].value < intervals["mAP"].high
    answer = topdb("score", file, "--ci", "--seed", 5)
    assert "95 % intervals over test persons: mAP " in answer.stdout
    found = json.loads(topdb("score", file, "--ci", "--seed", 5, "--json").stdout)
    assert found["intervals"]["rank-1"]["high"] == intervals["rank-1"].high


@pytest.fixture
def other(arrays, tmp_path):
    """The same images by fewer features."""
    few = {name: arrays[name][:, :6] for name in list(arrays)[:2]}
    np.savez(tmp_path / "other.npz", **{**arrays, **few})
    return tmp_path / "other.npz"


def test_files_are_compared_query_by_query(file, other):
    expected = topdb_tf.compare(file, other)
    lines = topdb("compare", file, other).stdout.splitlines()
    assert lines == expected.lines((str(file), str(other)))
    found = json.loads(topdb("compare", file, other, file, "--json").stdout)
    first, second = found["comparisons"]
    difference = expected.differences["mAP"]
    assert first["differences"]["mAP"]["low"] == difference.low
    assert second["differences"]["mAP"]["mean"] == 0
    reranked = topdb("compare", file, other, "--rerank").stdout
    assert "re-ranked mAP " in reranked


def test_other_images_or_other_names_are_not_compared(arrays, file, tmp_path):
    for name, order in (("one", 1), ("two", -1)):
        names = [f"{place}.jpg" for place in range(82)][::order]
        paths = {"query_paths": names[:22], "gallery_paths": names[22:]}
        np.savez(tmp_path / f"{name}.npz", **arrays, **paths)
    both = topdb("compare", tmp_path / "one.npz", tmp_path / "two.npz")
    refused(both, "differ in: names of the images")
    refused(topdb("compare", file), "two files")


def test_options_of_pages_and_runs_are_refused_for_files(file, other, small_run):
    refused(topdb("compare", file, other, "--out", "a.html"), "--out is for runs alone")
    refused(topdb("figure", "cmc", file, "--best"), "--best is for runs alone")
    refused(topdb("calibrate", file, "--set", "a=b"), "--set is for runs alone")
    refused(topdb("compare", file, small_run), "either runs or files of features")
    refused(topdb("table", small_run, "--rerank"), "--rerank are for features in files")


def test_scores_of_files_are_the_rows_of_a_table(arrays, file, other, tmp_path):
    text = topdb("table", file, other, "--format", "csv").stdout
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["name"] for row in rows] == [str(file), str(other)]
    mean_ap = topdb_tf.score(**arrays).to_dict()["mean_ap"]
    assert rows[0]["mean_ap"] == f"{100 * mean_ap:.2f}"
    assert "| mAP |" in topdb("table", file, "--format", "markdown").stdout
    assert "toprule" in topdb("table", file, "--format", "latex").stdout
    few = {name: arrays[name] for name in list(arrays)[:4]}
    np.savez(tmp_path / "few.npz", **few)
    found = json.loads(topdb("table", file, tmp_path / "few.npz", "--json").stdout)
    assert "few.npz knows no cameras" in found["notes"][0]
    assert "not comparable: they differ in cameras" in found["notes"][1]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cmc", ["--rerank"]),
        ("distances", ["--metric", "cosine"]),
        ("map", ["--method", "pca"]),
        ("cameras", []),
    ],
)
def test_figures_are_drawn_of_a_file(file, name, options):
    answer = topdb("figure", name, file, *options, "--json")
    assert answer.exit_code == 0, answer.stderr
    facts = json.loads(answer.stdout)
    picture = file.with_name(f"a-{name}.png")
    assert facts["files"] == [str(picture)]
    assert picture.stat().st_size > 1000
    if name == "cmc":
        labels = [curve["label"] for curve in facts["curves"]]
        assert labels == [str(file), f"{file}, re-ranked"]
    else:
        assert facts["features"] == str(file)


def test_lists_are_drawn_where_the_images_are_known(
    file, small_run, small_data_root, tmp_path
):
    small_run = shutil.copytree(small_run, tmp_path / "run")  # pictures go into it
    refused(topdb("figure", "rankings", file), "query_paths and gallery_paths")
    topdb_tf.evaluate(small_run)
    features = small_run / "features-synthetic.npz"
    assert topdb("figure", "rankings", features, "--lowest", 1).exit_code == 0
    lists = [
        json.loads(topdb("figure", "rankings", place, "--lowest", 1, "--json").stdout)
        for place in (features, small_run)
    ]
    assert lists[0]["queries"] == lists[1]["queries"]


def test_thresholds_of_a_file_are_printed_alone(file, tmp_path):
    answer = topdb("calibrate", file, "--false-match-rate", 0.4, "--json")
    found = json.loads(answer.stdout)
    (point,) = found["operating_points"]
    assert point["wanted_false_match_rate"] == 0.4
    assert found["model"] == "a.npz"
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    assert "embedded in" not in topdb("calibrate", file).stdout


def test_features_need_no_tensorflow(file, other):
    code = """
        import sys
        from topdb_tf.cli import main
from topdb_tf.evaluate.feature_files import holds_features
        for command in sys.argv[1:]:
            main(command.split("|"), standalone_mode=False)
        print(sorted({"tensorflow", "keras"} & set(sys.modules)))
        """
    commands = [
        f"score|{file}|--ci",
        f"compare|{file}|{other}",
        f"figure|cmc|{file}",
        f"figure|distances|{file}",
        f"calibrate|{file}",
    ]
    code = "\n".join(line.strip() for line in code.splitlines()).replace(
        "main(com", "    main(com"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, *commands], capture_output=True, text=True
    )
    assert answer.stdout.splitlines()[-1] == "[]", answer.stderr
