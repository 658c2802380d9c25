"""Search indexes: against brute force, a dictionary, damage and other processes."""

import errno
import json
import multiprocessing
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topdb_tf.embed.model_probes import check_same_model, recorded_model
from topdb_tf.files import held_folder
from topdb_tf.retrieval.distances import pairwise_distances
from topdb_tf.retrieval.postprocessing import camera_statistics, pool
from topdb_tf.search import changes, files, kinds, scan
from topdb_tf.search.changes import (
    add_entries,
    check_index,
    compact_index,
    create_index,
    remove_entries,
)
from topdb_tf.search.index import SearchIndex
from topdb_tf.search.manifest import METRICS, write_manifest


def drawn(count, dim=12, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, dim), dtype=np.float32)


def names(count):
    return [f"{number:04d}.jpg" for number in range(count)]


@pytest.fixture
def place(tmp_path):
    return tmp_path / "people.index"


def found_paths(index, found):
    return [[index.entries.paths[row] for row in rows] for rows in found.rows]


@pytest.mark.parametrize("metric", METRICS)
def test_exact_is_brute_force(place, metric):
    features, queries = drawn(700), drawn(40, seed=1)
    create_index(place, features, names(700), metric=metric)
    found = SearchIndex(place).search(queries, k=9)
    distances = pairwise_distances(queries, features, metric=metric)
    order = np.argsort(distances, axis=1, kind="stable")[:, :9]
    np.testing.assert_array_equal(found.rows, order)
    expected = np.take_along_axis(distances, order, axis=1)
    np.testing.assert_allclose(found.distances, expected, rtol=1e-4, atol=1e-5)


def test_no_query_is_lost_between_blocks(place, monkeypatch):
    features, queries = drawn(50), drawn(30, seed=1)
    create_index(place, features, names(50))
    at_once = SearchIndex(place).search(queries, k=3)
    monkeypatch.setattr(scan, "_BLOCK_QUERIES", 7)
    in_blocks = SearchIndex(place).search(queries, k=3)
    np.testing.assert_array_equal(in_blocks.rows, at_once.rows)


def test_distances_by_hand_and_what_is_missing(place):
    # From (0, 0): (3, 4) is 25 away, (1, 0) is 1 away; there is no third.
    create_index(place, np.array([[3.0, 4.0], [1.0, 0.0]]), ["far", "near"])
    found = SearchIndex(place).search(np.zeros((1, 2)), k=3)
    assert found.distances.tolist() == [[1.0, 25.0, float("inf")]]
    assert found.rows.tolist() == [[1, 0, -1]]


def test_equal_distances_are_in_the_order_of_the_ids(place):
    features = np.concatenate([drawn(5), np.tile(drawn(1, seed=3), (200, 1))])
    create_index(place, features, names(205))
    found = SearchIndex(place).search(features[-1:], k=7)
    assert found.rows.tolist() == [[5, 6, 7, 8, 9, 10, 11]]


@pytest.mark.parametrize(
    ("kind", "effort"),
    [
        ("ivf", {"nprobe": 20}),
        ("hnsw", {"efSearch": 400}),
        ("HNSW8,SQ8", {"efSearch": 400}),
        ("IVF16,SQ8", {"nprobe": 16}),
        ("PCA8,IVF16,SQ8", {"nprobe": 16, "refine": 40}),
        ("SQ8", {}),
    ],
)
def test_an_approximate_kind_with_all_effort_is_exact(place, kind, effort):
    features, queries = drawn(400), drawn(30, seed=1)
    create_index(place, features, names(400), kind=kind, camids=np.arange(400) % 2)
    index = SearchIndex(place)
    for among in (None, index.entries.camids == 1):
        parameters = {"refine": 8, **effort}
        found = index.search(queries, k=5, parameters=parameters, among=among)
        distances = pairwise_distances(queries, features)
        if among is not None:
            distances[:, ~among] = np.inf
        order = np.argsort(distances, axis=1, kind="stable")[:, :5]
        np.testing.assert_array_equal(found.rows, order)


