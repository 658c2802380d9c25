"""The kinds of an index, their parameters, and the approximate ones by FAISS."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from topdb_tf.search.scan import nearest_centers

KINDS = ("exact", "ivf", "hnsw")
SEARCH_PARAMETERS = {"nprobe", "efSearch", "refine"}
"""Those that a search may change; the others are fixed when an index is built."""

_SAMPLE_A_CELL = 40  # rows, to find the centres
_LEAST_ROWS = {"ivf": 100, "hnsw": 1}
_PIECE = 20000
_ITERATIONS = 10


def default_parameters(kind: str, num_rows: int, dim: int) -> dict[str, int]:
    """Returns the parameters of a kind for a number of images.

    Args:
        kind: One of `KINDS`.
        num_rows: Number of images.
        dim: Length of a feature vector.

    Raises:
        ValueError: If the kind is unknown, or the images are too few for it.
    """
    if kind not in KINDS:
        raise ValueError(
            f"The kind must be one of {', '.join(KINDS)}. Received: {kind}"
        )
    if num_rows < _LEAST_ROWS.get(kind, 0):
        raise ValueError(
            f"An index of kind {kind} needs {_LEAST_ROWS[kind]} images; take the kind "
            f"exact. Received: {num_rows} images"
        )
    if kind == "exact":
        return {}
    if kind == "hnsw":
        return {"M": 16, "efConstruction": 80, "efSearch": 256, "refine": 4}
    nlist = int(np.clip(2 ** round(np.log2(2 * num_rows**0.5)), 4, num_rows // 20))
    return {"nlist": nlist, "nprobe": max(1, nlist // 16), "refine": 4}


def checked_parameters(known: dict[str, int], changes: dict[str, int]) -> dict:
    """Returns parameters with some of them changed.

    Raises:
        ValueError: If one is not known, or is no whole number above zero.
    """
    for name, value in changes.items():
        if name not in known or type(value) is not int or value < 1:
            raise ValueError(
                f"A parameter must be one of {', '.join(known) or 'none'} here, and a "
                f"whole number above zero. Received: {name}={value}"
            )
    changed = {**known, **changes}
    if changed.get("nprobe", 0) > changed.get("nlist", np.inf):
        raise ValueError(
            f"`nprobe` must be at most nlist. Received: nprobe={changed['nprobe']}, "
            f"nlist={changed['nlist']}"
        )
    return changed


def load_faiss():
    """Returns the module of FAISS.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ValueError(
            "This kind of index needs FAISS: pip install 'topdb-tf[search]', or pip "
            f"install faiss-cpu. The kind exact does without. Received: {error}"
        ) from error
    return faiss


def build(
    kind: str,
    parameters: dict,
    features: np.ndarray,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
):
    """Returns a FAISS index of an approximate kind that holds the features.

    `ivf` keeps 8-bit codes of the features in cells around centres, `hnsw` the same
    codes and a graph of neighbours.

    Args:
        kind: One of `KINDS`, not "exact".
        parameters: As `default_parameters` returns them.
        features: float32 of shape `(num_rows, dim)`.
        seed: Of the sample that centres and codes are learnt from.
        progress: Called with the number of rows added and of all.

    Raises:
        ValueError: If a parameter does not fit the features.
    """
    faiss = load_faiss()
    dim, bits = features.shape[1], faiss.ScalarQuantizer.QT_8bit
    rng = np.random.default_rng(seed)
    if kind == "hnsw":
        index = faiss.IndexHNSWSQ(dim, bits, parameters["M"])
        index.hnsw.efConstruction = parameters["efConstruction"]
        index.train(_sample(features, 20000, rng))
    else:
        _check_cells(parameters, features)
        nlist = parameters["nlist"]
        sample = _sample(features, max(20000, _SAMPLE_A_CELL * nlist), rng)
        centers = faiss.IndexFlatL2(dim)
        centers.add(_centers(sample, nlist, rng))
        arguments = centers, dim, nlist, bits, faiss.METRIC_L2, False
        index = faiss.IndexIVFScalarQuantizer(*arguments)
        index.train(sample[:20000])
        index.own_fields, centers.this.own(False)
    extend(index, features, progress=progress)
    return index


