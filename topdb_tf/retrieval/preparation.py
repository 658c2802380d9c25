"""Features made ready for float32: less what all of them have in common."""

import numpy as np

from topdb_tf.texts import listed

_LARGEST_SQUARE = np.finfo(np.float32).max / 8
_LEAST_SQUARE = 2.0**-80  # of the largest: squares of its parts are not lost
_COMMON = 15 / 16  # share of the squared lengths that all images have in common
_ROWS = 1024  # that are float64 at a time


def differences(given, parts):
    """Returns features and their squares, less the mean where that is most of them."""
    squares = [_squared_norms(part) for part in parts]
    _check_rows([own < _LARGEST_SQUARE for own in squares])
    center, mean_square = np.zeros(1), np.concatenate(squares).mean(dtype=np.float64)
    if _has_in_common(parts, [np.ones_like(own) for own in squares], mean_square):
        center = _center(given, False)
        parts = [_less(part, center, False) for part in given]
        squares = [_squared_norms(part) for part in parts]
    largest = max(own.max(initial=0) for own in squares)
    if largest < _LEAST_SQUARE and any(np.any(part != center) for part in given):
        raise ValueError(
            "Features must differ enough for the squares of their differences to be "
            "numbers of float32. Multiply them all by the same large number. "
            f"Received: a largest square of {largest:.3g}"
        )
    return parts, squares


def angles(given, parts):
    """Returns features and 1 / norm, or directions less their mean, and squares.

    The latter, marked by `True`, is for directions that have most in common, and for
    features whose squares are no numbers of float32. 1 - cos(q, g) is half the squared
    distance of the directions. The term of a vector of zeros is 0, or infinite.
    """
    squares = [_squared_norms(part) for part in parts]
    is_zero = [np.zeros(len(own), bool) for own in squares]
    if any(own.min(initial=1) < _LEAST_SQUARE for own in squares):
        is_zero = [~part.any(axis=1) for part in given]
    if all(
        (zero | ((own >= _LEAST_SQUARE) & (own < _LARGEST_SQUARE))).all()
        for own, zero in zip(squares, is_zero, strict=True)
    ):
        terms = [
            np.divide(1, np.sqrt(own), out=np.zeros_like(own), where=~zero)
            for own, zero in zip(squares, is_zero, strict=True)
        ]
        if not _has_in_common(parts, terms, 1):
            return parts, terms, False
    _check_rows([np.isfinite(part).all(axis=1) for part in given])
    center = _center(given, True)
    parts = [_less(part, center, True) for part in given]
    terms = [_squared_norms(part) for part in parts]
    for part, own, zero in zip(parts, terms, is_zero, strict=True):
        part[zero], own[zero] = 0, np.inf
    return parts, terms, True


def _check_rows(is_good):
    for name, good in zip(("query", "gallery"), is_good, strict=True):
        bad = np.flatnonzero(~good)
        if len(bad):
            raise ValueError(
                "Features must be finite numbers, and their squared norms must fit "
                "in float32. Not so, or overflown in float16, in "
                f"{len(bad)} rows. "
                f"Received: {name}_features, rows {listed(bad, 10)}"
            )


def _has_in_common(parts, weights, mean_square):
    """Returns whether the mean of the weighted rows is most of them."""
    num_rows = max(sum(map(len, parts)), 1)
    pairs = zip(weights, parts, strict=True)
    total = sum(np.einsum("i,ij->j", own, part) for own, part in pairs)
    mean = total.astype(np.float64) / num_rows
    return mean @ mean > _COMMON * mean_square


def _doubles(part, directed):
    """Yields the rows of features as float64, some at a time, or their directions."""
    for start in range(0, len(part), _ROWS):
        rows = part[start : start + _ROWS].astype(np.float64)
        if directed:
            for order in (np.inf, 2):  # first the largest, for squares that fit
                norms = np.linalg.norm(rows, order, axis=1, keepdims=True)
                np.divide(rows, norms, out=rows, where=norms > 0)
        yield rows


def _center(given, directed):
    """Returns the mean of all rows as float64: the row itself if they are equal."""
    first, total = None, 0
    for part in given:
        for rows in _doubles(part, directed):
            first = rows[0] if first is None else first
            total = total + (rows - first).sum(axis=0)
    return first + total / sum(map(len, given))


def _less(part, center, directed):
    """Returns features, or their directions, less a vector, as float32."""
    out, start = np.empty(part.shape, np.float32), 0
    with np.errstate(under="ignore"):
        for rows in _doubles(part, directed):
            out[start : start + len(rows)] = rows - center
            start += len(rows)
    return out


def _squared_norms(features):
    with np.errstate(over="ignore", invalid="ignore"):
        return np.einsum("ij,ij->i", features, features)
