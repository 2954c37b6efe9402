"""A shopper replaced by another: against integrals and Gaussians that have a closed form."""

import numpy as np
import pytest
from dp_accounting.rdp import rdp_privacy_accountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from common.privacy.accounting.accountants import (
    _ORDERS,
    MechanismEvent,
    epsilon_pld,
    epsilon_replaced,
)
from common.privacy.accounting.plan_solver import solve_plan
from common.privacy.accounting.replacement import (
    epsilon_of_replacement,
    replacement_divergences,
)

DELTA = 1e-5


def log_mixture(q, sigma, at):
    return lambda x: np.logaddexp(
        np.log1p(-q) + norm.logpdf(x, 0, sigma), np.log(q) + norm.logpdf(x, at, sigma)
    )


@pytest.mark.parametrize(("q", "sigma"), [(0.1, 0.7), (0.25, 2.0), (0.9, 1.0), (0.999, 5.0)])
@pytest.mark.parametrize("order", [2.0, 2.5, 5.0, 17.0])
def test_the_divergence_is_the_integral(q, sigma, order):
    one, other = log_mixture(q, sigma, 1), log_mixture(q, sigma, -1)
    ends = (-10 * sigma - 2, 2 * order + 10 * sigma)
    top = max(order * one(x) + (1 - order) * other(x) for x in np.linspace(*ends, 1000))

    def term(x):
        return np.exp(order * one(x) + (1 - order) * other(x) - top)

    points = [0, 1, order, 2 * order - 1]
    moment, _ = quad(term, *ends, points=points, limit=400, epsrel=1e-10)
    divergence = (np.log(moment) + top) / (order - 1)
    [found] = replacement_divergences(q, sigma, (order,))
    assert found == pytest.approx(divergence, rel=1e-6)
    assert found >= divergence * (1 - 1e-8)


@given(st.floats(0.001, 1), st.floats(0.05, 20))
@settings(max_examples=15)
def test_sampling_never_costs_and_both_bound_one_removed(q, sigma):
    every = replacement_divergences(1.0, sigma, _ORDERS)
    assert every == pytest.approx(2 * np.array(_ORDERS) / sigma**2)
    assert (replacement_divergences(q, sigma, _ORDERS) <= every).all()


def test_without_sampling_it_is_a_sum_that_moves_twice_as_far():
    found = epsilon_of_replacement([(1.0, 3.0, 5)], DELTA)
    assert found == pytest.approx(epsilon_pld([MechanismEvent(1.0, 1.5, 5)], DELTA), abs=1e-3)


def test_at_four_for_one_removed_it_is_above_seven_for_one_replaced():
    """The plan of the defaults: what a statement that is silent on neighbours would hide."""
    plan = solve_plan(
        epsilon=4, delta=DELTA, sample_rate=0.25, steps=40, max_grad_norm=1, size_bracket=1000
    )
    assert epsilon_replaced(plan.events(), DELTA) == pytest.approx(7.60, abs=0.01)


@given(st.floats(0.01, 0.9), st.floats(0.7, 5), st.integers(1, 100))
@settings(max_examples=15, deadline=None)
def test_it_lies_between_one_removed_and_the_renyi_bound(q, sigma, count):
    events = [MechanismEvent(q, sigma, count)]
    replaced = epsilon_replaced(events, DELTA)
    divergences = count * replacement_divergences(q, sigma, _ORDERS)
    above, _ = rdp_privacy_accountant.compute_epsilon(_ORDERS, divergences, DELTA)
    assert epsilon_pld(events, DELTA) - 1e-3 <= replaced <= above + 1e-6


def test_nothing_costs_nothing_and_no_noise_everything():
    assert epsilon_replaced([], DELTA) == 0
    assert epsilon_replaced([MechanismEvent(0.5, 0.0, 1)], DELTA) == np.inf
