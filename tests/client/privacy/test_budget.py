"""Charging rounds: never past the ceiling, over rounds, runs and data sets alike."""

import contextlib
import math
import re
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.privacy.budget import (
    LEDGER_FILE,
    _rounded_up,
    advice,
    charge_round,
    open_for_use,
    open_ledger,
    plan_that_fits,
    rounds_left,
    spent,
)
from client.privacy.policy import POLICY_FILE, Policy
from common.errors import BudgetError, InputError, PolicyError
from common.privacy.accounting.accountants import budget_share, epsilon_pld, epsilon_rdp
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.entry import spent_events
from common.privacy.ledger.ledger import Ledger
from common.settings.run import RunSettings
from tests.support.shops import command

PLAN = PrivacyPlan(
    sample_rate=1.0,
    steps=40,
    noise_multiplier=6.0,
    max_grad_norm=1.0,
    size_bracket=100,
    delta=1e-5,
    dp_model="local",
    popularity_noise_multiplier=20.0,
)
POLICY = Policy(max_epsilon=3.0, max_run_epsilon=100.0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


def fill(ledger, policy=POLICY, plan=PLAN, run="run"):
    """Charge rounds until the budget refuses; return how many it let through."""
    for number in range(1, 1000):
        try:
            charge_round(ledger, plan, policy, run, number, "train")
        except BudgetError:
            return number - 1
    raise AssertionError("The budget never ended.")


def test_the_ceiling_holds_and_little_is_wasted(path):
    ledger = Ledger.open(path, "shop", "data")
    promised = rounds_left(ledger, PLAN, POLICY)
    charge_round(ledger, PLAN, POLICY, "run", 0, "popularity")
    passed = fill(ledger)
    assert 0 < passed <= promised
    events = spent_events(ledger.entries())
    assert epsilon_pld(events, 1e-5) <= epsilon_rdp(events, 1e-5) <= 3.0
    assert epsilon_pld(events, 1e-5) > 3.0 / 1.25
    assert rounds_left(ledger, PLAN, POLICY) == 0


def test_the_budget_spans_runs_restarts_and_renewed_data(path):
    whole = fill(Ledger.open(path.with_name("other.db"), "shop", "data"))
    ledger = Ledger.open(path, "shop", "data")
    for number in range(1, 6):
        charge_round(ledger, PLAN, POLICY, "first run", number, "train")
    renewed = open_for_use(path, "shop", "other data")
    assert fill(renewed, run="second run") == whole - 5


def test_a_refusal_says_what_is_left_and_charges_nothing(path):
    ledger = Ledger.open(path, "shop", "data")
    fill(ledger)
    before = ledger.head
    strong = replace(PLAN, noise_multiplier=2.0)
    with pytest.raises(BudgetError) as caught:
        charge_round(ledger, strong, POLICY, "run", 99, "train")
    assert caught.value.field == "max_epsilon"
    for part in ("epsilon 3 at delta 1e-05", "which needs", "is left", "0 training round(s)"):
        assert part in str(caught.value)
    assert ledger.head == before


def plan_in(refusal):
    """The plan that a refusal names, read from its text as a person would."""
    found = re.search(
        r"noise_multiplier ([\d.e+]+) and popularity_noise_multiplier ([\d.e+]+)"
        r"(?: and season_noise_multiplier ([\d.e+]+))?: epsilon ([\d.]+)",
        refusal,
    )
    noise = {
        "noise_multiplier": float(found[1]),
        "popularity_noise_multiplier": float(found[2]),
        "season_noise_multiplier": float(found[3] or 0),
    }
    return noise, float(found[4])


def charge_whole(ledger, plan, policy, run):
    charge_round(ledger, plan, policy, run, 0, "popularity")
    if plan.takes_season:
        charge_round(ledger, plan, policy, run, 0, "season")
    for number in range(1, plan.rounds + 1):
        charge_round(ledger, plan, policy, run, number, "train")


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 12), st.sampled_from([1.0, 0.3]), st.floats(1.5, 9))
def test_the_plan_that_a_refusal_names_is_accepted_whole(tmp_path, before, q, ceiling):
    """And hardly any noise could be spared: with a little less it is refused."""
    path = tmp_path / f"{before}-{q}-{ceiling}.db"
    policy = Policy(max_epsilon=ceiling, max_run_epsilon=1000.0)
    ledger = Ledger.open(path, "shop", "data")
    for number in range(before):
        charge_round(ledger, replace(PLAN, noise_multiplier=20.0), policy, "old", number, "train")
    asked = replace(PLAN, sample_rate=q, noise_multiplier=0.5, steps=8)
    with pytest.raises(BudgetError) as caught:
        charge_whole(ledger, asked, policy, "refused")
    noise, epsilon = plan_in(str(caught.value))
    named = replace(asked, **noise)
    assert epsilon_pld(named.events(), named.delta) == pytest.approx(epsilon, abs=6e-4)
    less = replace(named, noise_multiplier=0.99 * named.noise_multiplier)
    spent_so_far = spent_events(ledger.entries())
    assert budget_share((*spent_so_far, *less.events()), policy.delta, ceiling) > 1
    charge_whole(ledger, named, policy, "accepted")


