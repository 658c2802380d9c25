"""Reports and comparisons: what they choose, say, refuse and write."""

import base64
import io
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from topdb_tf.cli import main
from topdb_tf.drawing.style import new_figure, styled
from topdb_tf.evaluate.evaluate import evaluate
from topdb_tf.evaluate.measured import measure
from topdb_tf.evaluate.scores import read_scores, write_scores
from topdb_tf.figures.run_curves import Curve, read_log
from topdb_tf.fit.info import run_info
from topdb_tf.report import words
from topdb_tf.report.compare import write_comparison
from topdb_tf.report.drawings import inline_svg
from topdb_tf.report.lists import queries_of_page
from topdb_tf.report.maps import epochs_pictures, some_of_each_reason
from topdb_tf.report.page import Contents, check_page
from topdb_tf.report.parts import cmc_drawing
from topdb_tf.report.thumbnails import Thumbnails
from topdb_tf.retrieval.features import RetrievalSet
from topdb_tf.retrieval.pairs.paired import paired_difference
from topdb_tf.retrieval.protocol import score
from topdb_tf.retrieval.rank_lists import DRAWN, HIGHEST, LOWEST, WRONG, RankLists
from topdb_tf.runs.folder import open_run
from topdb_tf.runs.nearest import fit_command, nearest_recipe
from topdb_tf.runs.recipes import read_recipe
from topdb_tf.runs.settings import Config


def lists_of(precision, first):
    empty = np.zeros((len(first), 1))
    scores = np.array(precision, float), np.array(first)
    return RankLists(empty, empty, empty, empty, *scores)


def test_queries_are_chosen_for_a_reason_and_once():
    rng = np.random.default_rng(0)
    precision = rng.permutation(np.arange(1, 101) / 100)
    first = np.where(precision < 0.5, 2, 1)
    precision[7], first[7] = np.nan, 0  # has no match
    chosen = queries_of_page(lists_of(precision, first), 20)
    by_reason = {}
    for query, reason in chosen.items():
        by_reason.setdefault(reason, []).append(query)
    assert {reason: len(own) for reason, own in by_reason.items()} == {
        LOWEST: 6,  # 30 % of 20
        WRONG: 5,
        HIGHEST: 2,
        DRAWN: 7,
    }
    order = [q for q in np.argsort(precision, kind="stable") if q != 7]
    assert sorted(by_reason[LOWEST]) == sorted(order[:6])
    assert sorted(by_reason[HIGHEST]) == sorted(order[-2:])
    assert all(first[query] == 2 for query in by_reason[WRONG])
    assert 7 not in chosen
    assert chosen == queries_of_page(lists_of(precision, first), 20)
    all_of_them = queries_of_page(lists_of(precision, first), 500)
    assert len(all_of_them) == 99
    assert list(all_of_them.values()).count(LOWEST) == 30  # 30 % of 99


@pytest.mark.parametrize("name", ["queries", "top"])
def test_a_page_without_queries_or_images_of_them_is_refused(name, tmp_path):
    contents = Contents()._replace(**{name: 0})
    with pytest.raises(ValueError, match=f"--{name} must be at least 1"):
        check_page(tmp_path / "report.html", contents)


@pytest.mark.parametrize("recipe", ["paper", "authors", "light", "bdb", "no_drop"])
def test_the_command_to_repeat_a_run_gives_its_settings(recipe, tmp_path):
    changes = ["train.seed=7", "train.decay_epochs=[3,9]", "model.weights=none"]
    config = read_recipe(recipe, [*changes, "data.dataset=cuhk03-labeled"])
    near = nearest_recipe(config)
    assert near.name == recipe
    departures = {change.key for change in near.departures}
    assert departures <= {"train.decay_epochs", "model.weights"}
    words = fit_command(config, tmp_path).split(" --set ")
    overrides = [word.strip("'") for word in words[1:]]
    again = read_recipe(recipe, [*overrides, "data.dataset=cuhk03-labeled"])
    assert again == config


def test_a_page_that_is_there_is_not_written_over(tmp_path, monkeypatch):
    page = tmp_path / "compare.html"
    page.write_text("mine")
    with pytest.raises(FileExistsError, match="Name another --out, or --force"):
        write_comparison([tmp_path], page, Contents())
    with pytest.raises(FileNotFoundError, match="not the folder of a run"):
        write_comparison([tmp_path], page, Contents(), force=True)
    assert page.read_text() == "mine"


def test_the_paper_is_its_own_recipe():
    near = nearest_recipe(Config())
    assert near.name == "paper"
    assert near.changes == ()


