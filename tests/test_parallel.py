import numba
import numpy as np
import pytest

from topdb_tf.retrieval import parallel
from topdb_tf.retrieval.parallel import Workers


@pytest.mark.parametrize("num_threads", [1, 2, 5])
@pytest.mark.parametrize("grain", [None, 1, 3, 100])
def test_every_item_is_worked_on_once(num_threads, grain):
    counts = np.zeros(17, int)

    def kernel(start, stop, step):
        counts[start:stop] += step

    with Workers(num_threads) as workers:
        workers.run(kernel, 17, 2, grain=grain)
    assert counts.tolist() == [2] * 17


def test_an_error_in_a_thread_is_raised():
    def kernel(start, stop):
        raise ValueError("from a thread")

    with Workers(2) as workers, pytest.raises(ValueError, match="from a thread"):
        workers.run(kernel, 4)


def test_kernels_compile_where_nothing_can_be_kept(monkeypatch):
    njit = numba.njit

    def without_folder(*arguments, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(*arguments, **options)

    monkeypatch.setattr(numba, "njit", without_folder)
    assert parallel.compiled(lambda number: number + 1)(1) == 2
    assert parallel.compiled(fastmath=True)(lambda number: number + 1)(1) == 2