def test_the_rounds_that_a_refusal_names_are_accepted_and_not_one_more(path):
    ledger = Ledger.open(path, "shop", "data")
    with pytest.raises(BudgetError) as caught:
        charge_round(
            ledger, replace(PLAN, noise_multiplier=0.5, steps=4), POLICY, "run", 1, "train"
        )
    assert "0 training round(s)" in str(caught.value)
    promised = int(re.search(r"(\d+) training round", advice((), PLAN, POLICY))[1])
    assert 0 < promised == fill(ledger)


def test_when_nothing_fits_any_more_the_refusal_says_so(path):
    spent_up = Policy(max_epsilon=1e-4, max_run_epsilon=100.0)
    with pytest.raises(BudgetError) as caught:
        charge_round(Ledger.open(path, "shop", "data"), PLAN, spent_up, "run", 1, "train")
    assert "whatever its noise" in str(caught.value)
    none = replace(PLAN, dp_model="none", noise_multiplier=0.0, popularity_noise_multiplier=0.0)
    assert plan_that_fits((), none, POLICY) is None
    assert plan_that_fits((), none, replace(POLICY, max_epsilon=math.inf)) == none


def test_a_cheaper_plan_still_fits_what_is_left(path):
    ledger = Ledger.open(path, "shop", "data")
    fill(ledger)
    gentle = replace(PLAN, noise_multiplier=600.0)
    assert rounds_left(ledger, gentle, POLICY) > 0
    charge_round(ledger, gentle, POLICY, "run", 99, "train")


def test_a_retry_is_charged_again(path):
    ledger = Ledger.open(path, "shop", "data")
    for _ in range(2):
        charge_round(ledger, PLAN, POLICY, "run", 7, "train")
    assert [entry.round_number for entry in ledger.entries()] == [7, 7]


def test_the_policy_is_asked_first(path):
    ledger = Ledger.open(path, "shop", "data")
    with pytest.raises(PolicyError):
        charge_round(ledger, PLAN, Policy(min_noise_multiplier=7.0), "run", 1, "train")
    with pytest.raises(PolicyError):
        charge_round(ledger, PLAN, POLICY, "run", 1, "train", seeded_noise=True)
    assert ledger.entries() == ()


def test_seeded_noise_goes_on_record(path):
    ledger = Ledger.open(path, "shop", "data")
    policy = replace(POLICY, allow_seeded_noise=True)
    charge_round(ledger, PLAN, policy, "run", 1, "train", seeded_noise=True)
    assert ledger.entries()[0].seeded_noise


def test_after_noise_from_a_seed_no_run_that_promises_something_is_charged(path):
    """What the seed gave away stays given away, so the ledger's epsilon would be a lie."""
    ledger = Ledger.open(path, "shop", "data")
    tests = replace(POLICY, allow_seeded_noise=True)
    charge_round(ledger, PLAN, tests, "test", 1, "train", seeded_noise=True)
    before = ledger.head
    with pytest.raises(BudgetError) as caught:
        charge_round(ledger, PLAN, tests, "run", 1, "train")
    assert caught.value.field == "seeded_noise"
    assert ledger.head == before
    charge_round(ledger, PLAN, tests, "test", 2, "train", seeded_noise=True)


def test_a_simulations_policy_covers_exactly_one_run(path):
    policy = Policy.for_simulation(PLAN)
    ledger = Ledger.open(path, "shop", "data")
    charge_round(ledger, PLAN, policy, "run", 0, "popularity")
    for number in range(1, PLAN.rounds + 1):
        charge_round(ledger, PLAN, policy, "run", number, "train")
    with pytest.raises(BudgetError):
        charge_round(ledger, PLAN, policy, "run", PLAN.rounds + 1, "train")


def test_what_is_spent_is_what_the_plan_says(path):
    ledger = Ledger.open(path, "shop", "data")
    assert spent(ledger, 1e-5).pld == 0
    charge_round(ledger, PLAN, POLICY, "run", 0, "popularity")
    for number in range(1, 4):
        charge_round(ledger, PLAN, POLICY, "run", number, "train")
    assert spent(ledger, 1e-5).pld == epsilon_pld(PLAN.events(3), 1e-5)


