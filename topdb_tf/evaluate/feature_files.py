"""Features and identities in files of any program, read as the images of a run are."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from topdb_tf.damage import told_as_damage
from topdb_tf.data.records import ImageRecord, Split
from topdb_tf.evaluate.embedding import Embedded, scored_camids
from topdb_tf.files import contents_of, user_path
from topdb_tf.model.torch_files import read_torch_content, tensor_array
from topdb_tf.parquet_files import SUFFIX
from topdb_tf.retrieval.features import (
    RetrievalSet,
    array_in,
    checked_distances,
    open_arrays,
)
from topdb_tf.runs.data import DataOrigin
from topdb_tf.runs.settings import EvaluationConfig
from topdb_tf.same_model import differ, largest_difference
from topdb_tf.texts import listed

_PARTS = {"query": "query|q", "gallery": "gallery|g"}
_KINDS = {
    "features": "features?|feats?|f|embeddings?",
    "pids": "pids?|ids?|labels?|person_?ids?|persons?",
    "camids": "camids?|cams?|cam_ids?|cameras?|camera_?ids?",
    "paths": "paths?|names?|files?|(?:image|img|file)_?(?:paths?|names?)",
    "pid_names": "pid_names",
    "camera_names": "camera_names",
}
_NAMES = {
    f"{part}_{kind}": re.compile(f"(?:{parts})_?(?:{kinds})|(?:{kinds})_(?:{parts})")
    for part, parts in _PARTS.items()
    for kind, kinds in _KINDS.items()
}
_DEPTHS = ("", "*/", "*/*/")  # of a run, of a folder of runs, and of seeds
_FEATURES = ("query_features", "gallery_features")
_PIDS = ("query_pids", "gallery_pids")
_CAMIDS = ("query_camids", "gallery_camids")
_PATHS = ("query_paths", "gallery_paths")
_ID_NAMES = {_PIDS: "pid_names", _CAMIDS: "camera_names"}


def holds_features(place: Path) -> bool:
    """Returns whether a path names features, and not a run or a folder of runs."""
    if place.is_dir():
        is_of_runs = any(any(place.glob(f"{deep}config.yaml")) for deep in _DEPTHS)
        return not is_of_runs and any(map(_is_feature_file, contents_of(place)))
    return place.is_file() or _is_feature_file(place)


def load_features(path: str | PathLike | Sequence[str | PathLike]) -> RetrievalSet:
    """Returns the features and identities in a file, or in several, checked.

    They are read from `.npz`, `.parquet`, `.safetensors`, PyTorch's `.pt` and `.pth`
    (nothing in them is run) and MATLAB's `.mat`; a `.npy` is one array, called as its
    file. Names are those of `topdb_tf.retrieval.features.RetrievalSet`, or usual
    others: `qf`, `query_feature`, `q_pids`, `query_label`, `gallery_cam` and the like.
    Without camids no camera is known, and every gallery image of the query's person is
    a match.

    Args:
        path: A file, a folder of files, or several files that hold one set together:
            in `query.pt` and `gallery.pt` arrays may be called `features`, `pids` and
            `camids`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If an array is missing, has two names or holds Python objects, or
            if features and identities do not fit together.
    """
    return embed_file(path, EvaluationConfig()).images


def embed_file(
    path: str | PathLike | Sequence[str | PathLike], evaluation: EvaluationConfig
) -> Embedded:
    """Returns the images whose features are in a file, as if a run had embedded them.

    Args:
        path: As for `load_features`.
        evaluation: The metric, and whether cameras are ignored.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As `load_features`.
    """
    places = path if isinstance(path, list | tuple) else [path]
    files = [file for place in places for file in files_at(user_path(place))]
    source = user_path(places[0])
    arrays, notes = _named_arrays(files, source)
    images = RetrievalSet(*(arrays[name] for name in RetrievalSet._fields))
    checked_distances(images, "sqeuclidean")
    split = _split(source.stem, images, arrays)
    numbers = scored_camids(split, ignore_cameras=evaluation.ignore_cameras)
    count = len(split.query)
    return Embedded(
        run=None,
        model=source,
        model_sha256="",  # takes long, and only a calibration tells it
        split=split,
        images=images._replace(
            query_camids=numbers[:count], gallery_camids=numbers[count:]
        ),
        origin=DataOrigin(source.stem),
        is_own=False,
        evaluation=evaluation,
        notes=notes,
        has_paths=_PATHS[0] in arrays,
        tracklets=arrays.get("pool"),
    )


class _Entry(NamedTuple):
    """A value of an open file, which is read when it is asked for."""

    path: Path
    values: Mapping
    key: str

    def read(self, name: str):
        """Returns the array, or the list, that is one of ours by name."""
        value = array_in(self.values, self.key, self.path)
        if name in _FEATURES:
            return np.asarray(value)
        if isinstance(value, np.ndarray) and value.size == max(value.shape, default=0):
            value = value.ravel()  # MATLAB has no vectors, only rows and columns
        if isinstance(value, np.ndarray) and self.path.suffix.lower() == ".mat":
            value = [np.asarray(one).item() for one in value]  # cells
        return value


def files_at(place: Path) -> list[Path]:
    """Returns the files of features at a path, itself or those in it; else raises."""
    if not place.is_dir() or place.suffix.lower() == SUFFIX:
        if not place.exists():
            raise FileNotFoundError(
                f"There is no file of features at {place}. docs/coming-from.md tells "
                "what it must hold."
            )
        return [place]
    files = sorted(filter(_is_feature_file, contents_of(place)))
    if not files:
        raise FileNotFoundError(
            f"There is no file of features in {place}: none ends in "
            f"{', '.join(_READERS)}."
        )
    return files


def _is_feature_file(path: Path) -> bool:
    return path.suffix.lower() in _READERS


def _named_arrays(files, source) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns the arrays by our names, and what the user should be told of them."""
    found, others, models, pools = {}, [], [], set()
    with contextlib.ExitStack() as opened:
        for file in files:
            reader = _READERS.get(file.suffix.lower(), _read_npz)
            values = reader(file, opened)
            part = _part_of(file.stem) if len(files) > 1 else None
            if "probe_features" in values:
                models.append(array_in(values, "probe_features", file))
                pools.add(
                    str(array_in(values, "pool", file)) if "pool" in values else ""
                )
            for key in values:
                if name := _our_name(key, part):
                    found.setdefault(name, []).append(_Entry(file, values, key))
                else:
                    others.append(key)
        _check_names(found, others, source)
        _check_one_model(models, pools, source)
        arrays = {name: entries[0].read(name) for name, entries in found.items()}
        arrays["pool"] = next(iter(pools), "") or None
    num_images = [len(arrays[name]) if np.ndim(arrays[name]) else 0 for name in _PIDS]
    for pair in (_PATHS, _CAMIDS) if _PATHS[0] in arrays else (_CAMIDS,):
        for name, count in zip(pair, num_images, strict=True):
            arrays.setdefault(name, [None] * count)
    for name, texts in arrays.items():
        count = num_images[name.startswith("gallery")]
        if name.endswith(("_paths", "_names")) and len(texts) != count:
            raise ValueError(
                f"`{name}` must be a list of texts, one an image. Received: "
                f"{len(texts):,} for {count:,} images of {source}"
            )
    if _CAMIDS[0] in found:
        return arrays, ()
    unread = f"; not read: {listed(sorted(others), 20)}" if others else ""
    return arrays, (f"{source.name} names no cameras, such as query_camids{unread}",)


