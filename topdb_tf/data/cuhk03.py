"""CUHK03 from its original distribution: `cuhk-03.mat` and the new protocol."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topdb_tf.damage import check_unpacked, told_as_damage
from topdb_tf.data.records import DatasetCard, ImageRecord, Split
from topdb_tf.files import partial_path

_FILE_NAME = re.compile(r"([1-5])_(\d{3})_([12])_(\d{2})\.png")


class Protocol(NamedTuple):
    """The new protocol: 767 identities to train on, 700 to test on.

    Images are named `<pair>_<person>_<view>_<image>.png`; the view, 1 or 2, is the
    camera. The parts are indices of images, from 0. All arrays are int64.
    """

    file_names: tuple[str, ...]
    pids: np.ndarray
    camids: np.ndarray
    train: np.ndarray
    query: np.ndarray
    gallery: np.ndarray


def read_original(
    folder: Path,
    kind: str,
    card: DatasetCard,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Split:
    """Reads CUHK03 from the files of its authors and those of the new protocol.

    The first call writes the images of `cuhk-03.mat` as PNG files to
    `images_<kind>`. Each file appears there complete or not at all, and a later call
    writes only those that are missing, so that an interrupted call is continued.
    When none is missing, `cuhk-03.mat` is not needed any more.

    Source: Li et al., DeepReID, CVPR 2014; Zhong et al., Re-ranking Person
    Re-identification with k-reciprocal Encoding, CVPR 2017
    (https://github.com/zhunzhong07/person-re-ranking).

    Args:
        folder: The folder that holds the files, itself or in `cuhk03_release`.
        kind: "labeled", boxes drawn by hand, or "detected", boxes of a detector.
        card: Card of the data set.
        progress: Called with the numbers of images written and to write.
    """
    protocol = read_protocol(
        _find(folder, f"cuhk03_new_protocol_config_{kind}.mat", card)
    )
    images = folder / f"images_{kind}"
    present = {path.name for path in images.iterdir()} if images.is_dir() else set()
    missing = [name for name in protocol.file_names if name not in present]
    if missing:
        mat_path = _find(folder, "cuhk-03.mat", card)
        extract_images(mat_path, kind, missing, images, progress=progress)
    parts = {
        part: tuple(
            ImageRecord(
                images / protocol.file_names[index],
                pid=int(protocol.pids[index]),
                camid=int(protocol.camids[index]),
            )
            for index in np.sort(getattr(protocol, part))
        )
        for part in ("train", "query", "gallery")
    }
    return Split(card.name, **parts)


def read_protocol(path: Path) -> Protocol:
    """Reads `cuhk03_new_protocol_config_labeled.mat` or `…_detected.mat`."""
    import scipy.io  # takes 0.3 s, and only this function needs it

    def explained(error):
        return (
            "The protocol must be a MATLAB file with the fields filelist, labels, "
            "camId, train_idx, query_idx and gallery_idx. Download the file itself, "
            f"not the web page that shows it. Received: path={path} ({error!r})"
        )

    with told_as_damage(explained):
        shapes = [shape for _, shape, _ in scipy.io.whosmat(path)]
        check_unpacked(path, 8 * sum(map(math.prod, shapes)))
        fields = scipy.io.loadmat(path)
        protocol = Protocol(
            tuple(str(cell.item()).strip() for cell in np.ravel(fields["filelist"])),
            _whole(fields["labels"]),
            _whole(fields["camId"]),
            *(
                _whole(fields[f"{part}_idx"]) - 1
                for part in ("train", "query", "gallery")
            ),
        )
    num_images = len(protocol.file_names)
    indices = np.concatenate([protocol.train, protocol.query, protocol.gallery])
    if not (
        len(protocol.pids) == len(protocol.camids) == num_images
        and np.isin(indices, np.arange(num_images)).all()
        and min(protocol.pids.min(initial=1), protocol.camids.min(initial=1)) > 0
        and all(_FILE_NAME.fullmatch(name) for name in protocol.file_names)
    ):
        raise ValueError(
            "The protocol must give each file, named as 1_001_1_01.png, one label and "
            "one camId, and count from 1 in its indices. Download it again. "
            f"Received: path={path}"
        )
    return protocol


def _whole(numbers):
    """Returns whole numbers; 0, which none may be, for what is no such number."""
    with np.errstate(invalid="ignore"):
        whole = np.ravel(numbers).astype(np.int64)
    return np.where(whole == np.ravel(numbers), whole, 0)


def extract_images(
    mat_path: Path,
    kind: str,
    file_names: list[str],
    folder: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes images of `cuhk-03.mat` as PNG files.

    The file is HDF5 with MATLAB's order of the dimensions: `kind` is a list of five
    references, one a pair of cameras, to a table of `(10, num_persons)` references to
    images of shape `(3, width, height)`: rows 1-5 are of view 1, 6-10 of view 2.

    Images are named as in `Protocol`; the folder is made if it is not there.
    """
    import h5py  # takes 0.2 s, and only this function needs it

    folder.mkdir(exist_ok=True)

    def explained(error):
        return (
            "cuhk-03.mat must be a complete HDF5 file. Extract cuhk03_release.zip "
            f"again. Received: path={mat_path} ({error})"
        )

    with told_as_damage(explained):
        file = h5py.File(mat_path, "r")
    with file, partial_path(folder / file_names[0]) as partial:
        for done, name in enumerate(file_names, start=1):
            _write_png(partial, _read_image(file, kind, name))
            partial.replace(folder / name)
            if progress is not None:
                progress(done, len(file_names))


def _find(folder: Path, file_name: str, card: DatasetCard) -> Path:
    paths = [folder / file_name, folder / "cuhk03_release" / file_name]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"{card.title} needs {paths[0]} or {paths[1]}. {card.source} "
            "datasets/README.md shows the expected folders. "
            f"Received: folder={folder}"
        )
    return path


def _read_image(file, kind: str, name: str) -> np.ndarray:
    pair, person, _, image = map(int, _FILE_NAME.fullmatch(name).groups())

    def explained(error):
        return (
            f"cuhk-03.mat must hold the image {name} under {kind!r}. Extract "
            f"cuhk03_release.zip again. Received: path={file.filename} ({error})"
        )

    with told_as_damage(explained):
        table = file[file[kind][0, pair - 1]]
        cell = file[table[image - 1, person - 1]]
        check_unpacked(Path(file.filename), cell.size * cell.dtype.itemsize)
        if cell.dtype != np.uint8 and cell.ndim == 3:
            raise ValueError(f"pixels of the type {cell.dtype}")
        pixels = cell[()]
    if pixels.ndim != 3 or pixels.shape[0] != 3:  # MATLAB stores [] as its shape
        raise ValueError(
            f"cuhk-03.mat must hold the image {name} under {kind!r}, but that cell is "
            "empty. Download the protocol file again. "
            f"Received: path={file.filename}, shape={pixels.shape}"
        )
    return pixels.transpose(2, 1, 0)  # (height, width, 3)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path, format="PNG", compress_level=1)
