"""Embeddings in Parquet files, a row an image: what other tools read and write."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from topdb_tf.damage import told_as_damage
from topdb_tf.same_model import differ, largest_difference
from topdb_tf.texts import listed, module_of_extra

SUFFIX = ".parquet"
CODES = ("float32", "float16", "int8")
"""How the numbers of an embedding may be kept."""

_IDS = {"pids": ("pid", "pid_names"), "camids": ("camid", "camera_names")}
_PARTS = ("query", "gallery")
_OF_ALL = ("probe_features", "pool")  # what is told once of a table
_KEY = b"topdb_tf"


def load_parquet():
    """Returns `pyarrow.parquet`, as `module_of_extra` does."""
    return module_of_extra(
        "pyarrow.parquet",
        extra="parquet",
        purpose="Parquet files are read and written by pyarrow",
        otherwise="NPZ files do without.",
    )


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], *, codes: str = "float32"
) -> None:
    """Writes what an NPZ file of features would hold as a table.

    Its columns are `path`, `pid`, `camid`, `time` in seconds since 1970, `tracklet` and
    `embedding`, a list of numbers of one length; `part` (query or gallery) where both
    are there; `error`, why an image has no embedding, where there are `errors`, empty
    texts for good images. Persons and cameras that have names are texts. With int8
    codes an embedding is `scale` times its whole numbers, of which the largest is 127.
    """
    parquet = load_parquet()
    import pyarrow

    prefixes = [p for p in ("", "query_", "gallery_") if f"{p}features" in arrays]
    tables = [_table(pyarrow, arrays, prefix, codes) for prefix in prefixes]
    table = pyarrow.concat_tables(tables)
    notes = {"pool": str(arrays.get("pool"))} if "pool" in arrays else {}
    if (probes := arrays.get("probe_features")) is not None:
        numbers = base64.b64encode(probes.astype("<f4").tobytes()).decode()
        notes |= {"probes": numbers, "num_probes": len(probes)}
    if notes:
        table = table.replace_schema_metadata({_KEY: json.dumps(notes)})
    parquet.write_table(table, path)


def read_arrays(path: Path, *, with_features: bool = True) -> Mapping[str, Any]:
    """Returns the arrays of a table, or of the parts in a folder, as NPZ files have.

    Images with an `error` are left out. Of the ids nobody knows, numbers are masked
    and texts empty. Without features the table is a list of images, with `path`.

    Raises:
        FileNotFoundError: If there is no part in the folder.
        ValueError: If a file is damaged, or a column is missing or not as it must be.
    """
    parquet, found = load_parquet(), []
    for part in parts_of(path):

        def explained(error, part=part):
            return f"{part} must be a Parquet file, whole. Received: {error}"

        with told_as_damage(explained):
            table = parquet.read_table(part)
        found.append(_arrays_of(part, table, with_features))
    for part, other in zip(parts_of(path), found, strict=True):
        if other.keys() != found[0].keys():
            names = listed(sorted(other.keys() ^ found[0].keys()))
            raise ValueError(
                f"The parts of {path} must have the same columns. Received: {names} "
                f"not in all of them, as in {part}"
            )
        if with_features and not _is_of_one_model(found[0], other):
            raise ValueError(
                f"The parts of {path} must be of one model, and pooled in one way. "
                f"Received: column `embedding` of another in {part}"
            )
    of_all = {name: found[0].pop(name) for name in _OF_ALL if name in found[0]}
    joined = {
        name: np.ma.concatenate([one[name] for one in found])
        if np.ma.isMaskedArray(found[0][name])
        else np.concatenate([one[name] for one in found])
        for name in found[0]
    }
    arrays = _by_part(joined, path) if "parts" in joined else joined
    return arrays | of_all


def parts_of(path: Path) -> list[Path]:
    """Returns the Parquet files at a path: itself, or those in it, in their order."""
    if not path.is_dir():
        return [path]
    parts = [one for one in sorted(path.glob(f"*{SUFFIX}")) if one.name[0] not in "._"]
    if not parts:
        raise FileNotFoundError(f"There is no Parquet file in {path}.")
    return parts


def _is_of_one_model(arrays, other):
    widths = {one["features"].shape[1] for one in (arrays, other)}
    told = [tuple(one.get(name) for name in _OF_ALL) for one in (arrays, other)]
    (probes, pool), (others, other_pool) = told
    if len(widths) > 1 or pool != other_pool:
        return False
    return probes is None or not differ(largest_difference(others, probes))


def _table(pyarrow, arrays, prefix, codes):
    features = np.asarray(arrays[f"{prefix}features"], np.float32)
    columns, is_bad = {}, None
    if f"{prefix}paths" in arrays:
        columns["path"] = pyarrow.array(map(str, arrays[f"{prefix}paths"]), "string")
    for name, (column, names) in _IDS.items():
        if (ids := arrays.get(f"{prefix}{name}")) is not None:
            # -1 is a person of its own, nobody; of cameras it is none.
            least = -1 if name == "pids" else 0
            columns[column] = pyarrow.array(ids, mask=np.asarray(ids) < least)
            if (texts := arrays.get(f"{prefix}{names}")) is not None:
                columns[column] = pyarrow.array([str(one) or None for one in texts])
    if (times := arrays.get(f"{prefix}times")) is not None:
        columns["time"] = pyarrow.array(times, mask=np.isnan(times))
    if (tracklets := arrays.get(f"{prefix}tracklets")) is not None:
        columns["tracklet"] = pyarrow.array([str(t) or None for t in tracklets])
    if prefix:
        part = pyarrow.array([prefix.rstrip("_")] * len(features))
        columns["part"] = part
    if (errors := arrays.get("errors")) is not None:
        is_bad = np.array([bool(error) for error in errors])
        columns["error"] = pyarrow.array([str(e) or None for e in errors], "string")
    if codes == "int8":
        scales = np.abs(features).max(axis=1, initial=0) / 127
        columns["scale"] = pyarrow.array(scales, mask=is_bad)
        features = features / np.where(scales > 0, scales, 1)[:, np.newaxis]
        features = np.rint(features)
    flat = pyarrow.array(features.astype(codes).ravel())
    mask = None if is_bad is None else pyarrow.array(is_bad)
    columns["embedding"] = pyarrow.FixedSizeListArray.from_arrays(
        flat, features.shape[1], mask=mask
    )
    return pyarrow.table(columns)


def _arrays_of(path, table, with_features):
    """Returns the arrays of a table, with the part of each image where it is told."""
    notes = json.loads((table.schema.metadata or {}).get(_KEY, b"{}"))
    if "error" in table.column_names:
        table = table.filter(table["error"].is_null())
    arrays = {"features": _vectors(path, table)} if with_features else {}
    if not with_features and "path" not in table.column_names:
        names = listed(table.column_names, 20)
        raise ValueError(
            f"{path} must have the column `path`. Received: the columns {names}"
        )
    for name, column in (("paths", "path"), ("parts", "part")):
        if column in table.column_names:
            arrays[name] = _texts(path, column, table[column])
    for name, (column, _) in _IDS.items():
        if column in table.column_names:
            arrays[name] = _ids(path, column, table[column])
    if "time" in table.column_names:
        arrays["times"] = _times(path, table.column("time"))
    if "tracklet" in table.column_names:
        tracks = _ids(path, "tracklet", table.column("tracklet"))
        arrays["tracklets"] = np.array([str(t) for t in tracks.tolist()], str)
    if "pool" in notes:
        arrays["pool"] = np.array(notes.pop("pool"))
    if "probes" in notes:
        probes = np.frombuffer(base64.b64decode(notes["probes"]), "<f4")
        arrays["probe_features"] = probes.reshape(notes["num_probes"], -1)
    return arrays


def _vectors(path, table):
    """Returns the column of embeddings, float `(num_images, dim)`, checked."""
    import pyarrow.compute

    types, name = pyarrow.types, "embedding"
    if name not in table.column_names:
        raise ValueError(
            f"{path} must have the column `{name}`, a list of numbers an image. "
            f"Received: the columns {listed(table.column_names, 20)}"
        )
    column, received = table[name].combine_chunks(), table.schema.field(name).type
    is_list = types.is_list(received) or types.is_large_list(received)
    is_list = is_list or types.is_fixed_size_list(received)
    kind = received.value_type if is_list else None
    is_coded = kind == pyarrow.int8() and "scale" in table.column_names
    if not is_list or not (types.is_floating(kind) or is_coded):
        raise _refusal(path, name, "lists of floats, or of int8 with `scale`", received)
    _check_no_nulls(path, name, column)
    lengths = pyarrow.compute.unique(pyarrow.compute.list_value_length(column))
    if len(lengths) > 1:
        wanted = "vectors of one length"
        raise _refusal(path, name, wanted, f"lengths {listed(lengths.to_pylist(), 5)}")
    values = pyarrow.compute.list_flatten(column)
    _check_no_nulls(path, name, values)
    dim = lengths[0].as_py() if len(lengths) else getattr(received, "list_size", 0)
    vectors = values.to_numpy(zero_copy_only=False).reshape(len(column), dim)
    if is_coded:
        _check_no_nulls(path, "scale", table["scale"])
        scales = table["scale"].to_numpy().astype(np.float32)
        vectors = vectors * scales[:, np.newaxis]
    is_bad = ~np.isfinite(vectors).all(axis=1)
    if is_bad.any():
        row = np.flatnonzero(is_bad)[0]
        received = f"{is_bad.sum():,} rows that are not, the first row {row}"
        raise _refusal(path, name, "finite numbers", received)
    return vectors


def _texts(path, name, column):
    import pyarrow

    types = pyarrow.types
    column = _plain(column)
    if not (types.is_string(column.type) or types.is_large_string(column.type)):
        raise _refusal(path, name, "texts", column.type)
    _check_no_nulls(path, name, column)
    return np.array(column.to_pylist(), dtype=str)


def _ids(path, name, column):
    """Returns persons or cameras, whole numbers or texts."""
    import pyarrow.compute

    types = pyarrow.types
    column = _plain(column)
    if types.is_string(column.type) or types.is_large_string(column.type):
        return np.array(pyarrow.compute.fill_null(column, "").to_pylist(), dtype=str)
    if types.is_floating(column.type):  # as pandas has whole numbers with gaps
        return column.to_numpy(zero_copy_only=False)
    if not (types.is_integer(column.type) or types.is_null(column.type)):
        raise _refusal(path, name, "whole numbers or texts", column.type)
    is_null = column.is_null().to_numpy(zero_copy_only=False)
    numbers = pyarrow.compute.fill_null(column.cast("int64"), -1).to_numpy()
    return np.ma.masked_array(numbers, mask=is_null)


def _times(path, column):
    """Returns times in seconds since 1970, NaN for null, or as texts."""
    import pyarrow

    types, column = pyarrow.types, _plain(column)
    if types.is_string(column.type) or types.is_large_string(column.type):
        return np.array(column.fill_null("").to_pylist(), dtype=str)
    if types.is_timestamp(column.type):  # UTC where it has no zone
        column = column.cast(pyarrow.timestamp("us", column.type.tz)).cast("int64")
        return column.cast("float64").to_numpy(zero_copy_only=False) / 1e6
    if not (types.is_floating(column.type) or types.is_integer(column.type)):
        raise _refusal(path, "time", "times, seconds or texts", column.type)
    return column.cast("float64").to_numpy(zero_copy_only=False)


def _plain(column):
    """Returns a column in one piece, without the dictionary of a categorical one."""
    import pyarrow

    column = column.combine_chunks()
    is_coded = pyarrow.types.is_dictionary(column.type)
    return column.dictionary_decode() if is_coded else column


def _check_no_nulls(path, name, column):
    if column.null_count:
        received = f"{column.null_count:,} that are null"
        raise _refusal(path, name, "a value, and none that is null", received)


def _by_part(arrays, path):
    """Returns the arrays of queries and gallery under the names of each."""
    parts = arrays.pop("parts")
    if others := sorted({*parts.tolist()} - {*_PARTS}):
        raise _refusal(path, "part", "query or gallery", listed(others, 5))
    return {
        f"{part}_{name}": array[parts == part]
        for part in _PARTS
        for name, array in arrays.items()
    }


def _refusal(path, name, wanted: str, received) -> ValueError:
    return ValueError(
        f"The column `{name}` of {path} must hold {wanted}. Received: {received}"
    )
