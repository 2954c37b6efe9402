"""Integers with the discrete Gaussian's own chances, whichever way a coin is decided."""

import time
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from common.errors import SettingsError
from common.privacy.mechanism import discrete_gaussian
from common.privacy.mechanism.discrete_gaussian import MOST_VARIANCE, discrete_gaussians
from common.privacy.mechanism.noise import NoiseSource

VARIANCES = [Fraction(1, 9), Fraction(1, 2), 1, Fraction(29, 3), 100]


def chances(variance, reach):
    """Return the probabilities of -reach to reach, from the definition."""
    numbers = np.arange(-reach, reach + 1)
    weights = np.exp(-(numbers**2) / (2 * float(variance)))
    return weights / weights.sum()


def p_value(draws, variance):
    """Chi-square of the counts, rare numbers put together."""
    reach = int(40 * max(1.0, float(variance) ** 0.5))
    assert np.abs(draws).max() <= reach
    seen = np.bincount(draws + reach, minlength=2 * reach + 1)
    expected = chances(variance, reach) * draws.size
    often = expected > 5
    rest = (seen[~often].sum(), expected[~often].sum())
    if rest[1] < 5:  # too few to be a class: none may hold many
        assert rest[0] < 40
        expected = expected[often] * seen[often].sum() / expected[often].sum()
        return stats.chisquare(seen[often], expected).pvalue
    return stats.chisquare([*seen[often], rest[0]], [*expected[often], rest[1]]).pvalue


@pytest.mark.parametrize("variance", VARIANCES)
def test_each_integer_has_its_chance(variance):
    draws = discrete_gaussians(NoiseSource.for_tests(3, str(variance)), variance, 100_000)
    assert p_value(draws, variance) > 0.001


@pytest.mark.statistical
@pytest.mark.parametrize("variance", VARIANCES)
def test_each_integer_has_its_chance_in_two_million(variance):
    draws = discrete_gaussians(NoiseSource.secure(), variance, 2_000_000)
    assert p_value(draws, variance) > 1e-4


@pytest.mark.parametrize("variance", [10**17, Fraction(2**61, 3)])
def test_wide_ones_are_gaussian(variance):
    draws = discrete_gaussians(NoiseSource.for_tests(4), variance, 100_000)
    assert stats.kstest(draws / float(variance) ** 0.5, "norm").pvalue > 0.01
    assert len(set((draws & 1).tolist())) == 2  # no power of two in all of them
    assert abs((draws & 1).mean() - 0.5) < 0.01


def test_coins_are_the_same_decided_by_float_or_by_fractions(monkeypatch):
    """All coins by fractions: the same words give the same integers."""
    for variance in (Fraction(1, 2), Fraction(29, 3), 10**17):
        quick = discrete_gaussians(NoiseSource.for_tests(5), variance, 40)
        with monkeypatch.context() as slow:
            slow.setattr(discrete_gaussian, "_SLACK", 2.0)
            exact = discrete_gaussians(NoiseSource.for_tests(5), variance, 40)
        np.testing.assert_array_equal(quick, exact)


def test_a_float_is_never_wrong_by_half_the_slack():
    """gamma and exp(-gamma) in float64 against fractions, where they matter."""
    from decimal import Context, Decimal

    chance, context = np.random.default_rng(0), Context(prec=60)
    for variance in (Fraction(1, 9), Fraction(29, 3), 10**17, MOST_VARIANCE):
        scale = int(float(variance) ** 0.5) + 1
        sizes = (chance.exponential(size=60) * scale).astype(np.int64)
        deviation = float(variance) ** 0.5
        gamma = ((sizes - float(Fraction(variance) / scale)) / deviation) ** 2 / 2
        for size, one in zip(sizes.tolist(), gamma.tolist(), strict=True):
            true = (size - Fraction(variance) / scale) ** 2 / (2 * Fraction(variance))
            power = context.divide(Decimal(-true.numerator), Decimal(true.denominator))
            error = abs(float(context.subtract(context.exp(power), Decimal(float(np.exp(-one))))))
            assert error < discrete_gaussian._SLACK / 2


def test_a_uniform_number_is_compared_as_far_as_needed():
    """The first 64 bits of exp(-1): only later ones tell."""
    word = int(discrete_gaussian._EXPONENTIALS[-1])
    below = [
        discrete_gaussian._Uniform(NoiseSource.for_tests(seed), word).is_below_exp(Fraction(1))
        for seed in range(60)
    ]
    assert 5 < sum(below) < 55
    for change, expected in ((-1, True), (1, False)):
        number = discrete_gaussian._Uniform(NoiseSource.for_tests(0), word + change)
        assert number.is_below_exp(Fraction(1)) == expected


def test_long_steps_are_counted_one_by_one():
    source = NoiseSource.for_tests(0)
    assert discrete_gaussian._steps(source, 0) >= 44
    assert discrete_gaussian._steps(source, 2**64 - 1) == 0


def test_geometric_steps_have_their_chances():
    steps = discrete_gaussian._geometric(NoiseSource.for_tests(1), 200_000)
    expected = (1 - np.exp(-1)) * np.exp(-np.arange(9)) * steps.size
    assert (
        stats.chisquare(
            [*np.bincount(steps)[:9], (steps >= 9).sum()], [*expected, steps.size - expected.sum()]
        ).pvalue
        > 0.001
    )


def test_draws_repeat_for_tests_alone_and_come_in_any_number():
    draws = [discrete_gaussians(NoiseSource.for_tests(9), 50, 1000) for _ in range(2)]
    np.testing.assert_array_equal(*draws)
    assert not np.array_equal(
        *(discrete_gaussians(NoiseSource.secure(), 10**12, 100) for _ in range(2))
    )
    for count in (0, 1, 7):
        assert discrete_gaussians(NoiseSource.secure(), 50, count).shape == (count,)


def test_a_hundred_and_fifty_thousand_take_less_than_a_second():
    began = time.process_time()
    discrete_gaussians(NoiseSource.secure(), 10**17, 150_000)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("variance", [0, -1, MOST_VARIANCE + 1])
def test_a_variance_out_of_bounds_is_refused(variance):
    with pytest.raises(SettingsError) as refused:
        discrete_gaussians(NoiseSource.secure(), variance, 1)
    assert refused.value.field == "variance"
