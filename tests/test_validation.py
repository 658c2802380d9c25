"""Identities held out of a training: whom, and what is chosen by them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from tests.commands import refused, topdb
from tests.conftest import draw_people
from tests.test_resume import SMALL, check_same, fit_in_process, resumed
from tests.test_training_options import with_scores
from topdb_tf.data.partition import hold_out
from topdb_tf.data.records import ImageRecord, Split
from topdb_tf.data.table import read_table, table_text
from topdb_tf.evaluate.scores import read_scores, score_lines
from topdb_tf.figures import run_curves
from topdb_tf.figures.run_curves import read_log
from topdb_tf.fit.fit import fit
from topdb_tf.fit.info import info_lines, run_info
from topdb_tf.fit.loop import choice_lines
from topdb_tf.runs.data import read_data, read_divided, write_division
from topdb_tf.runs.folder import RunFolder, open_run
from topdb_tf.runs.recipes import read_recipe

pytestmark = pytest.mark.usefixtures("step_by_step")


def split_of_people(num_pids, cameras=(1, 2, 3), images=2):
    """Returns a training of people, each with as many images by every camera."""
    train = tuple(
        ImageRecord(Path(f"{pid:04d}_c{camid}_{number}.jpg"), pid, camid)
        for pid in range(2, num_pids + 2)
        for camid in cameras
        for number in range(images)
    )
    test = [(ImageRecord(Path(f"{n}.jpg"), 9999, n),) for n in (1, 2)]
    return Split("people", train, *test)


def test_a_fifth_of_751_identities_are_150_and_nobody_is_on_both_sides():
    split = split_of_people(751)
    used, validation = hold_out(split, 0.2, division_seed=1)
    held_out = validation.query + validation.gallery
    pids = {record.pid for record in held_out}
    assert len(pids) == 150
    assert used.num_pids == 601
    assert not pids & {record.pid for record in used.train}
    assert sorted(used.train + held_out) == sorted(split.train)
    assert [r for r in split.train if r.pid not in pids] == list(used.train)
    assert (used.query, used.gallery) == (split.query, split.gallery)
    assert validation.train == used.train
    # One query of each camera, the other image of it is in the gallery.
    views = [(record.pid, record.camid) for record in validation.query]
    assert len(set(views)) == len(views) == 150 * 3
    assert len(validation.gallery) == 150 * 3


def test_who_is_held_out_depends_on_the_seed_and_on_names_alone():
    split = split_of_people(40)

    def drawn(split, seed=1):
        _, validation = hold_out(split, 0.25, division_seed=seed)
        return set(validation.query)

    first = drawn(split)
    assert drawn(split) == first
    mixed = np.random.default_rng(0).permutation(len(split.train))
    train = tuple(split.train[place] for place in mixed)
    assert drawn(Split("other", train, split.query, split.gallery)) == first
    assert drawn(split, seed=2) != first


def test_only_those_are_held_out_who_can_be_found_again():
    split = split_of_people(4)
    alone = tuple(ImageRecord(Path(f"a{pid}.jpg"), pid, 1) for pid in range(100, 106))
    split = Split("people", split.train + alone, split.query, split.gallery)
    _, validation = hold_out(split, 0.9, division_seed=1)
    pids = {record.pid for record in validation.gallery}
    assert pids == {2, 3, 4, 5}
    alone = tuple(one._replace(camid=1 + one.pid % 2) for one in alone)
    with pytest.raises(ValueError, match="people: .* validation, .* another camera"):
        hold_out(Split("people", alone, (), ()), 0.5, division_seed=1)


def test_without_cameras_each_person_has_one_query():
    split = split_of_people(10, cameras=(1,), images=3)
    _, validation = hold_out(split, 0.3, division_seed=1)
    assert not validation.has_cameras
    assert len(validation.query) == 3
    assert len(validation.gallery) == 6


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    draw_people(root, train=9, test=3)
    return [*SMALL, "data.validation_share=0.4", f"data.root={root}"]


@pytest.fixture(scope="module")
def held(settings, tmp_path_factory):
    """A run whose first epoch is the better one, and what it said."""
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        with_scores(patch, [0.75, 0.5, 0.25])
        run = tmp_path_factory.mktemp("held") / "run"
        fit_in_process([*settings, "train.keep_checkpoints=99"], run, say=lines.append)
    return run, lines


def test_a_run_chooses_by_validation_and_scores_the_test_once(held):
    path, lines = held
    # Round 0.4 x 9: four identities of four images, two of each by a camera.
    said = "\n".join(lines)
    assert "20 training images of 5 identities" in said
    assert "held out for validation: 4 identities, 8 queries, 8 in the gallery" in said
    assert (
        "the best epoch is chosen by the mAP of validation; its weights become" in said
    )
    assert "on the test set" not in said
    assert "validation mAP 75.0%" in said
    run = open_run(path)
    scores = read_scores(run)
    # The third score is that of the test, by the weights of the first epoch.
    assert scores.plain.scores.mean_ap == 0.25
    assert scores.part == "test"
    assert scores.choice == (1, "validation", 0.75)
    assert run.folder.embedder.read_bytes() == run.folder.best_embedder.read_bytes()
    assert lines[-2] == "weights of epoch 1, chosen by its validation mAP of 75.0%"
    assert lines[-1].startswith("test: mAP 25.0%")
    assert score_lines(scores) == lines[-2:]
    assert json.loads(run.folder.scores.read_text())["choice"]["by"] == "validation"
    assert "best        epoch 1, validation mAP 75.0%" in info_lines(run_info(run))


def test_the_log_and_its_figure_say_that_scores_are_of_validation(held):
    run = open_run(held[0])
    columns = read_log(run).columns
    assert columns["val_mean_ap"] == [0.75, 0.5]
    assert "mean_ap" not in columns
    view = run_curves.training([run_curves.Training("this run", (run,))])
    texts = {text.get_text() for text in view.picture(7).findobj(Text)}
    assert {"validation mAP", "validation rank-1"} <= texts


def test_evaluate_scores_the_test_or_those_held_out(held, tmp_path):
    path = shutil.copytree(held[0], tmp_path / "run")
    answer = topdb("evaluate", path)
    assert answer.exit_code == 0, answer.output
    assert "weights of epoch 1, chosen by its validation mAP of 75.0%" in answer.stdout
    assert "test: mAP" in answer.stdout
    assert "embedded before" in answer.stderr
    answer = topdb("evaluate", path, "--validation", "--json")
    assert answer.exit_code == 0, answer.output
    record = json.loads(answer.stdout)
    assert record["part"] == "validation"
    assert record["protocol"]["num_queries"] == 8
    assert (path / "scores-synthetic-validation.json").is_file()
    assert (path / "features-synthetic-validation.npz").is_file()
    refused(topdb("evaluate", "--validation", "--weights", "a.keras"), "--validation")
    other = tmp_path / "other.csv"
    other.write_text(table_text(read_data("synthetic", open_run(path).config)))
    answer = topdb("evaluate", path, "--validation", "--dataset", other)
    refused(answer, "data.validation_share", "other.csv")


def test_a_resumed_run_holds_out_the_same_and_ends_alike(held, tmp_path, monkeypatch):
    whole, _ = held
    path = shutil.copytree(whole, tmp_path / "run")
    run = RunFolder(path)
    run.scores.unlink()
    shutil.rmtree(run.checkpoints / "00002-0000000")
    for step in run.checkpoints.glob("00001-000000[1-9]"):
        shutil.rmtree(step)
    with_scores(monkeypatch, [0.5, 0.25])
    resumed(path)
    check_same(path, whole)
    scores = [json.loads(RunFolder(p).scores.read_text()) for p in (path, whole)]
    assert scores[0]["choice"] == scores[1]["choice"]
    assert scores[0]["mean_ap"] == scores[1]["mean_ap"]


def test_own_images_are_held_out_and_the_division_tells_them(settings, tmp_path):
    drawn = read_divided(read_recipe("demo", [*settings, "data.validation_share=0"]))
    lines = ["path,pid,camid,split"] + [
        f"{record.path},p{record.pid},{record.camid},{part}"
        for part in ("train", "query", "gallery")
        for record in drawn[0].part(part)
    ]
    file = tmp_path / "people.csv"
    file.write_text("\n".join(lines) + "\n")
    config = read_recipe("demo", [*settings, f"data.dataset={file}"])
    used, validation = read_divided(config)
    assert used.num_pids == 5
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.config_file.write_text(config.to_yaml())
    write_division(folder, config, used, validation)
    sightings, _ = read_table(folder.split)
    told = {one.path for one in sightings if one.part == "val"}
    assert told == {one.path for one in validation.query + validation.gallery}
    run = open_run(folder.path)
    for part, expected in ((False, used), (True, validation)):
        again = read_data(str(file), run.config, run=run, validation=part)
        assert again.train == used.train
        assert set(again.query) == set(expected.query)


@pytest.mark.parametrize(
    ("settings_of_it", "words"),
    [
        (
            ["data.validation_share=0.8"],
            "A batch of 8 .* smaller data.validation_share",
        ),
        (["data.validation_share=1"], r"`data.validation_share` must be .* \[0, 1\)"),
    ],
)
def test_a_share_that_leaves_too_few_is_refused(
    settings, tmp_path, settings_of_it, words, monkeypatch
):
    with pytest.raises(ValueError, match=words):
        fit(
            read_recipe("demo", [*settings, *settings_of_it]),
            tmp_path / "run",
            say=lambda line: None,
        )
    assert not (tmp_path / "run").exists()


def test_a_choice_on_the_test_set_is_said():
    (line,) = choice_lines(read_recipe("demo", ["train.evaluate_every=1"]))
    assert line.startswith("the best epoch is chosen on the test set; data.validation_")
    for every in (0, 9):  # the last epoch alone is scored
        sets = ["train.epochs=9", f"train.evaluate_every={every}"]
        assert not choice_lines(read_recipe("demo", sets))
