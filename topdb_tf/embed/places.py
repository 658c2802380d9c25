"""Images that are named by a Parquet table, or lie in an object store."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from topdb_tf.data.image_files import NamedImages, named_record, read_images
from topdb_tf.data.market import is_image
from topdb_tf.data.records import UNKNOWN, IdNames, ImageRecord
from topdb_tf.parquet_files import SUFFIX, load_parquet, read_arrays
from topdb_tf.retrieval.identities import Identities, whole_numbers
from topdb_tf.texts import seconds_of

# A path has lost one of the slashes.
_URI = re.compile(r"([a-z][a-z0-9+.-]+):/+(.+)", re.S)


def uri_of(path: Path | str) -> str:
    """Returns the address of what lies in an object store, else the path."""
    match = _URI.fullmatch(str(path))
    if match:
        root = "/" if match[1] == "file" else ""
        return f"{match[1]}://{root}{match[2]}"
    return str(path)


def is_uri(path: Path | str) -> bool:
    """Returns whether a path is the address of an object store, such as s3://NAME."""
    return _URI.fullmatch(str(path)) is not None


def read_uri(uri: str) -> bytes:
    """Returns the contents of what lies at an address, as Ray reads it."""
    filesystem, path = _filesystem_at(uri)
    with filesystem.open_input_stream(path) as stream:
        return stream.read()


def images_at(places: Sequence[Path], **reading) -> NamedImages:
    """Returns the images that are named, as `read_images` does, or by other means.

    One Parquet file names them by its column `path`, relative to its folder, and may
    have `pid` and `camid`, numbers or names, `time` and `tracklet`. Addresses such as
    s3://BUCKET/FOLDER are listed by pyarrow, as Ray does; whom the images there show is
    told by their names.

    Raises:
        FileNotFoundError: If something does not exist.
        ValueError: If there is no image, or something cannot be read.
    """
    if len(places) == 1 and places[0].suffix == SUFFIX:
        return _in_table(places[0])
    if not any(map(is_uri, places)):
        return read_images(places, **reading)
    if not all(map(is_uri, places)):
        raise ValueError(
            "Images must be all in an object store, or none of them. Received: "
            f"{', '.join(map(str, places))}"
        )
    paths = [path for place in places for path in _listed(uri_of(place))]
    images = [path for path in paths if is_image(path)]
    if not images:
        raise ValueError(
            "There must be an image, a JPEG or PNG file (.jpg, .jpeg, .png). Received: "
            f"{', '.join(map(str, places))}"
        )
    records = tuple(map(named_record, dict.fromkeys(images)))
    skipped = tuple(path for path in paths if not is_image(path))
    return NamedImages(records, IdNames(), skipped, ())


def ids_of_images(name: str, ids: Sequence | None, count: int) -> np.ndarray:
    """Returns pids or camids as int64, `UNKNOWN` where nobody has told them.

    Raises:
        ValueError: If they are no whole numbers, or not as many as there are images.
    """
    if ids is None:
        return np.full(count, UNKNOWN)
    numbers = whole_numbers(name, ids, unknown=UNKNOWN)
    if len(numbers) != count:
        raise ValueError(
            f"`{name}` must have one entry an image. "
            f"Received: {count} images and {len(numbers)} {name}"
        )
    return numbers


def times_of_images(times: Sequence | None, count: int, place: str) -> np.ndarray:
    """Returns times in seconds since 1970, NaN where nobody has told them.

    Raises:
        ValueError: If they are no times, or not as many as there are images.
    """
    if times is None:
        return np.full(count, np.nan)
    times = np.asarray(times)
    if times.dtype.kind == "U" and times.ndim == 1:
        texts = enumerate(times.tolist())
        times = np.array([seconds_of(t, f"{place}, row {n}") for n, t in texts], float)
    if (
        times.dtype.kind not in "fiu"
        or times.shape != (count,)
        or np.isinf(times).any()
    ):
        raise ValueError(
            f"`times` must be seconds since 1970 or texts, one for each of {count} "
            f"images of {place}. Received: {times.dtype} of shape {times.shape}"
        )
    return times.astype(np.float64)


def told_ids(
    name: str, ids: np.ndarray | None, texts: np.ndarray | None, count: int
) -> tuple[np.ndarray, dict[int, str]]:
    """Returns pids or camids as `ids_of_images`, and what they are called.

    Texts are what numbers are called, or are given instead of numbers.
    """
    if ids is not None and ids.dtype.kind == "U":
        nobody = np.zeros(len(ids), int)
        numbers = Identities(ids, ids[:0], nobody, nobody[:0]).query_pids
        texts, ids = ids, np.where(numbers < 0, UNKNOWN, numbers)
    numbers = ids_of_images(name, ids, count)
    pairs = zip(numbers.tolist(), [] if texts is None else texts.tolist(), strict=False)
    return numbers, {n: t for n, t in pairs if n >= 0 and t not in ("", str(n))}


def _in_table(file):
    if not file.exists():
        raise FileNotFoundError(f"There is no list of images {file}.")
    arrays = read_arrays(file, with_features=False)
    paths = [
        Path(path) if is_uri(path) else file.parent / path
        for path in arrays.get("paths").tolist()
    ]
    if not paths:
        raise ValueError(f"There must be an image in {file}. Received: none")
    count, ids = len(paths), [arrays.get(name) for name in ("pids", "camids")]
    pids, persons = told_ids(f"pids of {file}", ids[0], None, count)
    camids, cameras = told_ids(f"camids of {file}", ids[1], None, count)
    times = times_of_images(arrays.get("times"), count, str(file)).tolist()
    tracks = [str(one) or None for one in arrays.get("tracklets", [""] * count)]
    records = map(ImageRecord, paths, pids.tolist(), camids.tolist(), times, tracks)
    return NamedImages(tuple(records), IdNames(persons, cameras), (), ())


def _listed(uri):
    """Returns the addresses of all files in a folder of an object store, or of one."""
    from pyarrow.fs import FileSelector, FileType

    filesystem, path = _filesystem_at(uri)
    info = filesystem.get_file_info(path)
    if info.type == FileType.NotFound:
        raise FileNotFoundError(f"There is no image file or folder {uri}.")
    if info.type == FileType.File:
        return [Path(uri)]
    inside = filesystem.get_file_info(FileSelector(path, recursive=True))
    files = sorted(one.path for one in inside if one.type == FileType.File)
    return [Path(uri.rstrip("/") + file[len(path.rstrip("/")) :]) for file in files]


def _filesystem_at(uri):
    load_parquet()
    from pyarrow.fs import FileSystem

    try:
        return FileSystem.from_uri(uri)
    except (ValueError, OSError) as error:
        raise ValueError(
            "An address must be of an object store that pyarrow reads, such as "
            f"s3://BUCKET/FOLDER. Received: {uri} ({error})"
        ) from error