def _check_names(found, others, source):
    for name, entries in found.items():
        if len(entries) > 1:
            keys = " and ".join(
                f"{entry.key} in {entry.path.name}" for entry in entries
            )
            raise ValueError(f"{source} must hold `{name}` once. Received: {keys}")
    missing = [name for name in _FEATURES + _PIDS if name not in found]
    for pair in (_CAMIDS, _PATHS):
        if len(found.keys() & {*pair}) == 1:
            missing += [name for name in pair if name not in found]
    if missing:
        keys = [entry.key for entries in found.values() for entry in entries] + others
        is_table = source.suffix.lower() == SUFFIX
        table = "; one table of both tells them apart by its column `part`, query or "
        table = f"{table}gallery" if is_table else ""
        raise ValueError(
            f"{source} must hold the arrays {', '.join(_FEATURES + _PIDS)}, and "
            f"{' and '.join(_CAMIDS)} where cameras are known; usual other names, such "
            f"as qf or query_label, are understood{table}. Missing: "
            f"{', '.join(missing)}. "
            f"Received: {listed(sorted(keys), 20) or 'no array'}"
        )


def _check_one_model(probes, pools, source):
    is_other = any(differ(largest_difference(one, probes[0])) for one in probes[1:])
    if is_other or len(pools) > 1:
        raise ValueError(
            "Queries and gallery must be embedded by one model, reduced by the same "
            "PCA file and pooled in one way. Received: "
            f"{source} and others of another model, PCA or pooling"
        )