def test_an_index_with_cells_of_its_own_centres_is_still_read(place):
    # As version 0.1 wrote the kind ivf: its own centres, and codes of the features
    # themselves, not of their distances from the centres.
    faiss, features = kinds.load_faiss(), drawn(400)
    create_index(place, features, names(400), kind="ivf")
    manifest = SearchIndex(place).manifest
    centers, bits = faiss.IndexFlatL2(12), faiss.ScalarQuantizer.QT_8bit
    centers.add(features[:20])
    old = faiss.IndexIVFScalarQuantizer(
        centers, 12, centers.ntotal, bits, faiss.METRIC_L2, False
    )
    old.train(features)
    old.add(features)
    name = "approximate-000009.faiss"
    file = files.write_file(place, name, lambda path: faiss.write_index(old, str(path)))
    written = manifest.files._replace(approximate=file)
    parameters = {"nlist": 20, "nprobe": 1, "refine": 4}
    old = replace(manifest, kind="ivf", parameters=parameters, files=written)
    write_manifest(place, old)
    add_entries(place, drawn(1, seed=2), ["new"])
    index, effort = SearchIndex(place), {"nprobe": centers.ntotal, "refine": 8}
    assert index.manifest.kind == "IVF20,SQ8"
    queries = drawn(30, seed=1)
    order = np.argsort(
        pairwise_distances(queries, [*features, *drawn(1, seed=2)]), axis=1
    )
    found = index.search(queries, k=5, parameters=effort)
    np.testing.assert_array_equal(found.rows, order[:, :5])
    compact_index(place)
    found = SearchIndex(place).search(queries, k=5, parameters=effort)
    np.testing.assert_array_equal(found.rows, order[:, :5])
    write_manifest(place, replace(index.manifest, parameters={"refine": 4}))
    with pytest.raises(ValueError, match="Build the index again"):
        SearchIndex(place)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.integers(0, 9), min_size=1, unique=True)),
        st.tuples(st.just("remove"), st.lists(st.integers(0, 9), unique=True)),
        st.just(("compact", [])),
    ),
    max_size=5,
)


@settings(max_examples=15, deadline=None)
@given(operations=OPERATIONS, kind=st.sampled_from(["exact", "hnsw"]))
def test_changes_are_those_of_a_dictionary(tmp_path_factory, operations, kind):
    place = tmp_path_factory.mktemp("changes") / "index"
    model = {f"old{number}": feature for number, feature in enumerate(drawn(6))}
    create_index(place, np.array(list(model.values())), list(model), kind=kind)
    for step, (what, numbers) in enumerate(operations):
        chosen = [f"new{number}" for number in numbers]
        if what == "add":
            features = drawn(len(numbers), seed=step + 1)
            known = sum(path in model for path in chosen)
            assert add_entries(place, features, chosen) == known
            for path, feature in zip(chosen, features, strict=True):
                model.pop(path, None)
                model[path] = feature
        elif what == "remove":
            gone = remove_entries(
                place, lambda e, c=chosen: np.array([p in c for p in e.paths], bool)
            )
            assert set(gone) == set(chosen) & set(model)
            model = {path: f for path, f in model.items() if path not in gone}
        else:
            compact_index(place)
    index, queries = SearchIndex(place), drawn(4, seed=99)
    assert len(index) == len(model)
    distances = pairwise_distances(queries, np.array(list(model.values())))
    order = np.argsort(distances, axis=1, kind="stable")[:, :3]
    expected = [[list(model)[row] for row in rows] for rows in order]
    assert found_paths(index, index.search(queries, k=3)) == expected
    check_index(place)


def test_faiss_is_given_new_images_when_they_are_many(place, monkeypatch):
    features = drawn(300)
    create_index(place, features[:200], names(200), kind="ivf")
    add_entries(place, features[200:210], names(210)[200:])
    assert SearchIndex(place).approximate.ntotal == 200
    monkeypatch.setattr(changes, "_TAIL_ROWS", 20)
    add_entries(place, features[210:], names(300)[210:])
    index = SearchIndex(place)
    assert index.approximate.ntotal == 300
    found = index.search(features[250:260], k=1)
    assert found.rows[:, 0].tolist() == list(range(250, 260))


def test_a_search_may_look_among_some_rows(place):
    create_index(place, drawn(50), names(50))
    among = np.arange(50) % 2 == 1
    found = SearchIndex(place).search(drawn(5, seed=1), k=4, among=among)
    assert (found.rows % 2 == 1).all()


