"""Several data sets as one: numbers, names, batches, and the commands on them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.commands import refused, topdb
from tests.conftest import draw_people
from tests.test_resume import SMALL, check_same, fit_in_process, resumed
from topdb_tf.data.benchmarks import (
    absolute_name,
    check_name,
    dataset_name,
    is_path,
    joined_names,
)
from topdb_tf.data.joint.joining import joined, numbers_of_parts, with_parts
from topdb_tf.data.records import DataCounts, ImageRecord, Split, labels_of
from topdb_tf.data.sampler import balanced_batches
from topdb_tf.evaluate.embedding import retrieval_set_of
from topdb_tf.evaluate.evaluate import scores_of
from topdb_tf.evaluate.measured import measure
from topdb_tf.evaluate.scores import read_scores, score_lines
from topdb_tf.export.model_card import _data
from topdb_tf.fit.info import info_lines, run_info
from topdb_tf.report.score_tables import score_table
from topdb_tf.runs.data import read_data, read_divided
from topdb_tf.runs.folder import RunFolder, open_run
from topdb_tf.runs.recipes import read_recipe

pytestmark = pytest.mark.usefixtures("step_by_step")


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("market1501", ["market1501"]),
        ("market1501+cuhk03-labeled", ["market1501", "cuhk03-labeled"]),
        ("market1501+/data/a+b.csv", ["market1501", "/data/a+b.csv"]),
        ("/data/a+b.csv", ["/data/a+b.csv"]),
        ("/data/a+b+market1501", ["/data/a+b", "market1501"]),
        ("/data/a+~/b+./c", ["/data/a", "~/b", "./c"]),
        ("market1501+marte", ["market1501", "marte"]),
        ("market1501++msmt17-v1", ["market1501", "", "msmt17-v1"]),
    ],
)
def test_a_plus_joins_data_sets_but_for_one_in_a_path(name, names):
    assert joined_names(name) == tuple(names)


def test_a_folder_with_a_plus_in_its_name_is_one_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("day+night").mkdir()
    Path("synthetic+day").mkdir()
    Path("day").mkdir()
    assert joined_names("day+night") == ("day+night",)
    assert joined_names("synthetic+day") == ("synthetic+day",)
    assert joined_names("market1501+day+night") == ("market1501", "day+night")
    assert joined_names("day+market1501") == ("day", "market1501")
    expected = f"market1501+{tmp_path / 'day'}"
    assert absolute_name("market1501+day") == expected
    assert joined_names(expected) == ("market1501", str(tmp_path / "day"))
    assert dataset_name(expected) == "market1501+day"
    assert is_path(expected)
    assert not is_path("market1501+msmt17-v1")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("market1501+", "one before and one after it"),
        ("market1501+market150", "Did you mean .market1501."),
        ("market1501+market1501", "all called 'market1501'"),
        ("/a/people+market1501+/b/people.csv", "/a/people, /b/people.csv, all called"),
    ],
)
def test_names_that_do_not_go_together_are_refused(name, words):
    with pytest.raises(ValueError, match=words):
        check_name(name)


def images(folder, *numbers):
    """Returns records of image files, which are made: `(pid, camid)` of each."""
    folder.mkdir(exist_ok=True)
    records = []
    for number, (pid, camid) in enumerate(numbers):
        path = folder / f"{number}-{pid}_{camid}.jpg"
        path.touch()
        records.append(ImageRecord(path, pid, camid))
    return tuple(records)


@pytest.fixture
def two(tmp_path):
    """A benchmark with distractors, and one's own set without cameras."""
    first = images(tmp_path / "a", (7, 1), (2, 6), (9, 1), (9, 6), (0, 1))
    own = images(tmp_path / "b", (1, 1), (2, 1), (2, 1))
    return (
        Split("market1501", first[:2], first[2:3], first[3:]),
        Split(
            "people",
            own[:1],
            own[1:2],
            own[2:],
            has_cameras=False,
            pid_names={1: "Ada", 2: "Bo"},
            notes=("No cameras.",),
        ),
    )


