from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.privacy.budget import charge_round, rounds_left
from client.privacy.next_run import next_run
from client.privacy.policy import Policy
from common.errors import BudgetError
from common.privacy.ledger.ledger import Ledger
from tests.support.ledgers import PLAN

REFRESH = replace(
    PLAN,
    steps=0,
    steps_per_round=1,
    noise_multiplier=0.0,
    popularity_noise_multiplier=0.0,
    season_noise_multiplier=5.0,
)
POLICY = Policy(max_epsilon=8.0, max_run_epsilon=100.0)


@pytest.fixture
def ledger(tmp_path):
    return Ledger.open(tmp_path / "ledger.db", "shop")


def test_a_fresh_ledger_has_all_of_its_budget_left():
    found = next_run((), POLICY, PLAN)
    assert (found.entries, found.spent_share, found.left_share) == (0, 0.0, 1.0)
    assert found.fits
    assert 0 < found.round_share < found.run_share <= 1
    assert found.refused == ""
    assert found.noise_that_fits is None


@settings(max_examples=4, deadline=None)
@given(paid=st.integers(0, 12), ceiling=st.sampled_from([2.0, 4.0, 8.0]))
def test_it_says_what_the_ledger_then_does(tmp_path_factory, paid, ceiling):
    ledger = Ledger.open(tmp_path_factory.mktemp("ledger") / "ledger.db", "shop")
    policy = replace(POLICY, max_epsilon=ceiling)
    for number in range(1, paid + 1):
        try:
            charge_round(ledger, PLAN, policy, "run", number, "train")
        except BudgetError:
            break
    told = next_run(ledger.entries(), policy, PLAN)
    assert told.spent_share <= 1
    one_fits = told.spent_share + told.round_share <= 1
    assert one_fits == (rounds_left(ledger, PLAN, policy) > 0)
    if told.fits:
        charge_round(ledger, PLAN, policy, "next", 0, "popularity")
        for number in range(1, PLAN.steps + 1):
            charge_round(ledger, PLAN, policy, "next", number, "train")
    elif not one_fits:
        with pytest.raises(BudgetError):
            charge_round(ledger, PLAN, policy, "next", 1, "train")


def test_noise_that_fits_does_fit(ledger):
    policy = replace(POLICY, max_epsilon=2.0)
    told = next_run(ledger.entries(), policy, PLAN)
    assert not told.fits
    factor = told.noise_that_fits / PLAN.noise_multiplier
    louder = replace(
        PLAN,
        noise_multiplier=told.noise_that_fits,
        popularity_noise_multiplier=1.001 * factor * PLAN.popularity_noise_multiplier,
    )
    assert next_run(ledger.entries(), policy, louder).fits


def test_of_a_refresh_it_tells_what_its_season_costs(ledger):
    """The plan of the release in use, which may be a refresh, stands for the next run's."""
    told = next_run(ledger.entries(), POLICY, REFRESH)
    assert (told.rounds, told.fits) == (0, True)
    assert told.round_share == told.run_share > 0
    strict = replace(POLICY, max_epsilon=0.1)
    told = next_run(ledger.entries(), strict, REFRESH)
    assert not told.fits
    assert told.noise_that_fits > REFRESH.season_noise_multiplier
    louder = replace(REFRESH, season_noise_multiplier=told.noise_that_fits)
    assert next_run(ledger.entries(), strict, louder).fits


def test_a_policy_that_refuses_says_why_and_a_cohort_is_no_reason():
    strict = replace(POLICY, min_noise_multiplier=50.0)
    assert "noise_multiplier" in next_run((), strict, PLAN).refused
    assert next_run((), replace(POLICY, min_cohort=9), PLAN).refused == ""
