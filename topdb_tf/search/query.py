"""Queries of an index: what is nearest to images, and whether it is the same person."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from topdb_tf.embed.embed import UNKNOWN, Embedding, Source
from topdb_tf.embed.errors import Failure, failure_lines
from topdb_tf.embed.model_probes import check_same_model
from topdb_tf.evaluate.calibrate import read_calibration
from topdb_tf.files import plain
from topdb_tf.retrieval.identities import JUNK_PID, whole_numbers
from topdb_tf.runs.folder import RunFolder, open_run
from topdb_tf.runs.models import find_model
from topdb_tf.search.build import source_of_index
from topdb_tf.search.index import SearchIndex
from topdb_tf.search.items import items_of
from topdb_tf.search.kinds import check_parameters
from topdb_tf.search.manifest import read_manifest
from topdb_tf.texts import counted, rate_text

_PICTURED_QUERIES = 20


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

    The same person is said to be what is as near as the threshold, where there is one.
    """

    rank: int
    distance: float
    id: int
    path: str
    pid: int | None
    camid: int | None
    is_same_person: bool | None


@dataclass(frozen=True)
class Query:
    """An image that was looked for, and the images of the index, nearest first."""

    path: str
    pid: int | None
    camid: int | None
    found: tuple[FoundImage, ...]

    def lines(self) -> list[str]:
        """Returns a table for people."""
        known = "" if self.pid is None else f" (pid {self.pid}, camera {self.camid})"
        lines = [f"{self.path}{known}"]
        if not self.found:
            return [*lines, "  nothing so near"]
        width = max(4, *(len(image.path) for image in self.found))
        is_judged = self.found[0].is_same_person is not None
        head = f"  rank    distance  {'path':{width}}    pid  camera"
        lines.append(f"{head}  same person" if is_judged else head)
        for image in self.found:
            line = f"  {image.rank:4}  {image.distance:10.6g}  {image.path:{width}}"
            line += f"  {_number_text(image.pid):>5}  {_number_text(image.camid):>6}"
            if is_judged:
                line += "  yes" if image.is_same_person else "  no"
            lines.append(line)
        return lines


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
        folder: Folder of the index.
        source: What embeds the images. Without a model or server it is the model that
            the index was built with.
        parameters: Of the search, where they are not to be those of the index.

    Attributes:
        index: The opened `SearchIndex`.
        source: What embeds the images.
        threshold: By which images are judged, `None` where there is none.

    Raises:
        FileNotFoundError: If there is no index, or a file of the run is missing.
        ValueError: If both limits are named, or a rate was not calibrated.
    """

    def __init__(
        self,
        folder: Path,
        source: Source,
        *,
        max_distance: float | None = None,
        false_match_rate: float | None = None,
        parameters: dict[str, int] | None = None,
    ):
        if max_distance is not None and false_match_rate is not None:
            raise ValueError("Name either --max-distance or --false-match-rate.")
        self.index = SearchIndex(folder)
        manifest = self.index.manifest
        self.source = source_of_index(manifest, source)
        self.parameters = parameters or {}
        check_parameters(manifest.parameters, self.parameters, of_search=True)
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
        self, items: Embedding, *, top: int = 10, camids: Sequence[int] = ()
    ) -> QueryResult:
        """Returns the nearest images of the index for each of some embedded ones.

        Args:
            items: The embedded images.
            top: Most images of an answer.
            camids: Cameras to look among. Defaults to all.

        Raises:
            ValueError: If the embeddings are of another model or length.
        """
        index, among = self.index, None
        check_same_model(items.probes, index.manifest.model)
        if camids:
            among = np.isin(index.entries.camids, whole_numbers("--camera", camids))
        start = time.perf_counter()
        neighbors = index.search(
            items.features, k=top, parameters=self.parameters, among=among
        )
        seconds = time.perf_counter() - start
        threshold = self.threshold
        if threshold is not None:
            is_live = index.entries.is_live
            looked_at = is_live if among is None else is_live & among
            threshold = threshold.among(int(looked_at.sum()))
        return QueryResult(
            index=str(index.folder),
            kind=index.manifest.kind,
            metric=index.manifest.metric,
            threshold=threshold,
            queries=_answered(items, index.entries, neighbors, threshold, self._limit),
            embedding_seconds=items.seconds,
            search_seconds=seconds,
            failures=items.failures,
        )


def query_index(
    folder: Path,
    places: Sequence[Path],
    source: Source,
    *,
    top: int = 10,
    camids: Sequence[int] = (),
    **limits,
) -> QueryResult:
    """Finds the nearest images of an index for each query.

    Args:
        folder: Folder of the index.
        places: Image files and folders, or one NPZ file of features.
        source: What embeds the images.
        top: Most images of an answer.
        camids: Cameras to look among. Defaults to all.
        **limits: `max_distance`, `false_match_rate` and `parameters` of `Searcher`.

    Raises:
        FileNotFoundError, ServingError: If something is missing, or a server fails.
        ValueError: If features are of another model or length, both limits are named,
            or a rate was not calibrated.
    """
    searcher = Searcher(folder, source, **limits)
    items = items_of(places, searcher.source, part="query")
    return searcher.answer(items, top=top, camids=camids)


def rank_lists(queries: Sequence[Query]) -> list:
    """Returns the lists of `topdb_tf.drawing.rank_lists.rank_list_figure`.

    Raises:
        ValueError: If there are more queries than fit on a picture, or an image is
            damaged.
        FileNotFoundError: If an image is not where it was.
    """
    from topdb_tf.drawing.rank_lists import RankList

    if len(queries) > _PICTURED_QUERIES:
        raise ValueError(
            f"A picture shows at most {_PICTURED_QUERIES} queries. "
            f"Received: {len(queries)}"
        )
    return [
        RankList(
            _pixels(query.path),
            _label(query),
            Path(query.path).name,
            [_listed(query, image) for image in query.found],
        )
        for query in queries
    ]


def _threshold(manifest, model, rate):
    """Returns the threshold of a run's calibration, or `None` where there is none."""
    path = find_model(model)
    folder = RunFolder(path.parent) if path is not None else None
    if folder is None or not folder.calibration.is_file():
        if rate is None:
            return None
        raise ValueError(
            "A false-match rate needs the model of a run that was calibrated, --model "
            f"RUN after `topdb-tf calibrate RUN`. Received: model={model}"
        )
    calibration = read_calibration(open_run(folder.path))
    sha256 = None if manifest.model is None else manifest.model.sha256
    metric, wrong = manifest.metric, []
    if sha256 not in (None, calibration.model_sha256):
        wrong.append("another model")
    if calibration.metric != metric:
        wrong.append(f"the metric {calibration.metric}")
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
    queries = []
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
            )
            for rank, (row, distance) in enumerate(near, 1)
        ]
        pid, camid = _known(items.pids[place]), _known(items.camids[place])
        queries.append(Query(path, pid, camid, tuple(found)))
    return tuple(queries)


def _known(number):
    """Returns a pid or camid, `None` where nobody has told it."""
    return None if number == UNKNOWN else int(number)


def _pixels(path):
    from topdb_tf.data.decoding import decode_image

    if not Path(path).is_file():
        raise FileNotFoundError(
            f"There is no image {path}: a picture needs the images where they were "
            "when the index was built, seen from the same folder."
        )
    return decode_image(Path(path))


def _listed(query, image):
    from topdb_tf.drawing.rank_lists import Listed

    kind = _kind(query, image)
    return Listed(_pixels(image.path), kind, image.distance, _label(image))


def _kind(query, image):
    """Returns how an image is marked: by the persons, else by the threshold."""
    is_right = image.is_same_person
    if not {None, JUNK_PID} & {query.pid, image.pid}:
        is_right = query.pid == image.pid
    if is_right is None:
        return "unknown"
    return "right" if is_right else "wrong"


def _label(image):
    return f"pid {_number_text(image.pid)}\ncam {_number_text(image.camid)}"


def _number_text(number):
    return "?" if number is None else str(number)
