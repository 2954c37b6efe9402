import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.ranking.products import CHUNK_ROWS, SMALL, double_products, row_products

SHAPES = [(7, 12), (40, 300), (384, 1000), (384, 2731), (500, 2300)]  # [k, n]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("transposed", [False, True])
def test_a_row_is_the_same_alone_as_among_others(shape, transposed):
    """Bit by bit, on both sides of SMALL: BLAS would differ by how many rows there are."""
    width = shape[0]
    random = np.random.default_rng(0)
    matrix = random.normal(size=shape).astype(np.float32)
    matrix = np.ascontiguousarray(matrix.T).T if transposed else matrix
    rows = random.normal(size=(90, width)).astype(np.float32)
    together = row_products(rows, matrix)
    assert together.dtype == np.float32
    assert np.abs(together - rows.astype(float) @ matrix).max() < 2e-3
    for size in (1, 2, 3, 5, 8, 17, 64):
        for start in (0, 1, 13, 26):
            some = slice(start, start + size)
            assert np.array_equal(row_products(rows[some], matrix), together[some])


def test_the_shapes_lie_on_both_sides_of_the_border():
    assert min(k * n for k, n in SHAPES) < SMALL < max(k * n for k, n in SHAPES)


@given(st.integers(0, 3 * CHUNK_ROWS))
def test_products_in_float64_are_those_of_the_whole(rows):
    random = np.random.default_rng(rows)
    matrix = random.normal(size=(rows, 3)).astype(np.float32)
    vector = random.normal(size=3)
    found = double_products(matrix, vector)
    assert found == pytest.approx(matrix.astype(float) @ vector, abs=1e-14)
