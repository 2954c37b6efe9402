"""Refreshes of a season: held to the ceiling for life, and no way to a training round."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.privacy.budget import advice, charge_round
from client.privacy.policy import POLICY_FILE, Policy
from common.errors import BudgetError, SettingsError
from common.privacy.accounting.accountants import (
    MechanismEvent,
    budget_share,
    ceiling_for,
    epsilon_pld,
)
from common.privacy.accounting.plan_solver import solve_plan
from common.privacy.ledger.entry import spent_events
from common.privacy.ledger.ledger import Ledger
from tests.client.privacy.test_budget import PLAN, charge_whole
from tests.support.shops import command

REFRESH = replace(
    PLAN,
    steps=0,
    noise_multiplier=0.0,
    popularity_noise_multiplier=0.0,
    season_noise_multiplier=27.0,
)


@given(ceiling=st.floats(0.5, 3.0), sigma=st.floats(12.0, 60.0))
def test_refreshes_are_held_to_the_ceiling_for_life(ceiling, sigma):
    """As many as `advice` says are charged, and not one more; none is a training round."""
    plan = replace(REFRESH, season_noise_multiplier=sigma)
    policy = Policy(max_epsilon=ceiling)
    told = advice((), plan, policy)
    count = int(re.search(r"(\d+) refresh", told)[1])
    one = plan.event("season")
    assert budget_share((replace(one, count=count),), 1e-5, ceiling) <= 1
    assert budget_share((replace(one, count=count + 1),), 1e-5, ceiling) > 1


def test_where_none_fits_it_says_which_would():
    plan = replace(REFRESH, season_noise_multiplier=2.0)
    told = advice((), plan, Policy(max_epsilon=0.5))
    sigma = float(re.search(r"season_noise_multiplier ([0-9.]+)", told)[1])
    fitting = replace(plan, season_noise_multiplier=sigma)
    assert budget_share(fitting.events(), 1e-5, 0.5) <= 1 < budget_share(plan.events(), 1e-5, 0.5)


def test_a_refresh_is_charged_on_top_of_what_was_trained(tmp_path):
    ledger = Ledger.open(tmp_path / "ledger.db", "shop", "data")
    policy = Policy(max_epsilon=ceiling_for((*PLAN.events(), REFRESH.event("season")), 1e-5) * 1.01)
    charge_whole(ledger, PLAN, policy, "training")
    charge_round(ledger, REFRESH, policy, "refresh", 0, "season")
    with pytest.raises(SettingsError):
        charge_round(ledger, REFRESH, policy, "refresh", 1, "train")
    with pytest.raises(BudgetError):
        again_and_again(ledger, policy)
    kinds = [one.kind for one in ledger.entries() if one.run_id == "refresh"]
    assert set(kinds) == {"season"}
    assert epsilon_pld(spent_events(ledger.entries()), 1e-5) <= policy.max_epsilon


def test_the_command_says_how_many_refreshes_fit(tmp_path):
    shop = tmp_path / "shop"
    shop.mkdir()
    ask = ["client", "budget", "--shop", str(shop), "--rounds", "0", "--epsilon", "0.3"]
    told = " ".join(command(ask, tmp_path).output.split())
    sigma = solve_plan(
        epsilon=0.3, delta=1e-5, sample_rate=0.25, steps=0, max_grad_norm=1.0, size_bracket=400
    ).season_noise_multiplier
    count = int(re.search(r"(\d+) refresh", told)[1])
    assert budget_share((MechanismEvent(1.0, sigma, count),), 1e-5, 8.0) <= 1
    assert budget_share((MechanismEvent(1.0, sigma, count + 1),), 1e-5, 8.0) > 1
    (shop / POLICY_FILE).write_text("allow_refresh = false\n")
    assert "allows no refresh" in command(ask, tmp_path).output


def again_and_again(ledger, policy):
    for _ in range(200):
        charge_round(ledger, REFRESH, policy, "refresh", 0, "season")
