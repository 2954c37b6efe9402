import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.privacy.mechanism.rounding import ERROR, rounded
from common.wire.packed_vector import pack_vector


@given(st.integers(0, 500), st.floats(1e-12, 1e12), st.integers(50, 4000))
def test_rounding_adds_less_than_its_part_of_the_norm_and_saves_half_the_bytes(seed, scale, size):
    noised = (np.random.default_rng(seed).normal(size=size) * scale).astype(np.float32)
    found = rounded(noised)
    error = np.linalg.norm((found - noised).astype(np.float64))
    assert error <= 1.25 * ERROR * np.linalg.norm(noised.astype(np.float64))
    # On a grid far below the deviation, and each number an integer of it.
    assert np.abs(found - noised).max() <= 1.7e-3 * noised.std()
    assert len(pack_vector(found)) <= 7 + 15 * size / 8 + 1


def test_it_is_a_function_of_the_vector_and_leaves_what_is_on_its_grid():
    noised = np.random.default_rng(0).normal(size=100).astype(np.float32)
    once = rounded(noised)
    assert np.array_equal(once, rounded(noised.copy()))
    assert np.array_equal(rounded(once), once)
    assert once == pytest.approx(noised, abs=2e-3)
    small = rounded(np.array([1, -1e-9, 1e-9], np.float32))
    assert not np.signbit(small[1:]).any()


def test_zeros_and_what_is_not_finite_stay():
    for vector in (np.zeros(4, np.float32), np.array([np.inf, 1], np.float32)):
        assert np.array_equal(rounded(vector), vector)
