"""The accountants: against each other, against published values and against an exact formula."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from common.errors import PrivacyError, SettingsError
from common.privacy.accounting import accountants
from common.privacy.accounting.accountants import (
    AGREEMENT,
    LEAST_NOISE,
    AccountantReport,
    MechanismEvent,
    account,
    budget_share,
    ceiling_for,
    epsilon_pld,
    epsilon_prv,
    epsilon_rdp,
    gaussian_delta,
    gaussian_mu,
    merge,
    sigma_for_epsilon,
)
from common.privacy.accounting.second_accountant import _prv_without_torch, second_opinion

DELTA = 1e-5
# (q, T, sigma rounded to what was published, epsilon)
KNOWN = [
    (0.25, 50, 6.8, 1),
    (0.25, 50, 3.75, 2),
    (0.25, 50, 2.16, 4),
    (0.25, 50, 1.33, 8),
    (0.05, 200, 2.84, 1),
    (0.05, 200, 1.67, 2),
    (0.05, 200, 1.09, 4),
    (0.05, 200, 0.79, 8),
]


@pytest.mark.parametrize(("q", "steps", "sigma", "epsilon"), KNOWN)
def test_known_values_by_all_three(q, steps, sigma, epsilon):
    report = account([MechanismEvent(q, sigma, steps)], DELTA)
    assert report.pld == pytest.approx(epsilon, rel=0.015)
    assert report.prv == pytest.approx(report.pld, abs=AGREEMENT)
    assert report.pld < report.rdp < 1.2 * report.pld


@pytest.mark.parametrize(("q", "steps", "sigma", "epsilon"), KNOWN[::3])
def test_sigma_for_epsilon_finds_the_known_noise(q, steps, sigma, epsilon):
    found = sigma_for_epsilon(epsilon=epsilon, delta=DELTA, sample_rate=q, steps=steps)
    assert found == pytest.approx(sigma, rel=0.005)
    assert epsilon_pld([MechanismEvent(q, found, steps)], DELTA) <= epsilon
    less = MechanismEvent(q, found * 0.999, steps)
    assert epsilon_pld([less], DELTA) > epsilon


def test_an_epsilon_out_of_reach_is_refused():
    with pytest.raises(SettingsError):
        sigma_for_epsilon(epsilon=1e-5, delta=1e-9, sample_rate=1.0, steps=10**6)
    with pytest.raises(SettingsError):
        sigma_for_epsilon(epsilon=math.inf, delta=DELTA, sample_rate=1.0, steps=1)


def test_pld_and_prv_agree_on_random_schedules():
    chooser = np.random.default_rng(0)
    for _ in range(10):
        schedule = [
            MechanismEvent(
                float(chooser.choice([1.0, 0.5, 0.25, 0.1, 0.02])),
                chooser.uniform(2, 12),
                int(chooser.integers(1, 30)),
            )
            for _ in range(chooser.integers(1, 4))
        ]
        report = account(schedule, float(chooser.choice([1e-4, 1e-5, 1e-6])))
        assert report.pld == pytest.approx(report.prv, abs=AGREEMENT)
        assert report.rdp >= report.pld


@pytest.mark.statistical
def test_pld_and_prv_agree_on_fifty_schedules_of_every_kind():
    """Many and few steps, much and little noise, up to nine distinct events: what plans allow."""
    chooser = np.random.default_rng(20)
    gaps = []
    while len(gaps) < 50:
        delta = 10.0 ** chooser.uniform(-8, -3)
        schedule = [random_event(chooser) for _ in range(chooser.integers(1, 10))]
        if not 0.02 < epsilon_rdp(schedule, delta) < 40:
            continue  # more is no privacy, less is no run
        gaps.append(epsilon_prv(schedule, delta) - epsilon_pld(schedule, delta))
    assert max(map(abs, gaps)) <= AGREEMENT, max(gaps, key=abs)


def random_event(chooser):
    q = 1.0 if chooser.random() < 0.2 else float(10.0 ** chooser.uniform(-3, 0))
    steps = int(10.0 ** chooser.uniform(0, 3.5))
    sigma = float(10.0 ** chooser.uniform(-0.2, 1.5))
    return MechanismEvent(q, sigma, steps)


def hockey_stick(mu, epsilon):
    """delta of N(mu, 1) against N(0, 1) by integration: no formula shared with the code."""
    start = epsilon / mu + mu / 2  # where the densities' ratio passes e^epsilon
    value, _ = integrate.quad(
        lambda x: stats.norm.pdf(x, mu) - math.exp(epsilon) * stats.norm.pdf(x),
        start,
        start + 40,
        epsabs=1e-14,
        limit=200,
    )
    return value


@pytest.mark.parametrize(("sigma", "steps"), [(5.0, 1), (10.0, 50), (4.0, 3), (30.0, 20)])
def test_full_batch_is_the_exact_gaussian(sigma, steps):
    mu = math.sqrt(steps) / sigma
    exact = optimize.brentq(lambda epsilon: hockey_stick(mu, epsilon) - DELTA, 0.01, 30)
    event = MechanismEvent(1.0, sigma, steps)
    assert epsilon_pld([event], DELTA) == pytest.approx(exact, abs=2e-3)
    assert epsilon_prv([event], DELTA) == pytest.approx(exact, abs=AGREEMENT)
    assert gaussian_delta(exact, mu) == pytest.approx(DELTA, rel=1e-3)
    assert gaussian_mu(exact, DELTA) == pytest.approx(mu, rel=1e-4)


def test_one_sampled_step_is_the_worse_of_both_directions():
    q, sigma, epsilon = 0.25, 1.0, epsilon_pld([MechanismEvent(0.25, 1.0, 1)], DELTA)

    def delta_of(numerator, denominator):
        def gap(x):
            return max(numerator(x) - math.exp(epsilon) * denominator(x), 0.0)

        return integrate.quad(gap, -12, 12, points=[0, 1, 2, 3, 4], limit=500)[0]

    def without(x):
        return stats.norm.pdf(x, 0, sigma)

    def with_one(x):
        return (1 - q) * stats.norm.pdf(x, 0, sigma) + q * stats.norm.pdf(x, 1, sigma)

    worse = max(delta_of(with_one, without), delta_of(without, with_one))
    assert worse == pytest.approx(DELTA, rel=0.01)


def test_nothing_spent_is_zero_and_no_noise_is_infinite():
    for function in (epsilon_pld, epsilon_prv, epsilon_rdp):
        assert function([], DELTA) == 0
        assert function([MechanismEvent(0.1, 1.0, 0)], DELTA) == 0
        assert math.isinf(function([MechanismEvent(0.1, 0.0, 1), MechanismEvent(0.1, 1, 1)], DELTA))
    assert account([MechanismEvent(0.1, 0.0, 1)], DELTA).pld == math.inf


@pytest.mark.parametrize("sigma", [1e-200, 1e-6, 0.99 * LEAST_NOISE])
def test_noise_too_small_to_matter_is_none_and_takes_no_memory(sigma):
    events = [MechanismEvent(0.25, sigma, 10**6), MechanismEvent(0.1, 1, 1)]
    assert account(events, DELTA) == AccountantReport(math.inf, math.inf, math.inf, DELTA)
    assert budget_share(events, DELTA, 8.0) == math.inf
    assert math.isinf(second_opinion(events, DELTA).epsilon)
    assert math.isinf(_prv_without_torch(merge(events), DELTA))


def test_accountants_that_disagree_stop_everything(monkeypatch):
    monkeypatch.setattr(accountants, "epsilon_prv", lambda events, delta: 1.0)
    with pytest.raises(PrivacyError) as caught:
        account([MechanismEvent(0.25, 2.16, 50)], DELTA)
    assert caught.value.field == "epsilon"


events = st.builds(
    MechanismEvent,
    sample_rate=st.sampled_from([0.25, 1.0]),
    noise_multiplier=st.sampled_from([3.0, 8.0]),
    count=st.integers(0, 20),
)


@given(st.lists(events, max_size=6), st.randoms())
def test_merging_keeps_the_counts_and_forgets_the_order(schedule, shuffler):
    merged = merge(schedule)
    assert sum(e.count for e in merged) == sum(e.count for e in schedule)
    assert len({(e.sample_rate, e.noise_multiplier) for e in merged}) == len(merged)
    shuffled = list(schedule)
    shuffler.shuffle(shuffled)
    assert merge(shuffled) == merged


@settings(max_examples=15, deadline=None)
@given(st.lists(events, max_size=3), events)
def test_more_is_never_cheaper(schedule, extra):
    for function in (epsilon_pld, epsilon_rdp):
        assert function([*schedule, extra], DELTA) >= function(schedule, DELTA) - 1e-9
    assert budget_share([*schedule, extra], DELTA, 8.0) >= budget_share(schedule, DELTA, 8.0)


def test_splitting_a_run_into_rounds_changes_nothing():
    whole = [MechanismEvent(0.25, 2.16, 50)]
    rounds = [MechanismEvent(0.25, 2.16, 1)] * 50
    assert account(rounds, DELTA) == account(whole, DELTA)


def test_budget_share_adds_up_and_is_one_at_the_least_ceiling():
    run = [MechanismEvent(1.0, 4.8, 1), MechanismEvent(0.25, 2.2, 50)]
    half = [MechanismEvent(0.25, 2.2, 25)]
    assert 2 * budget_share(half, DELTA, 8.0) == pytest.approx(
        budget_share([MechanismEvent(0.25, 2.2, 50)], DELTA, 8.0)
    )
    ceiling = ceiling_for(run, DELTA)
    assert 0.98 < budget_share(run, DELTA, ceiling) <= 1
    assert budget_share(run, DELTA, ceiling * 0.99) > 1


@pytest.mark.parametrize(("q", "steps", "sigma", "epsilon"), KNOWN)
def test_a_full_budget_is_within_its_ceiling_by_pld_and_not_far_below(q, steps, sigma, epsilon):
    run = [MechanismEvent(q, sigma, steps)]
    spent = epsilon_pld(run, DELTA)
    assert spent <= epsilon_rdp(run, DELTA) <= ceiling_for(run, DELTA) <= 1.2 * spent


def test_budget_share_of_impossible_and_endless_budgets():
    run = [MechanismEvent(0.25, 2.2, 50)]
    assert budget_share([], DELTA, 0.0) == 0
    assert budget_share(run, DELTA, math.inf) == 0
    assert budget_share(run, DELTA, 1e-6) == math.inf
    assert budget_share([MechanismEvent(0.25, 0.0, 1)], DELTA, 8.0) == math.inf


def test_a_report_per_round_is_fast():
    account([MechanismEvent(0.3, 2.5, 1)], DELTA)
    start = time.perf_counter()
    for done in range(2, 7):
        account([MechanismEvent(0.3, 2.5, done)], DELTA)
    assert (time.perf_counter() - start) / 5 < 1.0  # measured: 0.05 to 0.2 s


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, np.nan])
def test_an_impossible_delta_is_refused(delta):
    for function in (epsilon_pld, epsilon_prv, epsilon_rdp):
        with pytest.raises(SettingsError) as caught:
            function([MechanismEvent(0.1, 1.0, 1)], delta)
        assert caught.value.field == "delta"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ((0.0, 1.0, 1), "sample_rate"),
        ((1.1, 1.0, 1), "sample_rate"),
        ((0.5, -1.0, 1), "noise_multiplier"),
        ((0.5, math.nan, 1), "noise_multiplier"),
        ((0.5, 1.0, -1), "count"),
    ],
)
def test_an_impossible_event_is_refused(values, field):
    with pytest.raises(SettingsError) as caught:
        MechanismEvent(*values)
    assert caught.value.field == field
