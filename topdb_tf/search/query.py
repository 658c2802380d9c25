"""Queries of an index: what is nearest to images, and whether it is the same person."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from topdb_tf.data.records import UNKNOWN
from topdb_tf.embed.embed import Embedding
from topdb_tf.embed.errors import Failure, failure_lines
from topdb_tf.embed.model_probes import check_same_model
from topdb_tf.embed.source import Source
from topdb_tf.evaluate.calibrate import read_calibration
from topdb_tf.files import plain
from topdb_tf.runs.folder import RunFolder
from topdb_tf.runs.models import find_model, weights_of
from topdb_tf.search.build import source_of_index
from topdb_tf.search.filters import EVERYTHING, Filter
from topdb_tf.search.index import SearchIndex
from topdb_tf.search.items import items_of
from topdb_tf.search.manifest import read_manifest
from topdb_tf.search.milvus.collection import MilvusIndex
from topdb_tf.search.milvus.place import MilvusPlace
from topdb_tf.texts import Table, counted, rate_text, time_text


@dataclass(frozen=True)
class Threshold:
    """The distance up to which two images are said to show one person.

    It has the calibrated false-match rate that it gives, unless it was named itself,
    and how many of the images that are looked at this is for a query, on average.
    """

    distance: float
    false_match_rate: float | None = None
    num_images: int | None = None
    expected_false_matches: float | None = None

    def among(self, num_images: int) -> "Threshold":
        """Returns the threshold with what is to be expected among some images."""
        expected = None
        if self.false_match_rate is not None:
            expected = self.false_match_rate * num_images
        return replace(self, num_images=num_images, expected_false_matches=expected)

    def line(self) -> str:
        """Returns what is said to people."""
        source = "as named"
        if self.false_match_rate is not None:
            source = f"for a false-match rate of {rate_text(self.false_match_rate)}"
        line = f"same person: at most {self.distance:.6g} apart, {source}"
        if self.expected_false_matches is None:
            return line
        return (
            f"{line}, which is about {self.expected_false_matches:.3g} false matches a "
            f"query among {counted(self.num_images, 'image')}"
        )


@dataclass(frozen=True)
class FoundImage:
    """An image of the index that was found for a query, its distance in the metric.

    Person and camera are the names that were told, `None` where nobody is known. The
    same person is said to be what is as near as the threshold, where there is one. The
    time is in seconds since 1970.
    """

    rank: int
    distance: float
    id: int
    path: str
    pid: int | None
    camid: int | None
    is_same_person: bool | None
    person: str | None = None
    camera: str | None = None
    time: float | None = None


@dataclass(frozen=True)
class Query:
    """An image that was looked for, and the images of the index, nearest first."""

    path: str
    pid: int | None
    camid: int | None
    found: tuple[FoundImage, ...]
    person: str | None = None
    camera: str | None = None

    def lines(self) -> list[str]:
        """Returns a table for people."""
        told = [("person", self.person), ("camera", self.camera)]
        known = ", ".join(f"{word} {name}" for word, name in told if name is not None)
        lines = [f"{self.path} ({known})" if known else self.path]
        if not self.found:
            return [*lines, "  nothing so near"]
        is_judged = self.found[0].is_same_person is not None
        has_times = any(image.time is not None for image in self.found)
        head = ["rank", "distance", "path", "person", "camera", *["time"] * has_times]
        rows = []
        for image in self.found:
            row = [f"{image.rank}", f"{image.distance:.6g}", image.path]
            row += [image.person or "?", image.camera or "?"]
            row += ["?" if image.time is None else time_text(image.time)] * has_times
            rows.append(row + ["yes" if image.is_same_person else "no"] * is_judged)
        table = Table("", head + ["same person"] * is_judged, rows)
        return [*lines, *(f"  {line}" for line in table.text())]


@dataclass(frozen=True)
class QueryResult:
    """What was found in an index for the queries that could be embedded."""

    index: str
    kind: str
    metric: str
    threshold: Threshold | None
    queries: tuple[Query, ...]
    embedding_seconds: float
    search_seconds: float
    failures: Sequence[Failure]

    @property
    def queries_per_second(self) -> float:
        """Speed of the search."""
        return len(self.queries) / self.search_seconds

    def to_dict(self) -> dict:
        """Returns what `--json` prints."""
        values = asdict(self)
        if self.threshold is None:  # then no image was judged
            for query in values["queries"]:
                for image in query["found"]:
                    del image["is_same_person"]
        return {
            **values,
            "num_queries": len(self.queries),
            "queries_per_second": self.queries_per_second,
            "failures": plain(self.failures),
        }

    def lines(self) -> list[str]:
        """Returns what is said to people."""
        speed = (
            f"{len(self.queries):,} queries searched in "
            f"{1000 * self.search_seconds:.1f} ms, "
            f"{self.queries_per_second:,.0f} queries/s"
        )
        if self.embedding_seconds:
            speed += f"; embedded in {self.embedding_seconds:.1f} s"
        return [
            *failure_lines(self.failures),
            *(line for query in self.queries for line in query.lines()),
            *([] if self.threshold is None else [self.threshold.line()]),
            f"{speed}; {self.metric} distance, {self.kind} index",
        ]


class Searcher:
    """An index that is open for questions, and what it takes to answer them.

    Where the model's run was calibrated, each image is judged by the threshold of its
    first false-match rate, or of the one that is named. What is farther than
    `max_distance`, or the threshold of the rate that is named, is left out.

    Args:
        folder: Folder of the index, or its collection in Milvus.
        source: What embeds the images. Without a model or server it is the model that
            the index was built with.
        parameters: Of the search, where they are not to be those of the index.

    Attributes:
        index: The opened `SearchIndex` or `MilvusIndex`.
        source: What embeds the images.
        threshold: By which images are judged, `None` where there is none.

    Raises:
        FileNotFoundError: If there is no index, or a file of the run is missing.
        ValueError: If both limits are named, or a rate was not calibrated.
    """

    def __init__(
        self,
        folder: Path | MilvusPlace,
        source: Source,
        *,
        max_distance: float | None = None,
        false_match_rate: float | None = None,
        parameters: dict[str, int] | None = None,
    ):
        if max_distance is not None and false_match_rate is not None:
            raise ValueError("Name either --max-distance or --false-match-rate.")
        is_collection = isinstance(folder, MilvusPlace)
        self.index = MilvusIndex(folder) if is_collection else SearchIndex(folder)
        manifest = self.index.manifest
        self.source = source_of_index(manifest, source)
        self.parameters = parameters or {}
        self.index.check_parameters(self.parameters)
        self.threshold = _threshold(manifest, self.source.model, false_match_rate)
        self._limit = np.inf
        if max_distance is not None:
            self.threshold = Threshold(max_distance)
        if max_distance is not None or false_match_rate is not None:
            self._limit = self.threshold.distance

    def refresh(self) -> None:
        """Opens the index again where others have changed it since."""
        folder = self.index.folder
        if read_manifest(folder) != self.index.manifest:
            self.index = SearchIndex(folder)

    def answer(
        self, items: Embedding, *, top: int = 10, among: Filter = EVERYTHING
    ) -> QueryResult:
        """Returns the nearest images of the index for each of some embedded ones.

        Args:
            items: The embedded images.
            top: Most images of an answer.
            among: The images of the index that may be found.

        Raises:
            ValueError: If the embeddings are of another model or length, or there is
                no such camera.
        """
        index = self.index
        check_same_model(items.probes, index.manifest.model)
        start = time.perf_counter()
        entries, found = index.nearest(items, top, self.parameters, among)
        seconds = time.perf_counter() - start
        items, threshold = entries.in_own_numbers(items), self.threshold
        threshold = threshold and threshold.among(index.count(among))
        return QueryResult(
            index=str(index.folder),
            kind=index.manifest.kind,
            metric=index.manifest.metric,
            threshold=threshold,
            queries=_answered(items, entries, found, threshold, self._limit),
            embedding_seconds=items.seconds,
            search_seconds=seconds,
            failures=items.failures,
        )


def query_index(
    folder: Path | MilvusPlace,
    places: Sequence[Path],
    source: Source,
    *,
    top: int = 10,
    among: Filter = EVERYTHING,
    reading: Mapping = MappingProxyType({}),
    **limits,
) -> QueryResult:
    """Finds the nearest images of an index for each query.

    Args:
        folder: Folder of the index.
        places: Image files and folders, one CSV file, or one file of features.
        source: What embeds the images.
        top: Most images of an answer.
        among: The images of the index that may be found.
        reading: `layout`, `pattern` and `say` of `topdb_tf.search.items.items_of`.
        **limits: `max_distance`, `false_match_rate` and `parameters` of `Searcher`.
    """
    searcher = Searcher(folder, source, **limits)
    searcher.index.check_filter(among)  # before images are embedded
    manifest = searcher.index.manifest
    needs = {"metric": manifest.metric, "needs_cameras": manifest.is_by_camera}
    items = items_of(places, searcher.source, part="query", **needs, **reading)
    return searcher.answer(items, top=top, among=among)


def _threshold(manifest, model, rate):
    """Returns the threshold of a run's calibration, or `None` where there is none."""
    path = find_model(model)
    folder = RunFolder(weights_of(path).parent) if path is not None else None
    if folder is None or not folder.calibration.is_file():
        if rate is None:
            return None
        raise ValueError(
            "A false-match rate needs the model of a run that was calibrated, --model "
            f"RUN after `topdb-tf calibrate RUN`. Received: model={model}"
        )
    calibration = read_calibration(folder.path)
    sha256 = None if manifest.model is None else manifest.model.sha256
    metric, wrong = manifest.metric, []
    if sha256 not in (None, calibration.model_sha256):
        wrong.append("another model")
    if calibration.metric != metric:
        wrong.append(f"the metric {calibration.metric}")
    if manifest.is_by_camera:
        wrong.append("features that are not normalised by camera")
    if wrong and rate is None:
        return None
    if wrong:
        raise ValueError(
            f"{folder.calibration} must be of the index's model and metric, {metric}. "
            f"Received: a calibration of {' and '.join(wrong)}"
        )
    point = calibration.operating_point(rate)
    return Threshold(point.threshold, point.wanted_false_match_rate)