def test_the_seconds_of_a_training_are_those_of_its_epochs(tmp_path, small_run):
    assert 0 < read_log(open_run(small_run)).total_seconds < 3600
    folder = shutil.copytree(small_run, tmp_path / "run")
    measured, run, log = measure(open_run(folder)), open_run(folder), folder / "log.csv"
    log.write_text("epoch,loss,seconds\n1,0.5,70.5\n2,,5\n")
    assert read_log(run).total_seconds == 75.5
    log.write_text("epoch,loss\n1,0.5\n")  # of a version that did not measure them
    assert read_log(run).total_seconds is None
    log.unlink()
    told = dict(words.summary(measured, run_info(run)))
    assert told["Trained"] == ["unknown: the run's log has no seconds of each epoch"]


def test_the_interval_takes_persons_for_independent():
    # Differences 0.1, 0.3, -0.1 and 0.1, their mean 0.1. Person 1 has the first two
    # deviations, 0 + 0.2, person 2 the others, -0.2 + 0: the squares sum to 0.08,
    # times 2 / (2 - 1), over 4 squared: a variance of 0.01.
    first = np.array([0.5, 0.5, 0.5, 0.5])
    second = np.array([0.6, 0.8, 0.4, 0.6])
    found = paired_difference(first, second, np.array([1, 1, 2, 2]))
    assert found.mean == pytest.approx(0.1)
    assert found.high - found.mean == pytest.approx(1.959964 * 0.1, rel=1e-6)
    assert found.mean - found.low == pytest.approx(1.959964 * 0.1, rel=1e-6)
    assert found[3:] == (3, 1, 4)
    back = paired_difference(second, first, np.array([1, 1, 2, 2]))
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        pids = np.repeat(np.arange(60), 4)
        persons = rng.normal(size=60)  # what the queries of a person have in common
        second = 0.3 + persons[pids] + rng.normal(size=240)
        found = paired_difference(np.zeros(240), second, pids)
        hits += found.low <= 0.3 <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_queries_that_do_not_count_are_left_out_of_a_difference():
    first, second = np.array([0.5, np.nan]), np.array([0.25, 0.5])
    found = paired_difference(first, second, np.array([1, 2]))
    assert (found.mean, found.num_queries) == (-0.25, 1)
    assert found.low == -np.inf  # one person tells nothing of others
    with pytest.raises(ValueError, match="At least one query must count"):
        paired_difference(first[1:], second[1:], np.array([2]))


def test_pictures_are_small_told_apart_and_without_what_the_file_says(tmp_path):
    paths = [tmp_path / "a.jpg", tmp_path / "b.png"]
    exif = Image.Exif()
    exif[0x010E] = "at home"
    for path, color in zip(paths, ("red", "blue"), strict=True):
        Image.new("RGB", (300, 600), color).save(path, exif=exif)
    thumbnails = Thumbnails()
    assert [thumbnails.number_of(p) for p in (*paths, paths[0])] == [0, 1, 0]
    texts = thumbnails.encoded(progress=lambda done, of: None)
    assert len(texts) == 2
    for text, channel in zip(texts, (0, 2), strict=True):
        data = base64.b64decode(text)
        assert b"at home" not in data
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (64, 128)
            pixel = image.convert("RGB").getpixel((32, 64))
        assert pixel[channel] > 200 > 60 > sum(pixel) - pixel[channel]


