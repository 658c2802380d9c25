"""Compiled kernels and the threads that run them."""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np


def compiled(function=None, **options):
    """Compiles a function with Numba: it releases the GIL and is kept on disk.

    Where no folder for compiled code can be written (a read-only installation without
    a home folder), the function is compiled anew in every process instead. The options
    are further ones of `numba.njit`, such as `fastmath`.
    """
    if function is None:
        return lambda decorated: compiled(decorated, **options)
    try:
        return numba.njit(nogil=True, cache=True, **options)(function)
    except RuntimeError:  # Numba found no folder that it can write to
        return numba.njit(nogil=True, **options)(function)


class Workers:
    """Threads for kernels that work on a range of rows or columns.

    Kernels run in plain threads rather than in those of `numba.prange`: idle ones
    sleep instead of spinning, so they never take a core from the matrix products,
    which have the threads of BLAS and alternate with the kernels. There are as many as
    Numba takes: the cores this process may use, or `NUMBA_NUM_THREADS`.
    """

    def __init__(self, num_threads: int | None = None):
        self.num_threads = num_threads or numba.config.NUMBA_NUM_THREADS
        self._pool = ThreadPoolExecutor(self.num_threads)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._pool.shutdown(cancel_futures=True)

    def run(self, kernel, num_items: int, *arguments, grain: int | None = None):
        """Calls `kernel(start, stop, *arguments)` on pieces of `range(num_items)`.

        A kernel only writes what belongs to its own items. There are two pieces a
        thread, or those of `grain` items.
        """
        grain = grain or max(1, -(-num_items // (2 * self.num_threads)))
        starts = range(0, num_items, grain)
        pieces = [
            self._pool.submit(kernel, start, min(start + grain, num_items), *arguments)
            for start in starts
        ]
        for piece in pieces:
            piece.result()


class Buffer:
    """Memory for blocks of float32, allocated once and shaped for each block."""

    def __init__(self, num_values: int):
        self.size = num_values
        self._values = np.empty(num_values, np.float32)

    def block(self, height: int, width: int) -> np.ndarray:
        """Returns a C-contiguous array of shape `(height, width)` to be filled."""
        return self._values[: height * width].reshape(height, width)
