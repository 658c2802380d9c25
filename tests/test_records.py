"""Records of images and the cards of the data sets."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest

import topdb_tf
from topdb_tf.data.records import (
    ImageRecord,
    PartCounts,
    Split,
    camids_of,
    labels_of,
    load_card,
    pids_of,
)

RECORDS = (
    ImageRecord(Path("a.jpg"), pid=7, camid=3),
    ImageRecord(Path("b.jpg"), pid=2, camid=1),
    ImageRecord(Path("c.jpg"), pid=7, camid=1),
)

CARD = """
title: Made up
source: Nowhere.
terms: None.
citation: Nobody.
folders: [made-up/v1, made-up]
parts:
  train: {images: 3, pids: 2}
"""


def test_pids_and_camids_keep_the_order_of_the_records():
    np.testing.assert_array_equal(pids_of(RECORDS), [7, 2, 7])
    np.testing.assert_array_equal(camids_of(RECORDS), [3, 1, 1])
    assert pids_of(RECORDS).dtype == camids_of(RECORDS).dtype == np.int64


def test_labels_are_the_ranks_of_the_sorted_pids():
    # Sorted pids 2, 7 get the labels 0, 1.
    np.testing.assert_array_equal(labels_of(RECORDS), [1, 0, 1])
    np.testing.assert_array_equal(labels_of(RECORDS[1:]), [0, 1])


def test_no_records_give_empty_integer_arrays():
    for of in (pids_of, camids_of, labels_of):
        assert of(()).shape == (0,)
        assert np.issubdtype(of(()).dtype, np.integer)


def test_a_split_counts_its_training_identities():
    assert Split("own", RECORDS, RECORDS[:1], ()).num_pids == 2


def test_a_split_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Split("own", RECORDS, (), ()).train = ()


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("market1501", (12936, 3368, 15913)),
        ("dukemtmc-reid", (16522, 2228, 17661)),
        ("cuhk03-labeled", (7368, 1400, 5328)),
        ("cuhk03-detected", (7365, 1400, 5332)),
    ],
)
def test_the_cards_hold_the_published_numbers(name, images):
    parts = load_card(name).parts
    assert tuple(parts) == ("train", "query", "gallery")
    assert tuple(part.images for part in parts.values()) == images


def write_card(folder, text=CARD):
    folder.mkdir(parents=True)
    (folder / "made-up.yaml").write_text(text)


def install_below(folder, monkeypatch):
    monkeypatch.setattr(topdb_tf, "__file__", str(folder / "topdb_tf/__init__.py"))


@pytest.mark.parametrize("place", ["topdb_tf/datasets", "datasets"])
def test_a_card_is_found_in_the_package_and_in_the_source_tree(
    tmp_path, monkeypatch, place
):
    install_below(tmp_path, monkeypatch)
    write_card(tmp_path / place)
    card = load_card("made-up")
    assert (card.name, card.title) == ("made-up", "Made up")
    assert card.folders == ("made-up/v1", "made-up")
    assert card.parts == {"train": PartCounts(images=3, pids=2)}


def test_the_card_in_the_package_comes_first(tmp_path, monkeypatch):
    install_below(tmp_path, monkeypatch)
    write_card(tmp_path / "datasets")
    write_card(tmp_path / "topdb_tf/datasets", CARD.replace("Made up", "Installed"))
    assert load_card("made-up").title == "Installed"


def test_a_missing_card_is_named():
    with pytest.raises(FileNotFoundError, match=r"must be at .*datasets/nothing\.yaml"):
        load_card("nothing")


@pytest.mark.parametrize(
    "text", [CARD.replace("terms", "licence"), CARD + "layout: market\n"]
)
def test_a_card_with_wrong_keys_is_refused(tmp_path, monkeypatch, text):
    install_below(tmp_path, monkeypatch)
    write_card(tmp_path / "datasets", text)
    with pytest.raises(ValueError, match="exactly the keys title, source, .*Received:"):
        load_card("made-up")


def test_a_card_whose_archive_has_an_unknown_key_is_refused(tmp_path, monkeypatch):
    install_below(tmp_path, monkeypatch)
    write_card(tmp_path / "datasets", CARD + "archives: [{hold: [train/]}]\n")
    with pytest.raises(ValueError, match=r"no keys but name, .*Received: .*'hold'"):
        load_card("made-up")
