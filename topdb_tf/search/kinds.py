"""The kinds of an index: exact, or approximate by FAISS, named by factory strings."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from topdb_tf.search.manifest import damaged
from topdb_tf.texts import module_of_extra

SEARCH_PARAMETERS = {"nprobe", "efSearch", "refine"}
"""Those that a search may change; the others are fixed when an index is built."""

_SAMPLE_A_CELL = 64  # rows that FAISS learns cells from
_LEAST_LINKS, _MOST_LINKS = 2, 512  # of an image in a graph; FAISS dies beyond
_MOST = 2**31 - 1
_PIECE = 20000


def factory_string(kind: str, num_rows: int) -> str:
    """Returns the kind of an index of some images: `exact`, or a factory string.

    `hnsw` is short for `HNSW16,SQ8`; `ivf` for `IVF…,SQ8` with as many cells as fit.

    Raises:
        ValueError: If FAISS could not hold the images so.
    """
    if kind == "exact":
        return kind
    if not num_rows:
        raise ValueError(f"An index of kind {kind} needs an image. Received: none")
    near_root = 2 ** round(np.log2(2 * num_rows**0.5))
    short_forms = {"hnsw": "HNSW16,SQ8", "ivf": f"IVF{_cells(near_root, num_rows)},SQ8"}
    kind = short_forms.get(kind, kind)
    for name, number in re.findall(r"(IVF|HNSW)(\d+)", kind):
        is_cells = name == "IVF"
        least, most = (1, num_rows) if is_cells else (_LEAST_LINKS, _MOST_LINKS)
        if not least <= int(number) <= most:
            raise ValueError(
                f"The number after {name} must be from {least} to {most} for "
                f"{num_rows} images. Received: kind={kind}"
            )
    return kind


def fitting(kind: str, num_rows: int) -> str:
    """Returns a kind with fewer cells where so few images are left."""

    def fewer(match):
        cells = int(match[1])
        return f"IVF{cells if cells <= num_rows else _cells(cells, num_rows)}"

    return re.sub(r"IVF(\d+)", fewer, kind)


def check_kind(kind: str, parameters: dict[str, int]) -> None:
    """Raises `ValueError` for what is wrong with a kind at any number of images.

    Whether a factory string fits the features is known when there are some.
    """
    if kind in ("exact", "hnsw", "ivf"):
        check_parameters(default_parameters(kind, 1 << 20, 64), parameters)
    else:
        load_faiss()


def default_parameters(kind: str, num_rows: int, dim: int) -> dict[str, int]:
    """Returns the parameters of a kind; none of `exact`.

    All others have `refine`: that many times as many candidates as are wanted are
    compared by the features themselves. A kind with cells has `nprobe`, a graph
    `efConstruction` and `efSearch`.

    Raises:
        ValueError: If the kind is unknown, or does not fit the images.
    """
    kind = factory_string(kind, num_rows)
    if kind == "exact":
        return {}
    return _defaults(_untrained(kind, dim))


def check_parameters(
    known: dict[str, int], changes: dict[str, int], *, of_search: bool = False
) -> None:
    """Raises `ValueError` unless the parameters that are known may be changed so.

    For a search of an index that is built only some of them may.
    """
    free = [name for name in known if not of_search or name in SEARCH_PARAMETERS]
    for name, value in changes.items():
        if name in known and name not in free:
            raise ValueError(
                f"`{name}` is fixed when an index is built; a search may change "
                f"{', '.join(free)}. Received: {name}={value}"
            )
        if name not in known or type(value) is not int or not 1 <= value <= _MOST:
            raise ValueError(
                f"A parameter must be one of {', '.join(free) or 'none'} here, and a "
                f"whole number from 1 to {_MOST}; links of a graph and cells are named "
                "by the kind, as in HNSW32,SQ8 and IVF2048,SQ8. "
                f"Received: {name}={value}"
            )


def load_faiss():
    """Returns the module of FAISS, as `module_of_extra` does."""
    return module_of_extra(
        "faiss",
        extra="search",
        purpose="This kind of index needs FAISS",
        otherwise="The kind exact does without.",
    )


def build(
    kind: str,
    parameters: dict[str, int],
    features: np.ndarray,
    *,
    progress: Callable[[int, int], None] | None = None,
):
    """Returns a FAISS index by a factory string that holds the features.

    Raises:
        ValueError: If the images are too few for the kind, or FAISS cannot leave
            images out of its searches.
    """
    faiss, index = load_faiss(), _untrained(kind, features.shape[1])
    inner = _innermost(index)
    if isinstance(inner, faiss.IndexIVF):
        inner.cp.max_points_per_centroid = _SAMPLE_A_CELL
        inner.cp.min_points_per_centroid = 1  # it warns of fewer than 39
    if isinstance(inner, faiss.IndexHNSW):
        inner.hnsw.efConstruction = parameters["efConstruction"]
    try:
        index.train(np.ascontiguousarray(features))
        extend(index, features, progress=progress)
        only_first = np.arange(len(features)) == 0
        candidates(index, parameters, features[:1], 1, only_first)
    except RuntimeError as error:
        raise ValueError(
            f"FAISS must be able to learn the kind {kind} from {len(features)} images, "
            "and to leave some of them out of a search (kinds with IVF and HNSW can). "
            f"Received: {_reason(error)}"
        ) from error
    return index


def extend(
    index,
    features: np.ndarray,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Adds the rows of all features that a FAISS index does not hold yet."""
    while (start := index.ntotal) < len(features):
        index.add(np.ascontiguousarray(features[start : start + _PIECE]))
        if progress is not None:
            progress(index.ntotal, len(features))