def _our_name(key: str, part: str | None) -> str | None:
    """Returns which of our arrays a name means, in a file of a part of the set."""
    name = re.sub(r"[\s.\-]+", "_", key.strip()).lower()
    if name in _PARTS:
        return f"{name}_features"
    for ours, pattern in _NAMES.items():
        if pattern.fullmatch(name):
            return ours
    for kind, pattern in _KINDS.items():
        if part and re.fullmatch(pattern, name):
            return f"{part}_{kind}"
    return None


def _part_of(stem: str) -> str | None:
    """Returns the part of the set that a file is of by its name, such as `query`."""
    words = {*re.split("[^a-z]+", stem.lower())}
    parts = [part for part, names in _PARTS.items() if words & {*names.split("|")}]
    return parts[0] if len(parts) == 1 else None


def _read_npz(path, opened):
    return opened.enter_context(open_arrays(path))


class _ArrayFile(dict):  # which is read when its array is asked for
    def __getitem__(self, name):
        return np.load(super().__getitem__(name), allow_pickle=False)


def _read_npy(path, opened):
    return _ArrayFile({path.stem: path})


def _read_mat(path, opened):
    from scipy.io import loadmat

    def explained(error):
        return (
            f"{path} must be a whole MATLAB file of a version before 7.3, as "
            f"`scipy.io.savemat` writes it. Received: {error}"
        )

    with told_as_damage(explained):
        arrays = loadmat(path)
    return {key: value for key, value in arrays.items() if not key.startswith("__")}


def _read_torch(path, opened):
    content = read_torch_content(path)
    if not isinstance(content, dict):
        content = {path.stem: content}
    values = {}
    for key, value in content.items():
        inner = value if isinstance(value, dict) else {"": value}
        for end, one in inner.items():
            values[f"{key}_{end}" if end else str(key)] = _plain(one)
    return values


def _plain(value):
    """Returns a tensor, or a list of tensors, as NumPy has it."""
    if isinstance(value, list | tuple) and any(hasattr(one, "dtype") for one in value):
        return np.stack([tensor_array(one) for one in value])
    return tensor_array(value) if hasattr(value, "dtype") else value


_READERS = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".safetensors": _read_torch,
    ".mat": _read_mat,
    SUFFIX: _read_npz,
}


def _split(name: str, images: RetrievalSet, arrays: Mapping) -> Split:
    """Returns the images as records; without paths they are called by their place."""
    parts = []
    for part in _PARTS:
        pids, camids = (
            getattr(images, f"{part}_pids"),
            getattr(images, f"{part}_camids"),
        )
        paths = arrays.get(f"{part}_paths")
        if paths is None:
            paths = [
                f"image {-camid}" if camid < 0 else f"{part} {place}"
                for place, camid in enumerate(camids.tolist())
            ]
        paths = [Path(_text(path)) for path in paths]
        rows = zip(paths, pids.tolist(), camids.tolist(), strict=True)
        parts.append(tuple(ImageRecord(*row) for row in rows))
    return Split(
        name,
        (),
        *parts,
        has_cameras=bool((images.query_camids >= 0).any())
        or bool((images.gallery_camids >= 0).any()),
        pid_names=_names_of(images, arrays, _PIDS),
        camera_names=_names_of(images, arrays, _CAMIDS),
    )


def _names_of(images, arrays, fields) -> Mapping[int, str]:
    """Returns the texts that ids are numbered for, where they are no numbers."""
    names = {}
    for field in fields:
        numbers = getattr(images, field).tolist()
        part = field.partition("_")[0]
        texts = arrays.get(f"{part}_{_ID_NAMES[fields]}", arrays[field])
        for number, given in zip(numbers, texts, strict=True):
            if isinstance(given, str | bytes) and number >= 0:
                text = _text(given).strip()
                if text != str(number):
                    names[number] = text
    return names


def _text(value) -> str:
    is_bytes = isinstance(value, bytes)
    return value.decode("utf-8", "surrogateescape") if is_bytes else str(value)
