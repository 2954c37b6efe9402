"""What a sum of integers with shared noise costs, against the sum's own probabilities."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.signal import fftconvolve

from common.errors import PrivacyError, SettingsError
from common.privacy.accounting.accountants import MechanismEvent, epsilon_pld, epsilon_rdp
from common.privacy.accounting.shared_noise import (
    SharedNoise,
    SharedReleases,
    epsilon_shared,
    epsilon_shared_renyi,
    share_noise,
)

UNITS = Fraction(2**30)


def by_pld(noise, *, sample_rate, releases, delta, absent):
    whole = SharedReleases(noise, sample_rate, releases)
    return epsilon_shared((whole,), delta=delta, absent=absent)


def by_renyi(noise, *, sample_rate, releases, delta, absent):
    whole = SharedReleases(noise, sample_rate, releases)
    return epsilon_shared_renyi((whole,), delta=delta, absent=absent)


def shared(sigma=2.0, *, parties=8, spared=1 / 3, width=10_000, units=UNITS):
    return share_noise(
        sigma, units, parties=parties, spared=math.floor(spared * parties), width=width
    )


def discrete(variance, reach):
    """Return one share's probabilities from -reach to reach."""
    weights = np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / (2 * variance))
    return weights / weights.sum()


def true_epsilon(parties, variance, step, *, q, delta):
    """Return epsilon of one number's sum of shares, from its own probabilities.

    They are convolved, put beside themselves moved by the sensitivity, and delta is added up over
    all sums: nothing here knows a formula for sums of discrete Gaussians, or an accountant.
    """
    reach = int(9 * math.sqrt(variance)) + 3
    total = one = discrete(variance, reach)
    for _ in range(parties - 1):
        total = fftconvolve(total, one)
    total = np.maximum(total, 0)
    total /= total.sum()
    moved, still = np.pad(total, (step, 0)), np.pad(total, (0, step))
    mixed = q * moved + (1 - q) * still

    def excess(epsilon):
        pairs = ((mixed, still), (still, mixed))
        return max(np.maximum(one - math.exp(epsilon) * other, 0).sum() for one, other in pairs)

    low, high = 0.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > delta else (low, middle)
    return high


@pytest.mark.parametrize("q", [1.0, 0.25])
@pytest.mark.parametrize("parties", [2, 5])
def test_epsilon_is_that_of_the_sum_s_own_probabilities(parties, q):
    # One number, and units far coarser than a clipped sum's: what is neglected still shows not.
    variance = 4 * 10**7 // parties
    noise = SharedNoise(parties, 0, variance, Fraction(3_162), 1)
    found = by_pld(noise, sample_rate=q, releases=1, delta=1e-5, absent=0)
    true = true_epsilon(parties, variance, 3_162, q=q, delta=1e-5)
    assert true - 1e-6 <= found <= true + 1e-3


def test_on_the_grid_of_clipped_sums_it_is_the_gaussian_s_epsilon():
    noise = shared(width=150_000)
    for absent in (0, 2):
        arguments = {"sample_rate": 0.25, "releases": 40, "delta": 1e-5, "absent": absent}
        event = MechanismEvent(0.25, 2.0 * math.sqrt((8 - absent) / 6), 40)
        found = by_pld(noise, **arguments)
        assert found == pytest.approx(epsilon_pld((event,), 1e-5), abs=1e-4)
        assert found <= epsilon_rdp((event,), 1e-5)


@pytest.mark.parametrize("sigma", [1.0, 4.0])
@pytest.mark.parametrize(("q", "releases"), [(1.0, 1), (1.0, 40), (0.25, 40), (0.01, 1000)])
def test_the_second_route_is_never_below_the_first(sigma, q, releases):
    noise = shared(sigma)
    arguments = {"sample_rate": q, "releases": releases, "delta": 1e-5, "absent": 1}
    first, second = (one(noise, **arguments) for one in (by_pld, by_renyi))
    assert first <= second
    if q == 1:  # sampling is where it is loose
        assert second <= 1.25 * first


def test_the_second_route_holds_also_for_coarse_integers():
    """Few units: the sum is no discrete Gaussian, and tau says by how much."""
    for variance in (1, 2, 4):
        noise = SharedNoise(4, 0, variance, Fraction(1), 1)
        bound = by_renyi(noise, sample_rate=1.0, releases=1, delta=1e-4, absent=0)
        assert true_epsilon(4, variance, 1, q=1.0, delta=1e-4) <= bound
        with pytest.raises(PrivacyError):  # the first route does not claim what it cannot show
            by_pld(noise, sample_rate=1.0, releases=1, delta=1e-4, absent=0)


@pytest.mark.parametrize(("parties", "variance"), [(2, 0.25), (2, 0.5), (4, 0.5), (6, 1.0)])
def test_tau_bounds_what_a_sum_differs_from_a_discrete_gaussian(parties, variance):
    reach = 40
    total = one = discrete(variance, reach)
    for _ in range(parties - 1):
        total = np.convolve(total, one)
    expected = discrete(parties * variance, reach * parties)
    middle = slice(reach * parties - 6, reach * parties + 7)
    ratio = np.abs(np.log(total[middle] / expected[middle])).max()
    terms = (math.exp(-2 * math.pi**2 * variance * k / (k + 1)) for k in range(1, parties))
    assert 1e-9 < ratio <= 10 * sum(terms)


def test_tau_is_the_paper_s_sum():
    noise = SharedNoise(3, 0, 1, Fraction(1), 1)
    expected = 10 * (math.exp(-(math.pi**2)) + math.exp(-4 / 3 * math.pi**2))
    assert noise.tau(0) == pytest.approx(expected)
    assert noise.tau(2) == 0


@pytest.mark.parametrize("variance", [1, 3, 100, 10_000])
def test_kappa_bounds_what_a_discrete_gaussian_differs_from_a_rounded_one(variance):
    from scipy.stats import norm

    deviation = math.sqrt(variance)
    reach = int(16 * deviation)
    numbers = np.arange(0, reach + 1)
    low, high = (norm.logsf((numbers + half) / deviation) for half in (-0.5, 0.5))
    rounded = low + np.log1p(-np.exp(high - low))
    exact = np.log(discrete(variance, reach + 50)[reach + 50 :][: reach + 1])
    ratio = np.abs(rounded - exact).max()
    kappa = SharedNoise(1, 0, variance, Fraction(1), 1).kappa(0)
    assert kappa / 100 < ratio <= kappa * (1 + 1e-6)


def test_a_share_of_a_third_to_spare_costs_a_quarter_more_noise_at_most():
    for parties in range(2, 200):
        assert shared(parties=parties).multiplier(0) <= 1.25 * 2.0


@pytest.mark.parametrize(
    "changed",
    [{"parties": 1}, {"spared": 1.0}, {"spared": -0.1}, {"sigma": 0.0}, {"units": Fraction(0)}],
)
def test_a_value_out_of_bounds_is_refused(changed):
    with pytest.raises(SettingsError):
        shared(**({"sigma": 2.0} | changed))


def test_somebody_s_noise_must_count():
    for absent in (8, -1):
        with pytest.raises(SettingsError):
            by_pld(shared(), sample_rate=1.0, releases=1, delta=1e-5, absent=absent)
