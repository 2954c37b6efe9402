"""Noise: the right distribution, on the grid, once per charge."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from common.errors import PrivacyError
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.ledger import Ledger
from common.privacy.mechanism.clipping import clip_and_sum, grid
from common.privacy.mechanism.noise import NoiseSource, ProtectedSum, protect

PLAN = PrivacyPlan(
    sample_rate=0.5,
    steps=10,
    noise_multiplier=2.0,
    max_grad_norm=0.5,
    size_bracket=100,
    delta=1e-5,
    dp_model="local",
    popularity_noise_multiplier=3.0,
)


@pytest.fixture
def charge(tmp_path):
    """Return a function that pays for one round of a plan."""
    ledger = Ledger.open(tmp_path / "ledger.db", "shop", "data")

    def pay(plan=PLAN, *, kind="train", seeded_noise=True):
        return ledger.append(
            plan,
            run_id="run",
            round_number=1,
            kind=kind,
            admit=lambda entries: None,
            seeded_noise=seeded_noise,
        )

    return pay


def nothing(width=20_000, bound=PLAN.max_grad_norm):
    return clip_and_sum(np.zeros((0, width)), bound)


def test_draws_are_standard_normal():
    draws = NoiseSource.for_tests(1).gaussians(200_000)
    assert stats.kstest(draws, "norm").pvalue > 0.01
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.01
    assert stats.kurtosis(draws) == pytest.approx(0, abs=0.05)


def test_secure_streams_differ_and_test_streams_repeat():
    assert not np.array_equal(NoiseSource.secure().words(8), NoiseSource.secure().words(8))
    first, again = (NoiseSource.for_tests(7, "shop", 3).words(8) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, NoiseSource.for_tests(7, "shop", 4).words(8))
    assert not np.array_equal(first, NoiseSource.for_tests(8, "shop", 3).words(8))


def test_a_stream_never_repeats_itself():
    source = NoiseSource.for_tests(1)
    assert len(np.unique(np.concatenate([source.words(100) for _ in range(10)]))) == 1000


def test_noise_has_the_plans_deviation_for_each_kind(charge):
    train = protect(nothing(), charge(), NoiseSource.for_tests(1)).vector
    assert stats.kstest(train / (2.0 * 0.5), "norm").pvalue > 0.01
    histogram = nothing(bound=1.0)
    popularity = protect(histogram, charge(kind="popularity"), NoiseSource.for_tests(2)).vector
    assert stats.kstest(popularity / 3.0, "norm").pvalue > 0.01


def test_central_noise_is_one_merchants_share(charge):
    plan = dataclasses.replace(PLAN, dp_model="central", merchants=16)
    vector = protect(nothing(), charge(plan), NoiseSource.for_tests(1)).vector
    assert stats.kstest(vector / (2.0 * 0.5 / 4), "norm").pvalue > 0.01


def test_without_noise_the_sum_stays_exact(charge):
    plan = dataclasses.replace(
        PLAN, dp_model="none", noise_multiplier=0.0, popularity_noise_multiplier=0.0
    )
    clipped = clip_and_sum(np.random.default_rng(0).standard_normal((5, 10)), 0.5)
    protected = protect(clipped, charge(plan), NoiseSource.for_tests(1))
    assert np.array_equal(protected.vector, clipped.vector)


def test_same_noise_and_one_shopper_less_differ_by_exactly_that_shopper(charge):
    rows = np.random.default_rng(0).standard_normal((30, 50))
    sums = [
        protect(clip_and_sum(part, 0.5), charge(), NoiseSource.for_tests(3)).vector
        for part in (rows, rows[1:])
    ]
    assert np.array_equal(sums[0] - sums[1], clip_and_sum(rows[:1], 0.5).vector)


def test_every_output_is_on_the_grid(charge):
    rows = np.random.default_rng(0).standard_normal((30, 50))
    protected = protect(clip_and_sum(rows, 0.5), charge(), NoiseSource.secure())
    units = protected.vector / grid(0.5)
    assert np.array_equal(units, np.rint(units))


def test_the_protected_sum_says_where_it_comes_from(charge):
    protected = protect(nothing(), charge(), NoiseSource.secure())
    assert (protected.kind, protected.round_number) == ("train", 1)
    assert protected.plan_digest == PLAN.digest
    assert np.array_equal(protected.averaged(), protected.vector / 50)
    assert protect(nothing(bound=1.0), charge(kind="popularity"), NoiseSource.secure()).divisor == 1


def test_a_charge_pays_once(charge):
    paid = charge()
    protect(nothing(), paid, NoiseSource.secure())
    with pytest.raises(PrivacyError) as caught:
        protect(nothing(), paid, NoiseSource.secure())
    assert caught.value.field == "charge"


def test_a_charge_of_several_steps_pays_for_as_many(charge):
    paid = charge(dataclasses.replace(PLAN, steps_per_round=2))
    for _ in range(2):
        protect(nothing(), paid, NoiseSource.secure())
    with pytest.raises(PrivacyError):
        protect(nothing(), paid, NoiseSource.secure())


def test_a_sum_clipped_otherwise_is_refused_and_costs_no_step(charge):
    paid = charge()
    with pytest.raises(PrivacyError) as caught:
        protect(nothing(bound=1.0), paid, NoiseSource.secure())
    assert caught.value.field == "max_grad_norm"
    protect(nothing(), paid, NoiseSource.secure())


def test_seeded_noise_is_refused_unless_on_record(charge):
    with pytest.raises(PrivacyError) as caught:
        protect(nothing(), charge(seeded_noise=False), NoiseSource.for_tests(1))
    assert caught.value.field == "seeded_noise"


def test_only_protect_makes_one():
    with pytest.raises(PrivacyError):
        ProtectedSum(
            vector=np.zeros(3),
            kind="train",
            round_number=1,
            plan_digest="",
            divisor=1.0,
            canaries=np.zeros(0),
        )