@pytest.mark.parametrize("name", ["append_features", "write_file", "write_manifest"])
@pytest.mark.parametrize("change", ["add", "remove", "compact"])
def test_a_change_that_fails_leaves_the_old_index(place, monkeypatch, name, change):
    create_index(place, drawn(20), names(20))
    module = changes if name == "write_manifest" else files
    works = getattr(module, name)

    def fails(*arguments):
        if name != "write_manifest":
            works(*arguments)
        raise OSError("disk full")

    monkeypatch.setattr(module, name, fails)
    try:
        if change == "add":
            add_entries(place, drawn(3, seed=1), ["a", "b", "0001.jpg"])
        elif change == "remove":
            remove_entries(place, lambda entries: entries.ids < 5)
        else:
            compact_index(place)
    except OSError:
        pass
    else:  # a removal writes no features
        assert (name, change) == ("append_features", "remove")
        return
    monkeypatch.undo()
    assert len(SearchIndex(place)) == 20
    check_index(place)
    add_entries(place, drawn(1, seed=2), ["c"])
    check_index(place)
    index = SearchIndex(place)
    assert found_paths(index, index.search(drawn(1, seed=2), k=1)) == [["c"]]
    named = {file.name for file in index.manifest.files.written()}
    assert {path.name for path in place.iterdir()} == named | {"index.json"}


@pytest.mark.parametrize("name", ["append_features", "write_file"])
def test_a_new_index_that_fails_leaves_nothing(place, monkeypatch, name):
    works = getattr(files, name)

    def fails(*arguments):
        works(*arguments)
        raise OSError("disk full")

    monkeypatch.setattr(files, name, fails)
    with pytest.raises(OSError, match="disk full"):
        create_index(place, drawn(20), names(20))
    assert not place.exists()


def add_one(place, number):
    add_entries(place, drawn(1, seed=number), [f"of process {number}"])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
def test_processes_that_add_at_once_lose_nothing(place, monkeypatch):
    create_index(place, drawn(5), names(5))
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=add_one, args=(place, n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    assert len(SearchIndex(place)) == 8
    monkeypatch.setattr(changes, "_LOCK_SECONDS", 0.1)
    with held_folder(place, "held"), pytest.raises(ValueError, match="Another process"):
        add_one(place, 3)


@pytest.mark.parametrize("name", ["features", "entries", "approximate"])
def test_damage_is_found(place, name):
    create_index(place, drawn(200), names(200), kind="ivf")
    path = place / getattr(SearchIndex(place).manifest.files, name).name
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)
    with pytest.raises(ValueError, match="damaged"):
        check_index(place)
    path.write_bytes(contents[:-9])
    with pytest.raises(ValueError, match=f"{path.name} is damaged"):
        SearchIndex(place)
    path.unlink()
    with pytest.raises(ValueError, match="gone"):
        SearchIndex(place)


def flip(path, place):
    contents = bytearray(path.read_bytes())
    contents[place] ^= 0x40
    path.write_bytes(contents)


@pytest.mark.parametrize("kind", ["exact", "ivf"])
def test_damaged_features_are_neither_compared_nor_written_anew(place, kind):
    create_index(place, drawn(200), names(200), kind=kind)
    files_before = set(place.iterdir())
    flip(place / "features-000001.f32", 4 * 12 * 77 + 3)
    for change in (
        lambda: SearchIndex(place),
        lambda: compact_index(place),
        lambda: add_entries(place, drawn(1, seed=2), ["new"]),
        lambda: remove_entries(place, lambda entries: entries.ids < 5),
    ):
        with pytest.raises(ValueError, match=r"features-000001\.f32 is damaged"):
            change()
    assert set(place.iterdir()) == files_before
    assert len(SearchIndex(place, check=False)) == 200


def test_what_another_process_has_appended_is_no_damage(place):
    create_index(place, drawn(20), names(20))
    with (place / "features-000001.f32").open("ab") as stream:
        stream.write(b"a change that was cut short")
    assert len(SearchIndex(place)) == 20
    compact_index(place)
    check_index(place)


@pytest.mark.parametrize(
    ("kind", "edit"),
    [
        ("exact", {"kind": "hnsw"}),
        ("exact", {"metric": "manhattan"}),
        ("exact", {"metric": "cosine"}),  # the features have other lengths
        ("exact", {"dim": 6, "num_rows": 400}),
        ("exact", {"num_rows": True}),
        ("exact", {"next_id": 7}),
        ("exact", {"next_id": 10**400}),
        ("exact", {"change": 0}),
        ("exact", {"parameters": [1]}),
        ("exact", {"approximate_rows": 5}),
        ("exact", {"files": {"features": ["a", 1, 2]}}),
        ("exact", {"files": {"features": 3, "entries": None}}),
        ("exact", {"model": {"name": 3, "path": None, "sha256": None, "probes": ""}}),
        ("exact", {"model": {"name": "a", "path": 3, "sha256": None, "probes": "AA"}}),
        ("exact", {"model": "a"}),
        ("ivf", {"kind": "exact"}),
        ("ivf", {"parameters": {"nprobe": 1}}),
        ("ivf", {"parameters": {"nprobe": "1", "refine": 4}}),
        ("ivf", {"kind": "ivf"}),
        ("ivf", {"approximate_rows": 100}),
    ],
)
def test_an_edit_of_the_manifest_is_explained(place, kind, edit):
    create_index(place, drawn(200), names(200), kind=kind)
    values = json.loads((place / "index.json").read_text())
    (place / "index.json").write_text(json.dumps(values | edit))
    with pytest.raises(ValueError, match="is damaged or no file of an index"):
        SearchIndex(place)