def candidates(
    index,
    parameters: dict[str, int],
    queries: np.ndarray,
    k: int,
    is_live: np.ndarray,
) -> np.ndarray:
    """Returns rows that are likely the nearest of each query, of those that are live.

    Returns:
        int64 of shape `(num_queries, k * refine)`, -1 for none.
    """
    is_live = is_live[: index.ntotal]
    if not is_live.any():
        return np.empty((len(queries), 0), np.int64)
    count = min(k * parameters["refine"], index.ntotal)
    selector = None
    if not is_live.all():
        bits = np.packbits(is_live, bitorder="little")
        selector = load_faiss().IDSelectorBitmap(bits)
    params = _search_parameters(index, parameters, selector)
    return index.search(queries, count, params=params)[1]


def read_approximate(path: Path, parameters: dict[str, int], shape: tuple[int, int]):
    """Returns the FAISS index in a file.

    Raises:
        ValueError: If its number of rows and the length of their features are not
            `shape`, or it is searched by other parameters.
    """
    try:
        index = load_faiss().read_index(str(path))
    except RuntimeError as error:
        raise damaged(path, f"FAISS cannot read it: {_reason(error)}") from error
    if (index.ntotal, index.d) != shape:
        raise damaged(path, f"it must be of {shape}, not {(index.ntotal, index.d)}")
    if not set(_defaults(index)) <= set(parameters):
        raise damaged(path, f"it is not searched by {parameters}")
    return index


def _cells(wanted, num_rows):
    return min(wanted, max(1, num_rows // 20))


def _untrained(kind, dim):
    """Returns an empty FAISS index of a kind."""
    try:
        return load_faiss().index_factory(dim, kind)
    except RuntimeError as error:
        raise ValueError(
            "The kind must be exact, hnsw, ivf, or a factory string of FAISS such as "
            f"HNSW32,SQ8. Received: {kind} ({_reason(error)})"
        ) from error


def _defaults(index):
    """Returns the parameters of a FAISS index, as they are if nobody tells others."""
    faiss, inner, parameters = load_faiss(), _innermost(index), {}
    if isinstance(inner, faiss.IndexIVF):
        parameters = {"nprobe": max(1, inner.nlist // 16)}
    if isinstance(inner, faiss.IndexHNSW):
        parameters = {"efConstruction": 80, "efSearch": 256}
    return {**parameters, "refine": 4}


def _innermost(index):
    """Returns what searches in a FAISS index, behind the transforms of the vectors."""
    faiss = load_faiss()
    while isinstance(index, faiss.IndexPreTransform):
        index = faiss.downcast_index(index.index)
    return index


def _search_parameters(index, parameters, selector):
    """Returns how thoroughly FAISS shall search, and among which rows."""
    faiss = load_faiss()
    inner = _innermost(index)
    if inner is not index:
        inner_parameters = _search_parameters(inner, parameters, selector)
        return faiss.SearchParametersPreTransform(index_params=inner_parameters)
    if isinstance(index, faiss.IndexIVF):
        return faiss.SearchParametersIVF(nprobe=parameters["nprobe"], sel=selector)
    if isinstance(index, faiss.IndexHNSW):
        effort = parameters["efSearch"]
        return faiss.SearchParametersHNSW(efSearch=effort, sel=selector)
    return faiss.SearchParameters(sel=selector)


def _reason(error):
    """Returns the first line of what FAISS says of an error, without its source."""
    return str(error).splitlines()[0].rpartition("Error: ")[2]