def test_two_drawings_of_one_page_share_no_names_and_take_its_colours():
    with styled():
        figure = new_figure()
        figure.subplots().plot([0, 1], [0, 1], color="#000000")
    one, other = (inline_svg(figure, name) for name in ("one", "other"))
    names = [
        set(part.split('"')[0] for part in d.split(' id="')[1:]) for d in (one, other)
    ]
    assert names[0]
    assert not names[0] & names[1]
    for drawing in (one, other):
        assert "currentColor" in drawing
        assert "#000000" not in drawing
        assert "fill: #ffffff" not in drawing
        assert "metadata" not in drawing


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "RUN", "--out", "."], "a file, not a folder"),
        (["report", "RUN", "--out", "nowhere/report.html"], "no folder nowhere"),
        (["report", "nowhere"], "not the folder of a run"),
        (["compare", "RUN"], "from 2 to 26"),
        (["compare", "RUN", "nowhere"], "not the folder of a run"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(
    arguments, message, small_run, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    arguments = [str(small_run) if word == "RUN" else word for word in arguments]
    answer = CliRunner().invoke(main, arguments)
    assert answer.exit_code == 1
    assert message in answer.stderr


def test_no_images_leaves_all_pictures_and_names_out(small_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    arguments = ["report", str(run), "--no-images", "--no-rerank", "--json"]
    answer = CliRunner().invoke(main, arguments)
    assert answer.exit_code == 0, answer.stderr
    facts = json.loads(answer.stdout)
    assert facts["out"] == str(run / "report.html")
    assert facts["queries_shown"] == 0
    assert facts["reranked"] is None
    assert facts["holds_real_people"] is False
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "base64,UklG" not in text  # RIFF, with which WebP begins
    assert 'id="data"' not in text
    assert "_c1s1_" not in text  # no file is named either
    assert not list(run.glob("*partial*"))


@pytest.fixture(scope="module")
def measured(run_of_two):
    return measure(open_run(run_of_two), rerank=False, top=2)


def test_pictures_follow_queries_through_the_epochs_that_are_kept(measured):
    maps = epochs_pictures(measured, [0, 2])
    names = [measured.split.query[place].path.name for place in (0, 2)]
    assert [query.caption for query in maps.queries] == names
    for query in maps.queries:
        image, first, second = query.pictures
        shown = [image.name, first.name, second.name]
        assert shown == ["the image", "epoch 1", "epoch 2"]
        # The kernels of epoch 1 are others, so it looks elsewhere.
        assert first.data != second.data


def test_where_too_few_epochs_are_kept_it_is_said(small_run):
    maps = epochs_pictures(measure(open_run(small_run), rerank=False, top=2), [0])
    assert maps.queries == ()
    assert "train.keep_checkpoints" in maps.lead


def test_seeds_are_one_training_and_repeats_are_not(small_run, tmp_path):
    from topdb_tf.evaluate.trainings import joined_by_settings, trainings_of

    folders = []
    for name, seed in (("a", 1), ("b", 2), ("again", 1), ("other", 3)):
        shutil.copytree(small_run, tmp_path / name)
        config = tmp_path / name / "config.yaml"
        text = config.read_text().replace("seed: 1\n  det", f"seed: {seed}\n  det")
        if name == "other":
            text = text.replace("label_smoothing: 0.1", "label_smoothing: 0.2")
        config.write_text(text)
        folders.append(tmp_path / name)
    trainings = joined_by_settings(trainings_of(folders))
    assert [training.label for training in trainings] == ["a, b", "again", "other"]
    assert [len(training.runs) for training in trainings] == [2, 1, 1]


def test_seeds_scored_by_another_protocol_are_scored_again(small_run, tmp_path):
    for name, seed in (("seed-1", 1), ("seed-2", 2), ("other", 1)):
        run = tmp_path / ("other" if name == "other" else f"seeds/{name}")
        shutil.copytree(small_run, run)
        config = run / "config.yaml"
        text = config.read_text().replace("seed: 1\n  det", f"seed: {seed}\n  det")
        if name == "other":
            text = text.replace("label_smoothing: 0.1", "label_smoothing: 0.2")
        config.write_text(text)
    second = open_run(tmp_path / "seeds" / "seed-2")
    easier = open_run(second.path, ["evaluation.ignore_cameras=true"])
    write_scores(second.folder.scores, evaluate(easier))
    before = read_scores(second)
    contents = Contents(images=False)
    folders = [tmp_path / "seeds", tmp_path / "other"]
    result = write_comparison(
        folders, tmp_path / "page.html", contents, rerank=False
    ).to_dict()
    after = read_scores(second)
    assert before.plain.protocol.ignore_cameras
    assert not after.plain.protocol.ignore_cameras
    # Both seeds have the same weights, so their scores are one and the same.
    for name, spread in result["trainings"][0]["scores"].items():
        assert spread["num_seeds"] == 2, name
        assert spread["deviation"] == pytest.approx(0), name


@pytest.mark.parametrize(("nearest", "is_cut"), [(1, True), (2, False)])
def test_a_caption_says_where_an_axis_does_not_begin_at_zero(nearest, is_cut):
    # One query; its person is the nearest of two images, or the other one is.
    gallery = np.array([[float(nearest)], [1.5]])
    ids = np.array([1]), np.array([1, 2]), np.array([1]), np.array([2, 2])
    result = score(RetrievalSet(np.array([[0.0]]), gallery, *ids))
    drawing = cmc_drawing("cmc", "CMC", [Curve("one", "synthetic", {"run": result})])
    assert ("The axis begins at 95 %, not at zero" in drawing.caption) == is_cut


def test_maps_are_of_one_query_of_each_reason_after_the_other():
    reasons = {5: LOWEST, 6: LOWEST, 0: WRONG, 9: LOWEST}
    assert some_of_each_reason(reasons, 3) == [5, 0, 6]
    assert some_of_each_reason(reasons, 12) == [5, 0, 6, 9]