def test_two_data_sets_share_no_person_and_no_camera(two):
    split = joined("market1501+people", two)
    # The first has the persons 2, 7, 9 and the cameras 1, 6; then come Ada and Bo.
    assert [one[1:3] for one in split.train] == [(2, 1), (1, 2), (4, 3)]
    assert [one[1:3] for one in split.query] == [(3, 1), (5, 3)]
    # Pid 0 is nobody, in every data set.
    assert [one[1:3] for one in split.gallery] == [(3, 2), (0, 1), (5, 3)]
    assert [one.path for one in split.records] == [
        one.path
        for part in ("train", "query", "gallery")
        for s in two
        for one in s.part(part)
    ]
    assert [split.pid_name(pid) for pid in range(6)] == [
        "0",
        *(f"market1501:{pid}" for pid in (2, 7, 9)),
        "people:Ada",
        "people:Bo",
    ]
    assert split.camera_names == {1: "market1501:1", 2: "market1501:6"}
    assert split.has_cameras
    assert split.notes == ("people: No cameras.",)
    assert labels_of(split.train).tolist() == [1, 0, 2]
    assert numbers_of_parts(split).tolist() == [0, 0, 1]
    # Each part has the numbers of the whole and the names of its owner.
    assert [part.name for part in split.parts] == ["market1501", "people"]
    assert split.parts[1].pid_names == {4: "Ada", 5: "Bo"}
    assert split.parts[0].query == split.query[:1]
    assert with_parts(split, split.parts) == split
    assert [str(DataCounts.of(part)) for part in split.data_sets] == [
        "market1501: 2 training images of 2 identities by 2 cameras, 1 queries, 2 in "
        "the gallery",
        "people: 1 training images of 1 identities by 1 camera, 1 queries, 1 in the "
        "gallery",
    ]


def test_tracks_of_one_name_in_two_data_sets_are_two(tmp_path):
    splits = []
    for name in ("a", "b"):
        query, *gallery = images(tmp_path / name, (1, 1), (1, 2), (1, 2), (2, 2))
        gallery = [one._replace(tracklet="t") for one in gallery[:2]] + gallery[2:]
        splits.append(Split(name, (), (query,), tuple(gallery)))
    split = joined("a+b", splits)
    tracks = [one.tracklet for one in split.gallery]
    assert tracks == ["a:t", "a:t", None, "b:t", "b:t", None]
    features = np.array([[1, 0], [1, 0]] + [[1, 0], [1, 0], [0, 1]] * 2, np.float32)
    found = retrieval_set_of(features, split)
    scores = scores_of(found, split, read_recipe("paper"), tracklets="mean")
    sizes = [one.plain.protocol.num_gallery for one in scores.data_sets]
    assert (scores.plain.protocol.num_gallery, sizes) == (4, [2, 2])
    assert scores.identities.gallery_pids.tolist() == [1, 2, 3, 4]


def test_a_person_of_number_0_who_is_trained_on_is_somebody(tmp_path):
    records = images(tmp_path / "a", (0, 1), (1, 1), (0, 2))
    split = Split("a", records[:1], records[1:2], records[2:])
    other = Split("b", images(tmp_path / "b", (0, 1)), (), ())
    pids = [one.pid for one in joined("a+b", [split, other]).records]
    assert pids == [1, 3, 2, 1]


def test_an_image_is_in_one_data_set_alone(tmp_path, two):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "a")
    again = Split("again", (ImageRecord(link / "0-7_1.jpg", 7, 1),), (), ())
    words = "must not hold the same image.* 1 are in two.*0-7_1.jpg of market1501 is"
    with pytest.raises(ValueError, match=words):
        joined("market1501+again", [two[0], again])
    hard = tmp_path / "c.jpg"
    hard.hardlink_to(two[1].train[0].path)
    again = Split("again", (ImageRecord(hard, 7, 1),), (), ())
    with pytest.raises(ValueError, match="must not hold the same image"):
        joined("people+again", [two[1], again])


@pytest.mark.parametrize("pair", [("cuhk03-labeled", "cuhk03-detected"), ("a", "a")])
def test_two_data_sets_of_the_same_people_are_refused(pair, tmp_path):
    splits = [
        Split(name, images(tmp_path / str(place), (1, 1)), (), ())
        for place, name in enumerate(pair)
    ]
    with pytest.raises(ValueError, match=f"different people.*{', '.join(pair)}"):
        joined("+".join(pair), splits)


def batches_of(labels, parts, **options):
    sizes = {"pids_per_batch": 4, "images_per_pid": 2, "seed": 3, "epoch": 0}
    return balanced_batches(labels, parts, **sizes | options)


@pytest.fixture
def unequal():
    """40 identities of 4 images in one data set, 3 of 2 in another, mixed."""
    labels = np.concatenate([np.repeat(np.arange(40), 4), np.repeat([40, 41, 42], 2)])
    order = np.random.default_rng(0).permutation(len(labels))
    return labels[order], (labels[order] >= 40).astype(int)


def test_a_balanced_batch_has_as_much_of_each_data_set(unequal):
    labels, parts = unequal
    plan = batches_of(labels, parts)
    # 80 groups of two and 3: 83 over 4 identities.
    assert plan.shape == (20, 8)
    for batch in plan:
        of_images = labels[batch].reshape(4, 2)
        assert (of_images[:, 0] == of_images[:, 1]).all()
        assert len(set(of_images[:, 0])) == 4
        assert parts[batch].sum() == 4
    large = plan[parts[plan] == 0]
    assert len(set(large)) == len(large) == 80  # none comes twice
    small = np.bincount(labels[plan[parts[plan] == 1]])[40:]
    assert small.sum() == 80
    # Two of three identities a batch: the third is left out till the next draw.
    assert small.min() >= 20


