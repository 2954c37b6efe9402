"""Matrix products in which a row depends on no other, to the last bit.

A list is served to one shopper and judged among hundreds, and must be the same list. How a BLAS
sums depends on how many rows there are and on a row's place among them: it has kernels of their own
for a single row, for small matrices, and on some processors for each dozen of rows and what is left
of them. So products are of `BLOCK_ROWS` rows each, the last filled up: one kernel takes them all.
"""

import numpy as np
from numpy.typing import NDArray

SMALL = 2**20  # numbers of a matrix; products of smaller ones are summed in float64, and rounded
BLOCK_ROWS = 8  # one or two tiles of the kernels of OpenBLAS: 16 mixes two kernels on AMD's Zen
CHUNK_ROWS = 4096  # of a matrix, held in float64 at a time


def row_products(rows: NDArray[np.float32], matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows @ matrix, float32 [r, n], each row as it would be among any others.

    Args:
        rows: float32 [r, k].
        matrix: float32 [k, n].
    """
    if matrix.size < SMALL:
        return (rows.astype(np.float64) @ matrix.astype(np.float64)).astype(np.float32)
    products = np.empty((len(rows), matrix.shape[1]), np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        some = rows[start : start + BLOCK_ROWS]
        block = np.pad(some, ((0, BLOCK_ROWS - len(some)), (0, 0)))
        products[start : start + len(some)] = (block @ matrix)[: len(some)]
    return products


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
