"""The kinds of an index: exact, or approximate by FAISS, and their parameters."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from topdb_tf.search.manifest import damaged
from topdb_tf.texts import install_command

SHORT_FORMS = {"ivf": "IVF{nlist},SQ8", "hnsw": "HNSW{M},SQ8"}
"""The FAISS factory strings that two kinds stand for; both keep 8-bit codes."""
SEARCH_PARAMETERS = {"nprobe", "efSearch", "refine"}
"""Those that a search may change; the others are fixed when an index is built."""

_SAMPLE, _SAMPLE_A_CELL = 20000, 64  # rows that FAISS learns from
_LEAST_ROWS_OF_IVF = 100
_LEAST_LINKS, _MOST_LINKS = 2, 512  # of an image in a graph; FAISS dies beyond
_MOST = 2**31 - 1
_PIECE = 20000


def default_parameters(kind: str, num_rows: int, dim: int) -> dict[str, int]:
    """Returns the parameters of a kind for a number of images.

    They are empty for `exact`. All others have `refine`: that many times as many
    candidates as are wanted are compared by the features themselves. A kind with
    cells has `nprobe`, a graph `efConstruction` and `efSearch`; the short forms also
    have what their factory strings leave open, `nlist` and `M`.

    Raises:
        ValueError: If the kind is unknown, or the images are too few for it.
    """
    if kind == "exact":
        return {}
    least = _LEAST_ROWS_OF_IVF if kind == "ivf" else 1
    if num_rows < least:
        raise ValueError(
            f"An index of kind {kind} needs {least} images; take the kind exact. "
            f"Received: {num_rows} images"
        )
    for name, number in re.findall(r"(IVF|HNSW)(\d+)", kind):
        is_cells = name == "IVF"
        least, most = (1, num_rows) if is_cells else (_LEAST_LINKS, _MOST_LINKS)
        if not least <= int(number) <= most:
            raise ValueError(
                f"The number after {name} must be from {least} to {most} for "
                f"{num_rows} images. Received: kind={kind}"
            )
    parameters = {}
    if kind == "hnsw":
        parameters = {"M": 16}
    if kind == "ivf":
        near_root = 2 ** round(np.log2(2 * num_rows**0.5))
        parameters = {"nlist": int(np.clip(near_root, 4, num_rows // 20))}
    faiss, index = load_faiss(), _untrained(kind, parameters, dim)
    inner = _innermost(index)
    if isinstance(inner, faiss.IndexIVF):
        parameters |= {"nprobe": max(1, inner.nlist // 16)}
    if isinstance(inner, faiss.IndexHNSW):
        parameters |= {"efConstruction": 80, "efSearch": 256}
    return {**parameters, "refine": 4}


def check_kind(kind: str, parameters: dict[str, int]) -> None:
    """Raises `ValueError` for what is wrong with a kind at any number of images.

    Whether a factory string fits the features is known when there are some.
    """
    if kind == "exact" or kind in SHORT_FORMS:
        check_parameters(default_parameters(kind, 1 << 20, 64), parameters)
    else:
        load_faiss()


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
        least, most = (_LEAST_LINKS, _MOST_LINKS) if name == "M" else (1, _MOST)
        if name not in known or type(value) is not int or not least <= value <= most:
            raise ValueError(
                f"A parameter must be one of {', '.join(free) or 'none'} here, and a "
                f"whole number from {least} to {most}. Received: {name}={value}"
            )
    nprobe, nlist = ((known | changes).get(name, 0) for name in ("nprobe", "nlist"))
    if "nlist" in known and nprobe > nlist:
        raise ValueError(
            f"`nprobe` must be at most nlist. Received: nprobe={nprobe}, nlist={nlist}"
        )


def load_faiss():
    """Returns the module of FAISS.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ValueError(
            f"This kind of index needs FAISS: {install_command('search')}. The kind "
            f"exact does without. Received: {error}"
        ) from error
    return faiss