def _answered(items, entries, neighbors, threshold, limit):
    """Returns the queries with their neighbours, as far as those are near enough."""
    queries, names = [], items.names  # with those of the index
    for place, path in enumerate(items.paths):
        rows, distances = neighbors.rows[place], neighbors.distances[place]
        is_near = (rows >= 0) & (distances <= limit)
        near = zip(rows[is_near].tolist(), distances[is_near].tolist(), strict=True)
        found = [
            FoundImage(
                rank=rank,
                distance=distance,
                id=int(entries.ids[row]),
                path=entries.paths[row],
                pid=_known(entries.pids[row]),
                camid=_known(entries.camids[row]),
                is_same_person=threshold and distance <= threshold.distance,
                person=_called(entries.pids[row], names.persons),
                camera=_called(entries.camids[row], names.cameras),
                time=None if np.isnan(entries.times[row]) else entries.times[row],
            )
            for rank, (row, distance) in enumerate(near, 1)
        ]
        pid, camid = _known(items.pids[place]), _known(items.camids[place])
        called = _called(pid, names.persons), _called(camid, names.cameras)
        queries.append(Query(path, pid, camid, tuple(found), *called))
    return tuple(queries)


def _known(number):
    """Returns a pid or camid, `None` where nobody has told it."""
    return None if number == UNKNOWN else int(number)


def _called(number, names):
    """Returns the name of a pid or camid, `None` where nobody is known."""
    is_known = number is not None and number >= 0
    return names.get(int(number), str(number)) if is_known else None
