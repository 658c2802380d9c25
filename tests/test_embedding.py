"""The test images of a run, embedded once: what is kept, and when it is made anew."""

import json
import os
import shutil

import numpy as np
import pytest

from tests.test_cli import topdb
from topdb_tf.evaluate import embedding
from topdb_tf.evaluate.embedding import embed_run, only_persons
from topdb_tf.evaluate.evaluate import evaluate
from topdb_tf.evaluate.scores import read_scores
from topdb_tf.runs.folder import open_run


@pytest.fixture
def run(small_run, tmp_path):
    """A run that a test may change, opened, and the features that it keeps."""
    return open_run(shutil.copytree(small_run, tmp_path / "run"))


@pytest.fixture
def embedded(monkeypatch):
    """The numbers of images that were embedded, one entry for each time."""
    numbers, features = [], embedding.Embedder.features

    def counting(embedder, model):
        result = features(embedder, model)
        numbers.append(len(result))
        return result

    monkeypatch.setattr(embedding.Embedder, "features", counting)
    return numbers


def features_of(run):
    return np.concatenate(embed_run(run).images[:2])


def test_a_training_keeps_what_it_scored(run, embedded):
    assert (run.path / "features-synthetic.npz").is_file()
    lines = []
    kept = embed_run(run, say=lines.append)
    assert embedded == []
    assert any("features-synthetic.npz" in line for line in lines)
    (run.path / "features-synthetic.npz").unlink()
    again = embed_run(run)
    assert embedded == [15]
    for name, array in kept.images._asdict().items():
        np.testing.assert_array_equal(array, getattr(again.images, name))


def test_all_commands_embed_once(run, embedded):
    (run.path / "features-synthetic.npz").unlink()
    rate = ["--false-match-rate", 0.6]
    for words in (
        ["evaluate", run.path, "--rerank"],
        ["figure", "distances", run.path],
        ["figure", "cameras", run.path],
        ["figure", "map", run.path],
        ["figure", "rankings", run.path],
        ["report", run.path, "--no-images"],
        ["calibrate", run.path, *rate],
    ):
        answer = topdb(*words)
        assert answer.exit_code == 0 or "calibrate" in words, answer.output
    assert embedded == [15]


def test_score_reads_what_a_run_keeps(run):
    answer = topdb("score", run.path / "features-synthetic.npz", "--json")
    scores = json.loads(answer.stdout)
    expected = read_scores(run).to_dict()
    for name in ("mean_ap", "cmc", "mean_inp"):
        assert scores[name] == expected[name]
    assert scores["protocol"]["split_sha256"] == expected["protocol"]["split_sha256"]


def test_what_embed_writes_of_a_data_set_is_scored_as_evaluate_scores_it(run, tmp_path):
    out = tmp_path / "features.npz"
    answer = topdb("embed", "--dataset", "synthetic", "--model", run.path, "--out", out)
    assert answer.exit_code == 0, answer.output
    scores = json.loads(topdb("score", out, "--json").stdout)
    expected = read_scores(run).to_dict()
    assert scores["mean_ap"] == pytest.approx(expected["mean_ap"])
    assert scores["protocol"]["split_sha256"] == expected["protocol"]["split_sha256"]


def test_another_model_is_embedded_anew_and_said(run, embedded):
    before = features_of(run)
    shutil.copy(run.folder.best_embedder, run.folder.embedder)
    with run.folder.embedder.open("ab") as file:
        file.write(b"\0")
    lines = []
    embed_run(run, say=lines.append)
    assert embedded == [len(before)]
    assert any("of another model: the images are embedded anew" in x for x in lines)
    embed_run(run)
    assert len(embedded) == 1


def test_the_best_model_has_features_of_its_own(run, embedded):
    embed_run(run, best=True)
    assert embedded == [15]
    assert (run.path / "features-synthetic-best.npz").is_file()
    embed_run(run, best=True)
    embed_run(run)
    assert embedded == [15]


@pytest.mark.parametrize("change", ["removed", "rewritten", "another person"])
def test_other_images_are_embedded_anew_and_said(run, embedded, tmp_path, change):
    root = shutil.copytree(run.saved.data.root, tmp_path / "data")
    moved = open_run(run.path, [f"data.root={root}"])
    embed_run(moved)
    assert embedded == []  # a copy that keeps its times is the same images
    image = sorted((root / "synthetic" / "query").iterdir())[0]
    if change == "removed":
        image.unlink()
    elif change == "rewritten":
        os.utime(image, ns=(1, 1))
    else:
        other = sorted((root / "synthetic" / "query").iterdir())[-1].name[:4]
        image.rename(image.with_name(f"{other}{image.name[4:]}"))
    lines = []
    images = embed_run(moved, say=lines.append).images
    assert embedded == [len(images.query_pids) + len(images.gallery_pids)]
    assert any("of other images: the images are embedded anew" in x for x in lines)


def test_a_damaged_file_is_made_anew(run, embedded):
    expected = features_of(run)
    file = run.path / "features-synthetic.npz"
    for contents in (b"", b"no archive", file.read_bytes()[:-100]):
        file.write_bytes(contents)
        lines = []
        found = np.concatenate(embed_run(run, say=lines.append).images[:2])
        np.testing.assert_array_equal(found, expected)
        assert any("cannot be read" in line for line in lines)
    assert embedded == [15] * 3


def test_what_cannot_be_kept_is_said_and_used(run, monkeypatch):
    (run.path / "features-synthetic.npz").unlink()

    def full(*arguments, **arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embedding.np, "savez", full)
    lines = []
    assert len(features_of(run)) == 15
    embed_run(run, say=lines.append)
    assert any("could not be kept" in x and "No space left" in x for x in lines)
    assert not list(run.path.glob("*features*"))


def test_the_images_of_some_persons(run):
    embedded = embed_run(run)
    pids = embedded.images.query_pids[:1].tolist()
    some = only_persons(embedded, pids)
    assert {record.pid for record in some.split.query + some.split.gallery} == set(pids)
    assert len(some.split.query) == len(some.images.query_features)
    assert set(some.images.gallery_pids.tolist()) == set(pids)


def test_evaluate_without_rerank_keeps_re_ranked_scores_of_the_same_ranking(run):
    reranked = evaluate(run, rerank=True).reranked
    again = evaluate(run)
    assert again.reranked.to_dict() == reranked.to_dict()
    assert read_scores(run).reranked.to_dict() == reranked.to_dict()
    other = open_run(run.path, ["evaluation.metric=cosine"])
    assert evaluate(other).reranked is None
    assert read_scores(run).reranked is not None  # another protocol, another file


def test_re_ranked_scores_of_an_older_version_are_kept_and_of_another_model_not(run):
    evaluate(run, rerank=True)
    scores = json.loads(run.folder.scores.read_text())
    del scores["model_sha256"]
    run.folder.scores.write_text(json.dumps(scores))
    assert evaluate(run).reranked is not None
    scores["mean_ap"] /= 2
    run.folder.scores.write_text(json.dumps(scores))
    assert evaluate(run).reranked is None