def test_what_is_left_over_of_a_batch_goes_to_the_data_sets_in_turn():
    labels = np.repeat(np.arange(30), 4)
    parts = np.repeat([0, 1, 2], 40)
    plan = batches_of(labels, parts, num_batches=6)
    counts = [np.bincount(parts[batch], minlength=3) // 2 for batch in plan]
    # Four identities of three data sets: one each, and one more of 0, 1, 2, 0, …
    assert [np.argmax(one) for one in counts] == [0, 1, 2, 0, 1, 2]
    assert sum(counts).tolist() == [8, 8, 8]


def test_balanced_batches_depend_on_seed_and_epoch_alone(unequal):
    first = batches_of(*unequal, epoch=5)
    batches_of(*unequal, epoch=4)
    np.testing.assert_array_equal(batches_of(*unequal, epoch=5), first)
    assert (batches_of(*unequal, epoch=6) != first).any()
    assert (batches_of(*unequal, epoch=5, seed=4) != first).any()
    # A fixed length goes on or is cut.
    assert len(batches_of(*unequal, num_batches=70)) == 70


def test_a_data_set_must_have_its_share_of_a_batch(unequal):
    with pytest.raises(ValueError, match=r"identities of each \[40, 3\]"):
        batches_of(*unequal, pids_per_batch=8)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """5 drawn people to train on by a name, and 4 others by a folder."""
    root = draw_people(tmp_path_factory.mktemp("data"), train=5, test=3)
    other = draw_people(tmp_path_factory.mktemp("other"), train=4, test=2, seed=1)
    people = (other / "synthetic").rename(other / "people")
    return [
        *SMALL,
        f"data.root={root}",
        f"data.dataset=synthetic+{people}",
        "data.balance=true",
    ]


@pytest.fixture(scope="module")
def trained(settings, tmp_path_factory):
    """A run on both, not to be changed, and what it said."""
    lines = []
    run = tmp_path_factory.mktemp("joint") / "run"
    fit_in_process(settings, run, say=lines.append)
    return run, lines


def test_a_run_tells_and_records_what_it_has_of_each_data_set(trained):
    path, lines = trained
    first = "synthetic: 20 training images of 5 identities by 2 cameras, 6 queries, 9"
    other = "people: 16 training images of 4 identities by 2 cameras, 4 queries, 6"
    both = "synthetic+people: 36 training images of 9 identities by 4 cameras, 10 quer"
    said = "\n".join(lines)
    assert said.index(first) < said.index(other) < said.index(both)
    assert "drawn as many of each data set (data.balance=true)" in said
    run = open_run(path)
    counts = run.environment.data
    assert [(one.name, one.train_pids) for one in counts] == [
        ("synthetic", 5),
        ("people", 4),
    ]
    told = [line for line in info_lines(run_info(run)) if line.startswith("images")]
    assert [line.split(":")[0] for line in told] == [
        "images      synthetic",
        "images      people",
    ]
    assert (path / "split-people.csv").is_file()
    assert not (path / "split-synthetic.csv").exists()
    assert not run.folder.split.exists()
    card = _data(run)
    assert "(`synthetic`). Terms: " in card
    assert card.endswith("people; the terms of its images are its owner's.")


def test_scores_are_of_all_and_of_each_data_set(trained, tmp_path):
    path, lines = trained
    run = open_run(path)
    scores = read_scores(run)
    assert scores.plain.protocol.num_queries == 10
    names = [one.origin.dataset for one in scores.data_sets]
    assert names == ["synthetic", "people"]
    shown = score_lines(scores)
    assert lines[-len(shown) :] == shown
    assert [line.split(": ")[0] for line in shown] == ["all in one gallery", *names]
    # Each by itself is what it scores when it is named alone.
    folder = Path(shutil.copytree(path, tmp_path / "run"))
    places = dict(zip(names, joined_names(run.saved.data.dataset), strict=True))
    for one, place in zip(scores.data_sets, places.values(), strict=True):
        answer = topdb("evaluate", folder, "--dataset", place, "--json")
        assert answer.exit_code == 0, answer.output
        assert "trained on" not in answer.stderr
        alone = json.loads(answer.stdout)
        assert alone["dataset"] == one.origin.dataset
        assert alone["trained_on"] == "synthetic+people"
        assert alone["mean_ap"] == pytest.approx(one.plain.scores.mean_ap, abs=1e-6)
        for key in ("num_queries", "num_gallery"):
            assert alone["protocol"][key] == getattr(one.plain.protocol, key)
    answer = topdb("evaluate", folder, "--rerank")
    assert answer.exit_code == 0, answer.output
    assert [line.split(": mAP")[0] for line in answer.stdout.splitlines()] == [
        "all in one gallery",
        "all in one gallery, re-ranked",
        "synthetic",
        "synthetic: re-ranked",
        "people",
        "people: re-ranked",
    ]
    topdb("evaluate", folder)  # keeps the re-ranked ones
    assert all(one.reranked for one in read_scores(open_run(folder)).data_sets)
    rows = score_table(measure(open_run(folder))).rows
    titles = "Synthetic", "people"
    assert [row[0] for row in rows] == [
        "this run",
        "this run, re-ranked",
        *(f"{name} alone{end}" for name in titles for end in ("", ", re-ranked")),
    ]


def test_a_resumed_run_has_the_same_balanced_batches(trained, tmp_path):
    path = Path(shutil.copytree(trained[0], tmp_path / "run"))
    run = RunFolder(path)
    run.scores.unlink()
    shutil.rmtree(run.checkpoints / "00002-0000000")
    for step in sorted(run.checkpoints.glob("00001-000000[1-9]"))[1:]:
        shutil.rmtree(step)
    assert any("resumed after 1 epochs" in line for line in resumed(path))
    check_same(path, trained[0])


def test_a_part_keeps_its_division_whatever_its_folder_holds_by_now(trained, tmp_path):
    run = open_run(trained[0])
    place = joined_names(run.saved.data.dataset)[1]
    before = read_data(place, run.config, run=run)
    whole = read_data(run.saved.data.dataset, run.config, run=run)
    assert {r.path for r in before.train} == {r.path for r in whole.parts[1].train}
    again = read_data(str(trained[0] / "split-people.csv"), run.config, run=run)
    assert again.query == before.query


def test_each_data_set_holds_out_its_own_share(settings, tmp_path):
    share = "data.validation_share=0.4"
    config = read_recipe("demo", [*settings, share])
    split, held_out = read_divided(config)
    places = joined_names(config.data.dataset)
    for part, place in zip(held_out.parts, places, strict=True):
        alone = read_recipe("demo", [*settings, f"data.dataset={place}", share])
        _, expected = read_divided(alone)
        assert [r.path for r in part.query] == [r.path for r in expected.query]
        assert [r.path for r in part.gallery] == [r.path for r in expected.gallery]
        assert len({r.pid for r in part.gallery}) == 2
    assert split.num_pids == 5
    assert not {r.pid for r in split.train} & {r.pid for r in held_out.gallery}


def test_images_of_a_data_set_without_cameras_are_matches_there_alone(two):
    split = joined("market1501+people", two)
    features = np.eye(5, dtype=np.float32)
    images = retrieval_set_of(features, split)
    assert images.query_camids.tolist()[0] == 1
    assert images.query_camids[1] < 0
    scores = scores_of(images, split, read_recipe("paper"))
    assert [one.plain.protocol.cameras for one in scores.data_sets] == [None, "none"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("data.dataset=synthetic", "`data.balance` needs several data sets"),
        ("data.dataset=synthetic+synthetic", "must have different names"),
        ("data.dataset=synthetic+nowhere", "no file or folder of that name"),
        ("data.batch_size=20", "takes 5 identities.*people has 4.*batch_size=16,"),
    ],
)
def test_what_cannot_be_trained_on_is_told_before_anything_is_made(
    settings, tmp_path, change, words
):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        fit_in_process([*settings, change], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_data_set_without_training_images_is_named(settings, tmp_path):
    people = Path(settings[-2].partition("+")[2])
    rows = ["path,pid,camid,split"]
    for part, folder in (("query", "query"), ("gallery", "bounding_box_test")):
        rows += [
            f"{path},p{path.name[:4]},{path.name[6]},{part}"
            for path in sorted((people / folder).glob("*.jpg"))
            if path.name[:4].isdigit() and path.name[:4] != "0000"
        ]
    table = tmp_path / "tests.csv"
    table.write_text("\n".join(rows))
    with pytest.raises(ValueError, match="tests has no train images"):
        fit_in_process([*settings, f"data.dataset=synthetic+{table}"], tmp_path / "run")
    folder = f"synthetic+{people}+{table}"
    with pytest.raises(ValueError, match="must not hold the same image"):
        fit_in_process([*settings, f"data.dataset={folder}"], tmp_path / "run")


def test_a_layout_needs_a_folder_among_the_data_sets(settings, tmp_path):
    told = [*settings, "data.dataset=synthetic+market1501", "data.layout=person"]
    with pytest.raises(ValueError, match=r"Leave it out for synthetic\+market1501"):
        fit_in_process(told, tmp_path / "run")


def test_commands_of_one_data_set_refuse_several():
    refused(topdb("data", "check", "market1501+msmt17-v1"), "Only one data set")
    refused(topdb("fit", "--dataset", "market1501+"), "one before and one after")
