import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.ranking.products import CHUNK_ROWS, double_sum, row_products

SHAPES = [(12, 7), (300, 40), (1000, 384), (2731, 384), (2300, 500), (40, 4001)]  # [n, k]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_number_is_the_same_whatever_stands_beside_it(shape):
    """Bit by bit: a BLAS's matrix product differs with the number of rows, at every size."""
    random = np.random.default_rng(0)
    items = random.normal(size=shape).astype(np.float32)
    rows = random.normal(size=(90, shape[1])).astype(np.float32)
    together = row_products(rows, items)
    assert together.dtype == np.float32
    assert np.abs(together - rows.astype(float) @ items.T).max() < 2e-3
    for size in (1, 2, 5, 8, 12, 13, 64):
        for start in (0, 1, 13, 26):
            some = slice(start, start + size)
            assert np.array_equal(row_products(rows[some], items), together[some])
    for some in (slice(0, 1), slice(3, 9), slice(1, None, 2)):  # other items, the last one strided
        assert np.array_equal(row_products(rows, items[some]), together[:, some])


def test_the_layout_in_memory_does_not_matter():
    random = np.random.default_rng(1)
    items = random.normal(size=(300, 41)).astype(np.float32)
    rows = random.normal(size=(5, 41)).astype(np.float32)
    found = row_products(rows, items)
    for offset in range(1, 9):  # where no vector of the processor begins
        moved = np.empty(items.size + offset, np.float32)[offset:].reshape(items.shape)
        moved[:] = items
        assert np.array_equal(row_products(rows, moved), found)
    assert np.array_equal(row_products(rows, np.asfortranarray(items)), found)
    assert np.array_equal(row_products(np.asfortranarray(rows), items), found)


def test_equal_items_get_equal_numbers():
    random = np.random.default_rng(2)
    items = np.repeat(random.normal(size=(1, 384)).astype(np.float32), 1001, axis=0)
    found = row_products(random.normal(size=(7, 384)).astype(np.float32), items)
    assert (found == found[:, :1]).all()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_nothing_gives_nothing(shape):
    found = row_products(np.ones((2, shape[1]), np.float32), np.ones(shape, np.float32))
    assert found.shape == (2, shape[0])
    assert not found.any()


@given(st.integers(0, 3 * CHUNK_ROWS))
def test_sums_in_float64_are_those_of_the_whole(rows):
    random = np.random.default_rng(rows)
    matrix = random.normal(size=(rows, 3)).astype(np.float32)
    weights = random.normal(size=rows)
    assert double_sum(matrix, weights) == pytest.approx(weights @ matrix.astype(float), abs=1e-10)
