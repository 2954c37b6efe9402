"""Integers that sum without wrapping, and that carry each party's share of the noise."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from common.errors import PrivacyError, SettingsError
from common.privacy.mechanism.clipping import clip_and_sum, grid
from common.privacy.mechanism.fixed_point import FixedPoint, NoisyIntegers
from common.privacy.mechanism.noise import NoiseSource

floats = st.floats(-1e30, 1e30)


def noisy(parties=8, *, spared=1 / 3, sigma=2.0, bound=0.5, width=1_000):
    return NoisyIntegers.of(
        noise_multiplier=sigma,
        max_grad_norm=bound,
        parties=parties,
        spared=int(spared * parties),
        width=width,
    )


def summed(integers):
    """Return the sum as masks leave it: modulo 2^64."""
    return np.sum([one.view(np.uint64) for one in integers], axis=0, dtype=np.uint64)


@settings(deadline=None)
@given(
    exponent=st.integers(-40, 10),
    parties=st.integers(1, 128),
    data=st.data(),
)
def test_a_decoded_sum_is_wrong_by_at_most_the_stated_error(exponent, parties, data):
    form = FixedPoint(2.0**exponent, parties)
    most = form.value_limit * form.step
    numbers = data.draw(st.lists(st.floats(-most, most), min_size=parties, max_size=parties))
    total = summed([form.encode(np.array([number])) for number in numbers])
    exact = sum(Fraction(number) for number in numbers)
    assert abs(Fraction(float(form.decode(total)[0])) - exact) <= Fraction(form.error)


@settings(deadline=None)
@given(st.lists(st.integers(-(2**40), 2**40), min_size=2, max_size=50))
def test_what_is_on_the_grid_is_summed_exactly(units):
    form = FixedPoint(grid(0.7), len(units))
    total = summed([form.encode(np.array([unit * form.step])) for unit in units])
    assert form.decode(total)[0] == sum(units) * form.step


@settings(deadline=None)
@given(parties=st.integers(1, 2000), number=floats, sign=st.sampled_from([-1, 1]))
def test_no_sum_wraps_however_large_the_numbers(parties, number, sign):
    form = FixedPoint(2.0**-30, parties)
    unit = int(form.encode(np.array([number]))[0])
    assert abs(unit) <= form.limit
    assert parties * form.limit < 2**63


@given(st.lists(st.tuples(floats, floats), min_size=1, max_size=20))
def test_cutting_moves_no_two_values_apart(pairs):
    form = FixedPoint(2.0**-30, 1000)
    one, other = np.array(pairs).T
    moved = np.abs(form.encode(one).astype(object) - form.encode(other).astype(object))
    assert all(
        Fraction(int(a)) <= abs(Fraction(b) - Fraction(c)) / Fraction(form.step) + 1
        for a, b, c in zip(moved, one, other, strict=True)
    )


@settings(deadline=None)
@given(width=st.integers(1, 300), seed=st.integers(0, 1000))
def test_rounding_adds_no_more_than_the_root_of_the_width(width, seed):
    """Rows of norm at most the bound, anywhere: integers differ by at most what is stated."""
    chance, form = np.random.default_rng(seed), FixedPoint(2.0**-3, 4)
    start = chance.normal(size=width) * 3
    row = chance.normal(size=width)
    row *= 0.9 / np.linalg.norm(row)
    moved = (form.encode(start + row) - form.encode(start)).astype(float)
    assert np.linalg.norm(moved) <= float(form.sensitivity(0.9, width, on_grid=False))


def test_a_clipped_row_changes_integers_by_its_bound_and_no_more():
    """The row is on the grid already: nothing is added for rounding."""
    chance, bound = np.random.default_rng(0), 0.37
    form = FixedPoint(grid(bound), 8)
    rows = chance.normal(size=(20, 300))
    with_all, without = (clip_and_sum(some, bound).vector for some in (rows, rows[1:]))
    moved = (form.encode(with_all) - form.encode(without)).tolist()
    limit = form.sensitivity(bound, 300, on_grid=True)
    assert limit == Fraction(bound) / Fraction(grid(bound))
    assert 0.999 * limit**2 < sum(unit**2 for unit in moved) <= limit**2


@pytest.mark.parametrize("parties", [2, 5, 8, 64, 1000])
def test_shares_add_up_to_the_noise_that_the_plan_asks_for(parties):
    made = noisy(parties, sigma=3.0)
    needed = (3 * made.noise.sensitivity) ** 2
    spared = made.noise.spared
    assert spared == parties // 3
    rest = (parties - spared) * made.noise.variance
    assert needed <= rest <= needed * (1 + Fraction(1, 10**9))
    assert made.noise.multiplier(spared) == pytest.approx(3)
    # On a sum that nobody is missing from, at most 1.25 of what `central` has.
    assert made.noise.multiplier(0) <= 1.25 * 3
    assert parties * (made.form.value_limit + made.form.noise_limit) < 2**63


def test_noise_of_all_parties_on_a_sum():
    made = noisy(4, width=20_000)
    nothing = clip_and_sum(np.zeros((0, 20_000)), 0.5)
    integers = [made.noised(nothing, NoiseSource.for_tests(2, party)) for party in range(4)]
    draws = made.form.decode(summed(integers)) / (made.noise.multiplier(0) * 0.5)
    assert stats.kstest(draws, "norm").pvalue > 0.01
    assert abs(np.corrcoef(integers)[0, 1]) < 0.03


@pytest.mark.statistical
def test_noise_on_the_sum_has_the_planned_variance_over_a_thousand_rounds():
    """Six parties of eight are there, as many as rho = 1/4 counts on: 1,000 rounds of 200."""
    made = noisy(8, spared=0.25, width=200)
    nothing = clip_and_sum(np.zeros((0, 200)), 0.5)
    rounds = []
    for _ in range(1_000):
        integers = [made.noised(nothing, NoiseSource.secure()) for _ in range(6)]
        rounds.append(made.form.decode(summed(integers)))
    draws = np.concatenate(rounds)
    assert draws.var() == pytest.approx((2.0 * 0.5) ** 2, rel=0.02)
    assert stats.kstest(draws, "norm", args=(0, 1.0)).pvalue > 1e-4
    assert stats.kurtosis(draws) == pytest.approx(0, abs=0.06)


def test_a_value_that_is_not_finite_is_refused():
    for number in (np.nan, np.inf):
        with pytest.raises(PrivacyError):
            FixedPoint(0.5, 2).encode(np.array([number]))


def test_a_sum_of_another_width_or_bound_is_refused():
    made = noisy()
    for rows, bound in ((np.zeros((1, 999)), 0.5), (np.zeros((1, 1_000)), 0.4)):
        with pytest.raises(PrivacyError):
            made.noised(clip_and_sum(rows, bound), NoiseSource.secure())
    with pytest.raises(PrivacyError):
        made.noised(clip_and_sum(np.zeros((1, 1_000)), 1.0), NoiseSource.secure())
    with pytest.raises(PrivacyError):
        made.noised(clip_and_sum(np.zeros((1, 1_000)), 0.51), NoiseSource.secure())


@pytest.mark.parametrize(("step", "parties"), [(0.3, 2), (0.0, 2), (0.5, 0), (0.5, 2**63)])
def test_a_form_without_room_is_refused(step, parties):
    with pytest.raises((SettingsError, ZeroDivisionError)):
        FixedPoint(step, parties)


def test_so_much_noise_that_it_has_no_room_is_refused():
    with pytest.raises(SettingsError):
        noisy(2, sigma=1e6)
    with pytest.raises(SettingsError):
        noisy(100_000, sigma=1e6)
