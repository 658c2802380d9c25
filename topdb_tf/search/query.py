"""Queries of an index: what is nearest to images, and whether it is the same person."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from topdb_tf.data.image_files import list_images
from topdb_tf.embed.embed import open_client
from topdb_tf.embed.model_probes import keras_file
from topdb_tf.evaluate.calibrate import read_calibration
from topdb_tf.runs.folder import RunFolder, open_run
from topdb_tf.search.build import check_items, model_of_index
from topdb_tf.search.entries import UNKNOWN
from topdb_tf.search.index import SearchIndex
from topdb_tf.search.items import embed_items, features_file, read_items
from topdb_tf.texts import rate_text

_PICTURED_QUERIES = 20


def query_index(
    folder: Path,
    places: Sequence[Path],
    *,
    top: int = 10,
    max_distance: float | None = None,
    false_match_rate: float | None = None,
    camids: Sequence[int] = (),
    parameters: dict[str, int] | None = None,
    skip_bad: bool = False,
    timeout: float | None = None,
    **where,
) -> dict:
    """Finds the nearest images of an index for each query.

    Where the model's run was calibrated, each image is judged by the threshold of its
    first false-match rate, or of the one that is named.

    Args:
        folder: Folder of the index.
        places: As of `topdb_tf.search.build.build_index`.
        top: Number of images for each query.
        max_distance: Farther images are left out.
        false_match_rate: A calibrated one: what is beyond its threshold is left out.
        camids: Cameras to look among. Defaults to all.
        parameters: Of the search, where they are not to be those of the index.
        skip_bad, timeout, **where: As of `topdb_tf.search.build.add_to_index`.

    Returns:
        `index`, `kind`, `metric`, `threshold` (`distance`, and `false_match_rate` of
        a calibration, or `None`); `queries`, each with `path`, `pid`, `camid` and
        `found`: `rank`, `distance`, `id`, `path`, `pid`, `camid` and, with a
        threshold, `is_same_person`; `num_queries`, `embedding_seconds`,
        `search_seconds`, `queries_per_second` of the search, and `failures`.

    Raises:
        FileNotFoundError, ServingError: As `build_index`.
        ValueError: If features are of another model or length, both limits are named,
            or a rate was not calibrated.
    """
    if max_distance is not None and false_match_rate is not None:
        raise ValueError("Name either --max-distance or --false-match-rate.")
    index = SearchIndex(folder)
    items, model = _queries(index, places, where, skip_bad=skip_bad, timeout=timeout)
    check_items(items, index.manifest)
    threshold = _threshold(index, model, false_match_rate)
    if max_distance is not None:
        threshold = {"distance": max_distance, "false_match_rate": None}
    is_limit = max_distance is not None or false_match_rate is not None
    limit = threshold["distance"] if is_limit else np.inf
    among = np.isin(index.entries.camids, list(camids)) if camids else None
    start = time.perf_counter()
    found = index.search(items.features, k=top, parameters=parameters, among=among)
    seconds = time.perf_counter() - start
    return {
        "index": str(folder),
        **{name: index.manifest[name] for name in ("kind", "metric")},
        "threshold": threshold,
        "queries": _answers(index, items, found, threshold, limit),
        "num_queries": len(items.paths),
        "embedding_seconds": items.seconds,
        "search_seconds": seconds,
        "queries_per_second": len(items.paths) / seconds,
        "failures": list(items.failures),
    }


def query_lines(result: dict) -> list[str]:
    """Returns what was found, for people."""
    lines = [f"left out: {f['path']}: {f['reason']}" for f in result["failures"]]
    threshold = result["threshold"]
    for query in result["queries"]:
        lines.append(f"{query['path']}{_identity_text(query)}")
        if not query["found"]:
            lines.append("  nothing so near")
        width = max([4, *(len(image["path"]) for image in query["found"])])
        if query["found"]:
            lines.append(
                f"  rank    distance  {'path':{width}}    pid  camera"
                + "  same person" * (threshold is not None)
            )
        for image in query["found"]:
            pid, camid = (_number_text(image[name]) for name in ("pid", "camid"))
            line = f"  {image['rank']:4}  {image['distance']:10.6g}  "
            line += f"{image['path']:{width}}  {pid:>5}  {camid:>6}"
            if threshold is not None:
                line += f"  {'yes' if image['is_same_person'] else 'no'}"
            lines.append(line)
    return [*lines, *_threshold_lines(threshold), _speed_line(result)]


def rank_lists(result: dict) -> list:
    """Returns the lists of `topdb_tf.drawing.rank_lists.rank_list_figure`.

    Images whose persons are known are marked as right or wrong; others by the
    threshold, or as unknown.

    Raises:
        ValueError: If there are more queries than fit on a picture, or an image is
            damaged.
        FileNotFoundError: If an image is not where it was.
    """
    from topdb_tf.data.decoding import decode_image
    from topdb_tf.drawing.rank_lists import Listed, RankList

    if len(result["queries"]) > _PICTURED_QUERIES:
        raise ValueError(
            f"A picture shows at most {_PICTURED_QUERIES} queries. "
            f"Received: {len(result['queries'])}"
        )

    def pixels(path):
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"There is no image {path}: a picture needs the images where they were "
                "when the index was built, seen from the same folder."
            )
        return decode_image(Path(path))

    return [
        RankList(
            pixels(query["path"]),
            _label(query),
            Path(query["path"]).name,
            [
                Listed(
                    pixels(image["path"]),
                    _kind(query, image),
                    image["distance"],
                    _label(image),
                )
                for image in query["found"]
            ],
        )
        for query in result["queries"]
    ]


def draw_query(result: dict, path: Path) -> None:
    """Writes a picture of what was found.

    Raises:
        ValueError, FileNotFoundError: As `rank_lists`; or if the name of the file
            does not end in that of a picture.
    """
    from topdb_tf.drawing.rank_lists import rank_list_figure
    from topdb_tf.drawing.style import save_figure

    save_figure(rank_list_figure(rank_lists(result)), path)


def _queries(index, places, where, **options):
    """Returns the queries, and where their model is, if that is known."""
    path = features_file(places)
    if path is not None:
        model = where.get("model") or (index.manifest.get("model") or {}).get("path")
        return read_items(path, "query"), model
    where = model_of_index(index.manifest, **where)
    with open_client(**where) as client:
        items = embed_items(client, list_images(places).paths, **options)
    return items, where.get("model")


def _threshold(index, model, rate):
    """Returns the threshold of a run's calibration, or `None` where there is none."""
    path = keras_file(Path(model)) if model is not None else None
    folder = RunFolder(path.parent) if path is not None else None
    if folder is None or not folder.calibration.is_file():
        if rate is None:
            return None
        raise ValueError(
            "A false-match rate needs the model of a run that was calibrated, --model "
            f"RUN after `topdb-tf calibrate RUN`. Received: model={model}"
        )
    calibration = read_calibration(open_run(folder.path))
    own = index.manifest.get("model") or {}
    metric = index.manifest["metric"]
    fits = {
        "another model": own.get("sha256") in (None, calibration.model_sha256),
        f"the metric {calibration.metric}": calibration.metric == metric,
    }
    wrong = [what for what, is_so in fits.items() if not is_so]
    if wrong and rate is None:
        return None
    if wrong:
        raise ValueError(
            f"{folder.calibration} must be of the index's model and metric, {metric}. "
            f"Received: a calibration of {' and '.join(wrong)}"
        )
    point = calibration.operating_point(rate)
    return {
        "distance": point.threshold,
        "false_match_rate": point.wanted_false_match_rate,
    }


