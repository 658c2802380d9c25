"""Market-1501 with several images of each query, by the person and camera of it."""

from dataclasses import replace
from pathlib import Path

from topdb_tf.data.image_files import list_images
from topdb_tf.data.market import JUNK_PID, read_market_layout, record_of
from topdb_tf.data.records import DatasetCard, Split

BOXES = "gt_bbox"


def read_multi_query(data_root: Path, card: DatasetCard, *, progress=None) -> Split:
    """Reads Market-1501, each query with all images of `gt_bbox` of its person by it.

    These images of one query, drawn by hand, have one track: the person and the camera.
    The gallery has no tracks. Pooled by track, this is the multi-query protocol.

    Source: Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If a query has no image in it.
    """
    del progress
    places = card.places(data_root)
    folder = next((place for place in places if (place / BOXES).is_dir()), None)
    if folder is None:
        missing = [place / BOXES for place in places]
        raise FileNotFoundError(card.missing_message(data_root, missing))
    split = read_market_layout(folder, name=card.name)
    boxes = {}
    for path in list_images([folder / BOXES]).paths:
        record = record_of(path)
        if record.pid != JUNK_PID:
            boxes.setdefault((record.pid, record.camid), []).append(record)
    queries = dict.fromkeys((one.pid, one.camid) for one in split.query)
    missing = [one for one in split.query if (one.pid, one.camid) not in boxes]
    if missing:
        raise ValueError(
            f"{folder / BOXES} must hold an image of the person of each query by its "
            f"camera. Extract the data again. None for {len(missing):,} of "
            f"{len(split.query):,}, such as {missing[0].path.name}"
        )
    return replace(
        split,
        query=tuple(
            record._replace(tracklet=f"{pid}-c{camid}")
            for pid, camid in queries
            for record in boxes[pid, camid]
        ),
        notes=(
            *split.notes,
            "Queries are of several images: evaluate --tracklets mean.",
        ),
    )
