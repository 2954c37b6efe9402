"""What a plan with shared noise costs by who is absent, never above what a ledger is charged."""

import dataclasses
import itertools

import pytest

from common.errors import PrivacyError, SettingsError
from common.privacy.accounting.accountants import MechanismEvent, epsilon_pld
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.accounting.plan_solver import solve_plan
from common.privacy.accounting.shared_claim import (
    check_shared,
    epsilon_by_absent,
    epsilon_with_absent,
    renyi_with_absent,
)

PLAN = PrivacyPlan(
    sample_rate=0.25,
    steps=40,
    noise_multiplier=3.0,
    max_grad_norm=0.5,
    size_bracket=400,
    delta=1e-5,
    dp_model="distributed",
    popularity_noise_multiplier=12.0,
    season_noise_multiplier=8.0,
    merchants=12,
    spared=4,
)


def test_epsilon_rises_with_each_who_is_absent_up_to_what_is_charged():
    found = epsilon_by_absent(PLAN)
    assert len(found) == 5
    assert list(found) == sorted(set(found))
    charged = epsilon_pld(PLAN.events(), PLAN.delta)
    assert charged - 2e-3 <= found[-1] <= charged


def test_it_is_the_gaussian_s_epsilon_at_the_noise_of_those_who_are_left():
    for absent in (0, 3, 4, 7):
        factor = ((12 - absent) / 8) ** 0.5
        events = [
            MechanismEvent(one.sample_rate, one.noise_multiplier * factor, one.count)
            for one in PLAN.events()
        ]
        assert epsilon_with_absent(PLAN, absent) == pytest.approx(
            epsilon_pld(events, PLAN.delta), rel=2e-3
        )


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0])
@pytest.mark.parametrize(("q", "steps"), [(1.0, 1), (0.25, 40), (0.02, 400)])
def test_a_ledger_is_never_charged_less_than_is_told(epsilon, q, steps):
    plan = solve_plan(
        epsilon=epsilon,
        delta=1e-6,
        sample_rate=q,
        steps=steps,
        max_grad_norm=1.0,
        size_bracket=400,
        dp_model="distributed",
        season_share=0.25,
        merchants=8,
    )
    assert epsilon_by_absent(plan)[-1] <= epsilon_pld(plan.events(), plan.delta) <= epsilon


@pytest.mark.parametrize("q", [1.0, 0.25])
@pytest.mark.parametrize(
    ("sigma", "absent"), list(itertools.product([2.0, 10.0, 30.0], [0, 2, 4, 6]))
)
def test_the_second_route_agrees_and_is_never_below_the_first(sigma, absent, q):
    plan = dataclasses.replace(PLAN, noise_multiplier=sigma, sample_rate=q)
    first, second = epsilon_with_absent(plan, absent), renyi_with_absent(plan, absent)
    assert first <= second
    if q == 1:  # its theorem on sampling is loose
        assert second <= 1.25 * first


def test_fewer_than_the_plan_spares_for_cost_more_than_it_claims():
    """Which is why no node shares what a sum of fewer would be opened with."""
    beyond = [epsilon_with_absent(PLAN, absent) for absent in range(4, 12)]
    assert beyond == sorted(set(beyond))
    assert beyond[1] > epsilon_pld(PLAN.events(), PLAN.delta)


def test_noise_that_is_not_shared_has_no_such_cost():
    local = dataclasses.replace(PLAN, dp_model="local", spared=0)
    assert epsilon_by_absent(local) == ()
    check_shared(local)
    for ask in (epsilon_with_absent, renyi_with_absent):
        with pytest.raises(SettingsError):
            ask(local, 0)
    for absent in (-1, 12):
        with pytest.raises(SettingsError):
            epsilon_with_absent(PLAN, absent)


def test_a_plan_too_coarse_for_its_claim_is_refused():
    check_shared(PLAN)
    coarse = dataclasses.replace(PLAN, steps=10_000_000)
    with pytest.raises(PrivacyError) as caught:
        check_shared(coarse)
    assert caught.value.field == "noise_multiplier"
    with pytest.raises(PrivacyError):
        epsilon_with_absent(coarse, 4)
