"""What may be claimed of a ledger: PLD for one plan, the filter where more lies on it."""

import dataclasses

import pytest

from common.privacy.accounting.accountants import budget_share, ceiling_for, epsilon_pld
from common.privacy.accounting.claim import epsilon_claimed, fixed_beforehand
from tests.support.shops import make_plan

PLAN = make_plan(sample_rate=0.25, noise_multiplier=2.16, steps=40)
DELTA = PLAN.delta


def test_a_ledger_of_one_plan_is_claimed_by_pld():
    for spent in (PLAN.events(), PLAN.events(rounds=3), ()):
        assert fixed_beforehand(PLAN.events(), spent)
        assert epsilon_claimed(PLAN.events(), spent, DELTA) == epsilon_pld(spent, DELTA)


@pytest.mark.parametrize("change", ["a round again", "another plan"])
def test_a_ledger_of_more_is_claimed_by_the_filter(change):
    """Whoever asked for more may have seen what came before."""
    later = dataclasses.replace(PLAN, noise_multiplier=5.0)
    more = (PLAN if change == "a round again" else later).events(rounds=1)
    spent = (*PLAN.events(), *more)
    claimed = epsilon_claimed(PLAN.events(), spent, DELTA)
    assert claimed == ceiling_for(spent, DELTA) > epsilon_pld(spent, DELTA)


@pytest.mark.parametrize("replaced", [False, True])
def test_the_least_ceiling_lets_all_pass_and_one_below_does_not(replaced):
    ceiling = ceiling_for(PLAN.events(), DELTA, replaced=replaced)
    assert budget_share(PLAN.events(), DELTA, ceiling, replaced=replaced) <= 1
    assert budget_share(PLAN.events(), DELTA, ceiling * 0.995, replaced=replaced) > 1


@pytest.mark.parametrize(
    ("delta", "size", "large"),
    [(1e-5, 10_000, False), (1e-5, 10_001, True), (1e-3, 100, False), (1.1e-3, 100, True)],
)
def test_a_delta_above_a_tenth_over_the_declared_size_is_warned_of(delta, size, large):
    plan = dataclasses.replace(PLAN, delta=delta, size_bracket=size)
    assert plan.large_delta == large
    assert (f"{size:,}" in plan.delta_warning) == large
    silent = {"noise_multiplier": 0.0, "popularity_noise_multiplier": 0.0}
    assert dataclasses.replace(plan, dp_model="none", **silent).delta_warning == ""