def extend(index, features: np.ndarray, *, progress=None) -> None:
    """Adds the rows that an index does not hold yet.

    Args:
        index: What `build` returned.
        features: float32 of shape `(num_rows, dim)`, all rows.
        progress: Called with the number of rows that it holds and of all.
    """
    faiss = load_faiss()
    centers = _centers_of(index)
    while (start := index.ntotal) < len(features):
        block = np.ascontiguousarray(features[start : start + _PIECE])
        if centers is None:
            index.add(block)
        else:
            cells = np.ascontiguousarray(nearest_centers(block, centers)[1][:, 0])
            pointers = map(faiss.swig_ptr, (block, cells))
            vectors, numbers = pointers
            index.add_core(len(block), vectors, None, numbers)
        if progress is not None:
            progress(index.ntotal, len(features))


def candidates(
    index, parameters: dict, queries: np.ndarray, k: int, is_live: np.ndarray
) -> np.ndarray:
    """Returns rows that are likely the nearest of each query.

    Args:
        index: What `build` returned.
        parameters: With those of `SEARCH_PARAMETERS`.
        queries: float32 of shape `(num_queries, dim)`.
        k: Number of neighbours that are wanted in the end.
        is_live: Which rows may be found.

    Returns:
        int64 of shape `(num_queries, k * refine)`, -1 for none.
    """
    faiss = load_faiss()
    if not index.ntotal or not is_live[: index.ntotal].any():
        return np.empty((len(queries), 0), np.int64)
    count = min(k * parameters["refine"], index.ntotal)
    selector = None
    bits = np.packbits(is_live[: index.ntotal], bitorder="little")
    if not is_live[: index.ntotal].all():
        selector = faiss.IDSelectorBitmap(bits)
    centers = _centers_of(index)
    if centers is None:
        effort = max(parameters["efSearch"], count)
        chosen = faiss.SearchParametersHNSW(efSearch=effort, sel=selector)
        return index.search(queries, count, params=chosen)[1]
    nprobe = parameters["nprobe"]
    chosen = faiss.SearchParametersIVF(nprobe=nprobe, sel=selector)
    near, cells = nearest_centers(queries, centers, nprobe)
    distances = np.empty((len(queries), count), np.float32)
    rows = np.empty((len(queries), count), np.int64)
    arrays = queries, np.ascontiguousarray(cells), np.ascontiguousarray(near)
    pointers = [faiss.swig_ptr(array) for array in (*arrays, distances, rows)]
    # The wrapper of this method in Python takes no parameters.
    index.search_preassigned_c(
        len(queries), pointers[0], count, *pointers[1:], False, chosen
    )
    return rows


def write_approximate(index, path: Path) -> None:
    """Writes a FAISS index into a file."""
    load_faiss().write_index(index, str(path))


def read_approximate(path: Path, kind: str, dim: int, num_rows: int):
    """Returns the FAISS index in a file.

    Raises:
        ValueError: If it is not of the kind, length and number of rows.
    """
    faiss = load_faiss()
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"FAISS cannot read it: {reason}") from error
    expected = {
        "ivf": faiss.IndexIVFScalarQuantizer,
        "hnsw": faiss.IndexHNSWSQ,
    }[kind]
    found = type(index), index.d, index.ntotal
    if found != (expected, dim, num_rows):
        raise ValueError(f"it holds another index: {found}")
    return index


def _check_cells(parameters, features):
    if parameters["nlist"] > len(features):
        raise ValueError(
            "There must be an image for every cell. "
            f"Received: nlist={parameters['nlist']}, {len(features)} images"
        )


def _sample(features, count, rng):
    """Returns some of the rows, in random order."""
    count = min(count, len(features))
    chosen = np.sort(rng.choice(len(features), count, replace=False))
    return np.ascontiguousarray(rng.permutation(features[chosen]))


def _centers(sample, count, rng):
    """Returns centres of a sample by Lloyd's iterations (k-means)."""
    centers = sample[:count].copy()
    for _ in range(_ITERATIONS):
        cells = np.concatenate(
            [
                nearest_centers(sample[start : start + _PIECE], centers)[1][:, 0]
                for start in range(0, len(sample), _PIECE)
            ]
        )
        order = np.argsort(cells, kind="stable")
        used, starts = np.unique(cells[order], return_index=True)
        sums = np.add.reduceat(sample[order], starts, axis=0)
        sizes = np.diff([*starts, len(sample)])
        centers[used] = sums / sizes[:, np.newaxis].astype(np.float32)
        empty = np.setdiff1d(np.arange(count), used)
        centers[empty] = sample[rng.choice(len(sample), len(empty), replace=False)]
    return centers


def _centers_of(index):
    """Returns the centres of the cells, or `None` where there are none."""
    faiss = load_faiss()
    if not isinstance(index, faiss.IndexIVF):
        return None
    quantizer = faiss.downcast_index(index.quantizer)
    return quantizer.reconstruct_n(0, quantizer.ntotal)
