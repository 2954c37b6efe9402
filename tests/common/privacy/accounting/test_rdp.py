"""Rényi divergences: against two other accountants and against integration of the definition."""

import math

import mpmath
import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.rdp import RdpAccountant
from hypothesis import given
from hypothesis import strategies as st
from opacus.accountants.analysis.rdp import compute_rdp
from scipy import integrate

from common.privacy.accounting.rdp import renyi_divergences

ORDERS = (2.0, 2.25, 3.0, 3.5, 4.75, 8.0, 33.0, 128.0, 512.0)


@pytest.mark.parametrize("q", [1.0, 0.5, 0.1, 1e-3])
@pytest.mark.parametrize("sigma", [0.7, 2.0, 9.0])
def test_the_accountants_of_google_and_opacus_say_the_same(q, sigma):
    google = RdpAccountant(ORDERS)
    google.compose(dp_event.PoissonSampledDpEvent(q, dp_event.GaussianDpEvent(sigma)))
    opacus = compute_rdp(q=q, noise_multiplier=sigma, steps=1, orders=ORDERS)
    found = renyi_divergences(q, sigma, ORDERS)
    for order, ours, first, second in zip(ORDERS, found, google.rdp, opacus, strict=True):
        assert ours == pytest.approx(second, rel=1e-6, abs=1e-9), order
        if order == int(order):
            assert ours == pytest.approx(first, rel=1e-6, abs=1e-9), order
        else:
            assert ours <= first * (1 + 1e-6)  # Google's may be a looser bound between whole orders


@given(st.floats(0.01, 1), st.floats(0.5, 12), st.sampled_from([2.0, 2.25, 3.0, 4.5]))
def test_it_is_the_integral_that_defines_it(q, sigma, order):
    def moment(x):
        ratio = 1 - q + q * math.exp((2 * x - 1) / (2 * sigma**2))
        return ratio**order * math.exp(-((x / sigma) ** 2) / 2)

    ends = (-12 * sigma, order + 12 * sigma)
    whole = integrate.quad(moment, *ends, limit=400, epsabs=0, epsrel=1e-10)[0]
    expected = math.log(whole / (sigma * math.sqrt(2 * math.pi))) / (order - 1)
    assert renyi_divergences(q, sigma, (order,))[0] == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_a_rare_shopper_costs_little_but_not_nothing():
    """Nearly a q^2 (e^(1/sigma^2) - 1) / 2, the second-order term, with all its digits."""
    q, sigma, orders = 1e-7, 2.0, (2.0, 3.0, 16.0)
    expected = np.array(orders) * q**2 * math.expm1(1 / sigma**2) / 2
    assert renyi_divergences(q, sigma, orders) == pytest.approx(expected, rel=1e-5)


def to_thirty_digits(q, sigma, order):
    """Both directions by Gauss-Legendre quadrature of the definition: (with, without) and back."""
    with mpmath.workdps(30):
        q, sigma, order = mpmath.mpf(q), mpmath.mpf(sigma), mpmath.mpf(order)
        places = mpmath.linspace(-order - 13 * sigma, order + 13 * sigma, 13)

        def divergence(power):
            def moment(x):
                ratio = 1 - q + q * mpmath.exp((2 * x - 1) / (2 * sigma**2))
                return ratio**power * mpmath.exp(-((x / sigma) ** 2) / 2)

            whole = mpmath.quad(moment, places) / (sigma * mpmath.sqrt(2 * mpmath.pi))
            return mpmath.log(whole) / (order - 1)

        return divergence(order), divergence(1 - order)


@pytest.mark.parametrize(
    ("q", "sigma", "order"),
    [
        (1e-4, 9.0, 2.25),  # the moment is 1 and ten digits of nothing
        (1e-4, 60.0, 4.75),
        (0.01, 0.7, 2.5),
        (0.25, 2.0, 4.75),
        (0.9, 0.7, 3.5),
        (0.25, 2.0, 8.0),
        (1e-4, 60.0, 33.0),
        (0.9, 9.0, 2.0),
    ],
)
def test_it_bounds_a_shopper_added_and_removed_from_above_and_tightly(q, sigma, order):
    added, removed = to_thirty_digits(q, sigma, order)
    found = mpmath.mpf(float(renyi_divergences(q, sigma, (order,))[0]))
    assert found >= max(added, removed)
    room = 1e-13 if order != int(order) else 0
    assert found <= added * (1 + mpmath.mpf(1e-10)) + room
