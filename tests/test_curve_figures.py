"""The commands that draw curves and matrices, on a run of two epochs."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.commands import topdb
from tests.reference import retrieval_reference
from topdb_tf.data.benchmarks import read_split
from topdb_tf.data.records import Split, camids_of, pids_of
from topdb_tf.evaluate import published
from topdb_tf.evaluate.calibrate import ModelCalibration
from topdb_tf.evaluate.embedding import Embedded, embed_run
from topdb_tf.evaluate.measured import measure
from topdb_tf.evaluate.trainings import trainings_of
from topdb_tf.figures.camera_pairs import cameras_of
from topdb_tf.figures.pair_distances import distances_of
from topdb_tf.figures.places import map_of, most_seen
from topdb_tf.figures.run_curves import cmc, read_log, training
from topdb_tf.files import sha256_of
from topdb_tf.report.parts import parts_of_run
from topdb_tf.retrieval.distances import pairwise_distances
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.pairs.calibration import calibration_of
from topdb_tf.runs.data import DataOrigin
from topdb_tf.runs.folder import open_run

COSINE = "evaluation.metric=cosine"


@pytest.fixture
def run(small_run, tmp_path):
    """A copy of the small run, without its checkpoints."""
    folder = tmp_path / "small"
    shutil.copytree(small_run, folder, ignore=shutil.ignore_patterns("checkpoints"))
    return folder


def drawn(*arguments):
    """Returns what `--json` prints of a figure."""
    answer = topdb("figure", *arguments, "--json")
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


def refused(*arguments):
    answer = topdb("figure", *arguments)
    assert answer.exit_code == 1
    return answer.stderr


def seeds_of(run, folder, *, shifts=(0.0, 0.2)):
    """Writes a folder of seeds, whose scores and logs are shifted."""
    for number, shift in enumerate(shifts, 9):
        seed = folder / f"seed-{number}"
        shutil.copytree(run, seed)
        scores = json.loads((seed / "scores.json").read_text())
        scores["cmc"] = {k: 0.5 + shift for k in scores["cmc"]}
        (seed / "scores.json").write_text(json.dumps(scores))
    return folder


def change_scores(run, **changes):
    scores = json.loads((run / "scores.json").read_text()) | changes
    (run / "scores.json").write_text(json.dumps(scores))
    return scores


def random_images(seed=0, *, num_queries=30, num_gallery=80):
    rng = np.random.default_rng(seed)
    return RetrievalSet(
        rng.standard_normal((num_queries, 4), "float32"),
        rng.standard_normal((num_gallery, 4), "float32"),
        rng.integers(1, 5, num_queries),
        rng.integers(1, 5, num_gallery),
        rng.integers(1, 4, num_queries),
        rng.integers(1, 4, num_gallery),
    )


def test_cmc_is_that_of_the_scores_and_embeds_nothing(run):
    scores = json.loads((run / "scores.json").read_text())
    (run / "embedder.keras").unlink()
    numbers = drawn("cmc", run)
    (curve,) = numbers["curves"]
    assert curve["cmc"] == list(scores["cmc"].values())
    assert (curve["label"], curve["deviation"]) == ("small", None)
    assert numbers["references"] == {}
    assert numbers["files"] == [str(run / "figures" / "cmc.png")]
    with Image.open(run / "figures" / "cmc.png") as image:
        assert image.width == 1440


def test_figures_go_where_they_are_asked_for(run, tmp_path):
    files = [tmp_path / name for name in ("one.svg", "two.pdf", "three.png")]
    outs = [part for file in files for part in ("--out", file)]
    answer = topdb("figure", "cmc", run, "--column", *outs)
    assert answer.stdout.split() == [str(file) for file in files]
    with Image.open(files[2]) as image:
        assert image.width == 700
    assert not (run / "figures").exists()


def test_a_wrong_name_is_refused_before_anything_is_done(run, tmp_path):
    (run / "embedder.keras").unlink()
    assert ".png, .svg or .pdf" in refused("map", run, "--out", tmp_path / "map.bmp")
    assert "There is no folder" in refused("map", run, "--out", tmp_path / "no/map.png")


def test_seeds_are_a_mean_and_their_deviation(run, tmp_path):
    seeds = seeds_of(run, tmp_path / "seeds")
    numbers = drawn("cmc", run, seeds, "--out", tmp_path / "cmc.png")
    single, several = numbers["curves"]
    assert [single["label"], several["label"]] == ["small", "seeds"]
    np.testing.assert_allclose(several["cmc"], 0.6)  # of 0.5 and 0.7
    np.testing.assert_allclose(several["deviation"], 0.1 * 2**0.5)
    assert several["runs"] == [str(seeds / "seed-9"), str(seeds / "seed-10")]


def test_no_mean_is_drawn_over_different_protocols(run, tmp_path):
    seeds = seeds_of(run, tmp_path / "seeds")
    protocol = json.loads((run / "scores.json").read_text())["protocol"]
    change_scores(seeds / "seed-10", protocol=protocol | {"ignore_cameras": True})
    assert "different protocols (ignore_cameras)" in refused("cmc", seeds)
    assert not (seeds / "figures").exists()


def test_runs_of_one_name_are_told_by_their_paths(run, tmp_path):
    shutil.copytree(run, tmp_path / "other" / "small")
    folders = [run, tmp_path / "other" / "small"]
    labels = [training.label for training in trainings_of(folders)]
    assert labels == [str(folder) for folder in folders]


def test_the_paper_is_drawn_beside_what_is_comparable(run):
    protocol = change_scores(run)["protocol"]
    market = protocol | {"num_queries": 3368, "num_gallery": 15913}
    change_scores(run, dataset="market1501", trained_on="market1501", protocol=market)
    trainings = trainings_of([run])
    view = cmc(trainings)
    rank_1 = published.TABLE_1["Top-DB-Net"]["market1501"].rank_1
    assert view.facts.references == {"Top-DB-Net in the paper": rank_1 / 100}
    marks = view.picture(7.2).axes[0].get_lines()[1]
    assert marks.get_xydata().tolist() == [[1, rank_1 / 100]]
    for change in (
        {"protocol": market | {"ignore_cameras": True}},
        {"protocol": protocol},
        {"trained_on": "msmt17"},
    ):
        change_scores(run, **{"protocol": market, "trained_on": "market1501"} | change)
        assert cmc(trainings).facts.references == {}


def test_what_has_no_scores_is_scored_first(run):
    cmc = json.loads((run / "scores.json").read_text())["cmc"]
    (run / "scores.json").unlink()
    answer = topdb("figure", "cmc", run)
    assert f"{run} has no scores yet: it is scored first" in answer.stderr
    answer = topdb("figure", "cmc", run, "--rerank", "--json")
    assert f"{run} has no re-ranked scores yet: it is scored first" in answer.stderr
    plain, reranked = json.loads(answer.stdout)["curves"]
    assert plain["cmc"] == list(cmc.values())
    scores = json.loads((run / "scores.json").read_text())
    assert reranked["cmc"] == list(scores["reranked"]["cmc"].values())
    assert "is scored first" not in topdb("figure", "cmc", run, "--rerank").stderr
    (run / "scores.json").unlink()
    (run / "embedder.keras").unlink()
    assert "its first epoch has not ended" in refused("cmc", run)


def test_a_damaged_file_of_scores_is_named(run):
    (run / "scores.json").write_text("{")
    assert "Received: no JSON: Expecting" in refused("cmc", run)


def test_training_draws_the_log(run):
    numbers = drawn("training", run)
    (log,) = numbers["trainings"][0]["logs"]
    assert log["epoch"] == [1, 2]
    assert log == read_log(open_run(run)).columns
    assert log["mean_ap"][0] is None
    rows = (run / "log.csv").read_text().splitlines()
    loss = rows[0].split(",").index("global_triplet")
    assert log["global_triplet"] == [float(row.split(",")[loss]) for row in rows[1:]]
    assert (run / "figures" / "training.png").is_file()
    assert drawn("training", run, "--by", "time")["trainings"] == numbers["trainings"]


@pytest.mark.parametrize(
    ("seconds", "unit", "ends"),
    [
        ([4000, 5000], "hours", [4000 / 3600, 2.5]),
        ([60, 90], "minutes", [1, 2.5]),
        ([30, 89], "seconds", [30, 119]),
        ([0.25, 0.5], "seconds", [0.25, 0.75]),
    ],
)
def test_the_time_is_told_in_a_unit_that_fits(run, seconds, unit, ends):
    lines = [f"{epoch},3.0,{one}" for epoch, one in enumerate(seconds, 1)]
    (run / "log.csv").write_text("\n".join(["epoch,loss,seconds", *lines]))
    figure = training(trainings_of([run]), by="time").picture(7)
    assert figure.get_supxlabel() == unit
    (loss,) = [axes for axes in figure.axes if "loss, all" in axes.get_title("left")]
    np.testing.assert_allclose(loss.get_lines()[0].get_xdata(), ends)


def test_a_training_without_a_usable_log_is_refused(run):
    (run / "log.csv").write_text("epoch,loss\n1,high\n")
    assert "must be a table of numbers" in refused("training", run)
    (run / "log.csv").write_text("epoch,loss\n")
    assert "at least one row" in refused("training", run)
    (run / "log.csv").write_text("epoch,loss\n1,3.0\n")
    assert "log.csv does not tell how long" in refused("training", run, "--by", "time")
    (run / "log.csv").unlink()
    assert "its first epoch has not ended" in refused("training", run)
    assert not (run / "figures").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    assert "is not the folder of a run" in refused("training", tmp_path)


def test_distances_count_all_pairs_and_draw_thresholds_of_calibrate(run):
    numbers = drawn("distances", run, "--bins", "7")
    counts = {kind: sum(own) for kind, own in numbers["counts"].items()}
    # Each of 3 persons has a query and a gallery image by each of 2 cameras; the other
    # 3 images of the gallery are distractors.
    assert counts == {
        "same_person": 6 * 1,
        "different_persons": 6 * 2,
        "same_person_same_camera": 6 * 1,
        "different_persons_same_camera": 6 * 2,
    }
    assert numbers["num_left_out"] == 3
    assert len(numbers["edges"]) <= 8
    assert numbers["thresholds"] == []
    assert "no threshold is known" in numbers["notes"][0]
    text = json.dumps(calibration_of_random_images(run).to_dict())
    (run / "calibration.json").write_text(text)
    numbers = distances_of(embedded_of(random_images(), run)).facts.to_dict()
    assert numbers["notes"] == []
    assert numbers["thresholds"] == json.loads(text)["operating_points"]
    other = distances_of(embedded_of(random_images(), run, COSINE)).facts.to_dict()
    assert other["thresholds"] == []
    assert "was made for metric sqeuclidean, not cosine" in other["notes"][0]


def calibration_of_random_images(run):
    model = run / "embedder.keras"
    return ModelCalibration(
        model=model.name,
        model_sha256=sha256_of(model),
        origin=DataOrigin("synthetic", None, "synthetic"),
        ignore_cameras=False,
        seed=1,
        metric="sqeuclidean",
        pairs=calibration_of(random_images(), rates=[0.5]),
        embedding_seconds=0.0,
        judging_seconds=0.0,
        date="2026-01-01T00:00:00+00:00",
    )


def embedded_of(images, run, *overrides, **changes):
    """Returns images of random features, as if a run had embedded them."""
    run = open_run(run, overrides)
    return Embedded(
        run=run,
        model=run.folder.embedder,
        model_sha256="",
        split=replace(Split("synthetic", (), (), ()), **changes),
        images=images,
        origin=DataOrigin("synthetic", None, "synthetic"),
        is_own=True,
        evaluation=run.config.evaluation,
    )


def test_pairs_of_one_kind_are_no_histogram(run):
    images = random_images()
    alone = images._replace(gallery_pids=np.full(80, 9))
    with pytest.raises(ValueError, match="pairs of one person"):
        distances_of(embedded_of(alone, run))


def test_a_report_counts_the_pairs_of_the_figure_where_cameras_are_ignored(run):
    run = open_run(run, ["evaluation.ignore_cameras=true"])
    numbers = distances_of(embed_run(run)).facts.to_dict()
    measured = measure(run, rerank=False, top=1)
    parts = {part.name: part for part in parts_of_run(measured)}
    (drawing,) = parts["distances"].drawings
    counts = {kind: sum(own) for kind, own in numbers["counts"].items()}
    # As above: 6 queries, of each person 2 gallery images and of the others 4.
    assert counts == {
        "same_person": 6 * 2,
        "different_persons": 6 * 4,
        "same_person_same_camera": 0,
        "different_persons_same_camera": 0,
    }
    told = {kind.replace(" ", "_"): int(count) for kind, count in drawing.table.rows}
    assert told == counts


def test_cameras_are_those_of_the_test_images(run, small_data_root):
    numbers = drawn("cameras", run, "--score", "mAP")
    assert numbers["cameras"] == ["c1", "c2"]
    split = read_split("synthetic", small_data_root, check_counts=False)
    queries = np.bincount(camids_of(split.query), minlength=3)
    counts = np.array(numbers["num_valid_queries"])
    assert counts.diagonal().tolist() == [0, 0]
    assert numbers["rank_1"][0][0] is None
    assert counts.sum(axis=1).tolist() == queries[1:].tolist()  # one other camera
    assert numbers["files"] == [str(run / "figures" / "cameras-mAP.png")]


def test_camera_numbers_are_those_of_the_ranking_by_hand(small_run):
    images = random_images(3)
    numbers = cameras_of(embedded_of(images, small_run)).facts.to_dict()
    rows, columns = images.query_camids == 2, images.gallery_camids == 3
    distances = pairwise_distances(*images[:2])[np.ix_(rows, columns)]
    kept = (rows, columns, rows, columns)
    arrays = [ids[own] for ids, own in zip(images[2:], kept, strict=True)]
    slow = retrieval_reference(distances, *arrays)
    row, column = (numbers["camids"].index(camid) for camid in (2, 3))
    assert numbers["rank_1"][row][column] == slow["cmc"][0]
    assert numbers["mean_ap"][row][column] == pytest.approx(np.mean(slow["ap"]))
    assert numbers["num_valid_queries"][row][column] == len(slow["first"])


def test_a_map_is_of_the_images_of_the_persons(run, small_data_root):
    split = read_split("synthetic", small_data_root, check_counts=False)
    parts = split.query + split.gallery
    one, other = sorted(set(pids_of(split.query).tolist()))[:2]
    numbers = drawn("map", run, "--pid", one, "--pid", other, "--method", "pca")
    shown = [record for record in parts if record.pid in (one, other)]
    assert numbers["pids"] == [record.pid for record in shown]
    assert numbers["camids"] == [record.camid for record in shown]
    assert numbers["is_query"] == [record in split.query for record in shown]
    assert len(numbers["points"]) == 8
    assert 0 < sum(numbers["explained"]) <= 1
    assert (run / "figures" / "map.png").is_file()
    assert "Received: 999, of whom there is none" in refused("map", run, "--pid", 999)
    assert "at least 5 images" in refused("map", run, "--pid", one)


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_a_map_is_the_same_again_and_keeps_clusters_apart(method, run):
    centres = 20 * np.eye(4, dtype="float32")
    images = random_images(1)
    far = images._replace(
        query_features=images.query_features + centres[images.query_pids - 1],
        gallery_features=images.gallery_features + centres[images.gallery_pids - 1],
    )
    embedded = embedded_of(far, run, COSINE)
    view, second = (map_of(embedded, range(1, 5), method=method) for _ in "ab")
    one = view.facts.to_dict()
    assert one == second.facts.to_dict()
    points, pids = np.array(one["points"]), np.array(one["pids"])
    middles = np.stack([points[pids == pid].mean(axis=0) for pid in range(1, 5)])
    nearest = np.linalg.norm(points[:, None] - middles, axis=2).argmin(axis=1) + 1
    assert np.mean(nearest == pids) > (0.99 if method == "tsne" else 0.7)
    title = view.picture(7.2).axes[0].get_title(loc="left")
    assert title.endswith("digits: cameras")
    split = replace(embedded.split, camera_names={1: "door", 2: "2", 77: "attic"})
    own = map_of(replace(embedded, split=split), range(1, 5), method=method)
    assert own.facts.to_dict()["camera_names"] == {"1": "door"}
    title = own.picture(7.2).axes[0].get_title(loc="left")
    assert title.endswith("digits: cameras (1 door)")


def test_the_persons_of_a_map_have_the_most_images(small_data_root):
    split = read_split("synthetic", small_data_root, check_counts=False)
    pids = most_seen(split, 2)
    found = pids_of(split.query + split.gallery)
    counts = {pid: np.count_nonzero(found == pid) for pid in set(found.tolist())}
    assert len(pids) == 2
    assert 0 not in pids  # a distractor
    assert [counts[pid] for pid in pids] == sorted(
        (count for pid, count in counts.items() if pid != 0), reverse=True
    )[:2]
