"""A data set in Market-1501's layout is a line in `DATASETS` and a card, no more."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import topdb_tf
from topdb_tf.cli import main
from topdb_tf.data.benchmarks import DATASETS, read_benchmark, read_split

from .test_prepare import MARKET, write_zip

CARDS = Path(__file__).parents[1] / "datasets"
CARD = {
    "title": "Made up",
    "source": "Nowhere.",
    "terms": "None.",
    "citation": "None.",
    "folders": ["made-up/v1", "made-up"],
    "parts": {"train": {"images": 2, "pids": 1}},
    "archives": [{"images": r"\d{4}_c\d_made"}],
}
IMAGES = {
    "up/bounding_box_train/0001_c1_made.jpg": b"one",
    "up/bounding_box_train/0001_c2_made.jpg": b"two",
    "up/query/0002_c1_made.jpg": b"query",
    "up/bounding_box_test/0002_c2_made.jpg": b"gallery",
}


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """Adds a data set by its line and by its card, which lies beside the others."""
    shutil.copytree(CARDS, tmp_path / "datasets")
    (tmp_path / "datasets/made-up.yaml").write_text(yaml.safe_dump(CARD))
    monkeypatch.setattr(topdb_tf, "__file__", str(tmp_path / "topdb_tf/__init__.py"))
    monkeypatch.setitem(DATASETS, "made-up", read_benchmark)
    return "made-up"


def data(*arguments):
    return CliRunner().invoke(main, ["data", *map(str, arguments)])


def test_its_archive_is_recognised_unpacked_counted_and_read(made_up, tmp_path):
    archive, root = write_zip(tmp_path / "a.zip", IMAGES), tmp_path / "root"
    answer = data("prepare", archive, "--data-root", root)
    assert "made-up: train 2, query 1, gallery 1 images, complete" in answer.stdout
    assert f"topdb-tf fit --dataset made-up --data-root {root}" in answer.stdout
    assert answer.exit_code == 0
    split = read_split(made_up, root)
    assert [record.pid for record in split.records] == [1, 1, 2, 2]
    assert split.train[0].path == root / "made-up/v1/bounding_box_train" / (
        "0001_c1_made.jpg"
    )


def test_it_is_checked_against_its_card(made_up, tmp_path):
    for name, content in list(IMAGES.items())[1:]:
        path = tmp_path / name.replace("up/", "made-up/", 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    answer = data("check", made_up, "--data-root", tmp_path, "--quick", "--json")
    result = json.loads(answer.stdout)
    assert result["parts"]["train"]["expected"] == {"images": 2, "pids": 1}
    messages = [one["message"] for one in result["findings"]]
    assert "(bounding_box_train) holds 1 images of 1 identities: 1 images missing." in (
        " ".join(messages)
    )
    with pytest.raises(ValueError, match="Made up must be complete"):
        read_split(made_up, tmp_path)


@pytest.mark.usefixtures("made_up")
def test_help_names_it_and_others_are_not_taken_for_it(tmp_path):
    assert "made-up" in data("prepare", "--help").stdout
    archive = write_zip(tmp_path / "a.zip", MARKET)
    answer = data("prepare", archive, "--data-root", tmp_path / "root")
    assert answer.stdout.startswith("market1501: ")
