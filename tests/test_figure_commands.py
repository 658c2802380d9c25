"""The commands that draw figures made of images, on a small run."""

import json
import re
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from topdb_tf.cli import main
from topdb_tf.data.decoding import decode_image, resize_pixels
from topdb_tf.data.records import ImageRecord, Split
from topdb_tf.drawing import style
from topdb_tf.drawing.activations import epochs_figure
from topdb_tf.drawing.heat import activation_maps, heat
from topdb_tf.evaluate.embedding import Embedder
from topdb_tf.figures import epochs as epoch_figure
from topdb_tf.figures.images import drawn_queries, names_of
from topdb_tf.figures.rankings import QueryChoice, shown_queries
from topdb_tf.model.extraction import load_embedder
from topdb_tf.model.feature_maps import feature_maps
from topdb_tf.retrieval.protocol import Reranking, score
from topdb_tf.retrieval.rank_lists import RankLists
from topdb_tf.runs.data import read_data
from topdb_tf.runs.network import build_trainer
from topdb_tf.runs.recipes import read_config


def run_figure(*words):
    return CliRunner().invoke(main, ["figure", *map(str, words)])


def facts_of(*words):
    """Returns what a command that must succeed prints as JSON."""
    answer = run_figure(*words, "--json")
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


def is_drawing(path):
    """Returns whether a PNG holds more than a few colours."""
    with Image.open(path) as image:
        return len(image.convert("RGB").getcolors(maxcolors=10**6)) > 100


@pytest.fixture
def own_run(small_run, tmp_path):
    """A copy of the run that a test may write into."""
    return shutil.copytree(small_run, tmp_path / "own")


@pytest.fixture
def unsaved(monkeypatch):
    """Spares the time that it takes to write a figure as a file."""
    monkeypatch.setattr(
        style, "save_figure", lambda figure, path: path.write_bytes(b"drawn")
    )


@pytest.mark.parametrize("command", ["activations", "masks", "epochs", "rankings"])
def test_a_figure_goes_into_the_folder_of_its_run(command, run_of_two, tmp_path):
    own_run = shutil.copytree(run_of_two, tmp_path / "own")
    answer = run_figure(command, own_run)
    assert answer.exit_code == 0, answer.output
    path = own_run / "figures" / f"{command}.png"
    assert answer.stdout == f"{path}\n"
    assert is_drawing(path)
    assert sorted((own_run / "figures").iterdir()) == [path]  # no partial file


def test_several_formats_are_written_at_once_for_a_column(small_run, tmp_path):
    files = [tmp_path / f"masks.{suffix}" for suffix in ("png", "svg", "pdf")]
    outs = [word for file in files for word in ("--out", file)]
    answer = run_figure("masks", small_run, "--num", 2, "--column", *outs)
    assert answer.stdout.split() == [str(file) for file in files]
    assert is_drawing(files[0])
    with Image.open(files[0]) as image:
        assert image.width <= 700  # 3.5 inches
    assert "<svg" in files[1].read_text()
    assert files[2].read_bytes().startswith(b"%PDF-")


def test_named_images_are_shown_by_the_maps_of_two_runs(
    unsaved, small_run, own_run, small_data_root, tmp_path
):
    network = load_embedder(small_run / "embedder.keras")
    for variable in network.get_layer("bottleneck2_3_conv").trainable_variables:
        variable.assign(np.flip(variable.numpy(), axis=-1))
    network.save(own_run / "embedder.keras")
    places = sorted((small_data_root / "synthetic" / "query").iterdir())[1:]
    words = ("activations", small_run, *places, "--beside", own_run)
    options = ("--map", "bottlenecks", "--threshold", 0.3)
    facts = facts_of(*words, *options, "--out", tmp_path / "a.png")
    assert facts["runs"] == [str(small_run), str(own_run)]
    assert [image["path"] for image in facts["images"]] == [
        str(path) for path in places
    ]
    for column, folder in enumerate((small_run, own_run)):
        embedder = load_embedder(folder / "embedder.keras")
        for image, path in zip(facts["images"], places, strict=True):
            pixels = resize_pixels(decode_image(path), embedder.input_shape[1:3])[None]
            maps = feature_maps(embedder, [pixels], name="bottlenecks")
            shares = heat(activation_maps(maps)[0], decode_image(path).shape[:2])
            assert image["kept"][column] == pytest.approx(
                np.mean(shares >= 0.3), abs=1e-3
            )
    assert facts["images"][0]["kept"][0] != facts["images"][0]["kept"][1]


