"""One's own images through the commands: trained on, scored, exported, resumed."""

import json
import shutil

import numpy as np
import pytest
import yaml

from tests.conftest import SMALL
from tests.test_cli import refused, topdb
from topdb_tf.data.benchmarks import read_split
from topdb_tf.data.records import ImageRecord, Split
from topdb_tf.evaluate.embedding import retrieval_set_of
from topdb_tf.evaluate.scores import score_set
from topdb_tf.evaluate.table import paper_tables
from topdb_tf.evaluate.table_formats import table_lines
from topdb_tf.retrieval.rank_lists import ranked_lists
from topdb_tf.runs.settings import Config

pytestmark = pytest.mark.usefixtures("step_by_step")

SETS = [part for setting in SMALL for part in ("--set", setting)]


@pytest.fixture(scope="module")
def people(small_data_root, tmp_path_factory):
    """A folder for each of the 8 drawn people; the names tell two cameras."""
    folder = tmp_path_factory.mktemp("own") / "people"
    for path in sorted((small_data_root / "synthetic").rglob("0*.jpg")):
        person = folder / f"person-{path.name[:4]}"
        if path.name.startswith("0000"):  # distractors
            continue
        person.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, person)
    return folder


@pytest.fixture(scope="module")
def run(people, tmp_path_factory):
    """A run of two epochs, not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "people"
    answer = fit(people, folder)
    assert answer.exit_code == 0, answer.output
    return folder


@pytest.fixture
def own(run, people, tmp_path):
    """A copy of the run and its images, which a test may change."""
    shutil.copytree(people, tmp_path / "people")
    folder = shutil.copytree(run, tmp_path / "run")
    for name in ("config.yaml", "split.csv"):
        text = (folder / name).read_text()
        text = text.replace(str(people), str(tmp_path / "people"))
        (folder / name).write_text(text)
    return folder


def fit(data, run_dir, *more):
    arguments = ["--recipe", "demo", "--dataset", data, "--run-dir", run_dir, *SETS]
    return topdb("fit", *arguments, *more)


def no_cameras(people, path, *, self_match=False):
    """Writes a CSV without cameras: two images a person, one of them the query."""
    lines = ["path,pid,split"]
    for person in sorted(people.iterdir())[:3]:
        query, other = sorted(person.iterdir())[:2]
        lines += [f"{query},{person.name},query", f"{other},{person.name},gallery"]
        lines += [f"{query},{person.name},gallery"] * self_match
    path.write_text("\n".join(lines))
    return path


def test_fit_divides_a_folder_and_keeps_the_division(run, people):
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["dataset"] == str(people)
    split = read_split(run / "split.csv", run)
    # 30 % of 8 identities are for the test, each with a query by either camera.
    assert (split.num_pids, len(split.query), len(split.gallery)) == (6, 4, 4)
    assert set(split.pid_names.values()) == {p.name for p in people.iterdir()}
    scores = json.loads((run / "scores.json").read_text())
    assert scores["dataset"] == scores["trained_on"] == "people"
    assert scores["dataset_path"] == str(people)
    assert scores["num_valid_queries"] == 4
    assert "cameras" not in scores["protocol"]


def test_the_run_s_own_folder_and_division_are_its_own_scores(own, monkeypatch):
    before = json.loads((own / "scores.json").read_text())
    monkeypatch.chdir(own.parent)
    for dataset in (["--dataset", "people"], ["--dataset", own / "split.csv"]):
        scores = json.loads(topdb("evaluate", own, *dataset, "--json").stdout)
        assert scores["protocol"] == before["protocol"]
        assert scores["mean_ap"] == before["mean_ap"]
    assert [path.name for path in own.glob("scores*")] == ["scores.json"]


def test_evaluate_keeps_to_the_division_when_the_folder_has_changed(own):
    before = json.loads((own / "scores.json").read_text())
    people = own.parent / "people"
    shutil.copytree(people / "person-0001", people / "person-0000")
    shutil.copytree(people / "person-0001", people / "unknown")  # never used
    answer = topdb("evaluate", own, "--json")
    assert "4 images that are new" in answer.stderr
    assert json.loads(answer.stdout)["protocol"] == before["protocol"]
    gone = read_split(own / "split.csv", own).query[0].path
    gone.unlink()
    answer = topdb("evaluate", own)
    refused(answer, "keeps to the images that it began with", gone.name, "--dataset")


def test_resume_goes_on_with_the_division_of_the_run(own):
    before = json.loads((own / "scores.json").read_text())
    shutil.rmtree(own / "checkpoints" / "00002-0000000")
    (own / "scores.json").unlink()
    people = own.parent / "people"
    shutil.copytree(people / "person-0001", people / "person-0000")
    answer = topdb("fit", "--resume", own)
    assert answer.exit_code == 0, answer.output
    scores = json.loads((own / "scores.json").read_text())
    assert scores["mean_ap"] == before["mean_ap"]
    assert scores["protocol"] == before["protocol"]


def test_another_data_set_has_scores_of_its_own(own, people):
    table = no_cameras(people, own.parent / "gate.csv")
    answer = topdb("evaluate", own, "--dataset", table)
    assert "trained on people, tested on gate" in answer.stdout
    assert "no cameras: matches by the same camera count" in answer.stdout
    scores = json.loads((own / "scores-gate.json").read_text())
    assert scores["dataset_path"] == str(table)
    assert scores["protocol"]["cameras"] == "none"
    assert scores["protocol"]["ignore_cameras"] is True
    assert scores["num_valid_queries"] == 3
    (own.parent / "other").mkdir()
    other = no_cameras(people, own.parent / "other" / "gate.csv")
    topdb("evaluate", own, "--dataset", other)
    assert len(list(own.glob("scores-gate-*.json"))) == 1  # of the same name
    assert json.loads((own / "scores-gate.json").read_text()) == scores


@pytest.mark.parametrize(
    "command", ["evaluate", "calibrate", "figure distances", "figure rankings"]
)
def test_images_that_were_trained_on_are_warned_of(own, command):
    split = read_split(own / "split.csv", own)
    rows = [f"{r.path},{r.pid},{r.camid}" for r in split.train]
    table = own.parent / "again.csv"
    table.write_text("\n".join(["path,pid,camid", *rows]))
    answer = topdb(*command.split(), own, "--dataset", table)
    assert "8 of the 8 test images were trained on" in answer.stderr


def test_a_run_on_a_benchmark_is_scored_on_own_images(small_run, people, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")
    table = no_cameras(people, tmp_path / "gate.csv")
    scores = json.loads(topdb("evaluate", run, "--dataset", table, "--json").stdout)
    assert (scores["trained_on"], scores["dataset"]) == ("synthetic", "gate")
    assert not (run / "split.csv").exists()


def test_calibrate_and_export_take_own_images(own, people, tmp_path):
    rate = ["--false-match-rate", "0.5"]
    table = tmp_path / "wide.csv"
    rows = [
        f"{image},{person.name},{'query' if number == 0 else 'gallery'}"
        for person in sorted(people.iterdir())
        for number, image in enumerate(sorted(person.iterdir()))
    ]
    query = rows[0].replace(",query", ",gallery")  # in the gallery, too
    table.write_text("\n".join(["path,pid,split", *rows, query]))
    answer = topdb("calibrate", own, *rate, "--dataset", table, "--json")
    found = json.loads(answer.stdout)
    assert (found["dataset"], found["trained_on"]) == ("wide", "people")
    assert found["ignore_cameras"] is True
    # 8 queries and 3 others of each: 4 persons a half, 12 pairs of one person.
    pairs = {found[half]["genuine_pairs"] for half in ("found_on", "measured_on")}
    assert pairs == {12}
    answer = topdb("export", own, "--out", tmp_path / "model", "--json")
    assert answer.exit_code == 0, answer.output
    [card] = (tmp_path / "model").rglob("*.md")
    assert "\npeople; the terms of its images are its owner's." in card.read_text()


def test_a_query_is_never_its_own_match():
    # On a line: query a at 0 and its other image at 9; b, of another person, at 1.
    # Were a itself in the ranking, it would come first. So b, a2: rank-1 0, AP 1/2.
    a, b, a2 = (
        ImageRecord(name, pid, 1) for name, pid in (("a", 1), ("b", 2), ("a2", 1))
    )
    features = np.array([[0.0], [0.0], [1.0], [9.0]], np.float32)
    split = Split("own", (), (a,), (a, b, a2), has_cameras=False)
    result = score_set(retrieval_set_of(features, split), Config())
    assert result.scores.mean_ap == 0.5
    assert result.protocol.cameras == "none"
    ignoring = {"ignore_cameras": True}
    known = Split("own", (), (a,), (a, b, a2._replace(camid=2)))
    retrieval_set = retrieval_set_of(features, known, **ignoring)
    config = Config(evaluation=Config().evaluation.__class__(**ignoring))
    assert score_set(retrieval_set, config).scores.mean_ap == 0.5
    lists = ranked_lists(retrieval_set, k=3, with_junk=True, **ignoring)
    assert lists.gallery_indices.tolist() == [[0, 1, 2]]
    assert lists.is_junk.tolist() == [[True, False, False]]
    assert lists.is_match.tolist() == [[False, False, True]]


def test_cameras_are_kept_where_none_is_its_own_match():
    query, other = ImageRecord("a", 1, 1), ImageRecord("b", 1, 1)
    split = Split("own", (), (query,), (other,))
    found = retrieval_set_of(np.zeros((2, 1)), split, ignore_cameras=True)
    assert [*found.query_camids, *found.gallery_camids] == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset", "./nowhere"], ["no file or folder", "nowhere"]),
        (["--dataset", "peopel"], ["no file or folder of that name"]),
        (["--set", "data.test_share=1"], ["`data.test_share`", "(0, 1)"]),
        (
            ["--set", "data.test_share=2"],
            ["`data.test_share` must be a number in (0, 1)"],
        ),
    ],
)
def test_what_cannot_be_is_told_in_a_line(people, tmp_path, arguments, words):
    refused(fit(people, tmp_path / "run", *arguments), *words)
    assert not (tmp_path / "run").exists()


def test_a_layout_holds_for_the_folder_that_it_is_told_of(own, people, tmp_path):
    places = tmp_path / "places"
    for person in people.iterdir():
        for image in person.iterdir():
            camera = "door" if "_c1" in image.name else "yard"
            place = places / camera / person.name.replace("person-", "x")
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, place)
    refused(topdb("evaluate", own, "--dataset", places), "--layout 'camera/person'")
    assert topdb("data", "check", places, "--quick").exit_code == 1
    layout = ["--layout", "camera/person"]
    assert topdb("data", "check", places, "--quick", *layout).exit_code == 0
    answer = topdb("evaluate", own, "--dataset", places, *layout, "--json")
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["dataset"] == "places"
    refused(topdb("evaluate", own, *layout), "Leave out --layout")
    # A run that was trained with a layout keeps it for its own images alone.
    config = yaml.safe_load((own / "config.yaml").read_text())
    config["data"]["layout"] = "camera/person"
    (own / "config.yaml").write_text(yaml.safe_dump(config))
    assert topdb("evaluate", own).exit_code == 0
    refused(topdb("evaluate", own, "--dataset", places), "--layout 'camera/person'")


def test_folders_of_the_same_name_are_columns_of_their_own(tmp_path):
    for place in ("one", "two"):
        run = tmp_path / "runs" / place
        run.mkdir(parents=True)
        data = {"dataset": f"/data/{place}/people"}
        (run / "config.yaml").write_text(yaml.safe_dump({"data": data}))
        protocol = {"ignore_cameras": True, "cameras": "none", "split_sha256": place}
        scores = {"mean_ap": 0.5, "cmc": {"1": 0.5}, "protocol": protocol}
        (run / "scores.json").write_text(json.dumps(scores))
    result = paper_tables([tmp_path / "runs"])
    first = result.tables[0]
    assert first.columns == ["/data/one/people", "/data/two/people"]
    [row] = [row for row in first.rows if row.source == "ours"]
    assert set(row.cells) == set(first.columns)
    shutil.rmtree(tmp_path / "runs" / "two")
    result = paper_tables([tmp_path / "runs"])
    assert result.tables[0].columns == ["people"]
    assert any("people" in line for line in table_lines(result, "text"))


def test_a_run_keeps_the_pattern_of_its_names(people, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted(people.rglob("*.jpg"))):
        camera = path.name.split("_c")[1][0]
        name = f"door{camera}+{number}+{path.parent.name}.jpg"
        shutil.copy(path, flat / name)
    pattern = ["--pattern", "{camid}+{n}+{pid}"]
    answer = topdb("data", "check", flat, *pattern, "--quick", "--json")
    parts = json.loads(answer.stdout)["parts"]
    answer = fit(flat, tmp_path / "run", *pattern, "--set", "train.epochs=1")
    assert answer.exit_code == 0, answer.output
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["data"]["pattern"] == pattern[1]
    split = read_split(tmp_path / "run" / "split.csv", tmp_path)
    for part in ("train", "query", "gallery"):
        assert len(split.part(part)) == parts[part]["images"]
    assert set(split.camera_names.values()) == {"door1", "door2"}
    answer = topdb("evaluate", tmp_path / "run")
    assert answer.exit_code == 0, answer.output
    other = ["--pattern", "{camid}+{pid}"]
    refused(topdb("evaluate", tmp_path / "run", *other), "Leave out --layout")
