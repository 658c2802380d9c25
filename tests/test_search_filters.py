"""What a query looks among: cameras and time, against a plain loop."""

import datetime
import io
import json
import math

import numpy as np
import pytest

from tests.serving.test_embed import refused, topdb
from topdb_tf.data.image_files import read_images
from topdb_tf.data.records import IdNames
from topdb_tf.embed.source import Source
from topdb_tf.search.changes import add_entries, create_index
from topdb_tf.search.entries import entries_bytes, entries_of
from topdb_tf.search.filters import Filter
from topdb_tf.search.index import SearchIndex
from topdb_tf.search.items import items_of
from topdb_tf.texts import seconds_of, time_text

NOON = 1_714_564_800.0  # 2024-05-01T12:00:00Z: 19,844.5 days of 86,400 s


@pytest.fixture
def index(tmp_path):
    """200 images of 4 cameras, one every hour; of each tenth the time is not known."""
    rng = np.random.default_rng(0)
    times = NOON + 3600.0 * np.arange(200)
    times[::10] = np.nan
    features = rng.standard_normal((200, 8), dtype=np.float32)
    paths = [f"{number}.jpg" for number in range(200)]
    place = tmp_path / "people.index"
    camids, names = np.arange(200) % 4 + 1, ({}, {4: "door, left"})
    half = slice(0, 100), slice(100, 200)
    for write, part in zip((create_index, add_entries), half, strict=True):
        told = {"camids": camids[part], "times": times[part]}
        write(place, features[part], paths[part], **told, names=IdNames(*names))
    return place


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
@pytest.mark.parametrize(
    ("told", "cameras", "since", "until"),
    [
        ({"camids": ["1,2"]}, {1, 2}, -math.inf, math.inf),
        ({"camids": ["2", 3]}, {2, 3}, -math.inf, math.inf),
        ({"camids": ["Door, left"]}, {4}, -math.inf, math.inf),
        ({"since": "2024-05-02"}, {1, 2, 3, 4}, NOON + 12 * 3600, math.inf),
        ({"until": NOON + 7200}, {1, 2, 3, 4}, -math.inf, NOON + 7200),
        (
            {"camids": [1], "since": "2024-05-01T15:00+02:00", "until": "1714737600"},
            {1},
            NOON + 3600,
            NOON + 48 * 3600,
        ),
    ],
)
def test_a_filtered_search_is_that_of_a_loop(
    index, tmp_path, kind, told, cameras, since, until
):
    opened = SearchIndex(index)
    if kind != "exact":
        entries, place = opened.entries, tmp_path / "graph.index"
        told_of = {"camids": entries.camids, "times": entries.times}
        told_of["names"] = entries.names
        create_index(place, opened.features, entries.paths, kind=kind, **told_of)
        opened = SearchIndex(place)
    query = np.random.default_rng(1).standard_normal((1, 8), dtype=np.float32)
    rows = Filter(**told).rows(opened.entries)
    found = opened.search(query, k=5, among=rows)
    expected = []
    for row, feature in enumerate(opened.features):
        camera, time = opened.entries.camids[row], opened.entries.times[row]
        is_anytime = math.isinf(since) and math.isinf(until)
        if camera in cameras and (is_anytime or since <= time <= until):
            expected.append((float(((feature - query[0]) ** 2).sum()), row))
    expected = [row for _, row in sorted(expected)[:5]]
    assert found.rows[0][found.rows[0] >= 0].tolist() == expected


def test_what_is_no_filter_is_refused(index, tmp_path):
    entries = SearchIndex(index).entries
    with pytest.raises(ValueError, match=r"1, 2, 3, door, left. Received: 1,9"):
        Filter(["1,9"]).rows(entries)
    with pytest.raises(ValueError, match="--since must not be after --until"):
        Filter(since="2024-05-02", until="2024-05-01")
    for time in ("noon", "20240501", "1714564800000", "nan", "2024-13-01"):
        with pytest.raises(ValueError, match="--until"):
            Filter(until=time)
    create_index(tmp_path / "timeless", np.eye(2), ["a", "b"])
    with pytest.raises(ValueError, match="column `time`"):
        Filter(since=0).rows(SearchIndex(tmp_path / "timeless").entries)
    with pytest.raises(ValueError, match="`times` must be"):
        create_index(tmp_path / "x", np.eye(2), ["a", "b"], times=[1.0])


def test_times_by_hand():
    assert seconds_of("2024-05-01T12:00:00Z", "") == NOON
    assert seconds_of("2024-05-01 14:00:00+02:00", "") == NOON
    assert seconds_of(" 1714564800.5 ", "") == NOON + 0.5
    assert math.isnan(seconds_of("", ""))
    assert time_text(NOON + 0.5) == "2024-05-01 12:00:00.500Z"
    with pytest.raises(ValueError, match="people.csv, line 7: a time must be"):
        seconds_of("yesterday", "people.csv, line 7")


def test_an_index_from_before_times_is_read(index):
    entries = SearchIndex(index).entries
    assert np.isnan(entries.times).sum() == 20
    with np.load(io.BytesIO(entries_bytes(entries))) as arrays:
        older = {name: arrays[name] for name in arrays if name != "times"}
    file = io.BytesIO()
    np.savez(file, **older)
    assert np.isnan(entries_of(file.getvalue()).times).all()


def test_a_csv_file_tells_times(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_bytes(b"is not opened")
    table = tmp_path / "crops.csv"
    lines = ["a.jpg,1,1,2024-05-01T12:00Z", "b.jpg,2,1,", "c.jpg,-1,2,1714564801"]
    table.write_text("\n".join(["path,pid,camid,time", *lines]))
    times = [record.time for record in read_images([table]).records]
    assert times[0] == NOON
    assert times[1] is None
    assert times[2] == NOON + 1
    table.write_text("path,pid,time\na.jpg,1,noon\n")
    with pytest.raises(ValueError, match="crops.csv, line 2: a time"):
        read_images([table])


def test_a_table_tells_times_in_any_form(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    from pyarrow import table

    path, utc = tmp_path / "crops.parquet", datetime.timezone.utc
    embedding = [[1.0, 2.0], [3.0, 4.0]]
    moment = datetime.datetime(2024, 5, 1, 12, tzinfo=utc)
    for given in ([moment, None], ["2024-05-01T12:00Z", None], [int(NOON), None]):
        parquet.write_table(table({"embedding": embedding, "time": given}), path)
        times = items_of([path], Source()).times
        np.testing.assert_array_equal(times, [NOON, np.nan])
    parquet.write_table(table({"embedding": embedding, "time": [[1], [2]]}), path)
    with pytest.raises(ValueError, match="`time` of .* must hold times"):
        items_of([path], Source())


def test_the_command_filters_and_shows_times(index, tmp_path):
    queries = tmp_path / "q.npz"
    np.savez(queries, features=np.zeros((1, 8), "float32"))
    options = "--camera", "1,2", "--since", "2024-05-05", "--until", "2024-05-05T06:00"
    answer = topdb("index", "query", index, queries, *options, "--json")
    found = json.loads(answer.stdout)["queries"][0]["found"]
    hours = sorted((image["time"] - NOON) / 3600 for image in found)
    assert hours == [84, 85, 88, 89]  # 84 to 90 hours after noon, of cameras 1 and 2
    assert (
        "2024-05-05 05:00:00Z"
        in topdb("index", "query", index, queries, *options).stdout
    )
    refused(topdb("index", "query", index, queries, "--since", "noon"), "--since")
