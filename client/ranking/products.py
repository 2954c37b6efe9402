"""Products of rows and items in which each number depends on its row and its item alone.

A list is served to one shopper and judged among hundreds, and must be the same list to the last
bit. A matrix product does not promise that: a BLAS sums in another order for one row than for two,
for twelve than for thirteen, at the edge of a block, on another number of threads, and differs
between processors. So each number here is one dot product of two vectors, asked for by itself.
It costs one row what a product of matrix and vector costs, since both wait for memory; for many
rows it takes some three times a matrix product.
"""

import numpy as np
from numpy.typing import NDArray

CHUNK_ROWS = 4096  # of a matrix, held in float64 at a time
_BLOCK = 2**16  # numbers of the items that all rows meet before the next: they stay in the cache


def row_products(rows: NDArray[np.float32], items: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows @ items.T, float32 [r, n], each number as it would be among any others.

    Args:
        rows: float32 [r, k].
        items: float32 [n, k], contiguous; a copy is made of others.
    """
    # A dot product of numbers that lie apart would be summed in another order.
    rows, items = np.ascontiguousarray(rows), np.ascontiguousarray(items)
    found = np.empty((len(rows), len(items)), np.float32)
    size = max(_BLOCK // max(items.shape[1], 1), 1) if len(rows) > 1 else max(len(items), 1)
    for start in range(0, len(items), size):
        some = slice(start, start + size)
        np.vecdot(rows[:, None], items[None, some], out=found[:, some])
    return found


def double_sum(matrix: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights @ matrix, float64 [k], without a float64 copy of the matrix.

    Args:
        matrix: float32 [n, k].
        weights: float64 [n].
    """
    found = np.zeros(matrix.shape[1])
    for start in range(0, len(matrix), CHUNK_ROWS):
        some = slice(start, start + CHUNK_ROWS)
        found += weights[some] @ matrix[some].astype(np.float64)
    return found
