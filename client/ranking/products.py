"""Matrix products in which a row depends on no other, to the last bit.

A list is served to one shopper and judged among hundreds, and must be the same list. A BLAS sums in
another order for a single row, which is a product of matrix and vector, and for small matrices, for
which it has kernels of their own. In a large product of two rows or more each number is summed in
one order, however many rows there are.
"""

import numpy as np
from numpy.typing import NDArray

SMALL = 2**20  # numbers of a matrix; products of smaller ones are summed in float64, and rounded
CHUNK_ROWS = 4096  # of a matrix, held in float64 at a time


def row_products(rows: NDArray[np.float32], matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows @ matrix, float32 [r, n], each row as it would be among any others.

    Args:
        rows: float32 [r, k].
        matrix: float32 [k, n].
    """
    if matrix.size < SMALL:
        return (rows.astype(np.float64) @ matrix.astype(np.float64)).astype(np.float32)
    if len(rows) == 1:
        return np.asarray((np.repeat(rows, 2, axis=0) @ matrix)[:1])
    return np.asarray(rows @ matrix)


def double_products(
    matrix: NDArray[np.float32], vector: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return matrix @ vector summed in float64, without a float64 copy of the matrix: [rows].

    Args:
        matrix: float32 [rows, k].
        vector: float64 [k].
    """
    starts = range(0, len(matrix), CHUNK_ROWS)
    parts = [matrix[start : start + CHUNK_ROWS].astype(np.float64) @ vector for start in starts]
    return np.concatenate([np.empty(0), *parts])
