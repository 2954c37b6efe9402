import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.serving.experiments.sequential import (
    LEAST_SHOPPERS,
    TIGHTEST_AT,
    Sums,
    boundary,
    effect,
)


def sums(seed, shoppers=400, rate=0.1, items=10):
    random = np.random.default_rng(seed)
    trials = random.poisson(items, shoppers)
    return Sums.of(random.binomial(trials, rate), trials)


def test_the_variance_of_a_ratio_is_the_bootstraps():
    random = np.random.default_rng(1)
    own = random.beta(1, 9, 2000)  # shoppers differ, so that their lists are alike
    trials = 1 + random.poisson(8, 2000)
    events = random.binomial(trials, own)
    found = Sums.of(events, trials)
    again = []
    for _ in range(400):
        some = random.integers(2000, size=2000)
        again.append(events[some].sum() / trials[some].sum())
    assert found.rate == events.sum() / trials.sum()
    assert math.sqrt(found.variance) == pytest.approx(np.std(again), rel=0.1)
    naive = found.rate * (1 - found.rate) / trials.sum()
    assert found.variance > 1.5 * naive  # lists as units would be far too sure


@given(units=st.integers(10, 10**6), level=st.floats(0.001, 0.2))
def test_the_boundary_is_robbins_mixture_and_falls_with_more_units(units, level):
    half = boundary(units, level)
    r2 = (-2 * math.log(level) + math.log(-2 * math.log(level) + 1)) / TIGHTEST_AT
    # At the boundary the mixture martingale of a sum S of unit deviation is 1 / level.
    total = half * units
    log = total**2 * r2 / (2 * (units * r2 + 1)) - math.log(units * r2 + 1) / 2
    assert log == pytest.approx(-math.log(level), rel=1e-9)
    assert boundary(units + 1, level) < half
    assert half > 1.9599 / math.sqrt(units) * (level <= 0.05)  # wider than for one look


def test_too_few_shoppers_or_events_say_nothing():
    few = sums(1, LEAST_SHOPPERS - 1)
    assert effect(few, sums(2), level=0.05).low is None
    rare = sums(3, rate=0.0)
    assert effect(rare, rare, level=0.05).low is None
    nobody = Sums.of(np.empty(0, np.int64), np.empty(0, np.int64))
    assert effect(nobody, nobody, level=0.05).difference == 0


def test_a_share_asks_whether_enough_is_kept():
    one, other = sums(4, 4000), sums(5, 4000)
    kept = effect(one, other, level=0.05, share=0.7)
    assert kept.is_above
    assert effect(one, other, level=0.05, share=1.3).is_below
    assert not effect(one, other, level=0.05).is_above


@pytest.mark.statistical
def test_looked_at_every_day_it_misses_the_truth_as_seldom_as_it_says():
    """Shoppers whose lists are alike come in 40 days, 2,000 times; no effect, and one."""
    random = np.random.default_rng(6)
    for lift in (1.0, 1.2):
        missed = 0
        for _ in range(1000):
            own = random.beta(1, 9, 4000)
            challenged = random.random(4000) < 0.5
            chance = np.where(challenged, np.minimum(own * lift, 1), own)
            trials = 1 + random.poisson(4, 4000)
            events = random.binomial(trials, chance)
            for seen in range(200, 4001, 100):
                arms = [
                    Sums.of(events[:seen][mine], trials[:seen][mine])
                    for mine in (~challenged[:seen], challenged[:seen])
                ]
                found = effect(*arms, level=0.05)
                truth = 0.1 * (lift - 1)
                if found.low is not None and not found.low <= truth <= found.high:
                    missed += 1
                    break
        assert missed <= 50 + 3 * 7