def _answers(index, items, found, threshold, limit):
    return [
        {
            "path": items.paths[place],
            **_identity(items.pids[place], items.camids[place]),
            "found": _found(index, found, place, threshold, limit),
        }
        for place in range(len(items.paths))
    ]


def _found(index, found, place, threshold, limit):
    entries, images = index.entries, []
    pairs = zip(found.rows[place], found.distances[place], strict=True)
    for rank, (row, distance) in enumerate(pairs, 1):
        if row < 0 or distance > limit:
            break
        image = {
            "rank": rank,
            "distance": float(distance),
            "id": int(entries.ids[row]),
            "path": entries.paths[row],
            **_identity(entries.pids[row], entries.camids[row]),
        }
        if threshold is not None:
            image["is_same_person"] = bool(distance <= threshold["distance"])
        images.append(image)
    return images


def _identity(pid, camid):
    pid, camid = (None if n == UNKNOWN else int(n) for n in (pid, camid))
    return {"pid": pid, "camid": camid}


def _kind(query, image):
    if query["pid"] is not None and image["pid"] is not None:
        return "right" if query["pid"] == image["pid"] else "wrong"
    return "unknown"


def _label(image):
    pid, camid = (_number_text(image[name]) for name in ("pid", "camid"))
    return f"pid {pid}\ncam {camid}"


def _identity_text(query):
    if query["pid"] is None:
        return ""
    return f" (pid {query['pid']}, camera {query['camid']})"


def _number_text(number):
    return "?" if number is None else str(number)


def _threshold_lines(threshold):
    if threshold is None:
        return []
    rate = threshold["false_match_rate"]
    source = (
        "as named" if rate is None else f"for a false-match rate of {rate_text(rate)}"
    )
    return [f"same person: at most {threshold['distance']:.6g} apart, {source}"]


def _speed_line(result):
    text = f"{result['num_queries']:,} queries searched in "
    text += f"{1000 * result['search_seconds']:.1f} ms, "
    text += f"{result['queries_per_second']:,.0f} queries/s"
    if result["embedding_seconds"]:
        text += f"; embedded in {result['embedding_seconds']:.1f} s"
    return f"{text}; {result['metric']} distance, {result['kind']} index"
