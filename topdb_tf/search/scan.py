"""Nearest rows by comparing a query with every one of them, and exact distances.

The products are NumPy's: the BLAS inside the wheels of faiss-cpu 1.15 has no kernels
for AVX, and its exact search took 8 times the processor time.
"""

import numpy as np

_BLOCK_ROWS = 16384
_BLOCK_QUERIES = 256
ROUNDING = 1e-5  # of |q|² + |g|² - 2 q·g in float32, relative to (|q| + |g|)²
_SPARE = 16


def exact_neighbors(
    features: np.ndarray,
    squares: np.ndarray,
    is_live: np.ndarray,
    queries: np.ndarray,
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the nearest live rows of each query, nearest first.

    Args:
        features: float32 of shape `(num_rows, dim)`; may be mapped from a file.
        squares: Squared norms of the rows.
        is_live: Which rows may be found.
        queries: float32 of shape `(num_queries, dim)`.
        k: Number of neighbours.

    Returns:
        Squared distances, float32 `(num_queries, k)`, infinite for none, and rows,
        int64, -1 for none. Equal distances are in the order of the rows.
    """
    num_live = int(is_live.sum())
    parts = [
        _exact_block(
            features, squares, is_live, queries[start : start + _BLOCK_QUERIES], k
        )
        for start in range(0, len(queries), _BLOCK_QUERIES)
    ]
    distances, rows, doubtful = map(np.concatenate, zip(*parts, strict=True))
    count = k + _SPARE
    while doubtful.any() and count < num_live:
        # Rounding, or many rows at one distance, may have hidden a nearer row.
        count = min(8 * count, num_live)
        some = np.flatnonzero(doubtful)
        again = _exact_block(
            features, squares, is_live, queries[some], k, min(count, num_live)
        )
        distances[some], rows[some], doubtful[some] = again
    return distances, rows


def refined(
    features: np.ndarray, queries: np.ndarray, candidates: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the nearest of some candidates, by distances computed in float64.

    The candidates are rows, int64 `(num_queries, num_candidates)`, -1 for none.

    Returns:
        Squared distances, float32 `(num_queries, k)`, infinite for none, and rows,
        int64, -1 for none. Equal distances are in the order of the rows.
    """
    distances = np.full((len(queries), k), np.inf, np.float32)
    rows = np.full((len(queries), k), -1, np.int64)
    for place, query in enumerate(np.float64(queries)):
        near = np.sort(candidates[place][candidates[place] >= 0])
        squared = np.empty(len(near), np.float32)
        for start in range(0, len(near), _BLOCK_ROWS):
            block = features[near[start : start + _BLOCK_ROWS]] - query
            squared[start : start + len(block)] = np.einsum("ij,ij->i", block, block)
        order = np.argsort(squared, kind="stable")[:k]
        distances[place, : len(order)] = squared[order]
        rows[place, : len(order)] = near[order]
    return distances, rows


def _exact_block(features, squares, is_live, queries, k, count=None):
    """Returns distances, rows, and which queries need more candidates to be sure."""
    count = count or k + _SPARE
    norms = np.einsum("ij,ij->i", queries, queries)
    bounds, candidates = _candidates(features, squares, is_live, queries, count)
    distances, rows = refined(features, queries, candidates, k)
    largest = squares.max(initial=0)
    error = ROUNDING * (np.sqrt(norms) + np.sqrt(largest)) ** 2
    doubtful = bounds + norms - error <= distances[:, -1]
    return distances, rows, doubtful


def _candidates(features, squares, is_live, queries, count):
    """Returns the rows of the smallest |g|² - 2 q·g, and the largest of those.

    The bound is infinite where there are no more rows than that.
    """
    best = [(np.empty(0, np.float32), np.empty(0, np.int64)) for _ in queries]
    limits = np.full(len(queries), np.inf, np.float32)
    scaled = -2 * queries
    block_rows = max(_BLOCK_ROWS, 4 * count)
    for start in range(0, len(features), block_rows):
        stop = min(start + block_rows, len(features))
        block = np.matmul(scaled, features[start:stop].T)
        block += squares[start:stop]
        is_dead = ~is_live[start:stop]
        if is_dead.any():
            block[:, is_dead] = np.inf
        for place, values in enumerate(block):
            near = np.flatnonzero(values < limits[place])
            if len(near):
                best[place] = _smallest(best[place], values[near], near + start, count)
                if len(best[place][0]) == count:
                    limits[place] = best[place][0].max()
    rows = np.full((len(queries), count), -1, np.int64)
    for place, (_, near) in enumerate(best):
        rows[place, : len(near)] = near
    return limits, rows


def _smallest(best, values, rows, count):
    values = np.concatenate([best[0], values])
    rows = np.concatenate([best[1], rows])
    if len(values) > count:
        kept = np.argpartition(values, count - 1)[:count]
        values, rows = values[kept], rows[kept]
    return values, rows
