"""k-reciprocal encodings: one sparse vector an image, from its neighbours."""

from typing import NamedTuple

import numpy as np

from topdb_tf.retrieval.neighbors import Neighbors
from topdb_tf.retrieval.parallel import Buffer, Workers, compiled

_ROWS = 256


class Sparse(NamedTuple):
    """A sparse matrix by rows: row `i` is at `ends[i]:ends[i + 1]`, columns ascend."""

    ends: np.ndarray
    columns: np.ndarray
    values: np.ndarray


def encode(source, neighbors: Neighbors, k1: int, *, workers, memory) -> Sparse:
    """Returns how much each image belongs to the k-reciprocal neighbours of each.

    `R(i, k)` are those of the `k` nearest images of `i` that have `i` among their own
    `k` nearest. `R(i, k1)` is joined by each `R(j, k1 / 2)` of its members `j` that
    lies in it for more than two thirds; the weight of a member falls off
    exponentially with its distance, and a row sums to 1.

    Neighbours are at least `k1 + 1` an image, itself included, of the same source.
    """
    half = round(k1 / 2) + 1
    ids = np.ascontiguousarray(neighbors.ids[:, : k1 + 1])
    num_images = len(ids)
    mutual = np.empty((2, *ids.shape), bool)
    workers.run(_find_mutual, num_images, ids, half, mutual)
    ends = np.zeros(num_images + 1, np.int64)
    members = np.empty(0, np.int32)
    workers.run(_expand, num_images, ids, half, mutual, ends, members)
    ends = np.cumsum(ends)
    members = np.empty(ends[-1], np.int32)
    workers.run(_expand, num_images, ids, half, mutual, ends, members)
    squares = np.empty(len(members), np.float32)
    workers.run(_look_up, num_images, neighbors, ends, members, squares)
    _compute_missing(source, ends, members, squares, workers, memory)
    largest = np.where(neighbors.largest > 0, neighbors.largest, np.float32(1))
    np.divide(squares, np.repeat(largest, np.diff(ends)), out=squares)
    np.exp(np.negative(squares, out=squares), out=squares)
    for first, last in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        squares[first:last] /= np.add.reduce(squares[first:last])
    return Sparse(ends, members, squares)


def average_rows(matrix: Sparse, ids: np.ndarray, workers: Workers) -> Sparse:
    """Returns for each image the mean of the rows of the images `ids[image]`."""
    num_images, ids = len(ids), np.ascontiguousarray(ids)
    ends = np.zeros(num_images + 1, np.int64)
    columns, values = np.empty(0, np.int32), np.empty(0, np.float32)
    workers.run(_average, num_images, matrix, ids, ends, columns, values)
    ends = np.cumsum(ends)
    columns, values = np.empty(ends[-1], np.int32), np.empty(ends[-1], np.float32)
    workers.run(_average, num_images, matrix, ids, ends, columns, values)
    return Sparse(ends, columns, values)


def transpose(matrix: Sparse, first_row: int) -> Sparse:
    """Returns the rows of a square matrix from one on, numbered from 0, as columns."""
    ends, num_rows = matrix.ends, len(matrix.ends) - 1
    columns = matrix.columns[ends[first_row] :]
    places = np.zeros(num_rows + 2, np.int64)
    np.cumsum(np.bincount(columns, minlength=num_rows), out=places[2:])
    rows, values = np.empty(len(columns), np.int32), np.empty(len(columns), np.float32)
    _transpose(matrix, first_row, places[1:], rows, values)
    return Sparse(places[:-1], rows, values)


