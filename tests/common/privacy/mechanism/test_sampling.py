"""Poisson sampling: independent coins whose chance comes from the plan alone."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.mechanism.noise import NoiseSource
from common.privacy.mechanism.sampling import poisson_sample

PLAN = PrivacyPlan(
    sample_rate=0.05,
    steps=10,
    noise_multiplier=2.0,
    max_grad_norm=1.0,
    size_bracket=10,
    delta=1e-5,
    dp_model="local",
)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.5, 0.99])
def test_each_shopper_takes_part_with_the_plans_chance(rate):
    plan = dataclasses.replace(PLAN, sample_rate=rate)
    taken = poisson_sample(plan, 100_000, NoiseSource.for_tests(1))
    assert taken.dtype == np.bool_
    assert stats.binomtest(int(taken.sum()), 100_000, rate).pvalue > 0.001


def test_batch_sizes_vary_as_a_binomial():
    source = NoiseSource.for_tests(2)
    sizes = [poisson_sample(PLAN, 200, source).sum() for _ in range(2000)]
    assert np.var(sizes) == pytest.approx(200 * 0.05 * 0.95, rel=0.15)


def test_one_shopper_more_changes_nobody_elses_coin():
    few, more = (poisson_sample(PLAN, n, NoiseSource.for_tests(3)) for n in (500, 501))
    assert np.array_equal(few, more[:500])


def test_nobody_may_be_taken():
    assert not poisson_sample(PLAN, 0, NoiseSource.secure()).any()
    plan = dataclasses.replace(PLAN, sample_rate=1e-18)
    assert not poisson_sample(plan, 1000, NoiseSource.secure()).any()


def test_the_full_batch_takes_everybody():
    plan = dataclasses.replace(PLAN, sample_rate=1.0)
    assert poisson_sample(plan, 1000, NoiseSource.secure()).all()
