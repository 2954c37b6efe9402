"""The clipped sum: one shopper changes it by at most C, exactly."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.sparse import csr_matrix

from common.errors import PrivacyError, SettingsError
from common.privacy.mechanism.clipping import ClippedSum, clip_and_sum, grid

bounds = st.floats(1e-6, 1e6)
numbers = st.one_of(
    st.floats(-1e3, 1e3), st.floats(allow_nan=True, allow_infinity=True), st.just(0.0)
)
matrices = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=numbers)


def exact_norm_is_at_most(vector, bound):
    """Compare in rational arithmetic: no rounding can hide an excess."""
    return sum(Fraction(float(x)) ** 2 for x in vector) <= Fraction(bound) ** 2


@given(matrices, bounds, st.data())
def test_one_shopper_changes_the_sum_by_at_most_the_bound(rows, bound, data):
    left_out = data.draw(st.integers(0, len(rows) - 1))
    with_all = clip_and_sum(rows, bound)
    without = clip_and_sum(np.delete(rows, left_out, axis=0), bound)
    assert exact_norm_is_at_most(with_all.vector - without.vector, bound)


@given(matrices, bounds)
def test_a_row_adds_its_own_clipped_self_whoever_else_is_there(rows, bound):
    together = clip_and_sum(rows, bound).vector
    one_by_one = sum(
        (clip_and_sum(row[None], bound) for row in rows[1:]), clip_and_sum(rows[:1], bound)
    )
    assert np.array_equal(together, one_by_one.vector)
    assert np.array_equal(together, clip_and_sum(rows[::-1], bound).vector)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3000), st.sampled_from([0.1, 1.0, 3.0, 1 / 3]))
def test_long_rows_reach_the_bound_but_not_more(seed, width, bound):
    row = np.random.default_rng(seed).standard_normal((1, width)) * 1e3
    vector = clip_and_sum(row, bound).vector
    assert exact_norm_is_at_most(vector, bound)
    assert np.linalg.norm(vector) >= bound * (1 - 1e-7)


@given(matrices, bounds, st.sampled_from([2.0**-20, 2.0**-10, 0.25, 0.5]), st.data())
def test_a_margin_stays_free(rows, bound, margin, data):
    left_out = data.draw(st.integers(0, len(rows) - 1))
    with_all = clip_and_sum(rows, bound, margin=margin)
    without = clip_and_sum(np.delete(rows, left_out, axis=0), bound, margin=margin)
    free = Fraction(bound) * (1 - Fraction(margin))
    assert exact_norm_is_at_most(with_all.vector - without.vector, free)
    assert with_all.max_grad_norm == bound


@pytest.mark.parametrize("margin", [-1e-9, 0.51, math.nan])
def test_an_impossible_margin_is_refused(margin):
    with pytest.raises(SettingsError, match="margin"):
        clip_and_sum(np.ones((1, 2)), 1.0, margin=margin)


def test_the_sum_is_the_plain_clipped_sum():
    rows = np.random.default_rng(0).standard_normal((200, 300)) * np.logspace(-2, 1, 200)[:, None]
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    expected = (rows * np.minimum(1, 2.0 / norms)).sum(axis=0)
    clipped = clip_and_sum(rows, 2.0)
    assert np.allclose(clipped.vector, expected, rtol=0, atol=200 * 2 * grid(2.0))
    assert (clipped.shoppers, clipped.dropped) == (200, 0)


def test_rows_below_the_bound_are_left_as_they_are():
    rows = np.array([[0.25, 0.5], [0.125, -0.5]])
    assert np.array_equal(clip_and_sum(rows, 1.0).vector, [0.375, 0.0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
def test_a_broken_row_is_zeroed_and_counted_and_harms_nobody(bad):
    rows = np.ones((3, 4))
    rows[1, 2] = bad
    clipped = clip_and_sum(rows, 10.0)
    assert (clipped.shoppers, clipped.dropped) == (3, 1)
    assert np.array_equal(clipped.vector, np.full(4, 2.0))


def test_nobody_sampled_gives_zeros():
    clipped = clip_and_sum(torch.zeros(0, 7), 1.0)
    assert np.array_equal(clipped.vector, np.zeros(7))
    assert clipped.shoppers == 0


def test_kinds_of_input_agree_and_stay_untouched():
    rows = np.random.default_rng(1).standard_normal((300, 900)).astype(np.float32)
    rows[np.abs(rows) < 1] = 0
    expected = clip_and_sum(rows, 1.0).vector
    tensor = torch.tensor(rows, requires_grad=True)
    assert np.array_equal(clip_and_sum(tensor, 1.0).vector, expected)
    assert np.array_equal(clip_and_sum(csr_matrix(rows), 1.0).vector, expected)
    doubles = rows.astype(np.float64)
    before = doubles.copy()
    clip_and_sum(doubles, 1.0)
    assert np.array_equal(doubles, before)


def test_half_precision_input_stays_within_the_bound():
    rows = (torch.randn(50, 512) * 9).to(torch.bfloat16)
    for row in rows:
        assert exact_norm_is_at_most(clip_and_sum(row[None], 1.0).vector, 1.0)


def test_only_clip_and_sum_makes_one():
    with pytest.raises(PrivacyError):
        ClippedSum(vector=np.zeros(3), max_grad_norm=1.0, shoppers=1, dropped=0)


def test_sums_of_different_bounds_do_not_add():
    rows = np.ones((1, 3))
    with pytest.raises(PrivacyError):
        clip_and_sum(rows, 1.0) + clip_and_sum(rows, 2.0)
    with pytest.raises(PrivacyError):
        clip_and_sum(rows, 1.0) + clip_and_sum(np.ones((1, 4)), 1.0)


@pytest.mark.parametrize("bound", [0.0, -1.0, np.nan, np.inf])
def test_an_impossible_bound_is_refused(bound):
    with pytest.raises(SettingsError):
        clip_and_sum(np.ones((1, 2)), bound)


def test_a_vector_is_refused():
    with pytest.raises(SettingsError):
        clip_and_sum(np.ones(4), 1.0)