def _compute_missing(source, ends, members, squares, workers, memory):
    """Computes squares of distances between images that are not near one another."""
    height = max(1, min(_ROWS, memory // (4 * source.num_images)))
    buffer = None
    for top in range(0, len(ends) - 1, height):
        rows = slice(top, min(top + height, len(ends) - 1))
        own = slice(ends[rows.start], ends[rows.stop])
        missing = np.flatnonzero(np.isnan(squares[own]))
        if not len(missing):
            continue
        columns, places = np.unique(members[own][missing], return_inverse=True)
        if buffer is None or buffer.size < height * len(columns):
            buffer = Buffer(height * len(columns))
        block = source.distances(rows, columns, buffer, workers)
        owners = np.repeat(np.arange(len(block)), np.diff(ends[top : rows.stop + 1]))
        squares[own][missing] = np.square(block[owners[missing], places])


@compiled
def _find_mutual(start, stop, ids, half, mutual):
    """Marks the neighbours that have the image among their own `k1`, and `k1 / 2`."""
    for i in range(start, stop):
        for place in range(ids.shape[1]):
            mutual[0, i, place] = mutual[1, i, place] = False
            other = ids[ids[i, place]]
            for rank in range(other.size):
                if other[rank] == i:
                    mutual[0, i, place] = True
                    mutual[1, i, place] = place < half and rank < half
                    break


@compiled
def _expand(start, stop, ids, half, mutual, ends, members):
    """Writes the expanded sets, or their sizes into `ends[1:]` if there is no room."""
    reciprocal, taken = np.zeros((2, len(ids)), np.int32)  # the last image + 1
    found = np.empty(ids.shape[1] * (half + 1), np.int32)
    for i in range(start, stop):
        size = 0
        for place in range(ids.shape[1]):
            if mutual[0, i, place]:
                found[size] = ids[i, place]
                reciprocal[found[size]] = taken[found[size]] = i + 1
                size += 1
        for first in range(size):
            candidate = found[first]
            total = shared = 0
            for place in range(min(half, ids.shape[1])):
                if mutual[1, candidate, place]:
                    total += 1
                    shared += reciprocal[ids[candidate, place]] == i + 1
            if 3 * shared > 2 * total:
                for place in range(min(half, ids.shape[1])):
                    other = ids[candidate, place]
                    if mutual[1, candidate, place] and taken[other] != i + 1:
                        taken[other] = i + 1
                        found[size] = other
                        size += 1
        if members.size:
            _write_sorted(found, size, members, ends[i])
        else:
            ends[i + 1] = size


@compiled
def _write_sorted(found, size, out, first):
    """Writes the first `size` numbers in ascending order from `out[first]` on."""
    for place in range(size):
        out[first + place] = found[place]
    gap = size // 2
    while gap:
        for place in range(gap, size):
            value, target = out[first + place], place
            while target >= gap and out[first + target - gap] > value:
                out[first + target] = out[first + target - gap]
                target -= gap
            out[first + target] = value
        gap //= 2


@compiled
def _look_up(start, stop, neighbors, ends, members, squares):
    """Writes the squares that the neighbour lists hold, and NaN for the others."""
    for i in range(start, stop):
        for place in range(ends[i], ends[i + 1]):
            other = members[place]
            squares[place] = np.nan
            for rank in range(neighbors.ids.shape[1]):
                if neighbors.ids[i, rank] == other:
                    squares[place] = neighbors.squares[i, rank]
                    break
                if neighbors.ids[other, rank] == i:
                    squares[place] = neighbors.squares[other, rank]
                    break


@compiled
def _average(start, stop, matrix, ids, ends, columns, values):
    """Writes means of rows, or their sizes into `ends[1:]` if there is no room."""
    sums = np.empty(len(ids), np.float32)
    taken = np.zeros(len(ids), np.int32)  # the last image + 1
    found = np.empty(len(ids), np.int32)
    count = np.float32(ids.shape[1])
    for i in range(start, stop):
        size = 0
        for other in ids[i]:
            for place in range(matrix.ends[other], matrix.ends[other + 1]):
                column = matrix.columns[place]
                if taken[column] != i + 1:
                    taken[column] = i + 1
                    sums[column] = 0
                    found[size] = column
                    size += 1
                sums[column] += matrix.values[place]
        if columns.size:
            _write_sorted(found, size, columns, ends[i])
            for place in range(ends[i], ends[i + 1]):
                values[place] = sums[columns[place]] / count
        else:
            ends[i + 1] = size


@compiled
def _transpose(matrix, first_row, places, rows, values):
    """Moves `places[c]` from the start to the end of column `c` while filling it."""
    for i in range(first_row, len(matrix.ends) - 1):
        for place in range(matrix.ends[i], matrix.ends[i + 1]):
            column = matrix.columns[place]
            rows[places[column]] = i - first_row
            values[places[column]] = matrix.values[place]
            places[column] += 1
