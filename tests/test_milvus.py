"""Collections of Milvus, by its embedded engine, against our own exact index."""

import json
import sys

import numpy as np
import pytest

from tests.commands import refused
from tests.serving.test_embed import topdb
from topdb_tf.data.records import IdNames
from topdb_tf.embed.embed import Embedding
from topdb_tf.embed.errors import ServingError
from topdb_tf.embed.model_probes import recorded_model
from topdb_tf.embed.source import Source
from topdb_tf.search import build
from topdb_tf.search.changes import create_index
from topdb_tf.search.filters import EVERYTHING, Filter
from topdb_tf.search.index import SearchIndex
from topdb_tf.search.manifest import METRICS
from topdb_tf.search.milvus.collection import MilvusIndex
from topdb_tf.search.milvus.place import place_of

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")
NUM, DIM, NOON = 500, 16, 1_714_564_800.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("milvus")


@pytest.fixture
def collection(folder, request):
    """The place of a collection that no other test has."""
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)
    return place_of(f"milvus://{folder}/people.db/{name}")


def drawn_items(count=NUM, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((count, DIM), dtype=np.float32)
    features[100:140] = features[min(100, count - 1)]  # as near as one another
    times = NOON + 60.0 * np.arange(count)
    times[::7] = np.nan
    return Embedding(
        features,
        [f"crops/{number:05d} \"é'.jpg" for number in range(count)],
        np.arange(count) % 50,
        np.arange(count) % 4 + 1,
        IdNames({7: "anna"}, {4: "door, left"}),
        times,
    )


def file_of(path, items):
    names = [items.names.persons.get(n, str(n)) for n in items.pids.tolist()]
    cameras = [items.names.cameras.get(n, str(n)) for n in items.camids.tolist()]
    arrays = {"paths": items.paths, "pids": names, "camids": cameras}
    probes = {} if items.probes is None else {"probe_features": items.probes}
    np.savez(path, features=items.features, times=items.times, **arrays, **probes)
    return path


def answers(index, items, top, among):
    entries, found = index.nearest(items, top, {}, among)
    told = [
        [(entries.paths[row], str(entries.times[row])) for row in rows[rows >= 0]]
        for rows in found.rows
    ]
    return np.array(told, object), found.distances, index.count(among)


@pytest.mark.parametrize("metric", METRICS)
def test_flat_answers_as_the_exact_kind_does(tmp_path, collection, metric):
    items = drawn_items()
    told = {"pids": items.pids, "camids": items.camids, "names": items.names}
    told["times"] = items.times
    create_index(tmp_path / "own", items.features, items.paths, metric=metric, **told)
    features = file_of(tmp_path / "all.npz", items)
    build.build_index([features], collection, Source(), metric=metric)
    queries = drawn_items(12, seed=1)
    near = queries.features.copy()
    near[0] = items.features[100]  # 40 images are as near
    queries = queries._replace(features=near)
    filters = [EVERYTHING, Filter(["1,2"]), Filter(["Door, Left"], since=NOON + 6000)]
    filters += [Filter(until="2024-05-01T13:00Z"), Filter(since=NOON, until=NOON)]
    with MilvusIndex(collection) as index:
        own = SearchIndex(tmp_path / "own")
        for among in filters:
            theirs, ours = (answers(one, queries, 9, among) for one in (index, own))
            np.testing.assert_array_equal(theirs[0], ours[0])
            np.testing.assert_array_equal(theirs[1], ours[1])
            assert theirs[2] == ours[2]


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_the_kinds_of_milvus_with_all_effort_are_exact(tmp_path, collection, kind):
    items, queries = drawn_items(), drawn_items(8, seed=1)
    create_index(tmp_path / "own", items.features, items.paths)
    features = file_of(tmp_path / "all.npz", items)
    settings = {} if kind == "hnsw" else {"nlist": 8, "nprobe": 8}
    told = {"kind": kind, "parameters": settings}
    build.build_index([features], collection, Source(), **told)
    with MilvusIndex(collection) as index:
        theirs = answers(index, queries, 5, EVERYTHING)
    ours = answers(SearchIndex(tmp_path / "own"), queries, 5, EVERYTHING)
    np.testing.assert_array_equal(theirs[1], ours[1])


def test_the_commands_are_those_of_an_index(tmp_path, collection):
    items = drawn_items()
    first, rest = tmp_path / "first.npz", tmp_path / "all.npz"
    model = recorded_model(np.eye(4, DIM, dtype="f4"), model=None, server="a server")
    items = items._replace(probes=model.probe_features())
    half = items._replace(
        features=items.features[:250],
        paths=items.paths[:250],
        pids=items.pids[:250],
        camids=items.camids[:250],
        times=items.times[:250],
    )
    place = str(collection)
    answer = topdb("index", "build", file_of(first, half), "--to", place)
    assert answer.exit_code == 0, answer.output
    assert "250 images" in answer.stdout
    told = "add", place, file_of(rest, items), "--skip-known"
    values = json.loads(topdb("index", *told, "--json").stdout)
    assert (values["num_added"], values["num_images"]) == (250, 500)
    told = "add", place, first
    values = json.loads(topdb("index", *told, "--json").stdout)
    assert (values["num_replaced"], values["num_images"]) == (250, 500)
    query = tmp_path / "q.npz"
    probe = items._replace(features=items.features[[7]], paths=["q"])
    probe = probe._replace(pids=items.pids[[7]], camids=items.camids[[7]])
    file_of(query, probe._replace(times=items.times[[7]]))
    told = "query", place, query, "--top", 2, "--camera", "door, left"
    (one,) = json.loads(topdb("index", *told, "--json").stdout)["queries"]
    assert (one["person"], one["found"][0]["person"]) == ("anna", "anna")
    assert one["pid"] == one["found"][0]["pid"]
    assert one["found"][0]["camera"] == "door, left"
    assert one["found"][0]["distance"] == 0
    told = "remove", place, "--pid", "Anna", "--prefix", "crops/0000"
    removed = json.loads(topdb("index", *told, "--json").stdout)
    assert len(removed["removed"]) == 10 + 9  # anna is one of the ten
    assert removed["num_images"] == 481
    refused(topdb("index", "remove", place, "--pid", "anna"), "nothing was removed")
    refused(topdb("index", "query", place, query, "--camera", "attic"), "--camera")
    assert "481 images" in topdb("index", "info", place).stdout


def test_what_does_not_fit_a_collection_is_refused(tmp_path, collection):
    items = drawn_items(20)._replace(probes=np.eye(4, DIM, dtype="f4"))
    features, place = file_of(tmp_path / "a.npz", items), str(collection)
    assert topdb("index", "build", features, "--to", place).exit_code == 0
    for options, words in (
        (("--metric", "cosine"), "metric sqeuclidean"),
        (("--kind", "hnsw"), "kind exact"),
        (("--kind", "IVF64,SQ8"), "exact, hnsw, ivf"),
        (("--set", "nprobe=3"), "A parameter must be"),
    ):
        refused(topdb("index", "build", features, "--to", place, *options), words)
    other = file_of(tmp_path / "b.npz", items._replace(probes=items.probes * 2))
    refused(topdb("index", "add", place, other), "two models mean")
    short = drawn_items(20)
    short = short._replace(
        features=short.features[:, :8], paths=list("abcdefghijklmnopqrst")
    )
    file_of(tmp_path / "c.npz", short)
    refused(topdb("index", "build", tmp_path / "c.npz", "--to", place), f"{DIM})")
    refused(topdb("index", "add", f"{place}_2", features), "no collection", "--to")
    refused(topdb("index", "query", "milvus://people", features), "HOST:PORT/NAME")
    refused(topdb("index", "query", place, features, "--top", 20000), "at most 16,384")
    refused(topdb("index", "compact", place), "must be the folder of an index")
    both = "--to", place, "--out", tmp_path / "x"
    refused(topdb("index", "build", features, *both), "--out", "--to")


def test_a_build_that_lost_its_server_goes_on(tmp_path, collection, monkeypatch):
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    from topdb_tf.search.milvus import collection as module

    monkeypatch.setattr(module, "_BATCH_ROWS", 100)
    upsert, calls = MilvusClient.upsert, []

    def fails(self, name, rows, **options):
        calls.append(len(rows))
        if len(calls) == 3:
            raise MilvusException(message="server unavailable")
        return upsert(self, name, rows, **options)

    monkeypatch.setattr(MilvusClient, "upsert", fails)
    features = file_of(tmp_path / "all.npz", drawn_items())
    with pytest.raises(ServingError, match=r"200 of 500 images are stored.*unavail"):
        build.build_index([features], collection, Source())
    calls.append(0)
    overview = build.build_index([features], collection, Source())
    assert overview.num_images == 500
    assert overview.change.num_added == 300


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("milvus://host:19530/people", "http://host:19530"),
        ("milvus+tls://a.example.org:443/people", "https://a.example.org:443"),
        ("milvus://[::1]:19530/people", "http://[::1]:19530"),
        ("milvus://folder/my file.db/people", "folder/my file.db"),
    ],
)
def test_a_collection_is_named_by_an_address(text, uri):
    assert place_of(text) == (uri, "people", text)
    for wrong in ("milvus://host/people", "milvus://host:1/", "milvus:/host:1/people"):
        with pytest.raises(ValueError, match=r"\$MILVUS_TOKEN"):
            place_of(wrong)


def test_pymilvus_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(ValueError, match="pip install"):
        MilvusIndex(place_of("milvus://host:19530/people"))