@pytest.mark.parametrize("season", [True, False])
def test_the_command_tells_what_fits_and_it_does(tmp_path, season):
    """Of a run as a deployment starts it: with a season, where the policy allows one."""
    shop = tmp_path / "shop"
    ends = {"season_ends": "2026-11-30"} if season else {}
    asked = RunSettings(rounds=30, epsilon=6.0, **ends).plan()
    shop.mkdir()
    ask = ["client", "budget", "--shop", str(shop), "--rounds", "30", "--epsilon", "6"]
    fresh = command(ask, tmp_path).output
    assert "0 entries on the ledger" in fresh
    assert not list(shop.iterdir())  # asking starts no ledger
    (shop / POLICY_FILE).write_text(f"allow_season = {str(season).lower()}\n")
    ledger = Ledger.open(shop / "node" / LEDGER_FILE, "shop", "data")
    charge_whole(ledger, asked, Policy(), "first")
    told = " ".join(command(ask, tmp_path).output.split())
    assert f"{31 + season} entries on the ledger" in told
    noise, epsilon = plan_in(told)
    assert epsilon < 6
    assert (noise["season_noise_multiplier"] > 0) == season
    charge_whole(ledger, replace(asked, **noise), Policy(), "second")
    assert isinstance(command([*ask[:3], str(tmp_path / "none")], tmp_path).exception, InputError)


def test_every_import_is_an_entry_and_none_opens_a_new_budget(path):
    """Imports of the same rows, of more rows, and none at all: one ledger, one budget."""
    whole = fill(Ledger.open(path.with_name("other.db"), "shop"))
    ledger = open_for_use(path, "shop", "first")
    charge_round(ledger, PLAN, POLICY, "run", 1, "train")
    assert len(open_for_use(path, "shop", "first").entries()) == 2  # opened again, not imported
    renewed = open_for_use(path, "shop", "second")  # of the same rows or of others: it looks alike
    assert [(one.kind, one.dataset) for one in renewed.entries()] == [
        ("data", "first"), ("train", "first"), ("data", "second"),
    ]  # fmt: skip
    assert fill(renewed) == whole - 1
    assert open_ledger(path, "shop").entries() == renewed.entries()


DAY = 86_400.0


def on_day(monkeypatch, day):
    monkeypatch.setattr(time, "time", lambda: day * DAY + 4_711.123)


def test_a_ledgers_times_say_the_day_and_no_more(path, monkeypatch):
    on_day(monkeypatch, 20_000)
    ledger = open_for_use(path, "shop", "first")
    charge_round(ledger, PLAN, POLICY, "run", 1, "train")
    assert {one.time for one in ledger.entries()} == {20_000 * DAY}


@given(
    days=st.integers(1, 40),
    waits=st.lists(st.integers(-3, 50), min_size=1, max_size=12),
    each=st.integers(1, 30),
)
@settings(max_examples=25, deadline=None)
def test_any_span_of_the_policys_days_stays_below_its_ceiling(tmp_path_factory, days, waits, each):
    """Whatever the clock does between charges: in any D days on end no more than the ceiling."""
    policy = replace(POLICY, budget_days=days)
    ledger = Ledger.open(tmp_path_factory.mktemp("node") / "ledger.db", "shop")
    today = 20_000
    with pytest.MonkeyPatch.context() as patch:
        for wait in waits:
            today += wait
            on_day(patch, today)
            for number in range(1, each + 1):
                with contextlib.suppress(BudgetError):
                    charge_round(ledger, PLAN, policy, "run", number, "train")
    entries = ledger.entries()
    for last in {one.time for one in entries}:
        span = [one for one in entries if last - days * DAY <= one.time <= last]
        assert budget_share(spent_events(span), policy.delta, policy.max_epsilon) <= 1


@pytest.mark.parametrize("days", [1, 7])
def test_no_span_of_the_policys_days_holds_two_budgets_whenever_it_begins(path, monkeypatch, days):
    """A minute before midnight: budget that came back at midnight would be had twice."""
    policy = replace(POLICY, budget_days=days)
    ledger = Ledger.open(path, "shop")
    monkeypatch.setattr("time.time", lambda: 20_001 * DAY - 60)
    assert fill(ledger, policy) > 0
    monkeypatch.setattr("time.time", lambda: 20_001 * DAY - 60 + days * DAY - 1)
    assert fill(ledger, policy) == 0
    monkeypatch.setattr("time.time", lambda: (20_001 + days) * DAY)
    assert fill(ledger, policy) > 0


def test_a_budget_of_days_grows_back_and_one_for_life_does_not(path, monkeypatch):
    monthly = replace(POLICY, budget_days=30)
    on_day(monkeypatch, 20_000)
    ledger = Ledger.open(path, "shop")
    whole = fill(ledger, monthly)
    on_day(monkeypatch, 20_030)
    assert fill(ledger, monthly) == 0
    on_day(monkeypatch, 20_031)
    assert fill(ledger) == 0  # for life
    assert rounds_left(ledger, PLAN, monthly) == min(whole, PLAN.rounds)
    assert fill(ledger, monthly) == whole
    on_day(monkeypatch, 19_000)  # a clock that is set back brings nothing back
    assert fill(ledger, monthly) == 0


@given(st.just(0.0) | st.floats(1e-3, 1e4))
def test_printed_noise_is_four_digits_and_never_less_than_what_fits(value):
    rounded = _rounded_up(value)
    assert value <= rounded <= value * 1.0011
    assert float(f"{rounded:.4g}") == rounded