def build(
    kind: str,
    parameters: dict[str, int],
    features: np.ndarray,
    *,
    progress: Callable[[int, int], None] | None = None,
):
    """Returns a FAISS index of an approximate kind that holds the features.

    Raises:
        ValueError: If the images are too few for the kind, or FAISS cannot leave
            images out of its searches.
    """
    faiss, count = load_faiss(), _SAMPLE
    index = _untrained(kind, parameters, features.shape[1])
    inner = _innermost(index)
    if isinstance(inner, faiss.IndexIVF):
        count = max(count, _SAMPLE_A_CELL * inner.nlist)
        inner.cp.min_points_per_centroid = 1  # it warns of fewer than 39
    if isinstance(inner, faiss.IndexHNSW):
        inner.hnsw.efConstruction = parameters["efConstruction"]
    try:
        index.train(_sample(features, count))
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
    params = _search_parameters(index, parameters, count, selector)
    return index.search(queries, count, params=params)[1]


def read_approximate(
    path: Path, kind: str, parameters: dict[str, int], shape: tuple[int, int]
):
    """Returns the FAISS index in a file.

    Raises:
        ValueError: If it is of another kind, or its number of rows and the length of
            their features are not `shape`.
    """
    faiss = load_faiss()
    try:
        known = default_parameters(kind, *shape)
        check_parameters(known, parameters)
        if set(known) != set(parameters) or parameters.get("nlist", 0) > shape[0]:
            raise ValueError(f"Received: {parameters} for {shape[0]} images")
        expected = type(_untrained(kind, parameters, shape[1]))
    except ValueError as error:
        raise damaged(
            path, f"its kind or parameters are not possible: {error}"
        ) from error
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise damaged(path, f"FAISS cannot read it: {_reason(error)}") from error
    if (type(index), index.ntotal, index.d) != (expected, *shape):
        received = f"{type(index).__name__} of {(index.ntotal, index.d)}"
        expected = f"{expected.__name__} of {shape}"
        raise damaged(path, f"it must be a {expected}, and is a {received}")
    return index


def _untrained(kind, parameters, dim):
    """Returns an empty FAISS index of a kind."""
    factory_string = kind
    if kind in SHORT_FORMS:
        factory_string = SHORT_FORMS[kind].format(**parameters)
    try:
        return load_faiss().index_factory(dim, factory_string)
    except RuntimeError as error:
        raise ValueError(
            f"The kind must be exact, {', '.join(SHORT_FORMS)}, or a factory string of "
            f"FAISS such as HNSW32,SQ8. Received: {kind} ({_reason(error)})"
        ) from error


def _innermost(index):
    """Returns what searches in a FAISS index, behind the transforms of the vectors."""
    faiss = load_faiss()
    while isinstance(index, faiss.IndexPreTransform):
        index = faiss.downcast_index(index.index)
    return index


def _search_parameters(index, parameters, count, selector):
    """Returns how thoroughly FAISS shall search, and among which rows."""
    faiss = load_faiss()
    inner = _innermost(index)
    if inner is not index:
        inner_parameters = _search_parameters(inner, parameters, count, selector)
        return faiss.SearchParametersPreTransform(index_params=inner_parameters)
    if isinstance(index, faiss.IndexIVF):
        return faiss.SearchParametersIVF(nprobe=parameters["nprobe"], sel=selector)
    if isinstance(index, faiss.IndexHNSW):
        width = max(parameters["efSearch"], count)
        return faiss.SearchParametersHNSW(efSearch=width, sel=selector)
    return faiss.SearchParameters(sel=selector)


def _sample(features, count):
    """Returns some of the rows, in random order."""
    rng = np.random.default_rng(0)
    count = min(count, len(features))
    rows = np.sort(rng.choice(len(features), count, replace=False))
    return np.ascontiguousarray(rng.permutation(features[rows]))


def _reason(error):
    """Returns the first line of what FAISS says of an error, without its source."""
    return str(error).splitlines()[0].rpartition("Error: ")[2]
