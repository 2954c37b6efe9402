"""A shopper at several merchants: known values, quadrature as an oracle, bounds on both sides."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binom, norm

from common.privacy.accounting.accountants import MechanismEvent, epsilon_pld
from common.privacy.accounting.composition import epsilon_of_several
from tests.support.shops import make_plan

PLAN = make_plan(
    sample_rate=0.25,
    steps=50,
    noise_multiplier=3.75236,
    delta=1e-5,
    popularity_noise_multiplier=0.0,
)


@pytest.mark.parametrize(
    ("merchants", "local", "central"), [(2, 2.95, 4.4), (3, 3.7, 7.1), (5, 5.0, 13.3)]
)
def test_the_two_dp_models_cost_what_was_measured_before(merchants, local, central):
    found = epsilon_of_several(PLAN, merchants)
    assert found == pytest.approx((local, central), rel=0.04)


def test_one_merchant_pays_the_plan_itself():
    alone = epsilon_pld(PLAN.events(), PLAN.delta)
    assert epsilon_of_several(PLAN, 1) == (alone, alone)


@pytest.mark.parametrize("merchants", [2, 4])
def test_one_step_on_the_sum_is_what_quadrature_gives(merchants):
    """The hockey-stick divergence of one step, integrated, in both directions."""
    plan = make_plan(sample_rate=0.3, steps=1, delta=1e-4, popularity_noise_multiplier=0.0)
    x = np.linspace(-14, merchants + 14, 400_001)
    step = x[1] - x[0]
    shifts = np.arange(merchants + 1)
    chances = binom.pmf(shifts, merchants, plan.sample_rate)
    present = sum(
        chance * norm.pdf(x, shift, plan.noise_multiplier)
        for shift, chance in zip(shifts, chances, strict=True)
    )
    absent = norm.pdf(x, 0, plan.noise_multiplier)

    def excess(epsilon):
        pairs = ((present, absent), (absent, present))
        worst = max(np.maximum(p - np.exp(epsilon) * q, 0).sum() * step for p, q in pairs)
        return worst - plan.delta

    truth = brentq(excess, 0, 60)
    _, central = epsilon_of_several(plan, merchants)
    assert truth - 1e-4 <= central <= truth * 1.01 + 0.01


@pytest.mark.parametrize("merchants", [2, 5])
def test_the_sum_costs_more_than_each_alone_and_less_than_if_all_coins_fell_alike(merchants):
    local, central = epsilon_of_several(PLAN, merchants)
    scaled = MechanismEvent(PLAN.sample_rate, PLAN.noise_multiplier / merchants, PLAN.steps)
    assert local < central < epsilon_pld([scaled], PLAN.delta)