@pytest.mark.parametrize("name", ["../features-000001.f32", "/etc/passwd", 7, None])
def test_no_file_outside_the_folder_is_read(place, name):
    create_index(place, drawn(20), names(20))
    values = json.loads((place / "index.json").read_text())
    values["files"]["features"][0] = name
    (place / "index.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="it names a file"):
        SearchIndex(place)


@pytest.mark.parametrize("factor", [np.nan, np.inf, 1.2])
def test_another_model_is_known_by_its_drawn_images(factor):
    model = recorded_model(drawn(4), model=None, server="localhost:1")
    check_same_model(drawn(4), model)
    for probes in (drawn(4) * np.float32(factor), drawn(3), drawn(4).astype(str)):
        with pytest.raises(ValueError, match="mean nothing"):
            check_same_model(probes, model)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 99_999, "damaged"),
        ("no JSON", "damaged"),
        ("[]", "damaged"),
        ('{"format": 9}', "format 9"),
        ('{"format": 1}', "not as written"),
    ],
)
def test_foreign_files_are_refused(place, text, words):
    place.mkdir()
    with pytest.raises(FileNotFoundError, match="is no index"):
        SearchIndex(place)
    (place / "index.json").write_text(text)
    with pytest.raises(ValueError, match=words):
        SearchIndex(place)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (np.full((1, 12), np.nan), "finite"),
        (np.full((1, 12), 1e30), "finite"),
        (np.ones((1, 11)), r"\(num_images, 12\)"),
        (np.ones((1, 12), int), "floats"),
        (np.zeros((1, 12)), "not all zero"),
    ],
)
def test_features_that_do_not_fit_are_refused(place, features, words):
    create_index(place, drawn(5), names(5), metric="cosine")
    with pytest.raises(ValueError, match=words):
        SearchIndex(place).search(features)
    with pytest.raises(ValueError, match=words):
        add_entries(place, features, ["new"])
    assert len(SearchIndex(place)) == 5


def test_what_cannot_be_built_is_explained(place, monkeypatch):
    with pytest.raises(ValueError, match="Received twice: a"):
        create_index(place, drawn(2), ["a", "a"])
    with pytest.raises(ValueError, match="nprobe"):
        create_index(place, drawn(9), names(9), kind="hnsw", parameters={"nprobe": 2})
    with pytest.raises(ValueError, match="HNSW32,SQ8. Received: tree"):
        create_index(place, drawn(9), names(9), kind="tree")
    with pytest.raises(ValueError, match="leave some of them out of a search"):
        create_index(place, drawn(300), names(300), kind="LSH")
    for kind in ("IVF16,SQ8", "OPQ4,IVF999999999,PQ4", "HNSW1,SQ8", "HNSW999999999"):
        with pytest.raises(ValueError, match=r"for 9 images. Received: kind="):
            create_index(place, drawn(9), names(9), kind=kind)
    with pytest.raises(ValueError, match="be able to learn"):
        create_index(place, drawn(9), names(9), kind="IVF4,PQ6")
    with pytest.raises(ValueError, match="as in HNSW32,SQ8.*Received: M=32"):
        create_index(place, drawn(9), names(9), kind="hnsw", parameters={"M": 32})
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ValueError, match="pip install 'faiss-cpu>="):
        create_index(place, drawn(9), names(9), kind="hnsw")
    create_index(place, drawn(9), names(9))  # the exact kind does without
    with pytest.raises(FileExistsError, match="index add"):
        create_index(place, drawn(9), names(9))