def test_masks_are_what_the_layer_of_the_run_drops(unsaved, small_run, tmp_path):
    facts = facts_of("masks", small_run, "--out", tmp_path / "m.png", "--num", 2)
    embedder = load_embedder(small_run / "embedder.keras")
    maps = keras.Model(embedder.input, embedder.get_layer("feature_map").output)
    block = embedder.get_layer("top_drop_block")
    size = embedder.input_shape[1:3]
    for image in facts["images"]:
        pixels = resize_pixels(decode_image(image["path"]), size)[None]
        activation = maps(pixels)
        kept = np.asarray(block(np.ones_like(activation), activation, training=True))
        rows = np.flatnonzero((kept[0] == 0).all(axis=(1, 2)))
        assert image["dropped_rows"] == rows.tolist()
        assert len(facts["random_block"]) == len(rows)
        assert len(image["row_relevance"]) == facts["num_rows"] == activation.shape[1]


def test_columns_are_the_states_of_their_epochs(
    unsaved, run_of_two, monkeypatch, tmp_path
):
    drawn = {}

    def spy(images, maps, **options):
        drawn.update(maps=maps, **options)
        return epochs_figure(images, maps, **options)

    monkeypatch.setattr(epoch_figure, "epochs_figure", spy)
    facts = facts_of("epochs", run_of_two, "--out", tmp_path / "e.png")
    assert facts["epochs"] == facts["kept"] == drawn["epochs"] == [1, 2]
    embedder = load_embedder(run_of_two / "embedder.keras")
    size = embedder.input_shape[1:3]
    pixels = [resize_pixels(decode_image(path), size) for path in facts["images"]]
    expected = activation_maps(feature_maps(embedder, [np.stack(pixels)]))
    np.testing.assert_allclose(drawn["maps"][1], expected, rtol=1e-3, atol=1e-5)
    assert np.abs(drawn["maps"][0] - expected).max() > 1e-3


def test_epochs_of_too_few_checkpoints_say_how_to_keep_more(own_run):
    answer = run_figure("epochs", own_run)
    assert answer.exit_code == 1
    assert "--set train.keep_checkpoints=100" in answer.output
    assert "train.keep_checkpoints=2, which has epoch 2" in answer.output
    assert not (own_run / "figures").exists()


@pytest.mark.parametrize("command", ["activations", "masks", "rankings"])
def test_a_run_without_a_model_is_refused(command, own_run):
    (own_run / "embedder.keras").unlink()
    answer = run_figure(command, own_run)
    assert answer.exit_code == 1
    assert "has no embedder.keras" in answer.output


def test_lists_are_those_of_the_scores(unsaved, small_run, tmp_path):
    words = ("rankings", small_run, "--out", tmp_path / "r.png", "--rerank", "--junk")
    facts = facts_of(*words, "--lowest", 3, "--top", 7)
    config = read_config(small_run / "config.yaml")
    split = read_data(config.data.dataset, config)
    embedder = load_embedder(small_run / "embedder.keras")
    features = Embedder(split, config).retrieval_set(embedder)
    paths = [str(record.path) for record in split.query]
    for place, rerank in enumerate((None, Reranking())):
        scores = score(features, rerank=rerank).scores.queries
        for query in facts["queries"]:
            own, index = query["lists"][place], paths.index(query["path"])
            expected = scores.average_precision[index]
            assert own["average_precision"] == pytest.approx(expected)
            assert own["first_match_rank"] == scores.first_match_rank[index]
            check_kinds_and_ranks(query, own["images"])
    precision = [own["lists"][0]["average_precision"] for own in facts["queries"]]
    assert precision == sorted(precision)
    assert {query["why"] for query in facts["queries"]} == {"lowest AP"}


def check_kinds_and_ranks(query, images):
    """Checks a list of seven of nine images, which holds some of the own camera."""
    rank = 0
    for image in images:
        is_own = image["pid"] == query["pid"]
        is_junk = is_own and image["camid"] == query["camid"]
        kind = "junk" if is_junk else "right" if is_own else "wrong"
        rank += not is_junk
        assert (image["kind"], image["rank"]) == (kind, None if is_junk else rank)
    assert len(images) == 7
    distances = [image["distance"] for image in images]
    assert distances == sorted(distances)


