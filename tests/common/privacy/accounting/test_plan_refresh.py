"""A plan without steps takes one season and nothing else, at its own price."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from common.errors import SettingsError
from common.privacy.accounting.accountants import (
    MechanismEvent,
    epsilon_pld,
    gaussian_delta,
)
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.accounting.plan_solver import solve_plan
from common.privacy.accounting.shared_claim import epsilon_by_absent
from common.privacy.secagg.slots import slot_of, terms_of

REFRESH = PrivacyPlan(
    sample_rate=0.25,
    steps=0,
    noise_multiplier=0.0,
    max_grad_norm=1.0,
    size_bracket=400,
    delta=1e-5,
    dp_model="local",
    season_noise_multiplier=7.0,
)
SHARED = replace(REFRESH, dp_model="distributed", merchants=8, spared=2)


def test_it_is_one_gaussian_event():
    assert REFRESH.events() == (MechanismEvent(1.0, 7.0, 1),)
    assert (REFRESH.rounds, REFRESH.trains, REFRESH.takes_histogram) == (0, False, False)
    assert REFRESH.noise_std("season") == 7.0
    assert PrivacyPlan.from_json(REFRESH.to_json()) == REFRESH


@pytest.mark.parametrize("plan", [REFRESH, SHARED])
def test_nothing_else_has_a_price(plan):
    """So no charge for a round, or a histogram, can be made under it."""
    for kind in ("train", "popularity"):
        with pytest.raises(SettingsError):
            plan.event(kind)
    with pytest.raises(Exception, match="no such sum"):
        slot_of(plan, "train", 1)


def test_a_secure_sum_has_one_round():
    terms = terms_of(SHARED, "1", train=100, season=64)
    assert (terms.rounds, terms.first, slot_of(SHARED, "season", 0)) == (1, (64,), 1)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("noise_multiplier", {"noise_multiplier": 1.0}),
        ("popularity_noise_multiplier", {"popularity_noise_multiplier": 1.0}),
        ("season_noise_multiplier", {"season_noise_multiplier": 0.0}),
        ("steps_per_round", {"steps_per_round": 2}),
        ("steps", {"steps": -1}),
    ],
)
def test_a_refresh_with_anything_beside_its_season_is_none(field, changes):
    with pytest.raises(SettingsError) as caught:
        replace(REFRESH, **changes)
    assert caught.value.field == field


@given(
    epsilon=st.floats(0.05, 8.0),
    delta=st.sampled_from([1e-8, 1e-6, 1e-5, 1e-3]),
    shares=st.tuples(st.floats(0, 0.9), st.floats(0, 0.99)),
)
def test_all_of_the_budget_is_the_seasons(epsilon, delta, shares):
    """σ is the exact Gaussian's (Balle, Wang 2018), whatever the shares say."""
    plan = solve_plan(
        epsilon=epsilon,
        delta=delta,
        sample_rate=0.25,
        steps=0,
        max_grad_norm=1.0,
        size_bracket=400,
        popularity_share=shares[0],
        season_share=shares[1],
    )
    assert (plan.steps, plan.noise_multiplier, plan.popularity_noise_multiplier) == (0, 0.0, 0.0)
    exact = 1 / brentq(lambda mu: gaussian_delta(epsilon, mu) - delta, 1e-4, 20, xtol=1e-12)
    assert plan.season_noise_multiplier == pytest.approx(exact, rel=2e-3)
    assert epsilon_pld(plan.events(), delta) <= epsilon


def test_without_noise_nothing_is_promised():
    plan = solve_plan(
        epsilon=float("inf"), delta=1e-5, sample_rate=1.0, steps=0, max_grad_norm=1.0,
        size_bracket=4,
    )  # fmt: skip
    assert (plan.dp_model, plan.takes_histogram, plan.steps) == ("none", False, 0)


def test_shared_noise_costs_no_more_than_is_charged():
    by_absent = epsilon_by_absent(SHARED)
    assert len(by_absent) == 3
    assert by_absent[0] < by_absent[-1] <= epsilon_pld(SHARED.events(), SHARED.delta)