def test_parameters_of_a_search_are_told_from_those_of_an_index(place):
    create_index(place, drawn(200), names(200), kind="hnsw")
    index = SearchIndex(place)
    with pytest.raises(ValueError, match="fixed when an index is built"):
        index.search(drawn(1), parameters={"efConstruction": 2})
    assert kinds.factory_string("ivf", 1_000_000) == "IVF2048,SQ8"
    assert kinds.default_parameters("ivf", 1_000_000, 512)["nprobe"] == 128


def test_fewer_images_get_fewer_cells(place):
    create_index(place, drawn(200), names(200), kind="IVF64,SQ8")
    remove_entries(place, lambda entries: entries.ids >= 30)
    compact_index(place)
    index = SearchIndex(place)
    assert (index.manifest.kind, len(index)) == ("IVF1,SQ8", 30)
    remove_entries(place, lambda entries: entries.is_live)
    with pytest.raises(ValueError, match="needs an image"):
        compact_index(place)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
def test_features_whose_squares_vanish_are_refused(tmp_path, metric):
    features = np.random.default_rng(0).standard_normal((5, 4))
    for small in (features * 1e-25, features * 1e-60):
        with pytest.raises(ValueError, match="neither too large nor too small"):
            create_index(tmp_path / "index", small, list("abcde"), metric=metric)
    create_index(tmp_path / "index", features * 1e-6, list("abcde"), metric=metric)
    found = SearchIndex(tmp_path / "index").search(features * 1e-6, k=1)
    assert found.rows.ravel().tolist() == [0, 1, 2, 3, 4]


def test_a_metric_that_was_edited_is_found(place):
    create_index(place, drawn(20), names(20))
    manifest = place / "index.json"
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(values))  # laid out otherwise, and the same
    assert len(SearchIndex(place)) == 20
    manifest.write_text(json.dumps(values | {"metric": "euclidean"}))
    with pytest.raises(ValueError, match="was changed after it was written"):
        SearchIndex(place)
    del values["crc32"]  # as earlier versions wrote it
    manifest.write_text(json.dumps(values))
    assert len(SearchIndex(place)) == 20


def test_a_full_disk_is_told_with_the_file(place, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")  # names no file

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        create_index(place, drawn(20), names(20))
    assert error.value.filename == str(place / "features-000001.f32")
    assert not place.exists()


@pytest.mark.parametrize("metric", ["sqeuclidean", "cosine"])
def test_an_index_by_camera_keeps_its_statistics(place, metric):
    features, queries = drawn(60), drawn(5, seed=1)
    camids, asking = np.arange(60) % 3, np.array([0, 1, 2, 2, 7])
    features += 3 * drawn(3, seed=2)[camids]
    given = {"camids": camids[:40], "metric": metric, "normalize_cameras": True}
    create_index(place, features[:40], names(60)[:40], **given)
    add_entries(place, features[40:], names(60)[40:], camids=camids[40:])
    parts = [features, queries]
    if metric == "cosine":
        parts = [pool(part, range(len(part))).features for part in parts]
    known = camera_statistics([parts[0][:40]], [camids[:40]])
    parts = known.normalized(parts[0], camids), known.normalized(parts[1], asking)
    distances = pairwise_distances(parts[1], parts[0], metric=metric)
    order = np.argsort(distances, axis=1, kind="stable")[:, :7]
    index = SearchIndex(place)
    found = index.search(index.normalized(queries, asking), k=7)
    np.testing.assert_array_equal(found.rows, order)
    manifest = json.loads((place / "index.json").read_text())
    assert manifest["format"] == 2  # which versions that know no cameras refuse
    with pytest.raises(ValueError, match="1 image without a camera"):
        index.normalized(queries, np.array([0, 0, 0, 0, -1]))
    with pytest.raises(ValueError, match="2 images without a camera"):
        add_entries(place, features[:2], ["a.jpg", "b.jpg"])
    remove_entries(place, lambda entries: entries.camids == 1)
    compact_index(place)
    statistics = SearchIndex(place).entries.statistics
    np.testing.assert_array_equal(statistics.camids, [0, 2])
    np.testing.assert_allclose(statistics.means, known.means[[0, 2, 3]], rtol=1e-5)


def test_an_index_of_plain_features_is_of_the_first_format(place):
    create_index(place, drawn(4), names(4), camids=np.arange(4))
    assert json.loads((place / "index.json").read_text())["format"] == 1
    index = SearchIndex(place)
    assert index.normalized(features := drawn(2), np.array([-1, -1])) is features
    with pytest.raises(ValueError, match="4 images without a camera"):
        create_index(place.with_name("b"), drawn(4), names(4), normalize_cameras=True)
    assert not place.with_name("b").exists()