LISTS = RankLists(
    *[None] * 4,
    average_precision=np.array([0.5, 1.0, np.nan, 0.1, 1.0, 0.3]),
    first_match_rank=np.array([2, 1, 0, 9, 1, 1]),
)


def test_lowest_wrong_and_highest_are_chosen_once_each():
    split = Split("drawn", (), tuple(ImageRecord("a", 1, 1) for _ in range(6)), ())
    chosen = shown_queries(split, LISTS, QueryChoice(lowest=1, wrong=5, highest=2))
    assert chosen[3] == "lowest AP"
    assert chosen[0] == "wrong at rank 1"
    assert {query for query, why in chosen.items() if why == "highest AP"} == {1, 4}
    assert len(chosen) == 4  # 2 has no match, 5 is neither
    assert list(chosen)[0] == 3


def test_all_queries_of_a_person_are_chosen():
    split = Split("drawn", (), tuple(ImageRecord("a", i % 2, 1) for i in range(6)), ())
    chosen = shown_queries(split, LISTS, QueryChoice(lowest=1, pids=(1,)))
    assert chosen == {3: "lowest AP", 1: "chosen", 5: "chosen"}


def test_no_query_that_is_wrong_is_said():
    right = LISTS._replace(first_match_rank=np.ones(6, int))
    split = Split("drawn", (), tuple(ImageRecord("a", 1, 1) for _ in range(6)), ())
    with pytest.raises(ValueError, match="wrong=3 of 0 queries"):
        shown_queries(split, right, QueryChoice(wrong=3))


def test_drawn_queries_are_of_different_persons_and_the_same_each_time():
    query = tuple(ImageRecord(f"{i}", pid, 1) for i, pid in enumerate([5, 5, 5, 8, 9]))
    split = Split("drawn", (), query, ())
    for seed in range(5):
        drawn = drawn_queries(split, num=2, seed=seed)
        assert len({record.pid for record in drawn}) == 2
        assert drawn == drawn_queries(split, num=2, seed=seed)
    assert len(drawn_queries(split, num=9, seed=1)) == 3


def test_images_are_named_as_their_owner_names_them():
    records = [ImageRecord("a", pid, 2) for pid in (0, 7)]
    split = Split("own", (), (), ())
    named = [", ".join(names_of(split, record)) for record in records]
    assert named == ["distractor, cam 2", "pid 7, cam 2"]
    own = replace(split, pid_names={0: "Ada", 7: "Bo"}, camera_names={2: "door"})
    assert names_of(own, records[0]) == ("Ada", "door")
    assert names_of(replace(own, has_cameras=False), records[1]) == ("Bo",)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("activations", "RUN", "nowhere.jpg"), "no image file or folder nowhere.jpg"),
        (("activations", "RUN", "--threshold", "1"), "0<x<1"),
        (("activations", "RUN", "--beside", "nowhere"), "nowhere is not the folder"),
        (("masks", "RUN", "--out", "masks.gif"), r"\.png, \.svg or \.pdf.*masks\.gif"),
        (("epochs", "RUN", "--epoch", "7"), "has epochs 1, 2.*Received: epoch 7"),
        (("epochs", "RUN", "--epoch", "1"), "Two or more epochs.*Received: epoch 1"),
        (
            ("rankings", "RUN", "--pid", "9999"),
            "a query in synthetic.*pid=9999",
        ),
        (("rankings", "RUN", "--lowest", "0"), "At least one query.*lowest=0"),
    ],
)
def test_errors_say_what_must_hold(words, message, run_of_two):
    answer = run_figure(*(run_of_two if word == "RUN" else word for word in words))
    assert answer.exit_code in (1, 2)
    assert re.search(message, " ".join(answer.output.split())), answer.output
    assert "Traceback" not in answer.output


@pytest.mark.parametrize(
    ("setting", "drops"),
    [
        ('model.drop="batch"', "random blocks"),
        ("model.streams=[global]", "nothing"),
    ],
)
def test_masks_need_a_top_drop_block(setting, drops, own_run):
    config = read_config(own_run / "config.yaml", [setting])
    _, embedder = build_trainer(config, num_pids=5)
    embedder.save(own_run / "embedder.keras")
    answer = run_figure("masks", own_run)
    assert answer.exit_code == 1
    assert "must have a Top DropBlock" in answer.output
    assert f"drops {drops}" in " ".join(answer.output.split())
